// One row, opened: what was asked and answered, how the other arms did, and every call word for word. Texts are set as text:
// nothing in them is markup.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function field(name, ...content) {
  return make("div", {}, make("dt", { textContent: name }), make("dd", {}, ...content));
}

const prose = (text) => make("p", { className: "prose", textContent: text });
const code = (text) => make("pre", { textContent: text });
const grouped = (number) => number.toLocaleString("en");
const known = (number, unit) => (number === null ? `? ${unit}` : `${grouped(number)} ${unit}`);
const money = (nanos) => (nanos === null ? "price unknown" : `$ ${(nanos / 1e9).toFixed(nanos < 1e7 ? 6 : 4)}`);

/** A state in words and a sign, not in colour alone. */
function stateOf(rows, at) {
  const state = rows.states[at];
  return { sign: state === RIGHT ? "✓" : "✗", word: rows.words[state], kind: state === RIGHT ? "right" : "wrong" };
}

function subquestions(row) {
  const line = (text, index) => {
    const answer = row.sub_answers[index];
    return make("li", {}, text, ...(answer ? [make("br"), make("em", { textContent: answer })] : []));
  };
  return make("ol", {}, ...row.subquestions.map(line));
}

function figures(row) {
  // Nobody counted those of one of its calls.
  if (row.tokens === null) return `– tokens in, – out, ${money(row.cost_nanos)}`;
  const { input, cached, output } = row.tokens;
  const ofThem = cached ? `, of them ${grouped(cached)} cached` : "";
  return `${grouped(input)} tokens in${ofThem}, ${grouped(output)} out, ${money(row.cost_nanos)}`;
}

/** The other arms on the same question; a click shows theirs in this place. */
function siblings(rows, at, swap) {
  const first = at - (at % rows.arms.length);
  const button = (arm, index) => {
    const { sign, word, kind } = stateOf(rows, first + index);
    const one = make("button", { type: "button", className: kind, textContent: `${sign} ${arm}`, title: word });
    one.addEventListener("click", () => swap(first + index));
    return one;
  };
  const others = rows.arms.map((arm, index) => (rows.states[first + index] && first + index !== at ? button(arm, index) : null));
  return make("div", { className: "siblings" }, ...others.filter(Boolean));
}

function callOf(call, number) {
  const finish = typeof call.finish === "string" ? call.finish : Object.values(call.finish)[0];
  const summary = make("summary", {}, make("strong", { textContent: `${number}. ${call.model}` }),
    ` ${known(call.tokens_in, "tokens in")}, ${known(call.tokens_out, "out")}, ${grouped(call.latency_ms)} ms, ${money(call.cost_nanos)}, ${finish}`);
  const details = make("details", { className: "call" }, summary);
  // Texts are laid out when somebody looks.
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const messages = call.request.messages.map((message) => field(message.role, code(message.content)));
    const { temperature, max_tokens: most, seed } = call.request.sampling;
    const settings = `temperature ${temperature}, at most ${grouped(most)} tokens, seed ${seed}; divvy calls ${call.key.slice(0, 12)}`;
    details.append(make("dl", {}, ...messages, field("reply", code(call.reply)), field("settings", prose(settings))));
  });
  return details;
}

async function callsOf(rows, number, row) {
  if (!row.calls.length) return [make("p", { className: "note", textContent: "No call was made." })];
  const calls = await rows.calls(number);
  return row.calls.map((place, index) => callOf(calls[place], index + 1));
}

/** Fills an element with a row. */
async function showRow(rows, at, element) {
  const { asked, row, number } = await rows.row(at);
  const { sign, word, kind } = stateOf(rows, at);
  const swap = (other) => showRow(rows, other, element);
  const fields = [
    field("Arm", make("strong", { textContent: rows.arms[row.arm] }), ` ${sign} ${word}`),
    ...(asked.premise ? [field("Premise", prose(asked.premise))] : []),
    field("Question", prose(asked.question)),
    ...(row.subquestions.length ? [field("Subquestions", subquestions(row))] : []),
    ...(row.reason ? [field("Reason", prose(row.reason))] : [field("Reply", code(row.reply))]),
    field("Answer", row.answer === null ? make("p", {}, make("em", { textContent: "none" })) : prose(row.answer)),
    field("Gold", prose(asked.gold.join(" | "))),
    field("Took", prose(figures(row))),
  ];
  const calls = await callsOf(rows, number, row);
  element.replaceChildren(make("dl", { className: kind }, ...fields,
    field("Calls", ...calls), ...(rows.arms.length > 1 ? [field("Other arms", siblings(rows, at, swap))] : [])));
}
