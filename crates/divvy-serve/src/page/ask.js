// A question asked of one model or two, and watched while it is divided and solved.

import { $, make, percent, problem } from "./dom.js";
import { events, json, request } from "./server.js";

let models = [];
let asking = null;

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

/** Reads which models there are. */
export async function start() {
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
}
