// What visitors read: about problems, and about the agent's tools. Errors of the service are told by their type.

const PROBLEMS = {
  not_found: "This chat was not found. It may have been deleted, or it belongs to another browser.",
  conflict: "That has been settled already.",
  input_required: "Please answer the question above first.",
  rate_limited: "Many people are chatting right now. Please try again in a moment.",
  run_failed: "The assistant could not finish this reply. You can ask again.",
  stream_lost: "The rest of this reply was lost on its way.",
  upstream_refused: "The assistant cannot answer right now. Please try again later.",
  upstream_unreachable: "The assistant cannot be reached right now. Please try again later.",
  upstream_timeout: "The assistant takes too long to answer. Please try again later.",
  too_large: "This file is too large: 5 MB is the most.",
  wrong_type: "This kind of file cannot be attached: only images, PDFs and texts.",
};

export const UNSENT = "There is no connection, so your message was not sent. It is still in the box below.";
export const LOST = "Connection lost. Reconnecting …";

/** Returns a sentence about an error of the service. */
export const problemOf = (type) => (Object.hasOwn(PROBLEMS, type) ? PROBLEMS[type] : "Something went wrong. Please try again.");

/** Returns what a tool call is called on the page, and the question that it asks. */
export function wordingOf(call) {
  const given = call.arguments && typeof call.arguments === "object" ? call.arguments : {};
  if (call.name === "ask_person") return { title: "A question for you", text: String(given.question ?? "") };
  if (call.name === "book_trip") return { title: "Book a trip" };
  if (call.name === "calculator") return { title: "Calculator" };
  return {};
}
