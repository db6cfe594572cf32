// The page of the chat service. It shows what the server's events say, and reconnects by itself.

import { Composer } from "/parts/composer.js";
import { Refused, Unreachable, readJSON, request, sendFile, serverSentEvents, waitToRetry } from "/parts/connection.js";
import { byId } from "/parts/dom.js";
import { MessageList } from "/parts/messages.js";
import { EndFollower } from "/parts/scrolling.js";
import { messageOf, waits } from "/parts/snapshots.js";
import { LOST, UNSENT, problemOf, wordingOf } from "./words.js";

const SILENCE = 25_000; // milliseconds without even a keep-alive, of which there is one in ten seconds

let chatId = new URLSearchParams(location.search).get("chat");
let reading = null; // stops the stream that is being read
let order = []; // the ids of the shown messages
let unsettled = false; // whether a call is shown whose end was not heard of
let sending = null; // the request that sends a message; until it is answered there is nothing to stop
let echoes = []; // the ids of messages that are shown before the server has named them
const answers = new Map(); // the id of a question -> what was answered here; the server does not send results of tools
const named = new Map(); // the id of a user's message at the server -> the id that it is shown by

const end = new EndFollower(byId("scroll"));
const list = new MessageList(byId("log"), {
  render: async (text) => (await call("POST", "/markdown", { text })).json(),
  interval: 150,
  drawn: () => end.grown(),
  wording: wordingOf,
  actions: {
    answer: async (each, result) => {
      if (await settleCall(each, "", { result })) answers.set(each.id, result);
    },
    approve: (each) => settleCall(each, "/decision", { approved: true }),
    reject: (each, reason) => settleCall(each, "/decision", { approved: false, reason }),
  },
});
new Composer(send, upload);

// -- talking to the server -------------------------------------------------------------------------------------------

const pathOf = (rest = "") => `/chat/${encodeURIComponent(chatId)}${rest}`;

async function call(method, path, body, signal) {
  const response = await request(method, path, { body, signal });
  if (response.ok) return response;
  // What only reads can be tried again, until the service or the agent is back.
  if (method === "GET" && response.status >= 502) throw new Unreachable(LOST);
  const { type } = await response.json().catch(() => ({}));
  throw new Refused(response.status, problemOf(type), { code: type });
}

async function upload(file, progress, signal) {
  const type = file.type || "text/plain";
  const { status, text } = await sendFile("POST", `/files?filename=${encodeURIComponent(file.name)}`, file, { type, progress, signal });
  if (status !== 201) throw new Refused(status, problemOf(typeIn(text)));
  return { token: JSON.parse(text).token, name: file.name };
}

// Returns the type of an error; what has none is not this service's, but that of something before it.
function typeIn(text) {
  try {
    return JSON.parse(text).type;
  } catch {
    return "";
  }
}

// Sends a message and returns whether it has arrived; a message is never sent twice.
async function send(text, attachments) {
  tell("");
  const body = { text: text || "Please look at what I have attached.", files: attachments.map((each) => each.token) };
  const known = named.size + echoes.length;
  const id = echo(body.text, attachments);
  working(true);
  try {
    sending = call("POST", chatId ? pathOf("/stream") : "/chat/stream", body);
    const response = await sending;
    remember(response.headers.get("X-Chat-Id"));
    follow(response);
    return true;
  } catch (error) {
    if (error instanceof Unreachable && chatId) await catchUp(); // only its answer may have been lost
    if (named.size > known) {
      follow();
      return true;
    }
    forget(id);
    working(false);
    tell(error instanceof Unreachable ? UNSENT : messageOfError(error), error.code === "not_found" ? null : undefined);
    return false;
  }
}

// Returns whether a call was settled here; if it was settled in another window, the page shows how.
async function settleCall(each, path, body) {
  const problem = await call("POST", pathOf(`/tools/${encodeURIComponent(each.id)}${path}`), body).then(() => null, (error) => error);
  if (problem instanceof Unreachable) throw new Error("There is no connection. Please try again.");
  if (problem && problem.code !== "conflict") throw problem;
  follow();
  return !problem;
}

