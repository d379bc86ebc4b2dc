// The browser of rows: choices on top, a page of rows below. Then everything is set up.

const ROWS_A_PAGE = 20;

function setUpBrowser(rows) {
  const at = (name) => document.getElementById(`rows-${name}`);
  const list = at("list");
  let matches = [];
  let from = 0;
  // Choices and pages are numbered: whatever belongs to an earlier one is late.
  let choice = 0;
  let turn = 0;

  function problem(error) {
    at("problem").textContent = error.message;
    at("problem").hidden = false;
  }

  function summary({ at: place, asked, row }) {
    const { sign, word, kind } = stateOf(rows, place);
    const gold = kind === "right" ? [] : [`gold ${asked.gold.join(" | ")}`];
    const answer = (row.answer === null ? gold : [row.answer, ...gold]).join(" · ");
    return make("summary", {},
      make("span", { className: `state ${kind}`, textContent: `${sign} ${word}` }),
      make("span", { className: "id", textContent: `${asked.id} · ${rows.arms[row.arm]}` }),
      make("span", { className: "question", textContent: asked.question }),
      make("span", { className: "answer", textContent: answer, title: answer }));
  }

  function item(found) {
    const body = make("div", { className: "body" });
    const details = make("details", {}, summary(found), body);
    details.addEventListener("toggle", () => {
      if (details.open && !body.children.length) showRow(rows, found.at, body).catch(problem);
    });
    return make("li", {}, details);
  }

  async function showPage() {
    turn += 1;
    const mine = turn;
    const places = matches.slice(from, from + ROWS_A_PAGE);
    const found = await Promise.all(places.map((place) => rows.row(place)));
    if (mine !== turn) return;
    list.replaceChildren(...found.map(item));
    at("where").textContent = places.length ? `${grouped(from + 1)}–${grouped(from + places.length)}` : "";
    at("previous").disabled = from === 0;
    at("next").disabled = from + ROWS_A_PAGE >= matches.length;
  }

  function turnTo(first) {
    from = first;
    showPage().catch(problem);
  }

  function tell(found, share) {
    const more = share < 1 ? `, ${Math.floor(share * 100)} % searched` : "";
    at("found").textContent = `${grouped(found.length)} ${found.length === 1 ? "row" : "rows"}${more}`;
  }

  async function searchFor(places, words) {
    const mine = choice;
    let shown = -1;
    [matches, from] = [[], 0];
    await search(rows, places, words, () => mine === choice, (found, share) => {
      matches = found;
      tell(found, share);
      // The page that is shown fills up while the rest is looked through.
      const filled = Math.min(found.length - from, ROWS_A_PAGE);
      if (filled !== shown) showPage().catch(problem);
      shown = filled;
      at("next").disabled = from + ROWS_A_PAGE >= matches.length;
    });
  }

  function choose() {
    at("problem").hidden = true;
    choice += 1;
    const chosen = { arm: at("arm").value, state: at("state").value, against: at("against").value };
    const places = matching(rows, chosen);
    const words = at("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) {
      searchFor(places, words).catch(problem);
    } else {
      matches = places;
      tell(places, 1);
      turnTo(0);
    }
  }

  function options(select, entries) {
    select.append(...entries.map(([value, text]) => make("option", { value, textContent: text })));
    select.addEventListener("change", choose);
  }

  const arms = rows.arms.map((arm, index) => [String(index), arm]);
  const occurs = rows.words.map(() => 0);
  for (const state of rows.states) occurs[state] += 1;
  const states = rows.words.map((word, index) => [String(index), word]).filter(([index]) => index > RIGHT && occurs[index]);
  options(at("arm"), [["", "all arms"], ...arms]);
  options(at("state"), [["", "all"], [String(RIGHT), "right"], ["wrong", "not right"], ...states.map(([value, word]) => [value, `— ${word}`])]);
  options(at("against"), [["", "—"], ...arms]);
  let typing = 0;
  at("text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(choose, TYPING);
  });
  at("previous").addEventListener("click", () => turnTo(from - ROWS_A_PAGE));
  at("next").addEventListener("click", () => turnTo(from + ROWS_A_PAGE));
  choose();
}

document.addEventListener("DOMContentLoaded", () => {
  setUpTheme();
  document.querySelectorAll("table.data").forEach((table) => { setUpSorting(table); setUpFilter(table); });
  openRows().then((rows) => { if (rows) setUpBrowser(rows); }).catch((error) => {
    const problem = document.getElementById("rows-problem");
    problem.textContent = `This browser cannot open the rows: ${error.message}`;
    problem.hidden = false;
  });
});
