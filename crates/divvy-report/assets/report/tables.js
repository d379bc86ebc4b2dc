// Tables: sorted by a click on a heading, filtered by words.

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

/** Below so many rows a filter is in the way. */
const FILTERED_FROM = 6;

// Rows that have every word somewhere, whatever the case.
function setUpFilter(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < FILTERED_FROM) return;
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const field = Object.assign(document.createElement("input"), { type: "search", placeholder: "Filter rows" });
  field.setAttribute("aria-label", `Filter the rows of: ${table.caption.textContent}`);
  const shown = document.createElement("output");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = words.length ? `${count} of ${rows.length}` : "";
  });
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.append(field, shown);
  table.parentElement.before(bar);
}
