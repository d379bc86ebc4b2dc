// Rows of one plan and stage, a page at a time: what was asked, what came of it, and the calls behind it.

import { $, address, make, short, steps } from "./dom.js";
import { json } from "./server.js";

const ROWS = 20;

function verdict(row) {
  const gold = row.golds.length ? ` (gold: ${row.golds.join(" or ")})` : "";
  if (row.state !== "done" && !row.verdict) return ["wrong", `${row.state}: ${row.reason}${gold}`];
  if (row.stage === "collect") return ["right", "collected"];
  if (row.stage === "screen") {
    const share = `${Math.round(100 * row.verdict.pass_rate)} % of the solver's samples`;
    return [row.verdict.keep ? "right" : "wrong", `${row.verdict.keep ? "kept" : "rejected"}: ${row.verdict.reason}, ${share}, last answer ${row.answer ?? "none"}${gold}`];
  }
  return [row.correct ? "right" : "wrong", `${row.correct ? "right" : "wrong"}: ${row.answer ?? row.outcome}${gold}`];
}

function callLinks(plan, row) {
  if (!row.calls.length) return null;
  const links = row.calls.map((key) => make("a", { href: address("calls", { plan, key }) }, make("code", {}, short(key))));
  return make("p", { class: "links" }, make("span", { class: "hint" }, row.calls.length > 1 ? "Calls" : "Call"), ...links);
}

function card(plan, row) {
  const [how, text] = verdict(row);
  return make("article", { class: "card" },
    make("h2", {}, row.id, row.sample ? ` sample ${row.sample}` : ""), row.premise ? make("p", { class: "passage", tabindex: 0 }, row.premise) : null,
    make("p", { class: "question" }, row.question ?? "The store does not have this question."), steps(row.subquestions ?? [], row.sub_answers),
    make("p", { class: how }, text),
    row.reply ? make("details", {}, make("summary", {}, "The solver's reply"), make("pre", { tabindex: 0 }, row.reply)) : null,
    callLinks(plan, row));
}

function step(id, wanted, from) {
  $(id).disabled = from === null;
  $(id).onclick = () => { location.hash = address("rows", { ...wanted, from }); };
}

export async function showRows(wanted) {
  const from = Number(wanted.from ?? 0);
  const page = await json(`/api/rows?${new URLSearchParams({ ...wanted, from, count: ROWS })}`);
  $("rows-stage").value = page.stage;
  $("rows-arm").replaceChildren(...page.arms.map((arm) => make("option", { value: arm }, arm)));
  $("rows-arm").value = page.arm;
  document.querySelector(".arm").hidden = page.arms.every((arm) => arm === "");
  $("rows-wrong").checked = wanted.wrong === "true";
  $("rows").replaceChildren(...page.rows.map((row) => card(wanted.plan, row)));
  if (!page.total) $("rows").append(make("p", { class: "note" }, page.arms.length ? "No such rows." : "This stage has no rows yet."));
  $("rows-where").textContent = page.total ? `${from + 1} to ${from + page.rows.length} of ${page.total}` : "";
  step("rows-back", wanted, from > 0 ? Math.max(0, from - ROWS) : null);
  step("rows-on", wanted, from + ROWS < page.total ? from + ROWS : null);
}

/** What the fields of the view choose, of this plan. */
export function chosenRows(plan) {
  return address("rows", { plan, stage: $("rows-stage").value, arm: $("rows-arm").value, wrong: $("rows-wrong").checked });
}
