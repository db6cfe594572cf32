// The page of the chat service: it shows what the server's events say, and comes back after a reload or a lost connection.

const byId = (id) => document.getElementById(id);
const log = byId("log");
const shown = new Map(); // message id -> element
let chatId = new URLSearchParams(location.search).get("chat");
let reading = null; // aborts the stream that is being read
let retry = null; // what "Try again" does

const MOST_ATTEMPTS = 4;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// -- talking to the server -------------------------------------------------------------------------------------------

class Refused extends Error {} // the server has answered, and the answer is no

async function call(method, path, body, signal) {
  const response = await fetch(path, {
    method,
    signal,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Refused(problem.detail || `The server answered with status ${response.status}.`);
  }
  return response;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block);
      const data = /^data: (.*)$/m.exec(block);
      if (name && data) yield { name: name[1], data: JSON.parse(data[1]) };
    }
  }
}

// Reads one reply to its end, over as many connections as it takes.
async function follow(method, path, body) {
  reading?.abort();
  const control = (reading = new AbortController());
  busy(true);
  try {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const response = await call(method, path, body, control.signal);
        remember(response.headers.get("X-Chat-Id"));
        connection("");
        for await (const { name, data } of events(response)) {
          attempt = 0;
          if (name === "error") return problem(data.detail, resume);
          show(data);
          if (name === "done") return endCalls(), settle();
          if (name === "input_required") return settle({ waiting: true });
        }
        throw new TypeError("the stream ended early");
      } catch (error) {
        if (control.signal.aborted) return;
        if (error instanceof Refused) return problem(error.message, chatId ? resume : null);
        // A message may have arrived although its answer was lost: it is never sent twice, its reply is looked for.
        if (!chatId || attempt >= MOST_ATTEMPTS) {
          return problem("The connection to the server was lost.", chatId ? resume : () => follow(method, path, body));
        }
        connection("Reconnecting …");
        await pause(300 * 2 ** attempt);
        [method, path, body] = ["GET", `/chat/${encodeURIComponent(chatId)}/stream`, null];
      }
    }
  } finally {
    if (reading === control) {
      connection("");
      busy(false);
    }
  }
}

// Shows the whole conversation, and what is still to come of it.
async function resume() {
  problem(null);
  try {
    const response = await call("GET", `/chat/${encodeURIComponent(chatId)}`);
    const { status, messages } = await response.json();
    log.querySelectorAll(".message").forEach((element) => element.remove());
    shown.clear();
    messages.forEach(show);
    settle();
    if (status !== "idle") await follow("GET", `/chat/${encodeURIComponent(chatId)}/stream`);
  } catch (error) {
    const lost = !(error instanceof Refused);
    problem(lost ? "The server cannot be reached." : error.message, lost ? resume : null);
  }
}

async function send(text) {
  problem(null);
  element("div", "message user", log).textContent = text;
  byId("welcome").hidden = true;
  scroll(true);
  await follow("POST", "/chat/stream", { text, chat_id: chatId });
}

async function answer(callId, result) {
  problem(null);
  const chat = encodeURIComponent(chatId);
  try {
    await call("POST", `/chat/${chat}/tools/${encodeURIComponent(callId)}`, { result });
  } catch (error) {
    return problem(error instanceof Refused ? error.message : "The server cannot be reached.", resume);
  }
  await follow("GET", `/chat/${chat}/stream`);
}

function remember(id) {
  if (!id || id === chatId) return;
  chatId = id;
  history.replaceState(null, "", `?chat=${encodeURIComponent(id)}`);
}

// -- showing ---------------------------------------------------------------------------------------------------------

function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text; // never innerHTML: the text is anybody's
  parent?.append(made);
  return made;
}

function show(message) {
  byId("welcome").hidden = true;
  const follows = atBottom();
  let box = shown.get(message.id);
  if (!box) {
    box = element("div", `message ${message.role}`, log);
    element("div", "text", box);
    element("div", "calls", box);
    element("div", "note", box);
    shown.set(message.id, box);
  }
  box.classList.toggle("growing", message.role === "assistant" && !message.done);
  box.querySelector(".text").textContent = message.text;
  showCalls(box.querySelector(".calls"), message.tool_calls);
  const notes = { failed: "This reply failed.", cancelled: "This reply was stopped." };
  box.querySelector(".note").textContent = notes[message.status] || "";
  if (follows) scroll();
}

