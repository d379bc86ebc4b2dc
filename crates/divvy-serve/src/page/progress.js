// How far a plan is: the job at work, unless another plan was chosen. Read again while it is looked at.

import { $, address, grouped, guarded, make, short } from "./dom.js";
import { json } from "./server.js";
import { when } from "./runs.js";

const PAUSE = 2000;
/** A look that takes long is taken less often. */
const SHARE = 10;

function left(seconds) {
  const minutes = Math.ceil(seconds / 60);
  return minutes < 120 ? `about ${minutes} min left` : `about ${(minutes / 60).toFixed(1)} h left`;
}

function stage({ stage: name, items, states, per_second, seconds_left }) {
  const done = items - (states.pending ?? 0);
  const pace = per_second ? ` · ${per_second.toFixed(1)} a second, ${left(seconds_left)}` : "";
  return make("article", { class: "card" }, make("h2", {}, name),
    make("progress", { max: items || 1, value: done, "aria-label": name }),
    make("p", { class: "measured" }, `${grouped(done)} of ${grouped(items)}${pace}`),
    make("ul", { class: "states" }, ...Object.entries(states).filter(([, count]) => count).map(([state, count]) => make("li", {}, `${grouped(count)} ${state}`))));
}

function student({ student: name, trained, rows, step, loss, tokens_per_second }) {
  const at = step === null ? "not trained yet" : `step ${step}, loss ${loss.toFixed(3)}, ${Math.round(tokens_per_second)} tokens a second`;
  return make("li", {}, `${name}: ${trained ? `trained on ${grouped(rows)} rows` : at}`);
}

function call({ model, calls, tokens_in, tokens_out, cost_nanos }) {
  const cost = cost_nanos === null ? "price unknown" : `$${(cost_nanos / 1e9).toFixed(4)}`;
  return make("li", {}, `${model}: ${grouped(calls)} calls, ${grouped(tokens_in)} tokens in, ${grouped(tokens_out)} out, ${cost}`);
}

function list(title, items) {
  return items.length ? make("article", { class: "card" }, make("h2", {}, title), make("ul", {}, ...items)) : null;
}

function job({ running, run }) {
  const name = (one) => `run ${one.id} of ${one.recipe}`;
  if (running) return `At work: ${name(running)}, since ${when(running.started)}.`;
  if (!run) return "Nothing runs, and this plan never did.";
  return `Nothing runs. The last of this plan was ${name(run)}: ${run.status}${run.ended ? `, ${when(run.ended)}` : ""}.`;
}

export async function showProgress(wanted) {
  const status = await json(`/api/status?${new URLSearchParams(wanted.plan ? { plan: wanted.plan } : {})}`);
  $("progress-job").replaceChildren(job(status), " Shown: plan ", make("code", {}, short(status.plan)), ". ",
    wanted.plan ? make("a", { href: address("progress") }, "Follow the job at work") : "");
  const parts = [...status.stages.map(stage), list("students", status.students.map(student)), list("calls, all runs together", status.calls.map(call))];
  $("progress").replaceChildren(...parts.filter(Boolean));
}

/** Looks again and again, `wanted` says at what, while the view is open. */
export async function watch(wanted) {
  const began = performance.now();
  if (!$("view-progress").hidden && !document.hidden) await guarded(showProgress)(wanted());
  setTimeout(watch, Math.max(PAUSE, SHARE * (performance.now() - began)), wanted);
}
