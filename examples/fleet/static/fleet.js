// The page of the fleet. It follows turns through any front, and shows which worker runs them.

import { Refused, Unreachable, readJSON, request, serverSentEvents, waitToRetry } from "/parts/connection.js";
import { byId, element } from "/parts/dom.js";
import { MessageList } from "/parts/messages.js";
import { EndFollower } from "/parts/scrolling.js";
import { messageOf, waits } from "/parts/snapshots.js";
import { BUSY, LOST, problemOf, wordingOf, workerLine } from "./words.js";

const SILENCE = 25_000; // milliseconds without data before reconnecting; a keep-alive comes every ten seconds
const FINAL_EVENTS = new Set(["done", "error", "input_required"]);

const turns = JSON.parse(sessionStorage.getItem("turns") ?? "[]"); // the turns of this chat: {id, text}
let chatId = null;
let order = 0; // the position of the next message
const places = new Map(); // message id -> its position

const end = new EndFollower(byId("scroll"));
const list = new MessageList(byId("log"), {
  render: async (text) => (await ask("POST", "/markdown", { text })).json(),
  interval: 150,
  drawn: () => end.grown(),
  wording: wordingOf,
  actions: {
    approve: (call) => decide(call, { approved: true }),
    reject: (call, reason) => decide(call, { approved: false, reason }),
  },
});

// -- requests --------------------------------------------------------------------------------------------------------

// Starts a trace, which all spans of fronts, workers and tools for this request become part of.
function newTrace() {
  const hex = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((each) => each.toString(16).padStart(2, "0")).join("");
  return { id: hex(16), get header() { return `00-${this.id}-${hex(8)}-01`; } };
}

async function ask(method, path, body, headers = {}, signal = undefined) {
  const response = await request(method, path, { body, headers, signal });
  if (response.ok) return response;
  const { type } = await response.json().catch(() => ({}));
  if (response.status >= 502) throw new Unreachable(type === "busy" ? BUSY : LOST);
  throw new Refused(response.status, problemOf(type), { code: type });
}

// Retries until there is a response. This is safe because a turn has an id, and sending it again has no effect.
async function requestUntilAnswered(method, path, body, headers) {
  for (let failures = 1; ; failures += 1) {
    try {
      const response = await ask(method, path, body, headers);
      connected("");
      return response;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      connected(error.message);
      await waitToRetry(failures);
    }
  }
}

async function send(text) {
  const turn = { id: crypto.randomUUID(), text, trace: newTrace() };
  tell("");
  working(true);
  echo(turn);
  try {
    await requestUntilAnswered("POST", "/chat", { text, chat_id: chatId, turn_id: turn.id }, { traceparent: turn.trace.header });
  } catch (error) {
    list.remove(turn.id);
    byId("text").value = [text, byId("text").value].filter(Boolean).join("\n"); // nothing that was typed is lost
    return fail(error);
  }
  turns.push({ id: turn.id, text });
  sessionStorage.setItem("turns", JSON.stringify(turns));
  follow(turn).catch(fail);
}

async function decide(call, decision) {
  const turn = current;
  turn.trace = newTrace();
  try {
    await ask("POST", `/turns/${turn.id}/calls/${encodeURIComponent(call.id)}/decision`, decision, { traceparent: turn.trace.header });
  } catch (error) {
    if (error instanceof Unreachable) throw new Error("There is no connection. Please try again.");
    if (error.code !== "conflict") throw error; // already decided, in another window: the page shows how
  }
  working(true);
  follow(turn).catch(fail);
}

// Follows a turn to its final event, reconnecting to any front as often as necessary.
let current = null;
let reading = null; // stops the stream that is being read
async function follow(turn) {
  reading?.abort();
  const { signal } = (reading = new AbortController());
  current = turn;
  turn.ended = false;
  for (let failures = 1; ; failures += 1) {
    try {
      const headers = turn.lastId ? { "Last-Event-ID": turn.lastId } : {};
      const response = await ask("GET", `/turns/${turn.id}/events`, null, headers, signal);
      connected("");
      if (response.status === 204) return settle(turn); // there are no more events
      turn.front = response.headers.get("X-Front");
      for await (const { name, data, id } of serverSentEvents(response, { signal, silence: SILENCE })) {
        if (signal.aborted) return;
        failures = 0;
        turn.lastId = id;
        show(turn, name, data);
        turn.ended = FINAL_EVENTS.has(name);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Unreachable)) throw error;
      if (!turn.ended) connected(error.message);
    }
    if (turn.ended) return settle(turn);
    await waitToRetry(failures, signal); // the front has shut down, or the connection was lost
    if (signal.aborted) return;
  }
}

