// The raw events of the stream: filtered, paused, cleared, and copied as a test.

import { byId, element, layOut } from "./dom.js";

const MOST = 5000; // events that are kept
const DRAWN = 500; // events in the list

export class Inspector {
  #events = [];
  #waiting = [];
  #paused = false;
  #scheduled = false;
  #began = performance.now();
  #counts = 0;

  constructor() {
    byId("filter").addEventListener("input", () => this.#redraw());
    byId("clear").addEventListener("click", () => this.clear());
    byId("pause").addEventListener("click", () => {
      this.#paused = !this.#paused;
      byId("pause").setAttribute("aria-pressed", this.#paused);
      byId("pause").textContent = this.#paused ? "Go on" : "Pause";
      this.#schedule();
    });
  }

  /** The events that can be replayed: everything recorded since the list was cleared. */
  get events() {
    return this.#events.filter(({ event }) => ["chat_messages", "delta", "agent_runs", "chats"].includes(event)).map(({ event, data }) => ({ event, data }));
  }

  /** Records an event: {event, data, size}. */
  add(event) {
    const each = { ...event, at: performance.now() - this.#began };
    this.#counts += 1;
    this.#events.push(each);
    if (this.#events.length > MOST) this.#events.shift();
    this.#waiting.push(each);
    if (this.#waiting.length > DRAWN) this.#waiting.shift();
    this.#schedule();
  }

  clear() {
    this.#events = [];
    this.#waiting = [];
    this.#counts = 0;
    this.#began = performance.now();
    byId("event-list").replaceChildren();
    this.#count();
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      if (!this.#paused) this.#append(this.#waiting.splice(0));
      this.#count();
    });
  }

  #append(events) {
    const list = byId("event-list");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const filter = byId("filter").value.trim().toLowerCase();
    list.append(...events.filter((each) => matches(each, filter)).map(row));
    while (list.children.length > DRAWN) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #redraw() {
    byId("event-list").replaceChildren();
    const waiting = this.#paused ? new Set(this.#waiting) : new Set();
    if (!this.#paused) this.#waiting = [];
    const filter = byId("filter").value.trim().toLowerCase();
    this.#append(this.#events.filter((each) => !waiting.has(each) && matches(each, filter)).slice(-DRAWN));
    this.#count();
  }

  #count() {
    const shown = byId("event-list").children.length;
    const waiting = this.#paused && this.#waiting.length ? `, ${this.#waiting.length} waiting` : "";
    byId("event-count").textContent = this.#counts ? `${shown} of ${this.#counts} events${waiting}` : "No events yet. They appear here as the stream sends them.";
  }
}

function matches(each, filter) {
  if (!filter) return true;
  each.searched ??= `${each.event} ${JSON.stringify(each.data ?? null)}`.toLowerCase();
  return each.searched.includes(filter);
}

function row(each) {
  const details = element("details", {},
    element("summary", {},
      element("span", { class: "at", text: `${(each.at / 1000).toFixed(2)}` }),
      element("span", { class: "event-name", text: each.event }),
      element("span", { class: "gist", text: gist(each) })));
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector("pre")) {
      const text = each.event === "unreadable" ? String(each.data) : layOut(JSON.stringify(each.data ?? null));
      details.append(element("pre", { tabindex: 0, text: text.slice(0, 100_000) }));
    }
  });
  return element("li", { "data-event": each.event }, details);
}

function gist({ event, data }) {
  if (event === "delta") return JSON.stringify(data?.delta ?? null).slice(0, 200);
  if (event === "chat_messages") return `${data?.role ?? "?"} ${data?.status ?? "?"} ${textIn(data)}`.slice(0, 200);
  if (event === "agent_runs") return `${data?.state ?? "?"} ${data?.error ?? ""}`.slice(0, 200);
  if (event === "chats") return `${data?.status ?? "?"} ${data?.name ?? ""}`.slice(0, 200);
  return (typeof data === "string" ? data : JSON.stringify(data ?? null)).slice(0, 200);
}

const textIn = (message) => (Array.isArray(message?.content) ? message.content : []).map((block) => block?.text ?? "").join("");
