// Which rows are shown: by arm and state at once, by text chunk by chunk, so that nothing freezes.

/** The pause after a key, before a search begins. */
const TYPING = 200;

const RIGHT = 1;

/** Places of the rows that a choice of arm, state and other arm leaves. */
function matching(rows, { arm, state, against }) {
  const { states, arms } = rows;
  const found = [];
  const only = arm === "" ? null : Number(arm);
  const other = against === "" ? null : Number(against);
  for (let first = 0; first < states.length; first += arms.length) {
    const from = only ?? 0;
    const to = only === null ? arms.length : only + 1;
    for (let at = first + from; at < first + to; at += 1) {
      if (states[at] === 0 || !wanted(states[at], state)) continue;
      if (other !== null && (states[first + other] === 0 || alike(states[at], states[first + other]))) continue;
      found.push(at);
    }
  }
  return found;
}

function wanted(state, choice) {
  if (choice === "") return true;
  return choice === "wrong" ? state > RIGHT : state === Number(choice);
}

/** Both right, or both not. */
function alike(a, b) {
  return (a === RIGHT) === (b === RIGHT);
}

function textOf(asked, row) {
  const parts = [asked.id, asked.question, asked.premise, row.answer, row.reply, row.reason];
  return parts.concat(asked.gold, row.subquestions, row.sub_answers).filter(Boolean).join("\n").toLowerCase();
}

/**
 * Of the places, those whose rows have every word. Tells after each chunk what it has found so far and how far it is, and
 * gives up as soon as it is not `current` any more.
 */
async function search(rows, places, words, current, tell) {
  const found = [];
  let next = 0;
  for (let number = 0; number < rows.sizes.length && next < places.length; number += 1) {
    const end = (rows.starts[number] + rows.sizes[number]) * rows.arms.length;
    if (places[next] >= end) continue;
    const questions = await rows.questions(number);
    if (!current()) return;
    for (; next < places.length && places[next] < end; next += 1) {
      const asked = questions[Math.floor(places[next] / rows.arms.length) - rows.starts[number]];
      const row = asked.rows.find((one) => one.arm === places[next] % rows.arms.length);
      const text = textOf(asked, row);
      if (words.every((word) => text.includes(word))) found.push(places[next]);
    }
    tell(found, next / places.length);
    // The page answers between two chunks.
    await new Promise((resolve) => { setTimeout(resolve); });
    if (!current()) return;
  }
  tell(found, 1);
}
