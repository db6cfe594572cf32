// The page: one open chat, its stream, and everything that people do with it.

import { AgentEditor } from "./agents.js";
import { call, events, onSignedOut, upload } from "./api.js";
import { ChatList } from "./chats.js";
import { Composer } from "./composer.js";
import { Refused, Unreachable, waitToRetry } from "./connection.js";
import { byId, element, onceAtATime } from "./dom.js";
import { Inspector } from "./inspector.js";
import { MessageList } from "./messages.js";
import { EndFollower } from "./scrolling.js";
import { Conversation, textOfMessage } from "./turns.js";

const NOT_RUNNING = "The runtime is not running: start it with “inferencesh serve”. This page reconnects by itself.";
const SUGGESTIONS = [
  ["Tell me a story about the sea", "Plain assistant"],
  ["What is 42 * 17?", "A tool that you answer"],
  ["Send a mail to “ann@example.com”", "A tool that needs approval"],
  ["Dinner for 6 in Lisbon", "Structured output"],
];

let session = { markdown: true }; // until it is read
let chatId = null;
let conversation = new Conversation();
let reading = null; // stops the stream that is being read
let announced = "";

const path = (...parts) => parts.map((part) => `/${encodeURIComponent(part)}`).join("");
const announce = (text) => text !== announced && (byId("announce").textContent = announced = text);

// -- the parts ---------------------------------------------------------------------------------------------------------

const inspector = new Inspector();
const agents = new AgentEditor();
const end = new EndFollower(byId("scroll"), (below) => (byId("to-end").hidden = !below));
const list = new MessageList(byId("log"), {
  get render() {
    return session.markdown ? (text) => call("POST", "/playground/markdown", { text }) : null;
  },
  drawn: () => end.grown(),
  reasonOf: (callId) => conversation.interruptOf(callId)?.reason,
  retry: (message) => again(message),
  cancel: (message) => attempt(async () => showMessage(await call("POST", `/chats/messages${path(message.id)}/cancel`))),
  actions: {
    answer: (each, result) => call("POST", `/tools${path(each.id)}`, { result }),
    approve: (each) => call("POST", `/tools${path(each.id)}/invoke`),
    reject: (each, reason) => call("POST", `/tools${path(each.id)}/reject`, { reason }),
    alwaysAllow: (each) => call("POST", `/chats${path(chatId)}/tools${path(each.id)}/always-allow`, {}),
    decide,
  },
});

async function decide(each, allowed) {
  const interrupt = conversation.interruptOf(each.id);
  if (!interrupt) throw new Refused(409, "This question is not open any more.");
  await call("POST", `/interrupts${path(interrupt.id)}/resolve`, { decision: allowed ? "allow" : "deny" });
}

const chats = new ChatList({
  open: (id) => (open(id), closeDrawers()),
  failed: report,
  rename: async (chat) => {
    const name = await ask({ title: "Rename the chat", value: chat.name, yes: "Rename" });
    if (!name?.trim()) return;
    await attempt(() => call("POST", `/chats${path(chat.id)}`, { name: name.trim() }));
    chats.soon(0);
  },
  remove: async (chat) => {
    const sure = await ask({ title: "Delete the chat?", text: `“${chat.name || "Untitled chat"}” and its messages are deleted for good.`, yes: "Delete" });
    if (sure === null) return;
    await attempt(async () => {
      await call("DELETE", `/chats${path(chat.id)}`);
      if (chat.id === chatId) startNew();
    });
    chats.soon(0); // also if it was deleted in another window
  },
});

const composer = new Composer(async (text, attachments) => {
  const sent = await attempt(() => post(text, attachments));
  return sent === true;
}, upload);

// -- talking to the runtime --------------------------------------------------------------------------------------------

// People may open another chat while the runtime is answering: what belongs to a chat is sent to and shown in that one.
async function post(text, attachments = []) {
  const input = { text, ...(attachments.length ? { attachments } : {}) };
  const unsent = agents.takeUnsent();
  let id = chatId;
  let posted;
  try {
    id ??= await begun(conversation);
    posted = await call("POST", "/agents/run", { chat_id: id, ...(unsent ? { agent_config: unsent } : {}), input });
  } catch (error) {
    if (unsent && id === chatId) agents.putBack();
    throw error;
  }
  showMessage(posted.user_message);
  if (posted.assistant_message) showMessage(posted.assistant_message);
  if (id === chatId) end.show();
  chats.soon();
  return true;
}

// Creates and opens the chat of a new conversation; two messages in quick succession create one chat.
function begun(started) {
  const create = async () => {
    const id = String((await call("POST", "/chats", { agent_config: agents.config })).id);
    if (conversation === started) await open(id, { created: true });
    return id;
  };
  started.beginning ??= create().finally(() => (started.beginning = null));
  return started.beginning;
}

