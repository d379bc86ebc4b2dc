// The page of `divvy serve`. Text from models and people only ever becomes text nodes.
"use strict";

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

function problem(message) {
  $("problem").textContent = message ?? "";
  $("problem").hidden = !message;
}

// ── requests ──

$("key").value = sessionStorage.getItem("divvy-key") ?? "";
document.querySelector(".key").hidden = !$("key").value;
$("key").addEventListener("change", () => {
  sessionStorage.setItem("divvy-key", $("key").value);
  start();
});

function headers() {
  const key = $("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

/** The response, or an error that says what the server said. */
async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is divvy serve still running?");
  }
  if (response.status === 401) document.querySelector(".key").hidden = false;
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered ${response.status}`);
  }
  return response;
}

async function json(path) {
  return (await request(path)).json();
}

/** Every JSON object of a stream of events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

// ── asking ──

let models = [];
let asking = null;

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function measured(model) {
  const found = model?.divvy?.measured;
  if (!found) return model?.divvy?.kind === "model" ? "a plain model" : "not measured yet";
  return `${percent(found.accuracy)} on ${found.n} ${found.split} questions (95 %: ${percent(found.ci[0])} to ${percent(found.ci[1])})`;
}

/** Where one model's reply appears. */
class Pane {
  constructor(model) {
    this.steps = make("ol", { class: "steps" });
    this.answer = make("p", { class: "answer" });
    this.note = make("p", { class: "note" });
    this.figures = make("p", { class: "figures" });
    this.thoughts = make("pre");
    this.details = make("details", { hidden: true }, make("summary", {}, "All that was written on the way"), this.thoughts);
    this.element = make("article", { class: "pane" }, make("h2", {}, model.id), make("p", { class: "measured" }, measured(model)),
      this.steps, this.note, this.answer, this.details, this.figures);
    this.began = performance.now();
    this.pieces = 0;
  }

  take(event) {
    if (event.error) throw new Error(event.error.message);
    const choice = event.choices[0];
    if (choice?.delta?.content) this.answer.append(choice.delta.content);
    if (choice?.delta?.reasoning_content) {
      this.details.hidden = false;
      this.thoughts.append(choice.delta.reasoning_content);
    }
    if (choice?.delta?.content || choice?.delta?.reasoning_content) this.pieces += 1;
    if (event.divvy?.event) this.happened(event.divvy);
    if (event.divvy?.usage) this.ended(event.divvy);
    else this.count();
  }

  happened(news) {
    if (news.event === "subquestion") {
      // One that is told again has turned out to be another.
      while (this.steps.children.length >= news.number) this.steps.lastChild.remove();
      this.steps.append(make("li", {}, news.text, make("span", { class: "known open" })));
    }
    if (news.event === "sub_answer") {
      const known = this.steps.children[news.number - 1]?.querySelector(".known");
      if (known) {
        known.classList.remove("open");
        known.textContent = news.text ?? "no answer";
      }
    }
    if (news.event === "fallback") {
      this.steps.replaceChildren();
      this.note.textContent = news.reason === "malformed-decomposition"
        ? "What the decomposer wrote cannot be used: the solver answers alone."
        : "The decomposer failed: the solver answers alone.";
    }
  }

  seconds() {
    return ((performance.now() - this.began) / 1000).toFixed(1);
  }

  count() {
    this.figures.textContent = `${this.pieces} pieces, ${this.seconds()} s`;
  }

  ended(own) {
    for (const known of this.steps.querySelectorAll(".open")) known.classList.remove("open");
    if (own.strategy && own.decomposer && !own.fallback && own.subquestions.length === 0) this.note.textContent = "No decomposition needed.";
    const usage = own.usage;
    const tokens = (count) => count === null ? "?" : count;
    const cost = usage.cost_dollars === null ? "price unknown" : `$${usage.cost_dollars}`;
    const stages = usage.calls.map((call) => `${call.stage} ${tokens(call.prompt_tokens)} in, ${tokens(call.completion_tokens)} out, ${call.seconds.toFixed(1)} s`);
    this.figures.textContent = `${tokens(usage.prompt_tokens)} tokens in, ${tokens(usage.completion_tokens)} out, ${cost}, ${this.seconds()} s in all. ${stages.join(" · ")}`;
  }

  failed(message) {
    for (const known of this.steps.querySelectorAll(".open")) known.classList.remove("open");
    this.note.textContent = message;
    this.note.classList.add("failed");
  }
}

async function ask(model, signal) {
  const pane = new Pane(model);
  $("panes").append(pane.element);
  const premise = $("premise").value.trim();
  const body = { model: model.id, stream: true, messages: [{ role: "user", content: $("question").value }] };
  if (premise) body.divvy = { premise };
  try {
    const response = await request("/v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal, headers: { "content-type": "application/json" } });
    for await (const event of events(response)) pane.take(event);
  } catch (error) {
    pane.failed(error.name === "AbortError" ? "Stopped." : error.message);
  }
}

async function askAll() {
  if (asking || !$("question").reportValidity()) return;
  asking = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("panes").replaceChildren();
  const chosen = [$("first").value, $("second").value].filter(Boolean).map((id) => models.find((model) => model.id === id));
  await Promise.all(chosen.map((model) => ask(model, asking.signal)));
  asking = null;
  $("send").disabled = false;
  $("stop").disabled = true;
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); askAll(); });
$("stop").addEventListener("click", () => asking?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("view-ask").hidden) askAll();
  if (event.key === "Escape") asking?.abort();
});

// ── rows ──

const ROWS = 20;
let from = 0;

function steps(row) {
  const texts = row.subquestions ?? [];
  return make("ol", { class: "steps" }, ...texts.map((text, at) => make("li", {}, text, make("span", { class: "known" }, row.sub_answers?.[at] ?? ""))));
}

function card(row) {
  return make("article", { class: "card" },
    make("h2", {}, row.id), row.premise ? make("p", { class: "passage" }, row.premise) : null, make("p", {}, row.question ?? ""),
    steps(row),
    make("p", { class: row.correct ? "right" : "wrong" }, `${row.correct ? "right" : "wrong"}: ${row.answer ?? row.outcome} (gold: ${row.golds.join(" or ")})`),
    make("details", {}, make("summary", {}, "The solver's reply"), make("pre", {}, row.reply)),
    row.calls.length ? make("p", { class: "hint" }, "calls: ", ...row.calls.map((key) => callButton(key))) : null);
}

async function showRows() {
  const wrong = $("rows-wrong").checked;
  const page = await json(`/api/rows?arm=${encodeURIComponent($("rows-arm").value)}&wrong=${wrong}&from=${from}&count=${ROWS}`);
  if ($("rows-arm").options.length !== page.arms.length) {
    $("rows-arm").replaceChildren(...page.arms.map((arm) => make("option", { value: arm }, arm)));
  }
  $("rows").replaceChildren(...page.rows.map(card));
  if (!page.total) $("rows").append(make("p", { class: "note" }, page.arms.length ? "No such rows." : "Nothing was evaluated yet."));
  $("rows-where").textContent = page.total ? `${from + 1} to ${from + page.rows.length} of ${page.total}` : "";
  $("rows-back").disabled = from === 0;
  $("rows-on").disabled = from + ROWS >= page.total;
}

const again = (step) => () => { from = step === null ? 0 : Math.max(0, from + step); guarded(showRows)(); };
$("rows-arm").addEventListener("change", again(null));
$("rows-wrong").addEventListener("change", again(null));
$("rows-back").addEventListener("click", again(-ROWS));
$("rows-on").addEventListener("click", again(ROWS));

// ── calls ──

function callButton(key) {
  const button = make("button", { type: "button" }, key.slice(0, 12));
  button.addEventListener("click", guarded(async () => { await open("calls"); await showCall(key); }));
  return button;
}

async function showCalls() {
  const calls = await json("/api/calls?last=50");
  const count = (tokens) => tokens ?? "?";
  const head = make("tr", {}, ...["Call", "When", "Model", "In", "Out", "ms", "Reply"].map((title, at) => make("th", { class: at > 2 && at < 6 ? "number" : null }, title)));
  $("calls").replaceChildren(head, ...calls.map((call) => make("tr", {},
    make("td", {}, callButton(call.key)), make("td", {}, call.created), make("td", {}, call.model),
    make("td", { class: "number" }, count(call.reply.usage.tokens_in)), make("td", { class: "number" }, count(call.reply.usage.tokens_out)),
    make("td", { class: "number" }, call.latency_ms), make("td", {}, call.reply.text.slice(0, 80)))));
}

async function showCall(key) {
  const [call] = await json(`/api/calls?key=${key}`);
  if (!call) throw new Error(`There is no call ${key}`);
  const messages = call.request.messages.flatMap((message) => [make("h2", {}, message.role), make("pre", {}, message.content)]);
  $("call").replaceChildren(make("article", { class: "card" }, make("h2", {}, `${call.key.slice(0, 12)} to ${call.model}`), ...messages, make("h2", {}, "reply"), make("pre", {}, call.reply.text)));
  $("call").scrollIntoView();
}

$("calls-again").addEventListener("click", guarded(showCalls));

// ── status ──

async function showStatus() {
  const status = await json("/api/status");
  const stage = (stage) => {
    const done = stage.items - (stage.states.pending ?? 0);
    return make("article", { class: "card" }, make("h2", {}, `${stage.stage}: ${done} of ${stage.items}`), make("progress", { max: stage.items || 1, value: done }),
      make("ul", {}, ...Object.entries(stage.states).map(([state, items]) => make("li", {}, `${items} ${state}`))));
  };
  const students = status.students.map((student) => make("li", {}, `${student.student}: ${student.trained ? `trained on ${student.rows} rows` : "not trained yet"}`));
  const calls = status.calls.map((call) => make("li", {}, `${call.model}: ${call.calls} calls, ${call.tokens_in} tokens in, ${call.tokens_out} out`));
  const list = (title, items) => items.length ? make("article", { class: "card" }, make("h2", {}, title), make("ul", {}, ...items)) : null;
  $("status").replaceChildren(...[...status.stages.map(stage), list("students", students), list("calls, all runs together", calls)].filter(Boolean));
}

async function watch() {
  if (!$("view-status").hidden && !document.hidden) await guarded(showStatus)();
  setTimeout(watch, 2000);
}
watch();

// ── report ──

async function showReport() {
  // A frame cannot send a key; where none is needed it reads the address itself, under the report's own policy.
  $("report").hidden = Boolean($("key").value.trim());
  if (!$("report").hidden) $("report").src = "/api/report";
}

$("report-save").addEventListener("click", guarded(async () => {
  const html = await (await request("/api/report")).text();
  const address = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  make("a", { href: address, download: "report.html" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}));

// ── views ──

const views = { ask: async () => {}, rows: showRows, calls: showCalls, status: showStatus, report: showReport };

function guarded(work) {
  return async () => {
    try {
      await work();
      problem(null);
    } catch (error) {
      problem(error.message);
    }
  };
}

async function open(view) {
  for (const name of Object.keys(views)) {
    const chosen = name === view;
    $(`tab-${name}`).setAttribute("aria-selected", chosen);
    $(`tab-${name}`).tabIndex = chosen ? 0 : -1;
    $(`view-${name}`).hidden = !chosen;
  }
  await views[view]();
}

for (const view of Object.keys(views)) $(`tab-${view}`).addEventListener("click", guarded(() => open(view)));
document.querySelector("nav").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const names = Object.keys(views);
  const at = names.findIndex((name) => $(`tab-${name}`).getAttribute("aria-selected") === "true");
  const next = names[(at + step + names.length) % names.length];
  $(`tab-${next}`).focus();
  guarded(() => open(next))();
});

async function start() {
  try {
    models = (await json("/v1/models")).data;
  } catch (error) {
    return problem(error.message);
  }
  problem(null);
  const options = () => models.map((model) => make("option", { value: model.id }, model.id));
  $("first").replaceChildren(...options());
  $("second").replaceChildren(make("option", { value: "" }, "nothing"), ...options());
  const best = models.find((model) => model.divvy.strategy === "two-stage" && model.divvy.decomposer?.startsWith("student:")) ?? models[0];
  if (best) $("first").value = best.id;
  $("question").focus();
}

start();
