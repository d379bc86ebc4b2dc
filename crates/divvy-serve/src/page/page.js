// The page of `divvy serve`: its views, and which of them the address asks for. Back and forward work as anywhere.

import { $, address, guarded, make, problem } from "./page/dom.js";
import { keep, request } from "./page/server.js";
import { start } from "./page/ask.js";
import { offerPlans, showRuns } from "./page/runs.js";
import { chosenRows, showRows } from "./page/rows.js";
import { showCalls } from "./page/calls.js";
import { showProgress, watch } from "./page/progress.js";

async function showReport({ plan }) {
  // A frame cannot send a key; where none is needed it reads the address itself, under the report's own policy.
  $("report").hidden = Boolean($("key").value.trim());
  const source = `/api/report?${new URLSearchParams({ plan })}`;
  if (!$("report").hidden && $("report").getAttribute("src") !== source) $("report").src = source;
}

const views = { ask: async () => {}, runs: showRuns, rows: showRows, calls: showCalls, progress: showProgress, report: showReport };
/** Views of one plan. */
const OF_A_PLAN = ["rows", "calls", "report"];

/** The view that the address names, and what is wanted of it. */
function here() {
  const [name, query] = location.hash.replace("#/", "").split("?");
  return { view: name in views ? name : "ask", wanted: Object.fromEntries(new URLSearchParams(query)) };
}

async function show() {
  const { view, wanted } = here();
  for (const name of Object.keys(views)) {
    $(`tab-${name}`).setAttribute("aria-selected", name === view);
    $(`tab-${name}`).tabIndex = name === view ? 0 : -1;
    $(`view-${name}`).hidden = name !== view;
  }
  $("plan-bar").hidden = !OF_A_PLAN.includes(view);
  if (OF_A_PLAN.includes(view)) {
    await offerPlans(wanted.plan);
    wanted.plan = $("plan").value;
  }
  await views[view](wanted);
}

/** A tab keeps the plan that is looked at. */
function go(view) {
  const plan = OF_A_PLAN.includes(view) ? here().wanted.plan : null;
  location.hash = address(view, { plan });
}

addEventListener("hashchange", guarded(show));
for (const view of Object.keys(views)) $(`tab-${view}`).addEventListener("click", () => go(view));
document.querySelector("nav").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const names = Object.keys(views);
  const next = names[(names.indexOf(here().view) + step + names.length) % names.length];
  $(`tab-${next}`).focus();
  go(next);
});

$("plan").addEventListener("change", () => { location.hash = address(here().view, { plan: $("plan").value }); });
for (const id of ["rows-stage", "rows-arm", "rows-wrong"]) {
  $(id).addEventListener("change", () => {
    // Another stage has other arms.
    if (id === "rows-stage") $("rows-arm").replaceChildren();
    location.hash = chosenRows($("plan").value);
  });
}

/** `n` and `p` turn pages where nothing is being written. */
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  const buttons = { rows: { n: "rows-on", p: "rows-back" }, calls: { n: "calls-earlier", p: "calls-later" } }[here().view];
  if (buttons?.[event.key]) $(buttons[event.key]).click();
});

$("report-save").addEventListener("click", guarded(async () => {
  const html = await (await request(`/api/report?${new URLSearchParams({ plan: $("plan").value })}`)).text();
  const file = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  make("a", { href: file, download: "report.html" }).click();
  setTimeout(() => URL.revokeObjectURL(file), 10000);
}));

async function open() {
  await start();
  if (here().view === "ask") return $("question").focus();
  if ($("problem").hidden) await guarded(show)();
}

keep(open);
problem(null);
guarded(show)();
open();
watch(() => here().wanted);
