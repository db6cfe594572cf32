// The agent's configuration: edited as JSON, checked here and by the runtime, applied to the next message.

import { call } from "./api.js";
import { byId, element, jsonProblem } from "./dom.js";

const tool = (name, description, properties, more = {}) => ({
  name, type: "client", description, ...more,
  client: { input_schema: { type: "object", properties, required: Object.keys(properties) } },
});

const PRESETS = {
  "Plain assistant": { name: "playground", system_prompt: "You are a helpful assistant." },
  "A tool that you answer": {
    name: "playground",
    system_prompt: "Use the calculator for arithmetic, and ask the person when you need to know something.",
    tools: [
      tool("calculator", "Work out an arithmetic expression", { expression: { type: "string" } }),
      tool("ask_person", "Ask the person a question", { question: { type: "string" } }),
    ],
  },
  "A tool that needs approval": {
    name: "playground",
    system_prompt: "Send mail when you are asked to.",
    tools: [tool("send_mail", "Send a mail to somebody", { to: { type: "string" }, text: { type: "string" } }, { require_approval: true })],
  },
  "Structured output": {
    name: "playground",
    system_prompt: "Fill the form from what the person says.",
    output_schema: {
      type: "object",
      properties: { title: { type: "string" }, guests: { type: "integer" }, city: { type: "string" } },
      required: ["title", "guests", "city"],
    },
  },
};

const OF_CHAT = "The agent of this chat. A change is sent with the next message.";
const KEPT = "inferencesh-agent"; // in the tab's session storage: it is gone with the tab

export class AgentEditor {
  #applied = PRESETS["Plain assistant"];
  #unsent = false;
  #version = 0; // counts what the editor has shown: answers that belong to something earlier are dropped

  constructor() {
    byId("preset").append(element("option", { value: "", text: "Begin with an example …" }), ...Object.keys(PRESETS).map((name) => element("option", { value: name, text: name })));
    byId("preset").addEventListener("change", () => {
      const chosen = PRESETS[byId("preset").value];
      byId("preset").value = "";
      if (!chosen) return;
      this.#show(chosen);
      this.apply();
    });
    byId("format").addEventListener("click", () => this.check() && this.#show(JSON.parse(byId("config").value)));
    byId("apply").addEventListener("click", () => this.apply());
    byId("config").addEventListener("input", () => {
      this.#version += 1;
      this.check();
    });
    byId("config").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.apply();
    });
    this.startNew();
  }

  /** The configuration of new chats. */
  get config() {
    return this.#applied;
  }

  /** Returns the configuration if it must be sent with the next message, and takes it as sent. */
  takeUnsent() {
    const unsent = this.#unsent ? this.#applied : null;
    this.#unsent = false;
    return unsent;
  }

  /** Says that the configuration belongs to the open chat now. */
  began() {
    this.#say(OF_CHAT);
  }

  /** Marks the configuration as not sent, after a message that carried it was refused. */
  putBack() {
    this.#unsent = true;
  }

  /** Shows the configuration for a new chat: the one applied last. */
  startNew() {
    this.#version += 1;
    const kept = sessionStorage.getItem(KEPT);
    if (kept && jsonProblem(kept) === null) this.#applied = JSON.parse(kept);
    this.#unsent = false;
    this.#show(this.#applied);
    this.#say("New chats begin with this agent.");
  }

  /** Shows the agent of a chat. */
  async open(chatId) {
    const version = (this.#version += 1);
    this.#unsent = false;
    try {
      const config = await call("POST", "/playground/chat-agent", { chat_id: chatId });
      if (version !== this.#version) return;
      this.#applied = config;
      this.#show(config);
      this.#say(OF_CHAT);
    } catch (error) {
      if (version === this.#version) this.#say(error.message, true);
    }
  }

  /** Checks that the text is a JSON object, and says what is wrong. */
  check() {
    const text = byId("config").value;
    const problem = jsonProblem(text) ?? (/^\s*\{/.test(text) ? null : "The configuration is a JSON object: { … }.");
    this.#say(problem ?? "Valid JSON, not applied yet.", problem !== null);
    return problem === null;
  }

  /** Uses the configuration in the editor from the next message on, or says there what is wrong with it. */
  async apply() {
    if (!this.check()) return;
    try {
      await this.#use(JSON.parse(byId("config").value));
    } catch (error) {
      this.#say(error.message.replace(/^agent_config\./, ""), true);
    }
  }

  /** Uses an example from the next message on, and returns whether it does: not if another chat was opened meanwhile. */
  usePreset(name) {
    this.#show(PRESETS[name]);
    return this.#use(PRESETS[name]);
  }

  async #use(config) {
    const version = (this.#version += 1);
    const problem = await call("POST", "/playground/agent", { agent: config }).then(() => null, (error) => error);
    if (version !== this.#version) return false;
    if (problem) throw problem;
    this.#applied = config;
    this.#unsent = true;
    sessionStorage.setItem(KEPT, JSON.stringify(config));
    this.#say("Applied: the next message uses this agent.");
    return true;
  }

  #show(config) {
    byId("config").value = JSON.stringify(config, null, 2);
  }

  #say(text, wrong = false) {
    byId("config-note").textContent = text;
    byId("config-note").classList.toggle("wrong", wrong);
    byId("config").setAttribute("aria-invalid", wrong);
  }
}
