// The list of a conversation's messages. It knows the wire's form of messages, and nothing of the page around it.

import { CallPanel } from "./calls.js";
import { element, growText, onceAtATime, safeAddress } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const ENDED = new Set(["ready", "failed", "cancelled"]);

/**
 * Shows messages in their order, each updated in place.
 *
 * Options: `render` and `interval` are those of MarkdownView; `actions` and `wording` are those of CallPanel;
 * `reasonOf(callId)` tells why a call waits; `drawn()` is called when something was drawn; `retry(message)` sends a
 * failed message again and `cancel(message)` takes back a queued one, both return promises.
 */
export class MessageList {
  #root;
  #options;
  #views = new Map();

  constructor(root, options) {
    this.#root = root;
    this.#options = options;
  }

  clear() {
    this.#views.clear();
    this.#root.replaceChildren();
  }

  /** Shows a message; `drafts` are calls that are still being written: {id, name, arguments}. */
  set(message, drafts = []) {
    if (message.role !== "user" && message.role !== "assistant") return;
    let view = this.#views.get(message.id);
    if (!view) {
      view = new MessageView(message, this.#options);
      this.#views.set(message.id, view);
    }
    if (view.order !== message.order) { // it is new, or was queued while the run before it wrote more messages
      view.order = message.order;
      const later = [...this.#views.values()].filter((each) => each.order > view.order).sort((a, b) => a.order - b.order)[0];
      this.#root.insertBefore(view.root, later?.root ?? null);
    }
    view.set(message, drafts);
    this.#options.drawn();
  }

  /** Takes a message out of the list. */
  remove(messageId) {
    this.#views.get(messageId)?.root.remove();
    this.#views.delete(messageId);
  }

  /** Shows a line of facts under a message. */
  note(messageId, text) {
    const view = this.#views.get(messageId);
    if (view) view.facts.textContent = text;
  }

  /** Shows a run's error at its last message. */
  fail(messageId, text) {
    this.#views.get(messageId)?.fail(text);
  }
}

class MessageView {
  #parts = [];
  #calls = new Map();
  #options;

  constructor(message, options) {
    this.#options = options;
    this.message = message;
    this.root = element("article", { class: `message ${message.role}`, "aria-label": message.role === "user" ? "You" : "Agent" });
    this.body = element("div", { class: "body" });
    this.calls = element("div", { class: "calls" });
    this.status = element("p", { class: "note" });
    this.facts = element("p", { class: "facts" });
    this.root.append(this.body, this.calls, this.status, this.facts);
  }

  set(message, drafts) {
    const ended = ENDED.has(message.status);
    this.message = message;
    this.root.classList.toggle("growing", message.role === "assistant" && !ended);
    this.root.classList.toggle("queued", message.status === "queued");
    const content = Array.isArray(message.content) ? message.content : [];
    const blocks = content.filter((block) => block.type !== "tool");
    blocks.forEach((block, at) => this.#showBlock(block, at, ended, at === blocks.length - 1));
    for (const part of this.#parts.splice(blocks.length)) part.root.remove();
    this.#showCalls(message, content, drafts);
    const empty = !blocks.length && !this.#calls.size;
    this.root.classList.toggle("empty", empty && !ended);
    this.#showStatus(message);
  }

  fail(text) {
    if (this.failure === text) return;
    this.failure = text;
    const retry = element("button", { type: "button", class: "quiet", text: "Try again", on: { click: onceAtATime(() => this.#options.retry(this.message)) } });
    this.status.replaceChildren(element("span", { text: `This reply failed: ${text}` }), " ", retry);
    this.status.classList.add("wrong");
  }

  #showStatus(message) {
    if (this.failure) return;
    if (message.status === "queued") {
      const cancel = element("button", { type: "button", class: "quiet", text: "Take back", on: { click: onceAtATime(() => this.#options.cancel(message)) } });
      if (this.shown !== "queued") this.status.replaceChildren("Waits for the run before it. ", cancel);
    } else if (message.status !== this.shown) {
      this.status.textContent = { failed: "This reply failed.", cancelled: message.role === "user" ? "Taken back." : "This reply was stopped." }[message.status] ?? "";
    }
    this.shown = message.status;
  }

  #showBlock(block, at, ended, last) {
    let part = this.#parts[at];
    if (!part || part.type !== block.type) {
      part = this.#makePart(block);
      const old = this.#parts[at];
      if (old) old.root.replaceWith(part.root);
      else this.body.append(part.root);
      this.#parts[at] = part;
    }
    part.set(block, ended, last);
  }

  #makePart(block) {
    const type = block.type;
    if (type === "reasoning") return { type, ...reasoning() };
    if (type === "text" && this.message.role === "assistant") {
      const root = element("div", { class: "text" });
      const view = new MarkdownView(root, this.#options.render, this.#options);
      return { type, root, set: (each, final) => view.set(String(each.text ?? ""), { final }) };
    }
    if (type === "text") {
      const root = element("div", { class: "text" });
      return { type, root, set: (each) => growText(root, String(each.text ?? "")) };
    }
    if (type === "image" || type === "file") {
      const root = element("p", { class: "file" });
      return { type, root, set: (each) => root.children.length || root.append(fileNode(type, each[type])) };
    }
    const root = element("pre", { class: "other" });
    return { type, root, set: (each) => growText(root, JSON.stringify(each, null, 2)) };
  }

  #showCalls(message, content, drafts) {
    const invocations = Array.isArray(message.tool_invocations) ? message.tool_invocations : [];
    const written = content.flatMap((block) => (Array.isArray(block.tool_calls) ? block.tool_calls : []));
    const calls = new Map();
    for (const each of drafts) calls.set(each.id, { id: each.id, name: each.name, arguments: each.arguments, status: "pending" });
    for (const each of written) calls.set(String(each?.id), { id: String(each?.id), name: String(each?.function?.name ?? ""), arguments: each?.function?.arguments, status: "pending" });
    for (const each of invocations) {
      const id = String(each?.tool_invocation_id ?? each?.id);
      calls.set(id, {
        id: each?.id, name: String(each?.function?.name ?? each?.display_name ?? ""), arguments: each?.function?.arguments ?? {},
        status: String(each?.status), result: each?.result, type: each?.type, widget: each?.widget, reason: this.#options.reasonOf?.(each?.id),
      });
    }
    for (const [id, panel] of this.#calls) if (!calls.has(id)) (panel.root.remove(), this.#calls.delete(id));
    for (const [id, call] of calls) {
      if (!this.#calls.has(id)) {
        const panel = new CallPanel(this.#options.actions, this.#options.wording);
        this.#calls.set(id, panel);
        this.calls.append(panel.root);
      }
      this.#calls.get(id).set(call);
    }
  }
}

function reasoning() {
  const text = element("div", { class: "reasoning-text" });
  const title = element("summary", { text: "Thinking …" });
  const root = element("details", { class: "reasoning" }, title, text);
  const set = (block, ended, last) => {
    growText(text, String(block.text ?? ""));
    title.textContent = ended || !last ? "Reasoning" : "Thinking …";
  };
  return { root, set };
}

// Only files of this server are shown as images; others would learn that the message was read.
function fileNode(type, uri) {
  const address = safeAddress(uri);
  if (uri === undefined) return element("span", { text: type === "image" ? "An image" : "A file" });
  const name = String(uri ?? "").split("/").at(-1) || type;
  if (!address) return element("span", { text: String(uri ?? type) });
  const own = new URL(address).origin === location.origin;
  const link = element("a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank" });
  if (type === "image" && own) link.append(element("img", { src: address, alt: "Attached image", loading: "lazy" }));
  else link.append(type === "image" ? `Image ${own ? name : address}` : `File ${own ? name : address}`);
  return link;
}
