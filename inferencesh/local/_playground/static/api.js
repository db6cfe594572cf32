// Requests to the runtime. The session's cookie, which scripts cannot read, stands for the key.

import { Refused, lines, readJSON, request, sendFile } from "./connection.js";

const HEADERS = { "X-Inferencesh-Playground": "1" };

let signIn = async () => false;

/** Sets what to do without a session; it returns whether there is one now. */
export function onSignedOut(handler) {
  signIn = handler;
}

/** Sends a request and returns the response, whose status is a success. */
export async function send(method, path, { body, signal, accept, again = true } = {}) {
  const headers = { ...HEADERS, ...(accept ? { Accept: accept } : {}) };
  const response = await request(method, path, { body, headers, signal });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401 && again && (await signIn())) return send(method, path, { body, signal, accept, again: false });
  const detail = problem?.detail ?? problem?.error?.message ?? `The runtime answered with status ${response.status}.`;
  throw new Refused(response.status, String(detail), { field: problem?.field, code: problem?.code });
}

/** Sends a request and returns the data of the answer, out of the envelope of whichever generation. */
export async function call(method, path, body, signal) {
  const response = await send(method, path, { body, signal });
  if (response.status === 204) return null;
  const answer = await readJSON(response, signal);
  const wrapped = answer && typeof answer === "object" && "data" in answer && ("messages" in answer || "success" in answer);
  return wrapped ? answer.data : answer;
}

/** Yields the events of a stream; what cannot be read is an event named "unreadable". */
export async function* events(path, signal) {
  const response = await send("GET", path, { signal, accept: "application/x-ndjson" });
  yield { event: "opened" };
  for await (const line of lines(response, { signal })) if (line.trim()) yield readLine(line);
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
  const { status } = await sendFile("PUT", target.pathname + target.search, file, { type: stored.content_type || type, progress, signal });
  if (status >= 300) throw new Refused(status, `The upload was refused with status ${status}.`);
  progress(1);
  return { id: stored.id, uri: stored.uri, filename: file.name, content_type: type, size: file.size };
}
