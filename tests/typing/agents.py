"""What a type checker knows about making agents; mypy and pyright check this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_type

from inferencesh import (
    Agent,
    AgentConfig,
    AsyncAgent,
    AsyncInference,
    Chat,
    FileRef,
    Inference,
    Message,
    Tool,
    ToolCall,
    ToolContext,
    internal_tools,
    string,
    tool,
)


def plain(city: str, days: int = 1) -> str:
    """A function."""
    return city * days


async def slow(city: str, context: ToolContext) -> list[str]:
    """An async function."""
    return [city, context.chat_id]


@tool
def decorated(city: str) -> str:
    """A tool."""
    return city


class Shop:
    """Something with methods."""

    def price(self, item: str) -> float:
        """A method."""
        return float(len(item))

    @tool(description="Tell how many there are")
    async def stock(self, item: str) -> int:
        """A decorated method."""
        return len(item)


BUILT = tool("built").param("p", string()).handler(lambda p: p).build()


def agents(client: Inference, other: AsyncInference, shop: Shop) -> None:
    """By a name, a mapping, keywords, or some of them."""
    assert_type(client.agent("acme/guide"), Agent)
    assert_type(client.agent("acme/guide", tools=[plain]), Agent)
    assert_type(client.agent(name="a", system_prompt="b", tools=[plain, slow, decorated, BUILT]), Agent)
    assert_type(client.agent(tools=[shop.price, shop.stock], internal_tools=internal_tools().all().build()), Agent)
    assert_type(other.agent(name="a", core_app={"ref": "a/b"}, context={"city": "Paris"}), AsyncAgent)
    assert_type(other.agents.create(name="a", tools=[plain]), AsyncAgent)
    assert_type(other.agent({"name": "a"}, chat_id="c", tools=[decorated]), AsyncAgent)
    assert_type(client.agent(chat_id="c"), Agent)
    config: AgentConfig = {"name": "a", "tools": [plain, decorated], "context": [{"name": "city", "required": True}]}
    mapping: Mapping[str, Any] = {"name": "a", "newer": 1}
    tools: Sequence[Tool | Callable[..., Any]] = [plain, BUILT]
    print(client.agent(config), client.agent(mapping), client.agent(tools=tools))


def handlers() -> None:
    """Lambdas of any number of parameters, functions of every kind."""
    assert_type(tool("t").handler(lambda: 1).build(), Tool)
    assert_type(tool("t").handler(lambda a: a).build(), Tool)
    assert_type(tool("t").handler(lambda a, b: a + b).build(), Tool)
    assert_type(tool("t").handler(lambda a, b, c, d: [a, b, c, d]).build(), Tool)
    assert_type(tool("t").handler(plain).build(), Tool)
    assert_type(tool("t").handler(slow).build(), Tool)
    assert_type(tool("t").handler(print).build(), Tool)


async def callbacks(agent: AsyncAgent, blocking: Agent) -> None:
    """Functions, async functions and lambdas, whose parameters are known."""

    def on_message(text: str, done: bool) -> None:
        print(text, done)

    async def on_message_async(text: str, done: bool) -> None:
        print(text, done)

    def on_approval(call: ToolCall) -> bool | str | None:
        return call.name == "search" or "no"

    async def on_tool_progress(call: ToolCall, value: object) -> None:
        print(call.id, value)

    async def on_approval_later(call: ToolCall) -> bool:
        return call.name == "add"

    await agent.send_message("Hi", on_message=on_message, on_approval=on_approval, on_tool_progress=on_tool_progress)
    await agent.send_message("Hi", on_approval=on_approval_later)
    await agent.send_message("Hi", on_approval=lambda call: "no" if call.arguments else None)
    await agent.send_message("Hi", on_message=on_message_async, on_tool_call=lambda call: print(call.arguments))
    blocking.send_message("Hi", on_message=lambda text, done: print(text.upper(), done), files=[b"x"])
    async for message in agent.stream_messages(on_message=on_message, conflate=True):
        assert_type(message.output, Any)


def times(message: Message, chat: Chat, file: FileRef) -> None:
    """Times are datetimes."""
    assert_type(message.created_at, datetime | None)
    assert_type((chat.created_at, chat.updated_at), tuple[datetime | None, datetime | None])
    assert_type(file.created_at, datetime | None)


async def mistakes(client: Inference, other: AsyncInference) -> None:
    """What a checker refuses."""
    client.agent(nmae="a")  # type: ignore[call-arg]  # name
    client.agent(name=5)  # type: ignore[arg-type]  # a text
    client.agent(tools=[5])  # type: ignore[list-item]  # no function
    client.agent({"name": "a"}, context={"a": 1})  # type: ignore[dict-item]  # texts
    await other.agent("a/b")  # type: ignore[misc]  # an agent is not awaited
    client.agent("a/b").send_message("Hi", on_approval=lambda _: 1)  # type: ignore[arg-type, return-value]  # a decision
    for _ in other.agent("a/b").send_message("Hi", stream=True):  # type: ignore[attr-defined]  # an async stream
        pass
    async with client:  # type: ignore[attr-defined]  # the blocking client
        pass
    tool("t").handler("no function")  # type: ignore[call-overload]  # which it has to be
