// Markdown that grows. The server renders it; blocks that cannot change any more are neither sent nor drawn again.

const TAGS = new Set(
  "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split(" "),
);
const POLICY = globalThis.trustedTypes?.createPolicy("inferencesh-markdown", { createHTML: (html) => html });

/** Returns the nodes of the server's HTML; only known elements and addresses get into the page, whatever it says. */
export function safeNodes(html) {
  const parsed = new DOMParser().parseFromString(POLICY ? POLICY.createHTML(html) : html, "text/html"); // it runs and loads nothing
  return [...parsed.body.childNodes].flatMap(copy);
}

function copy(node) {
  if (node.nodeType === Node.TEXT_NODE) return [document.createTextNode(node.data)];
  if (node.nodeType !== Node.ELEMENT_NODE) return [];
  const name = node.localName;
  if (!TAGS.has(name)) return [document.createTextNode(node.textContent)];
  const made = document.createElement(name);
  if (name === "a" && /^(https?:\/\/|mailto:)/i.test(node.getAttribute("href") ?? "")) {
    made.href = node.getAttribute("href");
    made.rel = "noopener noreferrer nofollow";
    made.target = "_blank";
  }
  if (name === "ol" && /^\d{1,9}$/.test(node.getAttribute("start") ?? "")) made.start = Number(node.getAttribute("start"));
  made.append(...[...node.childNodes].flatMap(copy));
  return [made];
}

/**
 * Shows one text as Markdown while it grows.
 *
 * `render` takes a text and returns a promise of `{blocks, last_line}`, or is null if texts are shown as they are. The
 * text that is not rendered yet, or cannot be, is never shown as markup. `interval` is the least time between two requests
 * for a text, in milliseconds.
 */
export class MarkdownView {
  #root;
  #render;
  #text = "";
  #final = false;
  #base = 0; // where the first block begins that may still change
  #stable = 0; // the number of blocks before it
  #shown = []; // the HTML of each block
  #working = false;
  #failed = false; // the newest text could not be rendered
  #drawn;
  #interval;

  constructor(root, render, { drawn = () => {}, interval = 50 } = {}) {
    this.#root = root;
    this.#render = render;
    this.#drawn = drawn;
    this.#interval = interval;
    root.classList.add("markdown");
  }

  /** Shows a text; `final` says that it is complete. */
  set(text, { final = false } = {}) {
    const normal = text.replace(/\r\n?/g, "\n");
    if (normal === this.#text && final === this.#final && !this.#failed) return;
    if (!normal.startsWith(this.#text.slice(0, this.#base))) this.#base = this.#stable = 0;
    if (final && !this.#final) this.#base = this.#stable = 0; // references and the like may be defined further down
    this.#text = normal;
    this.#final = final;
    if (!this.#render) this.#plain();
    else if (!this.#working) this.#work();
  }

  async #work() {
    this.#working = true;
    for (;;) {
      const { text, final, base } = { text: this.#text, final: this.#final, base: this.#base };
      const stable = this.#stable;
      const began = performance.now();
      try {
        const { blocks, last_line } = await this.#render(text.slice(base));
        this.#failed = false;
        if (base === this.#base && stable === this.#stable) this.#apply(blocks, last_line, text.slice(base));
      } catch {
        this.#failed = true;
        this.#plain(); // the server is gone, or the text is too long: it is shown as it is
      }
      this.#drawn();
      if (this.#text === text && this.#final === final) break;
      await new Promise((resolve) => setTimeout(resolve, this.#interval - (performance.now() - began)));
      await new Promise((resolve) => (document.hidden ? setTimeout(resolve, this.#interval) : requestAnimationFrame(resolve)));
    }
    this.#working = false;
  }

  #apply(blocks, lastLine, source) {
    if (this.#root.classList.contains("plain")) {
      this.#root.classList.remove("plain");
      this.#root.replaceChildren();
      this.#shown = [];
    }
    const first = this.#stable;
    blocks.forEach((html, at) => {
      if (this.#shown[first + at] === html) return;
      const block = document.createElement("div");
      block.append(...safeNodes(html));
      const old = this.#root.children[first + at];
      if (old) old.replaceWith(block);
      else this.#root.append(block);
      this.#shown[first + at] = html;
    });
    this.#shown.length = first + blocks.length;
    while (this.#root.children.length > this.#shown.length) this.#root.lastElementChild.remove();
    if (blocks.length > 1) {
      this.#stable += blocks.length - 1;
      this.#base += source.split("\n").slice(0, lastLine).reduce((sum, line) => sum + line.length + 1, 0);
    }
  }

  #plain() {
    if (!this.#root.classList.contains("plain")) {
      this.#root.classList.add("plain");
      this.#root.replaceChildren(document.createTextNode(""));
      this.#shown = [];
      this.#base = this.#stable = 0;
    }
    const node = this.#root.firstChild;
    if (this.#text.startsWith(node.data)) node.appendData(this.#text.slice(node.data.length));
    else node.data = this.#text;
  }
}
