// Sorting, browsing and the theme switch of a divvy report. The page reads without it.
"use strict";

const root = document.documentElement;
root.classList.add("script");

// A page on disk may be denied storage; then the choice lasts as long as the page.
const remembered = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* see above */ } },
};
const theme = remembered.get("divvy-theme");
if (theme === "dark" || theme === "light") root.dataset.theme = theme;

function setUpTheme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
  };
  button.removeAttribute("aria-pressed");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered.set("divvy-theme", root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

function compareCells(left, right) {
  const [a, b] = [left.dataset.sort, right.dataset.sort];
  if (a !== undefined && b !== undefined) return Number(a) - Number(b);
  return left.textContent.localeCompare(right.textContent, "en", { numeric: true });
}

function sortBy(table, column, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending"
    || (!heading.hasAttribute("aria-sort") && heading.classList.contains("number"));
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const numeric = [...body.rows].some((row) => row.cells[column].dataset.sort !== undefined);
  const missing = (row) => numeric && row.cells[column].dataset.sort === undefined;
  const rows = [...body.rows].sort((left, right) => {
    // A dash stands last in either direction.
    if (missing(left) || missing(right)) return missing(left) - missing(right);
    const order = compareCells(left.cells[column], right.cells[column]);
    return descending ? -order : order;
  });
  body.append(...rows);
}

function setUpSorting(table) {
  if (table.tBodies[0].rows.length < 2) return;
  [...table.querySelectorAll("tr.heads th")].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, column, heading));
  });
}

function setUpExamples() {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const arm = document.getElementById("example-arm");
  const position = document.getElementById("example-position");
  const previous = document.getElementById("example-previous");
  const next = document.getElementById("example-next");
  const none = document.getElementById("example-none");
  let shown = null;

  const filter = () => browser.querySelector("input[name=outcome]:checked").value;
  const matching = () => [...browser.querySelectorAll(`.examples[data-arm="${arm.value}"] .example`)]
    .filter((example) => filter() === "all" || example.dataset.state === filter());

  function show(example) {
    const examples = matching();
    const index = examples.indexOf(example);
    for (const group of browser.querySelectorAll(".examples")) group.hidden = group.dataset.arm !== arm.value;
    for (const other of browser.querySelectorAll(".example")) other.hidden = other !== example;
    shown = example ?? shown;
    none.hidden = examples.length > 0;
    position.textContent = examples.length ? `${index + 1} of ${examples.length}` : "0 of 0";
    previous.disabled = index <= 0;
    next.disabled = index < 0 || index === examples.length - 1;
  }

  // Another arm opens at the same question, where it has it: that is the comparison a reader wants.
  function reopen() {
    const examples = matching();
    show(examples.find((example) => example.dataset.question === shown?.dataset.question) ?? examples[0]);
  }

  function move(by) {
    const examples = matching();
    const example = examples[examples.indexOf(shown) + by];
    if (example) show(example);
  }

  arm.addEventListener("change", reopen);
  browser.addEventListener("change", (event) => { if (event.target.name === "outcome") reopen(); });
  previous.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));
  browser.addEventListener("keydown", (event) => {
    if (event.target.matches("select, input") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  reopen();
}

document.addEventListener("DOMContentLoaded", () => {
  setUpTheme();
  document.querySelectorAll("table.data").forEach(setUpSorting);
  setUpExamples();
});
