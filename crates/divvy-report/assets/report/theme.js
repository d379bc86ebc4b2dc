// Script of a divvy report, in files that make one script: the theme switch first. The page reads without it.
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

