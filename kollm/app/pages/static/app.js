// Keys press buttons and follow links: what a key does stands beside it on the page. While a person types, or composes
// Hangul, no key means anything but itself.
"use strict";
const typing = (element) => element instanceof HTMLTextAreaElement || element instanceof HTMLSelectElement ||
  (element instanceof HTMLInputElement && element.type !== "hidden") || element.isContentEditable;
const byKey = (key) => [...document.querySelectorAll("[data-key]")].find((e) => e.dataset.key.toLowerCase() === key.toLowerCase());
const say = (text) => { document.getElementById("said").textContent = text; };

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229 || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  const field = [...document.querySelectorAll("[data-focus]")].find((e) => e.dataset.focus === event.key);
  if (field) { event.preventDefault(); field.focus(); return; }
  if (event.key === "Enter" && event.target instanceof HTMLElement && event.target.matches("a, button, summary")) return;
  const target = byKey(event.key);
  if (target && !event.repeat) { event.preventDefault(); target.click(); }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-help]");
  if (!button) return;
  if (button.dataset.copy) {
    await navigator.clipboard.writeText(location.origin + button.dataset.copy);
    say(document.getElementById("said").dataset.copied);
    return;
  }
  const list = document.getElementById("help-list");
  list.replaceChildren();
  const add = (key, text) => {
    const term = document.createElement("dt"), what = document.createElement("dd"), mark = document.createElement("kbd");
    mark.textContent = key; term.append(mark); what.textContent = text; list.append(term, what);
  };
  for (const element of document.querySelectorAll("[data-key]")) add(element.dataset.key, element.textContent.replace(/\s+\S+$/, "").trim() || element.textContent.trim());
  for (const element of new Map([...document.querySelectorAll("[data-focus]")].map((e) => [e.dataset.focus, e])).values()) add(element.dataset.focus, element.closest("label").textContent.trim().split("\n")[0]);
  document.getElementById("help").showModal();
});

// A correction can be saved once a text was changed, and a button pressed twice decides once.
for (const form of document.querySelectorAll("form.review")) {
  const button = form.querySelector("[data-needs=changed]"), boxes = [...form.querySelectorAll("textarea")];
  const update = () => { button.disabled = boxes.every((box) => box.value === box.defaultValue); };
  for (const box of boxes) {
    const fit = () => { box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight + 2, 480)}px`; };
    box.addEventListener("input", () => { update(); fit(); });
    fit();
  }
  update();
}
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", () => setTimeout(() => form.querySelectorAll("button").forEach((b) => { b.disabled = true; })));
}
