// What is asked of the server, with the key where one is needed.

import { $ } from "./dom.js";

function headers() {
  const key = $("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

/** The response, or an error that says what the server said. */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is divvy serve still running?");
  }
  if (response.status === 401) document.querySelector(".key").hidden = false;
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered ${response.status}`);
  }
  return response;
}

export async function json(path) {
  return (await request(path)).json();
}

/** Every JSON object of a stream of events. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

/** Remembers the key for as long as the tab is open; `again` is called when it changes. */
export function keep(again) {
  $("key").value = sessionStorage.getItem("divvy-key") ?? "";
  document.querySelector(".key").hidden = !$("key").value;
  $("key").addEventListener("change", () => {
    sessionStorage.setItem("divvy-key", $("key").value);
    again();
  });
}
