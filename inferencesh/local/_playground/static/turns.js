// The state of one chat as its stream tells it: messages, calls being written, runs, and how long they took.

const objects = (value) => (Array.isArray(value) ? value.filter((each) => each && typeof each === "object" && !Array.isArray(each)) : []);

/** Returns a message whose lists are lists of objects, whatever was sent. */
function cleaned(message) {
  return {
    ...message,
    order: Number(message.order) || 0,
    content: objects(message.content).map((block) => ({ ...block, tool_calls: objects(block.tool_calls) })),
    tool_invocations: objects(message.tool_invocations),
  };
}

/** Returns the text of a message. */
export const textOfMessage = (message) => (message?.content ?? []).map((block) => (block.type === "text" ? String(block.text ?? "") : "")).join("");

export class Conversation {
  messages = new Map();
  chat = null;
  beginning = null; // the promise of the chat's id while the chat is created
  drafts = new Map(); // message id -> calls that are still being written
  runs = new Map();
  times = new Map(); // run id -> {began, first, ended, pieces}
  current = null; // the id of the newest run
  #streamed = new Set(); // ids of the messages that the open stream has brought whole, and so brings all changes of

  /** Notes a new stream: changes may have been missed, so no delta can be used before it has brought the message whole. */
  reconnected() {
    this.#streamed.clear();
  }

  /** Takes in an event and returns the ids of the messages that changed; `stale` asks for the messages to be read. */
  take({ event, data }) {
    const none = { changed: [], stale: false };
    if (!data || typeof data !== "object") return none;
    if (event === "chats" && typeof data.id === "string") {
      if (this.chat && String(this.chat.updated_at) > String(data.updated_at)) return none;
      this.chat = { ...this.chat, ...data };
      if (data.active_run?.id) this.#takeRun(data.active_run);
      const changed = [...this.messages.values()].filter((message) => message.tool_invocations.length).map((message) => message.id);
      return { changed, stale: false };
    }
    if (event === "agent_runs" && typeof data.id === "string") {
      this.#takeRun(data);
      const last = this.last("assistant", { runId: data.id });
      return { changed: last ? [last.id] : [], stale: false };
    }
    if (event === "chat_messages" && typeof data.id === "string") {
      this.#streamed.add(data.id);
      return { changed: this.#put(data), stale: false };
    }
    if (event === "delta" && typeof data.resource_id === "string") return this.#takeDelta(data);
    return none;
  }

  /**
   * Takes in a message of the answer to a request, and returns the ids of the messages that changed.
   *
   * It may be older than what the stream has brought, or contain deltas that are still to come: the stream decides.
   */
  fill(message) {
    const known = this.messages.get(message.id);
    if (this.#streamed.has(message.id) || String(known?.updated_at ?? "") > String(message.updated_at)) return [];
    return this.#put(message);
  }

  #put(raw) {
    const message = cleaned(raw);
    this.messages.set(message.id, message);
    const written = new Set(message.content.flatMap((block) => block.tool_calls.map((call) => call.id)));
    const drafts = this.drafts.get(message.id);
    if (drafts) for (const [index, draft] of drafts) if (written.has(draft.id) || message.status !== "pending") drafts.delete(index);
    return [message.id];
  }

  get run() {
    return this.runs.get(this.current) ?? null;
  }

  get busy() {
    return ["submitted", "working"].includes(this.run?.state);
  }

  get paused() {
    return ["input_required", "auth_required"].includes(this.run?.state);
  }

  draftsOf(messageId) {
    return [...(this.drafts.get(messageId)?.values() ?? [])];
  }

  /** Returns the pending interrupt of a call. */
  interruptOf(callId) {
    const pending = Array.isArray(this.chat?.pending_interrupts) ? this.chat.pending_interrupts : [];
    return pending.find((each) => each?.resource_id === callId && each.status === "pending") ?? null;
  }

  #takeRun(run) {
    const known = this.runs.get(run.id);
    if (known && String(known.updated_at) > String(run.updated_at)) return;
    this.runs.set(run.id, run);
    this.current = run.id;
    const times = this.#timesOf(run.id);
    times.began ??= performance.now();
    if (run.finished_at) times.ended ??= performance.now();
  }

  #timesOf(runId) {
    if (!this.times.has(runId)) this.times.set(runId, { began: null, first: null, ended: null, pieces: 0 });
    return this.times.get(runId);
  }

  /** Returns the last message of a role, of one run if it is given. */
  last(role, { runId = null } = {}) {
    const found = [...this.messages.values()].filter((each) => each.role === role && (runId === null || each.agent_run_id === runId));
    return found.sort((a, b) => a.order - b.order).at(-1) ?? null;
  }

  #takeDelta(data) {
    const message = this.messages.get(data.resource_id);
    if (!message || !this.#streamed.has(message.id)) return { changed: [], stale: true };
    const delta = data.delta && typeof data.delta === "object" ? data.delta : {};
    const times = this.#timesOf(message.agent_run_id);
    times.first ??= performance.now();
    times.pieces += 1;
    for (const [key, type] of [["reasoning", "reasoning"], ["response", "text"]]) {
      if (typeof delta[key] === "string") this.#append(message, type, delta[key]);
    }
    for (const call of objects(delta.tool_calls)) {
      const drafts = this.drafts.get(message.id) ?? new Map();
      this.drafts.set(message.id, drafts);
      const draft = drafts.get(call.index) ?? { id: `draft-${call.index}`, name: "", arguments: "" };
      if (typeof call.id === "string") draft.id = call.id;
      if (typeof call.function?.name === "string") draft.name = call.function.name || draft.name;
      if (typeof call.function?.arguments === "string") draft.arguments += call.function.arguments;
      drafts.set(call.index, draft);
    }
    return { changed: [message.id], stale: false };
  }

  #append(message, type, text) {
    const content = [...message.content];
    const last = content.at(-1);
    if (last?.type === type) content[content.length - 1] = { ...last, text: (last.text ?? "") + text };
    else content.push({ type, text, tool_calls: [] });
    this.messages.set(message.id, { ...message, content });
  }
}
