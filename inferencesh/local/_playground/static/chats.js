// The list of chats: search, open, rename, delete.

import { call } from "./api.js";
import { byId, element, icon } from "./dom.js";

export class ChatList {
  #options;
  #timer = null;
  #rows = new Map();
  #last = 0;

  /** Options: open(id), rename(chat), remove(chat), failed(error). */
  constructor(options) {
    this.#options = options;
    byId("search").addEventListener("input", () => this.soon(150));
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") byId("chat-list").querySelector(".open")?.focus();
    });
    byId("chat-list").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const buttons = [...byId("chat-list").querySelectorAll(".open")];
      (buttons[buttons.indexOf(document.activeElement.closest("li")?.querySelector(".open")) + step] ?? byId("search")).focus();
    });
  }

  /** Reads the list again, a little later; more calls until then are one. */
  soon(delay = 300) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.load().catch(this.#options.failed), delay);
  }

  async load() {
    const number = (this.#last += 1);
    const search = byId("search").value.trim();
    const page = await call("POST", "/chats/list", { limit: 100, ...(search ? { search } : {}) });
    if (number !== this.#last) return; // a newer search has been sent
    const items = Array.isArray(page?.items) ? page.items : [];
    const rows = items.map((chat) => this.#row(chat));
    const list = byId("chat-list");
    rows.forEach((row, at) => list.children[at] !== row && list.insertBefore(row, list.children[at] ?? null));
    while (list.children.length > rows.length) list.lastElementChild.remove();
    for (const id of this.#rows.keys()) if (!items.some((chat) => chat.id === id)) this.#rows.delete(id);
    byId("no-chats").hidden = rows.length > 0;
    byId("no-chats").textContent = search ? "No chat has this in its title." : "No chats yet. Send a message to begin one.";
  }

  /** Marks the chat that is open. */
  select(id) {
    for (const [chatId, row] of this.#rows) row.querySelector(".open").setAttribute("aria-current", chatId === id ? "page" : "false");
    this.selected = id;
  }

  #row(chat) {
    let row = this.#rows.get(chat.id);
    if (!row) {
      const open = element("button", { type: "button", class: "open", on: { click: () => this.#options.open(chat.id) } });
      const rename = element("button", { type: "button", class: "icon", title: "Rename", on: { click: () => this.#options.rename(row.chat) } }, icon("rename"));
      const remove = element("button", { type: "button", class: "icon", title: "Delete", on: { click: () => this.#options.remove(row.chat) } }, icon("remove"));
      row = element("li", {}, open, element("span", { class: "row-tools" }, rename, remove));
      this.#rows.set(chat.id, row);
    }
    row.chat = chat;
    const name = String(chat.name || "Untitled chat");
    const [open, tools] = row.children;
    open.textContent = name;
    open.title = name;
    open.dataset.status = chat.status;
    open.setAttribute("aria-current", chat.id === this.selected ? "page" : "false");
    tools.children[0].setAttribute("aria-label", `Rename ${name}`);
    tools.children[1].setAttribute("aria-label", `Delete ${name}`);
    return row;
  }
}
