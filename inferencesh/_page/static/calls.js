// Tool calls as panels: arguments, result, and what a person can do about a call that waits.

import { element, growText, jsonProblem, layOut, textOf } from "./dom.js";
import { widgetForm } from "./widgets.js";

const STATES = {
  awaiting_approval: "asks for approval",
  awaiting_input: "waits for you",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
  pending: "being written",
  in_progress: "working",
};

/**
 * One tool call.
 *
 * `actions` are functions that return promises: answer(call, text), approve(call), reject(call, reason), and, where it
 * can be offered, alwaysAllow(call), decide(call, allowed). What they throw is shown in the panel. `wording(call)`
 * returns what to write instead of the tool's name and its arguments, {title, text}; with a text, which is a question
 * to a person, its answer is a sentence instead of a result.
 */
export class CallPanel {
  constructor(actions, wording = () => ({})) {
    this.root = element("section", { class: "call" });
    this.name = element("span", { class: "call-name" });
    this.status = element("span", { class: "call-state" });
    this.input = element("div", { class: "call-arguments" });
    this.output = element("div", { class: "call-result" });
    this.box = element("div", { class: "call-box" });
    this.root.append(element("header", {}, this.name, this.status), this.input, this.box, this.output);
    this.actions = actions;
    this.wording = wording;
  }

  /** Shows a call: {id, name, arguments (text or object), status, result, type, widget, reason}. */
  set(call) {
    this.call = call;
    const finish = call.name === "finish" && call.type !== "client";
    this.words = this.wording(call);
    const title = finish ? "Structured output" : (this.words.title ?? call.name);
    this.name.textContent = title;
    this.name.classList.toggle("worded", finish || "title" in this.words);
    this.status.textContent = finish && call.status === "pending" ? "being written" : STATES[call.status] ?? call.status;
    this.root.setAttribute("aria-label", title === call.name ? `Tool call ${title}` : title);
    this.root.dataset.state = call.status;
    this.root.classList.toggle("waits", call.status === "awaiting_input" || call.status === "awaiting_approval");
    this.root.classList.toggle("output", finish);
    this.#showArguments(call, finish);
    const key = `${call.status} ${call.reason ?? ""}`;
    if (key !== this.boxKey) {
      this.boxKey = key;
      this.box.replaceChildren(...this.#controls(call));
    }
    const result = textOf(call.result);
    if (result !== this.result) {
      this.result = result;
      const laidOut = /^\s*[[{]/.test(result) && jsonProblem(result) === null ? layOut(result) : result;
      this.output.replaceChildren(...(result ? [element("span", { class: "label", text: this.words.text === undefined ? "Result" : "Your answer" }), element("pre", { text: laidOut })] : []));
    }
  }

  #showArguments(call, finish) {
    if (this.words.text !== undefined) return this.#showText(this.words.text);
    const text = typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments ?? {});
    const entries = !finish && typeof call.arguments === "object" && call.arguments ? Object.entries(call.arguments) : null;
    if (!entries) {
      if (!this.raw) this.input.replaceChildren((this.raw = element("pre")));
      growText(this.raw, layOut(text));
      return;
    }
    this.raw = null;
    if (text === this.shownArguments) return;
    this.shownArguments = text;
    const list = element("dl");
    for (const [name, value] of entries) {
      list.append(element("dt", { text: name }), element("dd", {}, typeof value === "object" && value ? element("pre", { text: layOut(JSON.stringify(value)) }) : textOf(value)));
    }
    this.input.replaceChildren(...(entries.length ? [list] : []));
  }

  #showText(text) {
    if (!this.input.querySelector(".call-text")) this.input.replaceChildren(element("p", { class: "call-text" }));
    growText(this.input.firstChild, text);
  }

  #controls(call) {
    if (call.status === "awaiting_approval") return [this.#approval()];
    if (call.status !== "awaiting_input") return [];
    if (call.widget) return [widgetForm(call.widget, (action, form) => this.#run(() => this.actions.answer(this.call, JSON.stringify({ action, form_data: form }))))];
    if (call.type === "client") return [this.words.text === undefined ? this.#answerBox() : this.#replyBox()];
    return [this.#question(call)];
  }

  #approval() {
    const reason = element("input", { "aria-label": "Reason for rejecting", placeholder: "Reason, if you reject it" });
    return element("form", { class: "decide", on: { submit: (event) => event.preventDefault() } }, reason,
      this.#button("Reject", "quiet", () => this.actions.reject(this.call, reason.value)),
      ...(this.actions.alwaysAllow ? [this.#button("Always allow", "quiet", () => this.actions.alwaysAllow(this.call))] : []),
      this.#button("Approve", "primary", () => this.actions.approve(this.call)));
  }

  #question(call) {
    const signIn = call.reason === "auth";
    return element("form", { class: "decide", on: { submit: (event) => event.preventDefault() } },
      this.#button(signIn ? "Cancel" : "No", "quiet", () => this.actions.decide(this.call, false)),
      this.#button(signIn ? "I have signed in" : "Yes", "primary", () => this.actions.decide(this.call, true)));
  }

  #answerBox() {
    const note = element("p", { class: "note", role: "status" });
    const text = element("textarea", { rows: 2, "aria-label": `Result of ${this.call.name}`, placeholder: "The tool's result, as text or JSON" });
    const asText = element("input", { type: "checkbox" });
    const check = () => {
      const json = /^\s*[[{"]/.test(text.value) && !asText.checked;
      const problem = json ? jsonProblem(text.value) : null;
      note.textContent = problem ? `Not JSON yet: ${problem}` : json ? "JSON is valid." : "";
      note.classList.toggle("wrong", problem !== null);
      return problem === null;
    };
    const submit = () => check() && text.value && this.#run(() => this.actions.answer(this.call, text.value));
    text.addEventListener("input", check);
    asText.addEventListener("change", check);
    text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        submit();
      }
    });
    return element("form", { class: "answer", on: { submit: (event) => (event.preventDefault(), submit()) } }, text, note,
      element("div", { class: "buttons" }, element("label", { class: "check" }, asText, "Send as text"), element("button", { class: "primary", text: "Answer" })));
  }

  #replyBox() {
    const text = element("input", { "aria-label": "Your answer", placeholder: "Your answer", maxlength: 8000, autocomplete: "off" });
    const submit = () => text.value.trim() && this.#run(() => this.actions.answer(this.call, text.value.trim()));
    return element("form", { class: "reply", on: { submit: (event) => (event.preventDefault(), submit()) } }, text,
      element("button", { class: "primary", text: "Answer" }));
  }

  #button(text, className, action) {
    return element("button", { type: "button", class: className, text, on: { click: () => this.#run(action) } });
  }

  async #run(action) {
    const controls = [...this.box.querySelectorAll("button, input, textarea, select")];
    controls.forEach((each) => (each.disabled = true));
    try {
      await action();
    } catch (error) {
      if (!this.box.contains(controls[0])) return; // the call has moved on meanwhile, and shows how
      this.box.querySelector(".refused")?.remove();
      this.box.append(element("p", { class: "note wrong refused", role: "alert", text: error.message }));
      controls.forEach((each) => (each.disabled = false));
    }
  }
}
