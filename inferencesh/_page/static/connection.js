// Requests to a server that may be away: refusals, lost connections, streams of lines, uploads, and when to try again.

/** The server has answered, and the answer is no. */
export class Refused extends Error {
  constructor(status, detail, { field = null, code = null } = {}) {
    super(detail);
    Object.assign(this, { status, field, code });
  }
}

/** There is no answer. */
export class Unreachable extends Error {}

/** Sends a request, with a body as JSON, and returns the response whatever its status; throws Unreachable without one. */
export async function request(method, path, { body, headers = {}, signal } = {}) {
  try {
    return await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      redirect: "error",
      headers: { ...headers, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("The server does not answer.");
  }
}

/** Returns the JSON of a response; throws Unreachable if it breaks off. */
export async function readJSON(response, signal) {
  try {
    return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("The connection was lost.");
  }
}

/**
 * Yields the lines of a response while they arrive.
 *
 * Throws Unreachable when the connection is lost: the browser says that it is offline, or nothing arrives for `silence`
 * milliseconds, which must be longer than the server's keep-alive.
 */
export async function* lines(response, { signal, silence = Infinity } = {}) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await nextChunk(reader, signal, silence);
      if (done) return;
      const complete = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = complete.pop();
      yield* complete;
    }
  } finally {
    reader.cancel().catch(() => {}); // whatever was left of it is not wanted any more, lost or not
  }
}

async function nextChunk(reader, signal, silence) {
  let timer, lose;
  const lost = new Promise((_, reject) => {
    lose = () => reject(new Unreachable("The connection was lost."));
    if (silence < Infinity) timer = setTimeout(lose, silence);
    addEventListener("offline", lose);
  });
  try {
    return await Promise.race([reader.read(), lost]);
  } catch (error) {
    if (signal?.aborted || error instanceof Unreachable) throw error;
    throw new Unreachable("The connection was lost.");
  } finally {
    clearTimeout(timer);
    removeEventListener("offline", lose);
  }
}

/**
 * Yields server-sent events as `inferencesh.web.sse` writes them, as {name, data, id}; options as for `lines`.
 *
 * `id` is that of the last line with one, for the header Last-Event-ID, or "" if the server sends none.
 */
export async function* serverSentEvents(response, options) {
  let name = "";
  let id = "";
  for await (const line of lines(response, options)) {
    if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) yield { name, data: JSON.parse(line.slice(6)), id };
  }
}

/** Waits before the next attempt: the longer the more failed, but no longer than until the network is back. */
export function waitToRetry(failures, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(250 * 2 ** Math.max(failures - 1, 0), 3000));
    addEventListener("online", done);
    signal?.addEventListener("abort", done);
  });
}

/** Sends a file and returns {status, text} of the answer; `progress` is called with numbers from 0 to 1. */
export function sendFile(method, path, file, { type, progress = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest(); // fetch does not tell how far an upload is
    sending.open(method, path);
    if (type) sending.setRequestHeader("Content-Type", type);
    sending.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    sending.addEventListener("load", () => resolve({ status: sending.status, text: sending.responseText }));
    sending.addEventListener("error", () => reject(new Unreachable("The connection was lost during the upload.")));
    sending.addEventListener("abort", () => reject(new DOMException("The upload was stopped.", "AbortError")));
    signal?.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}
