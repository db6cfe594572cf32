// What people read: about problems, told by the type of the service's errors, and about who works.

const PROBLEMS = {
  not_found: "This turn or chat was not found. It may have been forgotten.",
  conflict: "That has been settled already, or a worker is still busy with it.",
  too_many_turns: "Too many of your replies are being written. Wait for one to end, and send again.",
  run_failed: "The assistant could not finish this reply. You can ask again.",
  stream_lost: "This reply was lost. You can ask again.",
  given_up: "The workers that wrote this reply have failed too often. You can ask again.",
  upstream_refused: "The assistant cannot answer right now. Please try again later.",
  upstream_unreachable: "The assistant cannot be reached right now. Please try again later.",
  upstream_timeout: "The assistant takes too long to answer. Please try again later.",
};

export const LOST = "Connection lost. Reconnecting …";
export const BUSY = "Many messages are waiting. Yours is sent as soon as there is room …";

/** Returns a sentence about an error of the service. */
export const problemOf = (type) => (Object.hasOwn(PROBLEMS, type) ? PROBLEMS[type] : "Something went wrong. Please try again.");

/** Returns a sentence about the worker that has begun, after the one that had the turn before, if any. */
export function workerLine({ worker, attempt }, before) {
  if (attempt === 1) return before ? `${worker} goes on` : `${worker} answers`;
  if (!before) return `${worker} has taken over from a worker that died at once`;
  return before === worker ? `${worker} was started again and goes on` : `${worker} has taken over from ${before}`;
}

/** Returns what a tool call is called on the page. */
export function wordingOf(call) {
  if (call.name === "compare_prices") return { title: "Compare prices" };
  if (call.name === "book_trip") return { title: "Book a trip" };
  return {};
}
