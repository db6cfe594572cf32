"""Programs written with the official Python SDK; prints what each of them found as one JSON object.

It runs in an environment that has that SDK under the name ``inferencesh``, and neither this project nor its types.
"""

import asyncio
import base64
import json
import sys
import time
import traceback

from inferencesh import AsyncInference, Inference, string, tool

BASE_URL, API_KEY = sys.argv[1:]
STORY = "Tell me a story about a robot"
SUM = "What's 42 * 17?"
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
TEXT = "data:text/plain;base64," + base64.b64encode(b"Buy milk.").decode()

client = Inference(api_key=API_KEY, base_url=BASE_URL)


def calculator(*, approval=False):
    """The tool that the stand-in for a model calls when it is asked for a sum."""
    built = tool("calculator").describe("Compute").param("expression", string("The expression"))
    return (built.require_approval() if approval else built).build()


def helper(**config):
    """An agent with a configuration of its own."""
    return client.agent({"name": "helper", **config})


def text_of(message):
    """The text of a message."""
    return "".join(block["text"] or "" for block in message["content"] if block["type"] == "text")


def finished(agent, status="idle"):
    """Poll until the chat has a status, and return it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        chat = agent.get_chat()
        if chat["status"] == status:
            return chat
        time.sleep(0.05)
    raise TimeoutError(f"The chat is still {chat['status']}.")


def last_text(agent):
    """What the agent said last, once it is done."""
    return text_of(finished(agent)["chat_messages"][-1])


def message():
    """Send a message, and wait for the reply by polling."""
    agent = helper()
    sent = agent.send_message("Hello")
    return {"status": sent["status"], "chat": sent["chat_id"] == agent.chat_id, "text": last_text(agent)}


def stream():
    """Receive a reply while it grows, and the one to a second message in the same chat."""
    agent, seen = helper(), []
    agent.send_message(STORY, on_message=seen.append)
    first = len(seen)
    agent.send_message("Hello", on_message=seen.append)
    return {
        "several": first > 3,
        "roles": sorted({each["role"] for each in seen}),
        "statuses": sorted({each["status"] for each in seen}),
        "story": text_of(seen[first - 1]),
        "same": text_of(seen[-1]) == last_text(agent),
    }


def all_events():
    """Receive every kind of event that this version knows."""
    agent, chats = helper(), []
    agent.send_message("Hello")
    agent.stream_all(on_chat=chats.append, on_message=lambda _: None)
    return {
        "ended": chats[-1]["active_run"]["state"],
        "short": agent.get_chat(agent.chat_id[:8])["id"] == agent.chat_id,
    }


def tool_call():
    """Answer the call of a tool from its callback."""
    agent, calls = helper(tools=[calculator()]), []

    def on_tool_call(call):
        calls.append({"name": call.name, "args": call.args})
        agent.submit_tool_result(call.id, "714")

    agent.send_message(SUM, on_tool_call=on_tool_call)
    return {"calls": calls, "text": last_text(agent)}


def approval(decide):
    """Decide on a call that waits for approval, and answer it if it was allowed."""
    agent = helper(tools=[calculator(approval=True)])
    agent.send_message(SUM)
    chat = finished(agent, "awaiting_input")
    (interrupt,) = chat["pending_interrupts"]
    call = chat["chat_messages"][-1]["tool_invocations"][0]
    decide(agent, interrupt["resource_id"])
    if agent.get_chat()["status"] == "awaiting_input":
        agent.submit_tool_result(call["id"], "714")
    return {"reason": interrupt["reason"], "status": call["status"], "text": last_text(agent)}


def approve():
    """Approve a call."""
    return approval(lambda agent, call_id: agent.approve_tool(call_id))


def reject():
    """Reject a call."""
    return approval(lambda agent, call_id: agent.reject_tool(call_id, "too expensive"))


def output():
    """Receive structured output."""
    return {"output": helper(output_schema=SCHEMA).run("Name it", on_message=lambda _: None)}


def files():
    """Attach a file to a message."""
    agent = helper()
    uploaded = agent.upload_file(TEXT)
    agent.send_message("What is this?", files=[TEXT])
    text = last_text(agent)
    return {"type": uploaded["content_type"], "size": uploaded["size"], "text": text}


def stop():
    """Stop a run while it writes."""
    agent, seen = helper(), []

    def on_message(snapshot):
        if not seen:
            agent.stop_chat()
        seen.append(snapshot["status"])

    agent.send_message(STORY, on_message=on_message)
    return {"last": seen[-1], "state": agent.get_chat()["active_run"]["state"]}


def refused():
    """Ask for what is not there; the reasons reach the program."""
    reasons = []
    for ask in (client.agent("nobody").send_message, lambda _: client.run({"app": "a/b@c", "input": {}})):
        try:
            ask("Hello")
        except Exception as error:  # noqa: BLE001 - its text is what is looked at
            reasons.append(str(error))
    return {"reasons": reasons}


def async_client():
    """The same with the async client, which has no callbacks in older versions."""

    async def main():
        agent = AsyncInference(api_key=API_KEY, base_url=BASE_URL).agent({"name": "helper"})
        sent = await agent.send_message("Hello")
        roles = []
        async for snapshot in agent.stream_messages():
            roles.append(snapshot["role"])
            if snapshot["status"] == "ready":
                break
        chat = await agent.get_chat()
        return {"status": sent["status"], "roles": sorted(set(roles)), "text": text_of(chat["chat_messages"][-1])}

    return asyncio.run(main())


def main():
    """Run every program; one that fails is reported with its traceback."""
    found = {}
    for program in (
        *(message, stream, all_events, tool_call, approve, reject),
        *(output, files, stop, refused, async_client),
    ):
        try:
            found[program.__name__] = program()
        except Exception:  # noqa: BLE001 - it is reported, and the other programs go on
            found[program.__name__] = {"failed": traceback.format_exc()}
    print(json.dumps(found))


main()
