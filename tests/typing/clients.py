"""What a type checker knows about every form of a call; mypy and pyright check this file, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from inferencesh import (
    Agent,
    AsyncAgent,
    AsyncInference,
    AsyncMessageStream,
    Chat,
    Inference,
    Message,
    MessageStream,
    RunFailedError,
    Tool,
    ToolCall,
    async_inference,
    inference,
    inline,
    string,
    tool,
)


async def asynchronous(agent: AsyncAgent) -> None:
    """The async agent."""
    plain, explicit = agent.send_message("Hi"), agent.send_message("Hi", stream=False)
    assert_type((plain, explicit), tuple[Coroutine[Any, Any, Message], Coroutine[Any, Any, Message]])
    assert_type(agent.send_message("Hi", stream=True), AsyncMessageStream)
    assert_type(await agent.send_message("Hi", on_message=print, on_tool_call=print), Message)
    assert_type(await agent.send_message("Hi", stream=True, conflate=True), AsyncMessageStream)
    async for message in agent.send_message("Hi", stream=True):
        assert_type(message, Message)
    async with agent.send_message("Hi", stream=True) as stream:
        assert_type(stream, AsyncMessageStream)
        assert_type(await stream.get_final_message(), Message)
        assert_type(stream.message, Message | None)
        assert_type(stream.chat_id, str | None)
        assert_type(aiter(stream), AsyncIterator[Message])
    assert_type(agent.stream_messages(), AsyncMessageStream)
    assert_type(await agent.wait(), Message)
    assert_type(await agent.get_chat(), Chat)
    assert_type(agent.chat_id, str | None)
    await agent.submit_tool_result("id", {"a": [1, 2.5, None]})
    await agent.stop()
    agent.reset()


def blocking(agent: Agent) -> None:
    """The blocking agent."""
    assert_type(agent.send_message("Hi"), Message)
    assert_type(agent.send_message("Hi", stream=False, on_message=print), Message)
    assert_type(agent.send_message("Hi", stream=True), MessageStream)
    for message in agent.send_message("Hi", stream=True):
        assert_type(message, Message)
    with agent.send_message("Hi", stream=True) as stream:
        assert_type(stream, MessageStream)
        assert_type(stream.get_final_message(), Message)
        assert_type(stream.message, Message | None)
        assert_type(iter(stream), Iterator[Message])
    assert_type(agent.stream_messages(), MessageStream)
    assert_type(agent.wait(), Message)
    assert_type(agent.get_chat(), Chat)
    agent.submit_tool_result("id", 42)


async def clients() -> None:
    """Clients and what makes them."""
    async with AsyncInference("key", timeout=5) as client:
        assert_type(client, AsyncInference)
        assert_type(client.agent("a/b"), AsyncAgent)
        assert_type(client.agent({"name": "t"}, chat_id="c", context={"a": "b"}), AsyncAgent)
    with Inference(base_url="https://example.com") as blocking_client:
        assert_type(blocking_client, Inference)
        assert_type(blocking_client.agent("a/b"), Agent)
    assert_type(AsyncInference.local(pace=0), AsyncInference)
    assert_type(Inference.local(updates="deltas"), Inference)
    assert_type(async_inference("key", max_retries=1), AsyncInference)
    assert_type(inference(timeout=None), Inference)


def messages(message: Message, call: ToolCall) -> None:
    """What is in a message."""
    assert_type(message.text, str)
    assert_type(message.delta, str | None)
    assert_type(message.done, bool)
    assert_type(message.pending_tool_calls, tuple[ToolCall, ...])
    assert_type(call.arguments, dict[str, Any])
    message.text = "new"  # type: ignore[misc]  # snapshots are read-only, and a checker knows
    call.arguments = {}  # type: ignore[misc]  # as above


def errors(error: RunFailedError) -> None:
    """What is in an error."""
    assert_type(error.message, Message | None)
    assert_type(error.chat_id, str | None)
    assert_type(error.detail, str)


@inline
def cheap(text: str, done: bool) -> int:
    """A function keeps its type under ``inline``."""
    return len(text) if done else 0


def tools() -> None:
    """Builders keep their type from step to step."""
    built = tool("t").describe("d").display("D").param("p", string()).handler(cheap).require_approval().build()
    assert_type(built, Tool)
    assert_type(cheap("text", done=True), int)


async def mistakes(agent: AsyncAgent, blocking_agent: Agent) -> None:
    """What a checker refuses; an ignore that is not needed is an error too."""
    print(agent.send_message("Hi", stream=True).text)  # type: ignore[attr-defined]  # a stream is no message
    print((await agent.send_message("Hi")).txt)  # type: ignore[attr-defined]  # known attributes only
    await agent.send_message("Hi", on_message=len)  # type: ignore[arg-type]  # it gets two arguments
    blocking_agent.send_message(17)  # type: ignore[call-overload]  # a message is text
