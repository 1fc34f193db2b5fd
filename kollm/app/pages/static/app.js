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

// Chat: answers come piece by piece and are set as text. Enter sends, but not while Hangul is being composed.
const talk = document.getElementById("say");
if (talk) {
  const box = talk.querySelector("textarea"), stop = talk.querySelector("[data-stop]");
  let running = null;
  const line = (log, kind, text) => {
    const turn = document.createElement("div");
    turn.className = `turn ${kind} body`; turn.textContent = text; log.append(turn); turn.scrollIntoView({ block: "nearest" });
    return turn;
  };
  const ask = async (section, message, again) => {
    const log = section.querySelector(".log"), form = new URLSearchParams({ number: section.dataset.number, message });
    if (again) { form.set("again", "1"); log.lastElementChild?.remove(); } else line(log, "user", message);
    const turn = line(log, "said", "");
    try {
      const answer = await fetch("/chat/say", { method: "POST", body: form, signal: running.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) turn.textContent += part.value;
    } catch (error) { if (error.name !== "AbortError") turn.textContent += `\n[${error.message}]`; }
    section.querySelector("[data-again]").disabled = false;
    section.querySelector(".after").hidden = false;
    section.querySelector("[name=better]").value = turn.textContent.trim();
  };
  const run = async (sections, message, again) => {
    if (running) return;
    running = new AbortController(); stop.hidden = false;
    await Promise.all(sections.map((section) => ask(section, message, again)));
    running = null; stop.hidden = true; box.focus();
  };
  talk.addEventListener("submit", (event) => {
    event.preventDefault();
    if (running || !box.value.trim()) return;
    const message = box.value; box.value = "";
    run([...document.querySelectorAll(".talk")], message, false);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) { event.preventDefault(); talk.requestSubmit(); }
  });
  stop.addEventListener("click", () => running?.abort());
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-again]");
    if (button) run([button.closest(".talk")], "", true);
  });
}