// Reads a reply to its end, over as many connections as it takes; without a response it first reads what there is.
async function follow(response = null) {
  reading?.abort();
  const { signal } = (reading = new AbortController());
  working(true);
  for (let failures = 0; ; ) {
    try {
      response ??= await resume(signal);
      if (!response) break;
      connected(true);
      for await (const { name, data } of serverSentEvents(response, { signal, silence: SILENCE })) {
        failures = 0;
        if (name === "error") throw new Refused(data.status, problemOf(data.type));
        show(data);
        if (name === "input_required") return settle({ waiting: waits(data) });
        if (name === "done") {
          if (unsettled) await read(signal);
          return settle();
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Unreachable)) {
        settle();
        return tell(messageOfError(error));
      }
      connected(false);
    }
    response = null;
    await waitToRetry((failures += 1), signal);
    if (signal.aborted) return;
  }
  settle();
}

// Shows the whole conversation, and returns the response with the rest of it; null if it is complete.
async function resume(signal) {
  const status = await read(signal);
  connected(true);
  return status === "idle" ? null : call("GET", pathOf("/stream"), null, signal);
}

async function read(signal) {
  const response = await call("GET", pathOf(), null, signal);
  const { status, messages } = await readJSON(response, signal);
  const ids = messages.map(idOf);
  if (ids.some((id, at) => at < order.length && order[at] !== id)) {
    list.clear(); // one was missed in the middle
    order = [];
  }
  unsettled = false;
  messages.forEach(show);
  return status;
}

// Waits for the server to be back, and then shows the conversation.
async function catchUp() {
  connected(false);
  for (let failures = 1; ; failures += 1) {
    await waitToRetry(failures);
    try {
      await read();
      return connected(true);
    } catch (error) {
      if (!(error instanceof Unreachable)) return tell(messageOfError(error));
    }
  }
}

function remember(id) {
  if (!id || id === chatId) return;
  chatId = id;
  history.replaceState(null, "", `?chat=${encodeURIComponent(id)}`);
}

// -- showing ---------------------------------------------------------------------------------------------------------

function idOf({ id, role }) {
  if (role !== "user") return id;
  if (!named.has(id)) named.set(id, echoes.shift() ?? id);
  return named.get(id);
}

function show(snapshot) {
  const id = idOf(snapshot);
  if (!order.includes(id)) order.push(id);
  const message = messageOf({ ...snapshot, id }, order.indexOf(id));
  unsettled ||= message.tool_invocations.some((each) => each.status !== "completed");
  for (const each of message.tool_invocations) each.result = answers.get(each.id);
  list.set(message);
}

// Shows a message at once and returns its id; the server's own takes its place.
function echo(text, attachments) {
  const id = `echo-${performance.now()}`;
  echoes.push(id);
  order.push(id);
  const content = [{ type: "text", text }, ...attachments.map((each) => ({ type: "file", file: each.name }))];
  list.set({ id, role: "user", status: "ready", order: order.length - 1, content, tool_invocations: [] });
  end.show();
  return id;
}

function forget(id) {
  list.remove(id);
  order = order.filter((each) => each !== id);
  echoes = echoes.filter((each) => each !== id);
}

function settle({ waiting = false } = {}) {
  working(false);
  connected(true);
  byId("text").placeholder = waiting ? "Answer above first" : "Write a message";
  byId("text").disabled = byId("send").disabled = byId("attach").disabled = waiting;
  for (const each of document.querySelectorAll(".growing")) each.classList.remove("growing");
  // What had the focus may be gone; whoever has it elsewhere keeps it.
  if (document.activeElement === document.body) (waiting ? document.querySelector(".waits .reply input") : byId("text"))?.focus();
}

function tell(text, again = () => follow()) {
  byId("problem").hidden = !text;
  byId("problem-text").textContent = text;
  byId("retry").hidden = !(again && chatId);
  byId("retry").onclick = () => (tell(""), again());
}

// What is not meant for visitors, such as a mistake in this program, is for the console.
function messageOfError(error) {
  if (error instanceof Refused) return error.message;
  console.error(error);
  return problemOf("");
}

const connected = (yes) => (byId("connection").textContent = yes ? "" : LOST);

function working(yes) {
  byId("send").hidden = yes;
  byId("send").disabled = yes;
  byId("stop").hidden = !yes;
}

// -- what people do --------------------------------------------------------------------------------------------------

byId("stop").addEventListener("click", async () => {
  await sending?.catch(() => {}); // send() tells what went wrong
  if (!chatId) return;
  try {
    await call("POST", pathOf("/stop"));
  } catch (error) {
    tell(error instanceof Unreachable ? LOST : messageOfError(error));
  }
});

byId("new").addEventListener("click", () => location.assign(location.pathname));

for (const button of document.querySelectorAll(".suggestions button")) {
  button.addEventListener("click", () => send(button.textContent, []));
}

if (chatId) follow();
