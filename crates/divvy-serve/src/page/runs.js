// Every plan that was run in the store, with what came of it, and the choice of one to browse.

import { $, address, grouped, make, percent, short } from "./dom.js";
import { json } from "./server.js";

/** Runs of one plan, newest first, under that plan. */
function byPlan(runs) {
  const plans = new Map();
  for (const run of runs) plans.set(run.plan, [...(plans.get(run.plan) ?? []), run]);
  return plans;
}

export function when(text) {
  return text.replace("T", " ").replace("Z", " UTC");
}

export function duration(run) {
  if (!run.ended) return null;
  const seconds = Math.round((Date.parse(run.ended) - Date.parse(run.started)) / 1000);
  return seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function armRow(plan, { split, questions }, arm) {
  const whole = arm.asked === questions && questions > 0;
  const found = whole ? percent(arm.accuracy) : arm.asked ? `${arm.correct} right` : "not asked yet";
  const sure = whole ? `${percent(arm.ci[0])} to ${percent(arm.ci[1])}` : "";
  const rows = make("a", { href: address("rows", { plan, arm: arm.arm }) }, arm.arm);
  return make("tr", {}, make("td", { class: "name" }, arm.asked ? rows : arm.arm), make("td", { class: "number" }, found),
    make("td", { class: "number" }, sure), make("td", { class: "number" }, whole ? `${grouped(questions)} ${split}` : `${grouped(arm.asked)} of ${grouped(questions)}`));
}

function armTable(plan, figures) {
  if (figures.unreadable) return make("p", { class: "note" }, figures.unreadable);
  if (!figures.arms.length) return make("p", { class: "note" }, "It has no arms to compare.");
  const head = make("tr", {}, ...["Arm", "Right", "95 %", "Questions"].map((title, at) => make("th", { class: at ? "number" : null }, title)));
  return make("div", { class: "wide" }, make("table", { class: "arms" }, head, ...figures.arms.map((arm) => armRow(plan, figures, arm))));
}

function card(plan, runs, figures, served) {
  const [newest] = runs;
  const took = duration(newest);
  const said = `Run ${newest.id}, ${when(newest.started)}${took ? `, ${took}` : ""}`;
  const earlier = runs.length > 1 ? ` · ${runs.length - 1} earlier run${runs.length > 2 ? "s" : ""} of this plan` : "";
  const links = [["rows", "Rows"], ["calls", "Calls"], ["progress", "Progress"], ["report", "Report"]];
  return make("article", { class: "card run" },
    make("h2", {}, newest.recipe, " ", make("code", {}, short(plan)), " ", make("span", { class: `state ${newest.status}` }, newest.status),
      served ? make("span", { class: "state" }, "served here") : null),
    make("p", { class: "measured" }, said, earlier),
    armTable(plan, figures),
    make("p", { class: "links" }, ...links.map(([view, title]) => make("a", { href: address(view, { plan }) }, title))));
}

export async function showRuns() {
  const { served, runs, plans } = await json("/api/runs");
  const cards = [...byPlan(runs)].map(([plan, own]) => card(plan, own, plans[plan], plan === served));
  $("runs").replaceChildren(...cards);
  if (!runs.length) $("runs").append(make("p", { class: "note" }, "Nothing was run in this store yet. `divvy run RECIPE` does."));
}

/** Fills the choice of a plan; what is served comes first, run or not. */
export async function offerPlans(chosen) {
  const { served, runs } = await json("/api/runs");
  const plans = byPlan(runs);
  const option = (plan, text) => make("option", { value: plan }, text);
  const name = (plan) => `${plans.get(plan)[0].recipe} ${short(plan)}`;
  const own = option(served, `${plans.has(served) ? name(served) : "not run yet"} (served here)`);
  $("plan").replaceChildren(own, ...[...plans.keys()].filter((plan) => plan !== served).map((plan) => option(plan, name(plan))));
  $("plan").value = chosen || served;
  if (!$("plan").value) throw new Error(`There is no plan ${short(chosen)} in this store`);
}
