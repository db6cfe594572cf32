// Elements made of untrusted text. Nothing here or in the other modules turns a string into markup but markdown.js.

/**
 * Makes an element.
 * @param {string} tag
 * @param {{class?: string, text?: string, on?: object, [attribute: string]: unknown}} options
 * @param {...(Node|string)} children
 */
export function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  const { class: className, text, on, ...attributes } = options;
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [event, handler] of Object.entries(on ?? {})) made.addEventListener(event, handler);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const ICONS = {
  rename: "M4 20h4L19 9a2.1 2.1 0 0 0-3-3L5 17zM14 8l3 3",
  remove: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.5 10.5v5.5M13.5 10.5v5.5",
};

/** Makes an icon of this page's own. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: 16, height: 16, "aria-hidden": "true" })) svg.setAttribute(key, value);
  for (const [key, value] of Object.entries({ d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.7, "stroke-linecap": "round", "stroke-linejoin": "round" })) path.setAttribute(key, value);
  svg.append(path);
  return svg;
}

export const byId = (id) => document.getElementById(id);

/** Returns the address if it may stand in a link, else null. */
export function safeAddress(text) {
  try {
    const url = new URL(String(text));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Sets a text that mostly grows: only what is new is added. */
export function growText(node, text) {
  const first = node.firstChild;
  if (first && text.startsWith(first.data)) {
    if (text.length > first.data.length) first.appendData(text.slice(first.data.length));
  } else node.replaceChildren(text);
}

/** Returns a function that does an action, and nothing while it is still under way: a double click is one click. */
export function onceAtATime(action) {
  let busy = false;
  return async (...given) => {
    if (busy) return;
    busy = true;
    try {
      await action(...given);
    } finally {
      busy = false;
    }
  };
}

/** Returns any value as a text. */
export const textOf = (value) => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value));

/** Lays out JSON that is still being written; it works on characters, so that any beginning of a text will do. */
export function layOut(json) {
  let out = "", depth = 0, quoted = false, escaped = false;
  const line = () => "\n" + "  ".repeat(depth);
  for (const char of json) {
    if (quoted) {
      out += char;
      if (escaped) escaped = false;
      else if (char === "\\") escaped = true;
      else if (char === '"') quoted = false;
    } else if (char === '"') {
      quoted = true;
      out += char;
    } else if (char === "{" || char === "[") {
      depth = Math.min(depth + 1, 40);
      out += char + line();
    } else if (char === "}" || char === "]") {
      depth = Math.max(depth - 1, 0);
      out = out.trimEnd();
      out += (/[[{]$/.test(out) ? "" : line()) + char;
    } else if (char === ",") out += "," + line();
    else if (char === ":") out += ": ";
    else if (!/\s/.test(char)) out += char;
  }
  return out;
}

/** Says what is wrong with a JSON text, with line and column where the browser tells them; null if nothing is. */
export function jsonProblem(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    const message = String(error.message).replace(/^JSON\.parse: /, "").replace(/ \(line \d+ column \d+\)$/, "");
    const at = /position (\d+)/.exec(message);
    if (!at || /line \d+/.test(error.message)) return String(error.message);
    const before = text.slice(0, Number(at[1])).split("\n");
    return `${message} (line ${before.length} column ${before.at(-1).length + 1})`;
  }
}
