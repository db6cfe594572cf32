// The page of the fleet. It follows turns through any front, and shows which worker runs them.

import { Refused, Unreachable, request, serverSentEvents, waitToRetry } from "/parts/connection.js";
import { byId, element } from "/parts/dom.js";
import { MessageList } from "/parts/messages.js";
import { messageOf, waits } from "/parts/snapshots.js";
import { BUSY, LOST, problemOf, wordingOf, workerLine } from "./words.js";

const SILENCE = 25_000; // milliseconds without data before reconnecting; a keep-alive comes every ten seconds
const FINAL_EVENTS = new Set(["done", "error", "input_required"]);

const turns = JSON.parse(sessionStorage.getItem("turns") ?? "[]"); // the turns of this chat: {id, text}
let chatId = null;
let order = 0; // the position of the next message
let demo = false; // whether workers may be killed
const places = new Map(); // message id -> its position

const list = new MessageList(byId("log"), {
  render: async (text) => (await ask("POST", "/markdown", { text })).json(),
  interval: 150,
  drawn: () => atBottom && scrollToEnd(),
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

async function ask(method, path, body, headers = {}) {
  const response = await request(method, path, { body, headers });
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
    turns.push({ id: turn.id, text });
    sessionStorage.setItem("turns", JSON.stringify(turns));
    await follow(turn);
  } catch (error) {
    list.remove(turn.id);
    byId("text").value ||= text;
    fail(error);
  }
}

async function decide(call, decision) {
  const turn = current;
  turn.trace = newTrace();
  await ask("POST", `/turns/${turn.id}/calls/${encodeURIComponent(call.id)}/decision`, decision, { traceparent: turn.trace.header });
  working(true);
  follow(turn).catch(fail);
}

// Follows a turn to its final event, reconnecting to any front as often as necessary.
let current = null;
async function follow(turn) {
  current = turn;
  for (let failures = 1; ; failures += 1) {
    try {
      const headers = turn.lastId ? { "Last-Event-ID": turn.lastId } : {};
      const response = await ask("GET", `/turns/${turn.id}/events`, null, headers);
      connected("");
      turn.front = response.headers.get("X-Front");
      for await (const { name, data, id } of serverSentEvents(response, { silence: SILENCE })) {
        failures = 0;
        turn.lastId = id;
        show(turn, name, data);
        turn.ended = FINAL_EVENTS.has(name);
      }
      if (turn.ended) return settle(turn);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      connected(error.message);
    }
    await waitToRetry(failures); // the front has shut down, or the connection was lost
  }
}

// -- display ---------------------------------------------------------------------------------------------------------

function show(turn, name, data) {
  if (name === "worker") return showWorker(turn, data);
  if (name === "error") return tell(problemOf(data.type));
  chatId = data.chat_id;
  if (turn.shown && turn.shown.id !== data.id) draw(answered(turn.shown));
  turn.shown = data;
  turn.waiting = name === "input_required" && waits(data);
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
  byId("kill").hidden = !demo;
  byId("kill").disabled = false;
  byId("answering").hidden = false;
}

function settle(turn) {
  byId("answering").hidden = true;
  if (turn.trace && turn.shown) list.note(turn.shown.id, `${turn.worker} · ${turn.front} · trace ${turn.trace.id}`);
  working(false);
  byId("text").disabled = byId("send").disabled = Boolean(turn.waiting);
  byId("text").placeholder = turn.waiting ? "Approve or reject above first" : "Write a message";
  if (!turn.waiting) byId("text").focus();
}

function echo(turn) {
  places.set(turn.id, order++);
  const content = [{ type: "text", text: turn.text }];
  list.set({ id: turn.id, role: "user", status: "ready", order: places.get(turn.id), content, tool_invocations: [] });
  scrollToEnd();
}

function fail(error) {
  working(false);
  connected("");
  byId("answering").hidden = true;
  if (!(error instanceof Refused)) console.error(error); // a bug in this page belongs in the console
  tell(error instanceof Refused ? error.message : problemOf(""));
}

function tell(text) {
  byId("problem").hidden = !text;
  byId("problem").textContent = text;
}

const connected = (text) => (byId("connection").textContent = text);
const working = (yes) => (byId("send").disabled = yes);

let atBottom = true;
const scrollToEnd = () => byId("scroll").scrollTo({ top: byId("scroll").scrollHeight });
byId("scroll").addEventListener("scroll", ({ target }) => (atBottom = target.scrollHeight - target.scrollTop - target.clientHeight < 80));

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
  await ask("POST", "/demo/kill", { worker: current.worker }).catch(fail);
});

byId("new").addEventListener("click", () => {
  sessionStorage.removeItem("turns");
  location.reload();
});

for (const button of document.querySelectorAll(".suggestions button")) {
  button.addEventListener("click", () => send(button.textContent));
}

// After a reload, the conversation is restored from the events in Redis.
demo = (await (await requestUntilAnswered("GET", "/ready")).json()).demo;
for (const turn of turns) {
  working(true);
  echo(turn);
  await follow(turn).catch(fail);
}
