// The texts of the page: error messages, by the type of the error, and messages about the workers.

const PROBLEMS = {
  not_found: "This turn or chat was not found. It may have expired.",
  conflict: "This was already decided, or a worker is still busy with it.",
  too_many_turns: "Too many of your replies are in progress. Wait for one to finish, then send again.",
  run_failed: "The assistant could not finish this reply. You can ask again.",
  stream_lost: "The connection to this reply was lost. You can ask again.",
  given_up: "The workers that ran this turn failed too often. You can ask again.",
  upstream_refused: "The assistant cannot answer right now. Please try again later.",
  upstream_unreachable: "The assistant cannot be reached right now. Please try again later.",
  upstream_timeout: "The assistant took too long to answer. Please try again later.",
};

export const LOST = "Connection lost. Reconnecting …";
export const BUSY = "Many messages are waiting. Yours will be sent as soon as possible …";

/** Returns the message for an error type. */
export const problemOf = (type) => (Object.hasOwn(PROBLEMS, type) ? PROBLEMS[type] : "Something went wrong. Please try again.");

/** Returns the line about the worker that has started, where `before` is the previous worker of the turn, if any. */
export function workerLine({ worker, attempt }, before) {
  if (attempt === 1) return before ? `${worker} continues` : `${worker} answers`;
  if (!before) return `${worker} has taken over from a worker that died`;
  return before === worker ? `${worker} was restarted and continues` : `${worker} has taken over from ${before}`;
}

/** Returns the title of a tool call on the page. */
export function wordingOf(call) {
  if (call.name === "compare_prices") return { title: "Compare prices" };
  if (call.name === "book_trip") return { title: "Book a trip" };
  return {};
}