function again(message) {
  const { content } = conversation.last("user", { before: message.order });
  const attachments = content.filter(({ type }) => type === "image" || type === "file").map((block) => ({ uri: block[block.type] }));
  return attempt(() => post(textOfMessage({ content }), attachments));
}

// Opens a chat; the promise is fulfilled when its stream is, so that nothing of a reply to come is missed.
function open(id, { created = false } = {}) {
  reading?.abort();
  chatId = id;
  conversation = new Conversation();
  list.clear();
  inspector.clear();
  history.replaceState(null, "", `#chat=${encodeURIComponent(id)}`);
  byId("welcome").hidden = true;
  chats.select(id);
  banner("");
  showState();
  if (created) agents.began();
  else agents.open(id);
  return new Promise((opened) => follow(id, opened).finally(opened));
}

function startNew() {
  reading?.abort();
  chatId = null;
  conversation = new Conversation();
  list.clear();
  inspector.clear();
  history.replaceState(null, "", location.pathname);
  byId("welcome").hidden = false;
  chats.select(null);
  agents.startNew();
  if (!lost) banner("");
  showState();
  composer.focus();
}

// Reads the stream of a chat for as long as the chat is open, over as many connections as it takes.
async function follow(id, opened) {
  const control = (reading = new AbortController());
  for (let failures = 0; ; ) {
    try {
      for await (const event of events(`/chats${path(id)}/stream`, control.signal)) {
        if (control.signal.aborted) return;
        failures = 0;
        if (event.event === "opened") {
          conversation.reconnected();
          connected(true);
          opened();
          await readMessages(id, control.signal, { all: true });
        } else take(event);
      }
      failures += 1; // a stream ends with its chat, or with its server
    } catch (error) {
      if (control.signal.aborted) return;
      if (error instanceof Refused) {
        connected(true);
        return error.status === 404 ? gone() : banner(error.message, true);
      }
      if (!(error instanceof Unreachable)) throw error;
      failures += 1;
      connected(false);
    }
    await waitToRetry(failures, control.signal);
    if (control.signal.aborted) return;
  }
}

// Reads the chat and its newest messages, or all of them.
async function readMessages(id, signal, { all = false } = {}) {
  const chat = await call("GET", `/chats${path(id)}`, null, signal);
  if (signal.aborted) return;
  conversation.take({ event: "chats", data: chat });
  for (let cursor = ""; cursor !== null; ) {
    const page = await call("GET", `/chats${path(id)}/messages?limit=100&cursor=${encodeURIComponent(cursor)}`, null, signal);
    if (signal.aborted) return;
    for (const message of page.items) showMessage(message);
    cursor = all && page.next_cursor ? page.next_cursor : null;
  }
  showState();
}

function take(event) {
  inspector.add(event);
  const { changed, stale } = conversation.take(event);
  for (const id of changed) draw(id);
  if (stale) rereadSoon();
  if (event.event !== "delta") showState();
  if (event.event === "agent_runs" || event.event === "chats") tell();
}

let rereading = null;
function rereadSoon() {
  rereading ??= setTimeout(() => {
    rereading = null;
    const { signal } = reading;
    if (!signal.aborted) readMessages(chatId, signal).catch((error) => signal.aborted || report(error));
  }, 200);
}

function showMessage(message) {
  if (message.chat_id !== chatId) return;
  for (const id of conversation.fill(message)) draw(id);
}

function draw(id) {
  list.set(conversation.messages.get(id), conversation.draftsOf(id));
}

// -- showing -----------------------------------------------------------------------------------------------------------

function showState() {
  const { chat, busy, paused, run } = conversation;
  const name = chatId ? String(chat?.name || "Untitled chat") : "New chat";
  byId("title").textContent = name;
  byId("title").title = name;
  document.title = chatId ? `${name} – Playground` : "Playground";
  const state = busy ? "working" : paused ? "waits for you" : run?.state === "failed" ? "failed" : "";
  byId("state").hidden = !state;
  byId("state").textContent = state;
  byId("state").dataset.state = run?.state ?? "";
  byId("stop").hidden = !(busy || paused);
  byId("send").textContent = busy || paused ? "Queue" : "Send";
  showFacts();
  if (run?.state === "failed") {
    const last = conversation.last("assistant", { runId: run.id });
    if (last) list.fail(last.id, String(run.error || "the runtime gave no reason."));
  }
}

