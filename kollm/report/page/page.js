"use strict";
// One language at a time where style cannot do it: options, titles, and what screen readers are told.
const inLanguage = (korean, english) => {
  const chosen = ["korean", "english"].find((id) => document.getElementById(id).checked);
  return chosen === "korean" ? korean : chosen === "english" ? english : `${korean} / ${english}`;
};
const translate = () => {
  document.documentElement.lang = document.getElementById("english").checked ? "en" : "ko";
  for (const node of document.querySelectorAll("[data-ko]")) {
    const words = inLanguage(node.dataset.ko, node.dataset.en);
    if (["OPTION", "TITLE", "title"].includes(node.tagName)) node.textContent = words;
    else node.setAttribute("aria-label", words);
  }
};
document.querySelectorAll(".languages input").forEach((node) => node.addEventListener("change", translate));
translate();

(() => {
  if (!document.getElementById("labels")) return;
  const SHOWN = 20;
  const KEPT_BLOCKS = 40;
  const byId = (id) => document.getElementById(id);
  const labels = JSON.parse(byId("labels").textContent);

  const unpack = async (id) => {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  };

  // The text of a sample is only ever set as textContent, so that markup in it stays text.
  const make = (name, className, ...children) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const both = (words) => {
    const english = make("span", "en", words[1]);
    english.lang = "en";
    return make("span", "", make("span", "ko", words[0]), " ", english);
  };
  const number = (value) => (value === null ? "–" : String(Math.round(value * 1000) / 1000));

  let index;
  const blocks = new Map();
  const textOf = async (place) => {
    const block = Math.floor(place / index.block);
    if (!blocks.has(block)) {
      blocks.set(block, unpack(`block-${block}`));
      if (blocks.size > KEPT_BLOCKS) blocks.delete(blocks.keys().next().value);
    }
    return (await blocks.get(block))[place % index.block];
  };

  const verdictCard = (verdict) => {
    const judging = labels.judgings[verdict.judging];
    const head = make("p", "verdict-head", make("code", "", judging.name), " ");
    if (verdict.sample) head.append(`#${verdict.sample} `);
    head.append(make("span", verdict.status === "ok" ? "chip good" : "chip bad", both(labels.statuses[verdict.status])));
    const scores = make("dl", "score-list");
    judging.axes.forEach((axis, place) => {
      scores.append(make("div", "", make("dt", "", both(axis)), make("dd", "", number(verdict.scores[place]))));
    });
    const raw = make("details", "raw", make("summary", "", both(labels.raw)), make("pre", "", verdict.raw || "–"));
    return make("div", "verdict", head, scores, raw);
  };

  const field = (words, text, className) =>
    text ? make("div", `field ${className}`, make("h4", "", both(words)), make("p", "text", text)) : null;

  const sampleCard = (place, text) => {
    const system = make("span", "chip system", make("i", `key s${index.system[place] % 8}`), index.systems[index.system[place]]);
    const head = make("header", "", make("h3", "", make("code", "", index.task[place]), " ", system));
    labels.flags.forEach((words, bit) => {
      if ((index.flags[place] >> bit) & 1) head.append(" ", make("span", "chip bad", both(words)));
    });
    return make(
      "article", "sample", head,
      field(labels.response, text.response || "–", "response"),
      ...text.verdicts.map(verdictCard),
    );
  };

  // Answers to one task that follow each other stand side by side, under what was asked.
  const placeCard = (list, place, text) => {
    const last = list.lastElementChild;
    if (last && last.dataset.task === index.task[place]) {
      last.append(sampleCard(place, text));
      return;
    }
    const asked = make(
      "div", "asked", make("h3", "", make("code", "", index.task[place])),
      field(labels.system, text.system_message, "system-message"),
      field(labels.tools, text.tools, "tools"),
      ...text.history.flatMap(([user, assistant]) => [
        field(labels.user, user, "turn"), field(labels.assistant, assistant, "turn"),
      ]),
      field(labels.instruction, text.instruction, "instruction"),
      field(labels.input, text.input, "input"),
      field(labels.reference, text.reference, "reference"),
    );
    const task = make("section", "task", asked, sampleCard(place, text));
    task.dataset.task = index.task[place];
    list.append(task);
  };

  const hasBit = (masks, chosen) => (place) =>
    chosen === "" || (chosen === "-1" ? masks[place] === 0 : (masks[place] >> Number(chosen)) & 1);

  const matches = (text, task, query) =>
    [task, text.instruction, text.input, text.response, text.reference, text.system_message, text.tools, ...text.history.flat(), ...text.verdicts.map((verdict) => verdict.raw)].some((part) =>
      part.toLowerCase().includes(query),
    );

  const candidates = () => {
    const system = byId("system").value;
    const flagged = hasBit(index.flags, byId("flag").value);
    const judged = hasBit(index.statuses, byId("status").value);
    const places = [];
    for (let place = 0; place < index.task.length; place += 1) {
      if ((system === "" || index.system[place] === Number(system)) && flagged(place) && judged(place)) places.push(place);
    }
    const [column, direction] = byId("sort").value.split(":");
    if (direction) {
      const scores = index.scores[Number(column)];
      const sign = direction === "up" ? 1 : -1;
      // Answers without a score come last either way.
      places.sort((a, b) => (scores[a] === null) - (scores[b] === null) || sign * (scores[a] - scores[b]) || a - b);
    }
    return places;
  };

  let turn = 0;
  let rest = null;

  const say = (found, all, done) => {
    const count = (value) => value.toLocaleString("ko-KR");
    byId("count").replaceChildren(both(labels.shown), ` ${count(found)} / ${count(all)}${done ? "" : " …"}`);
  };

  // Walks the candidates, showing matches as they are found; stops after SHOWN until `more` is pressed.
  const walk = async (mine, state) => {
    const list = byId("list");
    let shown = 0;
    byId("more").hidden = true;
    while (state.next < state.places.length) {
      const place = state.places[state.next];
      const text = await textOf(place);
      if (mine !== turn) return;
      state.next += 1;
      if (state.query && !matches(text, index.task[place], state.query)) {
        if (state.next % 500 === 0) say(state.found, state.places.length, false);
        continue;
      }
      state.found += 1;
      placeCard(list, place, text);
      shown += 1;
      if (shown === SHOWN) break;
    }
    const done = state.next >= state.places.length;
    byId("more").hidden = done;
    say(state.found, state.places.length, done);
  };

  const refresh = () => {
    turn += 1;
    byId("list").replaceChildren();
    rest = { places: candidates(), next: 0, found: 0, query: byId("query").value.trim().toLowerCase() };
    return walk(turn, rest);
  };

  const option = (value, text) => {
    const node = make("option", "", text);
    node.value = value;
    return node;
  };
  const sorting = (value, name, axis, arrow) => {
    const node = option(value, "");
    node.dataset.ko = `${name}${axis[0]} ${arrow}`;
    node.dataset.en = `${name}${axis[1]} ${arrow}`;
    return node;
  };

  const start = async () => {
    if (typeof DecompressionStream === "undefined") {
      byId("count").replaceChildren(both(labels.too_old));
      return;
    }
    index = await unpack("index");
    index.systems.forEach((name, place) => byId("system").append(option(place, name)));
    let column = 0;
    labels.judgings.forEach((judging) => {
      judging.axes.forEach((axis) => {
        const name = labels.judgings.length > 1 ? `${judging.name}: ` : "";
        byId("sort").append(sorting(`${column}:up`, name, axis, "↑"), sorting(`${column}:down`, name, axis, "↓"));
        column += 1;
      });
    });
    translate();
    let waiting;
    byId("query").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 200);
    });
    ["system", "flag", "status", "sort"].forEach((id) => byId(id).addEventListener("change", refresh));
    byId("filters").addEventListener("submit", (event) => {
      event.preventDefault();
      refresh();
    });
    byId("more").addEventListener("click", () => walk(turn, rest));
    await refresh();
    document.documentElement.dataset.ready = "yes";
  };
  start();
})();