// -- display ---------------------------------------------------------------------------------------------------------

function show(turn, name, data) {
  if (name === "worker") return showWorker(turn, data);
  turn.waiting = name === "input_required" && waits(data);
  if (name === "error") return tell(problemOf(data.type));
  chatId = data.chat_id;
  if (turn.shown && turn.shown.id !== data.id) draw(answered(turn.shown));
  turn.shown = data;
  draw(data);
}

function draw(snapshot) {
  if (!places.has(snapshot.id)) places.set(snapshot.id, order++);
  list.set(messageOf(snapshot, places.get(snapshot.id)));
}

// An agent that writes its next message has received the results of its calls, even if no snapshot shows it.
function answered(snapshot) {
  const open = new Set(["pending", "in_progress", "awaiting_input"]);
  const calls = snapshot.tool_calls.map((call) => (open.has(call.status) ? { ...call, status: "completed" } : call));
  return { ...snapshot, tool_calls: calls };
}

function showWorker(turn, who) {
  const line = workerLine(who, turn.worker);
  const takeover = who.attempt > 1;
  turn.worker = who.worker;
  byId("log").append(element("p", { class: takeover ? "worker-note takeover" : "worker-note", text: line }));
  byId("who").textContent = `${who.worker} is answering via ${turn.front}`;
  byId("kill").disabled = false;
  byId("answering").hidden = false;
}

function settle(turn) {
  if (turn.trace && turn.shown) list.note(turn.shown.id, `${turn.worker} · ${turn.front} · trace ${turn.trace.id}`);
  rest({ waiting: turn.waiting });
}

// Lets people write the next message, unless the turn waits for a decision.
function rest({ waiting = false } = {}) {
  byId("answering").hidden = true;
  byId("text").disabled = byId("send").disabled = Boolean(waiting);
  byId("text").placeholder = waiting ? "Approve or reject above first" : "Write a message";
  if (document.activeElement === document.body) byId("text").focus(); // whoever has the focus elsewhere keeps it
}

function echo(turn) {
  places.set(turn.id, order++);
  const content = [{ type: "text", text: turn.text }];
  list.set({ id: turn.id, role: "user", status: "ready", order: places.get(turn.id), content, tool_invocations: [] });
  end.show();
}

function fail(error) {
  connected("");
  rest();
  tell(messageOfError(error));
}

function messageOfError(error) {
  if (error instanceof Unreachable) return "There is no connection. Please try again.";
  if (!(error instanceof Refused)) console.error(error); // a bug in this page belongs in the console
  return error instanceof Refused ? error.message : problemOf("");
}

function tell(text) {
  byId("problem").hidden = !text;
  byId("problem").textContent = text;
}

const connected = (text) => (byId("connection").textContent = text);
const working = (yes) => (byId("send").disabled = yes);

// -- event handlers --------------------------------------------------------------------------------------------------

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (byId("send").disabled || !text) return;
  byId("text").value = "";
  send(text);
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

byId("kill").addEventListener("click", async () => {
  byId("kill").disabled = true;
  byId("who").textContent = `${current.worker} was killed; another worker takes over when its lease expires …`;
  await ask("POST", "/demo/kill", { worker: current.worker }).catch((error) => tell(messageOfError(error)));
});

byId("new").addEventListener("click", () => {
  sessionStorage.removeItem("turns");
  location.reload();
});

for (const button of document.querySelectorAll(".suggestions button")) {
  button.addEventListener("click", () => send(button.textContent));
}

requestUntilAnswered("GET", "/ready").then(async (response) => (byId("kill").hidden = !(await readJSON(response)).demo)).catch(fail);

// After a reload, the conversation is restored from the events in Redis.
for (const turn of turns) {
  working(true);
  echo(turn);
  await follow(turn).catch(fail);
}
