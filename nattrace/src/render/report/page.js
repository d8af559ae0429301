"use strict";
// What the page can do beyond being read: hooks that open their rules, a filter, steps on demand, copying a fix.

const data = JSON.parse(document.getElementById("steps").textContent);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Steps of a packet: the same table as the page itself has for the first ones.
function part([text, className]) {
  return className ? element("span", className, text) : document.createTextNode(text);
}

function steps(packet) {
  const body = element("tbody");
  for (const index of data.packets[packet.dataset.steps]) {
    const [label, place, text] = data.rows[index];
    const row = element("tr");
    const head = element(label[0] ? "th" : "td");
    if (label[0]) {
      head.scope = "row";
      head.append(part(label));
    }
    const cell = element("td");
    cell.append(...text.map(part));
    row.append(head);
    if (place === null) cell.colSpan = 2;
    else row.append(element("td", "place", place));
    row.append(cell);
    body.append(row);
  }
  const table = element("table", "steps");
  table.append(body);
  const scroll = element("div", "scroll");
  scroll.append(table);
  return scroll;
}

function fill(packet) {
  if (packet.dataset.steps === undefined || packet.classList.contains("filled")) return;
  packet.classList.add("filled");
  packet.append(steps(packet));
}

const packets = Array.from(document.querySelectorAll("details.packet"));
document.getElementById("packets").addEventListener("toggle", (event) => {
  if (event.target.open && event.target.matches(".packet")) fill(event.target);
}, true);

// A link to a packet, a connection or a hook opens what it leads to.
function reveal(target) {
  if (!target) return;
  if (target.matches(".packet[hidden]")) {
    text.value = "";
    end.value = "";
    filter();
  }
  if (target.matches("details")) target.open = true;
  target.scrollIntoView({ block: "nearest" });
  const summary = target.querySelector("summary");
  if (summary) summary.focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']:not(.hook, .skip)");
  if (!link) return;
  const target = document.getElementById(link.getAttribute("href").slice(1));
  if (!target || !target.matches("details")) return;
  event.preventDefault();
  reveal(target);
});

// Hooks in pictures: buttons that open and close what is said of them.
const hooks = new Map();
for (const hook of document.querySelectorAll("a.hook")) {
  const target = document.getElementById(hook.getAttribute("href").slice(1));
  hooks.set(hook, target);
  hook.setAttribute("role", "button");
  hook.setAttribute("aria-controls", target.id);
  hook.setAttribute("aria-expanded", target.open);
  hook.addEventListener("click", (event) => {
    event.preventDefault();
    choose(hook, !target.open);
  });
  hook.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    choose(hook, !target.open);
  });
  target.addEventListener("toggle", () => {
    hook.setAttribute("aria-expanded", target.open);
    if (!target.open) target.classList.remove("chosen");
  });
  target.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && target.open) {
      event.stopPropagation();
      target.open = false;
      hook.focus();
    }
  });
}

function choose(hook, open) {
  const target = hooks.get(hook);
  for (const other of target.parentElement.querySelectorAll("details.hook")) {
    if (other !== target) other.open = false;
  }
  target.open = open;
  target.classList.toggle("chosen", open);
  if (open) reveal(target);
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const [hook, target] of hooks) {
    if (target.open && target.classList.contains("chosen")) {
      target.open = false;
      hook.focus();
    }
  }
});

// The filter: words that a packet's line or steps have, and how it ended.
const form = document.getElementById("filter");
const text = document.getElementById("filter-text");
const end = document.getElementById("filter-end");
const count = document.getElementById("filter-count");
let words = null;

function wordsOf(packet) {
  const rows = packet.dataset.steps === undefined ? [] : data.packets[packet.dataset.steps];
  const said = rows.map((index) => {
    const [label, place, parts] = data.rows[index];
    return [label[0], place ?? "", ...parts.map(([part]) => part)].join(" ");
  });
  return [packet.textContent, ...said].join(" ").toLowerCase();
}

function filter() {
  const wanted = text.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const cause = end.value.startsWith("cause-") ? end.value.slice(6) : null;
  if (wanted.length > 0) words ??= packets.map(wordsOf);
  let shown = 0;
  packets.forEach((packet, at) => {
    const ended = end.value === "" || (cause === null ? packet.dataset.end === end.value : packet.dataset.cause === cause);
    const fits = ended && wanted.every((word) => has(packet, words[at], word));
    packet.hidden = !fits;
    shown += fits;
  });
  for (const chunk of document.querySelectorAll(".chunk")) {
    chunk.hidden = chunk.querySelector(".packet:not([hidden])") === null;
  }
  tell(shown);
}

function tell(shown) {
  count.textContent = shown === packets.length ? `all ${shown}` : `${shown} of ${packets.length}`;
}

// #12 is that packet, not one whose number begins so.
function has(packet, said, word) {
  return /^#\d+$/.test(word) ? packet.id === `packet-${word.slice(1)}` : said.includes(word);
}

let due;
text.addEventListener("input", () => {
  clearTimeout(due);
  due = setTimeout(filter, 120);
});
end.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
tell(packets.length);

// A fix can be copied.
for (const fix of document.querySelectorAll(".fix")) {
  const button = element("button", "", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    const code = fix.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
  fix.append(button);
}

// Paper cannot be unfolded. Packets that repeat another one's way stay a line.
let folded = [];
addEventListener("beforeprint", () => {
  folded = Array.from(document.querySelectorAll("details:not([open], .as-table, [data-steps])"));
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});

if (location.hash) reveal(document.getElementById(location.hash.slice(1)));