// A call that is still being written has another id than the one that is answered later.
function showCalls(parent, toolCalls) {
  const keys = new Set(toolCalls.map((toolCall) => `call-${toolCall.id}`));
  for (const box of [...parent.children]) if (!keys.has(box.id)) box.remove();
  for (const toolCall of toolCalls) showCall(parent, toolCall);
}

function showCall(parent, toolCall) {
  const key = `call-${toolCall.id}`;
  const known = byId(key);
  const state = toolCall.pending ? "pending" : toolCall.status;
  if (known?.dataset.state === state) return; // somebody may be typing an answer into it
  const box = element("section", toolCall.pending ? "call pending" : "call");
  box.id = key;
  box.dataset.state = state;
  const head = element("div", "call-head", box);
  element("span", "call-name", head, toolCall.name);
  element("span", "call-state", head, toolCall.pending ? "waits for you" : working(state) ? "working" : state);
  const list = element("dl", "", box);
  for (const [name, value] of Object.entries(toolCall.arguments)) {
    element("dt", "", list, name);
    element("dd", "", list, typeof value === "string" ? value : JSON.stringify(value));
  }
  if (toolCall.pending) box.append(answerForm(toolCall));
  if (known) known.replaceWith(box);
  else parent.append(box);
}

// While a run goes on, its calls are being answered by the server; once it is over, they have been.
const working = (state) => !["completed", "failed", "cancelled"].includes(state);

function endCalls() {
  for (const box of log.querySelectorAll(".call")) {
    if (working(box.dataset.state)) box.querySelector(".call-state").textContent = "completed";
  }
}

function answerForm(toolCall) {
  const form = element("form", "answer");
  const input = element("input", "", form);
  input.placeholder = "Your answer";
  input.setAttribute("aria-label", `Answer to ${toolCall.name}`);
  input.required = true;
  input.maxLength = 8000;
  const button = element("button", "", form, "Answer");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const result = input.value.trim();
    if (!result) return;
    input.disabled = button.disabled = true;
    answer(toolCall.id, result).finally(() => (input.disabled = button.disabled = false));
  });
  return form;
}

function settle({ waiting = false } = {}) {
  byId("text").placeholder = waiting ? "Answer above first" : "Write a message";
  byId("text").disabled = byId("send").disabled = waiting;
  (waiting ? log.querySelector(".call.pending input") : byId("text"))?.focus();
  scroll();
}

function problem(text, again = null) {
  byId("problem").hidden = !text;
  byId("problem-text").textContent = text || "";
  byId("retry").hidden = !again;
  retry = again;
  log.querySelectorAll(".growing").forEach((each) => each.classList.remove("growing"));
}

function busy(working) {
  byId("send").hidden = working;
  byId("stop").hidden = !working;
}

const connection = (text) => (byId("connection").textContent = text);
const atBottom = () => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
const scroll = (always = true) => always && log.scrollTo({ top: log.scrollHeight });

// -- what people do --------------------------------------------------------------------------------------------------

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || byId("send").hidden || byId("send").disabled) return;
  byId("text").value = "";
  fit();
  send(text);
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
});

function fit() {
  const box = byId("text");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}
byId("text").addEventListener("input", fit);

byId("stop").addEventListener("click", () => {
  if (chatId) call("POST", `/chat/${encodeURIComponent(chatId)}/stop`).catch((error) => problem(error.message, resume));
});

byId("retry").addEventListener("click", () => {
  const again = retry;
  problem(null);
  again?.();
});

byId("new").addEventListener("click", () => location.assign(location.pathname));

for (const button of document.querySelectorAll(".suggestions button")) {
  button.addEventListener("click", () => send(button.textContent));
}

if (chatId) resume();
