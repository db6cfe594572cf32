// Snapshots of `inferencesh.web` for a MessageList, which takes messages in the form of the service's wire.

/** Returns the message of a snapshot; `order` is its place in the conversation. */
export function messageOf(snapshot, order) {
  return {
    id: snapshot.id,
    role: snapshot.role,
    status: snapshot.status,
    order,
    content: [...(snapshot.text ? [{ type: "text", text: snapshot.text }] : []), ...snapshot.attachments.map((type) => ({ type }))],
    tool_invocations: snapshot.tool_calls.map(callOf),
  };
}

// A call that waits for an answer is a person's to answer only if the run has paused for it.
function callOf(call) {
  const status = call.pending ? "awaiting_input" : call.status === "awaiting_input" ? "in_progress" : call.status;
  return { id: call.id, type: "client", status, function: { name: call.name, arguments: call.arguments } };
}

/** Whether a person can do something about a call of the snapshot. */
export const waits = (snapshot) => snapshot.tool_calls.some((call) => call.pending || call.status === "awaiting_approval");