function tell() {
  const { run } = conversation;
  const text = textOfMessage(conversation.last("assistant")).slice(0, 300);
  if (run?.state === "completed") announce(`The agent says: ${text || "nothing"}`), chats.soon();
  else if (run?.state === "failed") announce(`The reply failed: ${run.error ?? ""}`);
  else if (conversation.paused) announce("The agent waits for you.");
  else if (conversation.busy) announce("The agent is working.");
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;

function usageOf(run) {
  const usage = run?.usage ?? run?.metadata?.usage ?? {};
  const number = (...names) => names.map((name) => usage?.[name]).find((value) => typeof value === "number");
  return { read: number("input_tokens", "prompt_tokens"), written: number("output_tokens", "completion_tokens") };
}

function showFacts() {
  const { run } = conversation;
  byId("no-run").hidden = Boolean(run);
  if (!run) return byId("facts").replaceChildren();
  const times = conversation.times.get(run.id);
  const usage = usageOf(run);
  const live = times.first !== null; // a run that was over before the page was opened has no times of its own
  const total = run.finished_at ? Date.parse(run.finished_at) - Date.parse(run.created_at) : null;
  const writing = live && times.ended ? (times.ended - times.first) / 1000 : 0;
  const facts = {
    State: run.state,
    "Time to first piece": live ? seconds(times.first - times.began) : "–",
    "Whole run": total === null ? "–" : seconds(total),
    Pieces: live ? String(times.pieces) : "–",
    "Pieces a second": writing > 0.05 ? (times.pieces / writing).toFixed(0) : "–",
    "Tokens read": usage.read ?? "not reported",
    "Tokens written": usage.written ?? "not reported",
    Error: run.error || "–",
    Model: session.model ?? "–",
    Chat: chatId ?? "–",
    Run: run.id,
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: String(value) })]));
  if (total === null) return;
  const last = conversation.last("assistant", { runId: run.id });
  const tokens = usage.written === undefined ? "" : ` · ${usage.written} tokens`;
  if (last) list.note(last.id, `${seconds(total)}${live ? ` · first piece after ${seconds(times.first - times.began)} · ${times.pieces} pieces` : ""}${tokens}`);
}

function banner(text, retry = false) {
  byId("banner").hidden = !text;
  byId("banner-text").textContent = text;
  byId("retry").hidden = !retry;
}

let lost = false;
function connected(yes) {
  if (yes && lost) {
    banner("");
    announce("Connected again.");
    chats.soon(0);
  }
  if (!yes) {
    banner(NOT_RUNNING);
    watch();
  }
  lost = !yes;
}

// Without an open chat there is no stream that would notice that the runtime is back.
let watching = false;
async function watch() {
  if (watching) return;
  watching = true;
  for (let failures = 1; lost || failures === 1; failures += 1) {
    await waitToRetry(failures);
    try {
      await readSession();
      connected(true);
      openWanted();
      break;
    } catch (error) {
      if (error instanceof Refused) report(error);
    }
  }
  watching = false;
}

function gone() {
  startNew();
  banner("This chat does not exist any more.");
  chats.soon(0);
}

function report(error) {
  if (error instanceof Unreachable) connected(false);
  else banner(error.message);
}

// Does something for a person, and says what went wrong; returns undefined then.
async function attempt(action) {
  if (!lost) banner("");
  try {
    return await action();
  } catch (error) {
    report(error);
    return undefined;
  }
}

// -- dialogs, drawers and keys -----------------------------------------------------------------------------------------

// One question after the other: a key that is asked for meanwhile must not be taken for the name of a chat.
let asking = Promise.resolve();
const ask = (question) => (asking = asking.then(() => showQuestion(question)));

function showQuestion({ title, text = "", value = null, yes, secret = false }) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-text").hidden = !text;
  const input = byId("ask-value");
  input.hidden = value === null;
  input.type = secret ? "password" : "text";
  input.value = value ?? "";
  input.setAttribute("aria-label", title);
  byId("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  if (value === null) byId("ask-yes").focus();
  else input.select();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    const given = dialog.returnValue === "yes" ? input.value : null;
    input.value = "";
    resolve(given);
  }, { once: true }));
}
byId("ask-value").addEventListener("keydown", (event) => {
  if (event.key === "Enter") (event.preventDefault(), byId("ask-yes").click());
});

function side(shown) {
  byId("side").hidden = !shown;
  byId("toggle-side").setAttribute("aria-expanded", shown);
  document.body.classList.toggle("with-side", shown);
  if (shown) byId("event-list").scrollTop = byId("event-list").scrollHeight;
  showShade();
}

function drawer(shown) {
  byId("chats").classList.toggle("shown", shown);
  showShade();
  if (shown) byId("close-chats").focus();
}

const narrow = matchMedia("(max-width: 820px)");
const showShade = () => (byId("shade").hidden = !(narrow.matches && (byId("chats").classList.contains("shown") || !byId("side").hidden)));
narrow.addEventListener("change", showShade);

