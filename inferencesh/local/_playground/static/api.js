// Requests to the runtime. The session's cookie, which scripts cannot read, stands for the key.

const HEADERS = { "X-Inferencesh-Playground": "1" };

/** The server has answered, and the answer is no. */
export class Refused extends Error {
  constructor(status, detail, field = null, code = null) {
    super(detail);
    Object.assign(this, { status, field, code });
  }
}

/** There is no answer. */
export class Unreachable extends Error {}

let signIn = async () => false;

/** Sets what to do without a session; it returns whether there is one now. */
export function onSignedOut(handler) {
  signIn = handler;
}

/** Sends a request and returns the response, whose status is a success. */
export async function send(method, path, { body, signal, accept, again = true } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      redirect: "error",
      headers: { ...HEADERS, ...(body ? { "Content-Type": "application/json" } : {}), ...(accept ? { Accept: accept } : {}) },
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("The runtime does not answer.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401 && again && (await signIn())) return send(method, path, { body, signal, accept, again: false });
  const detail = problem?.detail ?? problem?.error?.message ?? `The runtime answered with status ${response.status}.`;
  throw new Refused(response.status, String(detail), problem?.field ?? null, problem?.code ?? null);
}

/** Sends a request and returns the data of the answer, out of the envelope of whichever generation. */
export async function call(method, path, body, signal) {
  const response = await send(method, path, { body, signal });
  if (response.status === 204) return null;
  const answer = await response.json();
  const wrapped = answer && typeof answer === "object" && "data" in answer && ("messages" in answer || "success" in answer);
  return wrapped ? answer.data : answer;
}

/** Yields the events of a stream; what cannot be read is an event named "unreadable". */
export async function* events(path, signal) {
  const response = await send("GET", path, { signal, accept: "application/x-ndjson" });
  yield { event: "opened" };
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new Unreachable("The connection to the runtime was lost.");
    }
    if (chunk.done) return;
    const lines = (rest + decoder.decode(chunk.value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.trim()) yield readLine(line);
  }
}

/** Returns the event of a line; exported for what shows recorded lines. */
export function readLine(line) {
  try {
    const parsed = JSON.parse(line);
    if (parsed && typeof parsed === "object" && !Array.isArray(parsed)) {
      if (typeof parsed.event === "string") return { event: parsed.event, data: parsed.data, size: line.length };
      if (parsed.type === "heartbeat") return { event: "heartbeat", data: parsed, size: line.length };
    }
    return { event: "unknown", data: parsed, size: line.length };
  } catch {
    return { event: "unreadable", data: line, size: line.length };
  }
}

/** Uploads a file and returns its reference; progress is called with numbers from 0 to 1. */
export async function upload(file, progress, signal) {
  const type = file.type || "application/octet-stream";
  const wanted = { uri: "", filename: file.name, content_type: type, size: file.size };
  const [stored] = await call("POST", "/files", { files: [wanted] }, signal);
  const target = new URL(stored.upload_url, location.href);
  await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", target.pathname + target.search);
    request.setRequestHeader("Content-Type", stored.content_type || type);
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.addEventListener("load", () =>
      request.status < 300 ? resolve() : reject(new Refused(request.status, `The upload was refused with status ${request.status}.`)));
    request.addEventListener("error", () => reject(new Unreachable("The connection was lost during the upload.")));
    request.addEventListener("abort", () => reject(new DOMException("The upload was stopped.", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
  progress(1);
  return { id: stored.id, uri: stored.uri, filename: file.name, content_type: type, size: file.size };
}
