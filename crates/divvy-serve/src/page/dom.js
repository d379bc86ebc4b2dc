// Elements of the page. Text from models and people only ever becomes text nodes.

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

export function problem(message) {
  $("problem").textContent = message ?? "";
  $("problem").hidden = !message;
}

/** Work whose failure is told on the page. */
export function guarded(work) {
  return async (...given) => {
    try {
      await work(...given);
      problem(null);
    } catch (error) {
      problem(error.message);
    }
  };
}

export function percent(share) {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

/** `12,345` */
export function grouped(number) {
  return number.toLocaleString("en-US");
}

/** The digits of a digest that people see. */
export function short(digest) {
  return digest.slice(0, 12);
}

/** An address on this page: a view and what it shows. The slash keeps it from being an element's id, to which a browser would jump. */
export function address(view, wanted = {}) {
  const given = Object.entries(wanted).filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false);
  const query = new URLSearchParams(given).toString();
  return query ? `#/${view}?${query}` : `#/${view}`;
}

/** Subquestions with their answers. */
export function steps(texts, answers = []) {
  return make("ol", { class: "steps" }, ...texts.map((text, at) => make("li", {}, text, make("span", { class: "known" }, answers?.[at] ?? ""))));
}