function closeDrawers() {
  drawer(false);
  if (narrow.matches) side(false);
}

byId("shade").addEventListener("click", closeDrawers);
byId("open-chats").addEventListener("click", () => drawer(true));
byId("close-chats").addEventListener("click", () => (drawer(false), byId("open-chats").focus()));
byId("toggle-side").addEventListener("click", () => side(byId("side").hidden));
byId("close-side").addEventListener("click", () => (side(false), byId("toggle-side").focus()));
byId("new").addEventListener("click", () => (startNew(), closeDrawers()));
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("retry").addEventListener("click", () => (chatId ? open(chatId) : begin()));
byId("stop").addEventListener("click", stop);
byId("to-end").addEventListener("click", () => end.show());

function stop() {
  if (chatId) attempt(() => call("POST", `/chats${path(chatId)}/stop`));
}

const tabs = ["events", "agent", "run"];
function showTab(name) {
  for (const each of tabs) {
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", each === name);
    tab.tabIndex = each === name ? 0 : -1;
    byId(each).hidden = each !== name;
  }
}
for (const [at, name] of tabs.entries()) {
  byId(`tab-${name}`).addEventListener("click", () => showTab(name));
  byId(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(at + step + tabs.length) % tabs.length];
    showTab(next);
    byId(`tab-${next}`).focus();
  });
}

byId("copy-test").addEventListener("click", () => attempt(async () => {
  const { code } = await call("POST", "/playground/test", { events: inspector.events });
  byId("test-code").value = code;
  byId("test-note").textContent = "";
  byId("test").showModal();
}));
byId("copy").addEventListener("click", async () => {
  byId("test-code").select();
  try {
    await navigator.clipboard.writeText(byId("test-code").value);
    byId("test-note").textContent = "Copied.";
  } catch {
    byId("test-note").textContent = "The browser does not let pages copy here: press Ctrl+C.";
  }
});

const THEMES = { system: "dark", dark: "light", light: "system" };
function showTheme() {
  const theme = document.documentElement.dataset.theme ?? "system";
  byId("theme").setAttribute("aria-label", `Theme: ${theme === "system" ? "as the system" : theme}`);
  byId("theme").textContent = { system: "◐", dark: "☾", light: "☀" }[theme];
}
byId("theme").addEventListener("click", () => {
  const next = THEMES[document.documentElement.dataset.theme ?? "system"];
  if (next === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("inferencesh-theme");
  } else localStorage.setItem("inferencesh-theme", (document.documentElement.dataset.theme = next));
  showTheme();
});
showTheme();

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return; // dialogs close by themselves
  if (event.key === "Escape") {
    if (event.target.type === "search" && event.target.value) return; // it clears the field
    if (byId("chats").classList.contains("shown") || (narrow.matches && !byId("side").hidden)) closeDrawers();
    else if (!byId("stop").hidden) stop();
    return;
  }
  const typing = event.target.closest?.("input, textarea, select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = {
    "/": () => (narrow.matches && drawer(true), byId("search").focus()),
    "?": () => byId("keys").showModal(),
    n: startNew,
    i: () => side(byId("side").hidden),
  }[event.key];
  if (action) (event.preventDefault(), action());
});

// -- the beginning -----------------------------------------------------------------------------------------------------

let signingIn = null;
onSignedOut(() => (signingIn ??= signIn().finally(() => (signingIn = null))));

async function signIn() {
  const known = await call("GET", "/playground/session");
  if (known.signed_in) return true;
  for (let text = "The runtime was started with a key of its own. It stays in this page's session."; ; ) {
    const key = await ask({ title: "Enter the API key", text, value: "", yes: "Sign in", secret: true });
    if (key === null) return false;
    try {
      await call("POST", "/playground/session", { key });
      return true;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      text = error.message;
    }
  }
}

async function readSession() {
  session = await call("GET", "/playground/session");
  byId("model").textContent = session.model;
  byId("version").textContent = session.version;
}

const suggest = onceAtATime((text, preset) => attempt(async () => (await agents.usePreset(preset)) && post(text)));
byId("suggestions").append(...SUGGESTIONS.map(([text, preset]) => element("button", { type: "button", on: { click: () => suggest(text, preset) } },
  element("strong", { text }), element("span", { text: preset }))));

async function begin() {
  try {
    await readSession();
    await chats.load();
  } catch (error) {
    return error instanceof Refused ? banner(error.message, true) : report(error);
  }
  banner("");
  openWanted();
}

// Opens the chat that the page's address names.
function openWanted() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("chat");
  if (wanted && wanted !== chatId) open(wanted);
}

addEventListener("hashchange", openWanted);
showState();
begin();
