"""Typed tools in both clients: arguments arrive as the hints say, and what does not fit is told to the agent."""

from __future__ import annotations

import enum
import json
from typing import Any

import attrs
import pytest

from inferencesh import (
    Agent,
    AsyncAgent,
    Tool,
    ToolContext,
    app_tool,
    internal_tools,
    lifecycle_hook,
    string,
    tool,
    widget_action,
)
from inferencesh.local import ToolCall as Calls
from tests.support import Served, warnings_of

from .conftest import Connect, Serve


class Size(enum.Enum):
    """How big."""

    SMALL = "s"
    LARGE = "l"


@attrs.frozen
class Item:
    """Something to order."""

    name: str
    size: Size = Size.SMALL


@tool
def order(items: list[Item], note: str = "") -> str:
    """Order something.

    Args:
        items: What.
        note: A wish.
    """
    return "; ".join(f"{item.name} {item.size.name}" for item in items) + note


@tool("order")
async def order_slowly(items: list[Item], note: str = "") -> str:
    """Order something."""
    return order(items, note)


@attrs.frozen
class Shop:
    """Where orders are taken."""

    name: str

    @tool
    def order(self, items: list[Item], note: str = "") -> str:
        """Order something."""
        return order(items, note)


GOOD: dict[str, Any] = {"items": [{"name": "tea", "size": "l"}, {"name": "cup"}], "note": "!"}
TOOLS = [order, order_slowly, Shop("one").order]


def results(served: Served) -> list[str]:
    """What the model was told that its tools returned, in the order of the calls."""
    return [message.text for message in served.script.asked[-1].messages if message.role == "tool"]


def run(serve: Serve, connect: Connect, built: Tool, *calls: Calls) -> list[str]:
    """One turn with these calls, one after the other; returns what the model was told."""
    served = serve(*([call] for call in calls), ["done"])
    side = connect(served)
    assert side.result(side.agent({"tools": [built]}).send_message("Go")).text == "done"
    return results(served)


@pytest.mark.parametrize("built", TOOLS, ids=["function", "async function", "method"])
def test_arguments_arrive_as_the_hints_say(serve: Serve, connect: Connect, built: Tool) -> None:
    """Classes are made, enums are members, what was left out has its default."""
    assert run(serve, connect, built, Calls("order", GOOD)) == ["tea LARGE; cup SMALL!"]


@pytest.mark.parametrize("built", TOOLS, ids=["function", "async function", "method"])
def test_the_agent_can_correct_its_arguments(
    serve: Serve, connect: Connect, built: Tool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told which is wrong and why, without the handler having run; the next call goes through."""
    bad = {"items": [{"name": "tea", "size": "xl"}], "not": "!"}
    first, second = run(serve, connect, built, Calls("order", bad), Calls("order", GOOD))
    error = json.loads(first)["error"]
    assert error.startswith("invalid arguments: ")
    assert "there is no argument 'not'" in error
    assert "items[0].size: expected one of 's', 'l', got 'xl'" in error
    assert second == "tea LARGE; cup SMALL!"
    assert warnings_of(caplog) == [], "it is no fault of ours"
    assert "xl" not in caplog.text


def test_a_handlers_own_error_is_another_matter(serve: Serve, connect: Connect) -> None:
    """A ValueError of the function is told as before."""

    @tool
    def fail(number: int) -> None:
        raise ValueError("not today")

    assert run(serve, connect, fail, Calls("fail", {"number": 3})) == ['{"error": "ValueError: not today"}']


def test_the_models_schema_is_the_functions(serve: Serve, connect: Connect) -> None:
    """It is offered what the tool describes."""
    served = serve(["done"])
    side = connect(served)
    side.result(side.agent({"tools": [order]}).send_message("Go"))
    (offered,) = served.script.asked[0].tools
    assert offered.input_schema == order["client"]["input_schema"]
    assert (offered.name, offered.description) == ("order", "Order something.")


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "plain"])
@pytest.mark.parametrize("asynchronous", [True, False], ids=["async handler", "sync handler"])
def test_handlers_get_the_context(serve: Serve, connect: Connect, typed: bool, asynchronous: bool) -> None:
    """The ids of chat and call, the tool's name, and the agent object that the caller has."""
    seen: list[ToolContext] = []

    def note(word: str, context: ToolContext) -> str:
        seen.append(context)
        return word

    async def note_async(word: str, context: ToolContext) -> str:
        return note(word, context)

    handler = note_async if asynchronous else note
    built = tool(handler) if typed else tool("note").param("word", string()).handler(handler).build()
    served = serve([Calls(built.name, {"word": "a"})], ["done"])
    side = connect(served)
    agent = side.agent({"tools": [built]})
    message = side.result(agent.send_message("Go"))
    (context,) = seen
    assert context.agent is agent
    assert isinstance(context.agent, Agent if side.kind == "sync" else AsyncAgent)
    assert context.chat_id == agent.chat_id == message.chat_id
    assert context.tool_name == built.name
    (call,) = [call for message in side.result(agent.history()) for call in message.tool_calls]
    assert context.call_id == call.id


def test_the_context_is_there_for_a_turn_that_is_taken_up(serve: Serve, connect: Connect) -> None:
    """``wait`` and ``stream_messages`` know their agent too."""
    seen: list[object] = []

    @tool
    def note(context: ToolContext) -> str:
        seen.append(context.agent)
        return "noted"

    side = connect(serve([Calls("note", {})], ["done"]))
    first = side.agent({"tools": [tool("note").build()]})
    side.result(first.send_message("Go"))
    second = side.agent({"tools": [note]}, chat_id=first.chat_id)
    assert side.result(second.wait()).text == "done"
    assert seen == [second]


def test_a_handler_may_use_the_agent(serve: Serve, connect: Connect) -> None:
    """A sync one with the blocking client, an async one with the other."""

    @tool
    def count(context: ToolContext) -> int:
        return len(context.agent.history())

    @tool("count")
    async def count_async(context: ToolContext) -> int:
        return len(await context.agent.history())

    served = serve([Calls("count", {})], ["done"])
    side = connect(served)
    agent = side.agent({"tools": [count if side.kind == "sync" else count_async]})
    side.result(agent.send_message("Go"))
    assert int(results(served)[0]) >= 2


def test_everything_that_was_built_can_be_sent(serve: Serve, connect: Connect) -> None:
    """Tools of the service, hooks and internal tools beside those that run here."""
    side = connect(serve([Calls("order", GOOD)], ["done"]))
    config = {
        "name": "all",
        "tools": [order, app_tool("draw", "acme/painter").build()],
        "internal_tools": internal_tools().plan().build(),
        "hooks": [lifecycle_hook("agent.start").webhook("https://example.com").build()],
    }
    assert side.result(side.agent(config).send_message("Go")).text == "done"


def test_a_widget_action_is_sent_as_json_text(serve: Serve, connect: Connect) -> None:
    """Like every result that is no text."""
    served = serve([Calls("form", {})], ["done"])
    side = connect(served)
    agent = side.agent({"tools": [tool("form").build()]})
    (call,) = side.result(agent.send_message("Go")).pending_tool_calls
    side.result(agent.submit_tool_result(call.id, widget_action("submit", {"id": 1}, {"name": "Ann"})))
    assert side.result(agent.wait()).text == "done"
    told = json.loads(results(served)[0])
    assert told == {"action": {"type": "submit", "payload": {"id": 1}}, "form_data": {"name": "Ann"}}
