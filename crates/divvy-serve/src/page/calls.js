// Calls to models: those behind the last rows of a plan, and one of them word for word.

import { $, address, make, short } from "./dom.js";
import { json } from "./server.js";
import { when } from "./runs.js";

/** Rows of a plan whose calls are on one page. */
const ROWS = 20;

const count = (tokens) => tokens ?? "?";

function line(plan, call) {
  const { tokens_in, tokens_out } = call.reply.usage;
  const of = call.question ? `${call.stage} ${call.question}` : "";
  return make("tr", {}, make("td", {}, make("a", { href: address("calls", { plan, key: call.key }) }, make("code", {}, short(call.key)))),
    make("td", { class: "name" }, of), make("td", {}, call.model), make("td", { class: "number" }, count(tokens_in)),
    make("td", { class: "number" }, count(tokens_out)), make("td", { class: "number" }, call.latency_ms), make("td", { class: "reply" }, call.reply.text.slice(0, 80)));
}

function whole(call) {
  const { tokens_in, tokens_out } = call.reply.usage;
  const cost = call.cost_nanos === null ? "price unknown" : `$${(call.cost_nanos / 1e9).toFixed(6)}`;
  const messages = call.request.messages.flatMap((message) => [make("h3", {}, message.role), make("pre", { tabindex: 0 }, message.content)]);
  const raw = call.raw_reply ? make("details", {}, make("summary", {}, "As it came over the wire"), make("pre", { tabindex: 0 }, call.raw_reply)) : null;
  return make("article", { class: "card", tabindex: -1 },
    make("h2", {}, make("code", {}, short(call.key)), ` to ${call.model}`),
    make("p", { class: "measured" }, `${when(call.created)}, ${call.latency_ms} ms, ${count(tokens_in)} tokens in, ${count(tokens_out)} out, ${cost}${call.endpoint ? `, ${call.endpoint}` : ""}`),
    ...messages, make("h3", {}, `reply (${typeof call.reply.finish === "string" ? call.reply.finish : "other"})`), make("pre", { tabindex: 0 }, call.reply.text), raw);
}

async function showOne(key) {
  if (!key) return $("call").replaceChildren();
  const [call] = await json(`/api/calls?${new URLSearchParams({ key })}`);
  if (!call) throw new Error(`There is no call ${short(key)} in this store`);
  $("call").replaceChildren(whole(call));
  $("call").firstChild.focus();
}

function step(id, wanted, from) {
  $(id).disabled = from === null;
  $(id).onclick = () => { location.hash = address("calls", { plan: wanted.plan, from }); };
}

export async function showCalls(wanted) {
  const from = Number(wanted.from ?? 0);
  const calls = await json(`/api/calls?${new URLSearchParams({ plan: wanted.plan, from, last: ROWS })}`);
  const head = make("tr", {}, ...["Call", "For", "Model", "In", "Out", "ms", "Reply"].map((title, at) => make("th", { class: at > 2 && at < 6 ? "number" : null }, title)));
  $("calls").replaceChildren(...(calls.length ? [head] : []), ...calls.map((call) => line(wanted.plan, call)));
  $("calls-none").hidden = calls.length > 0;
  step("calls-later", wanted, from > 0 ? Math.max(0, from - ROWS) : null);
  step("calls-earlier", wanted, calls.length ? from + ROWS : null);
  await showOne(wanted.key);
}
