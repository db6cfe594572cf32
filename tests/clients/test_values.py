"""Values are what they were sent as: integers of any size, large texts, and nothing that somebody's edit can change."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from inferencesh import Chat, Content, ContentType, Interrupt, Message, Run, ToolCall, integer, obj, tool, web
from inferencesh._types.codec import structure
from inferencesh.local import Finish, SentResult, Text
from inferencesh.local import ToolCall as Calls
from inferencesh.testing import ScriptedRuntime
from tests.support import Kind, Served

from .conftest import Connect, Serve
from .sides import make_side

LARGE = [2**64 + 1, -(2**63) - 1, 10**40 + 7]
TOO_LARGE_FOR_AIOHTTP = 2 * 2**20


def told(arguments: Mapping[str, Any]) -> str:
    """All arguments, taken as one mapping."""
    return json.dumps(arguments["wei"])


def returned(wei: int) -> object:
    """An argument by its name, in an object."""
    return {"wei": wei}


@pytest.mark.parametrize("number", LARGE)
@pytest.mark.parametrize("handler", [told, returned])
def test_a_tool_is_given_large_integers_as_they_are(kind: Kind, number: int, handler: Callable[..., Any]) -> None:
    """And so are callbacks, and the result that is sent."""
    pay = tool("pay").param("wei", integer()).handler(handler).build()
    with ScriptedRuntime() as runtime, make_side(kind, api_key=runtime.api_key, base_url=runtime.base_url) as side:
        runtime.reply(tool_calls=[("pay", {"wei": number})])
        runtime.reply("done")
        seen: list[ToolCall] = []
        agent = side.agent({"name": "payer", "tools": [pay]})
        side.result(agent.send_message("Pay", on_tool_call=seen.append))
        assert seen[0].arguments == {"wei": number}
        assert runtime.tool_results[0].arguments == {"wei": number}
        assert str(number) in runtime.tool_results[0].result
        assert side.result(agent.get_chat()).active_run.state == "completed"


@pytest.mark.parametrize("number", LARGE)
def test_a_typed_tool_is_given_large_integers_as_they_are(kind: Kind, number: int) -> None:
    """Its parameters are read from the same JSON."""
    given: list[object] = []

    @tool
    def pay(wei: int, more: dict[str, int], anything: Any) -> None:
        given.extend([wei, more, anything])

    with ScriptedRuntime() as runtime, make_side(kind, api_key=runtime.api_key, base_url=runtime.base_url) as side:
        runtime.reply(tool_calls=[("pay", {"wei": number, "more": {"a": number}, "anything": [number]})])
        runtime.reply("done")
        side.result(side.agent({"name": "payer", "tools": [pay]}).send_message("Pay"))
    assert given == [number, {"a": number}, [number]]


@pytest.mark.parametrize("updates", ["snapshots", "deltas", "both"])
@pytest.mark.parametrize("number", LARGE)
def test_an_output_has_large_integers_as_they_are(
    serve: Serve, connect: Connect, tmp_path: Any, updates: Any, number: int
) -> None:
    """However a reply is followed, out of a database, and in what a web page is sent."""
    served = serve([Finish({"wei": number})], updates=updates, db=tmp_path / "chats.db")
    side = connect(served)
    agent = side.agent({"name": "payer", "output_schema": obj({"wei": integer()})})
    stream = agent.send_message("Pay", stream=True)
    snapshots = side.snapshots(stream)
    assert snapshots[-1].output == {"wei": number}
    assert side.result(stream.get_final_output()) == {"wei": number}
    assert side.result(agent.get_chat()).output == {"wei": number}
    assert web.snapshot(snapshots[-1])["tool_calls"][0]["arguments"] == {"wei": number}  # type: ignore[index] # a list


def test_a_large_message_and_a_large_result_are_sent_without_a_warning(kind: Kind) -> None:
    """Warnings are errors here, and aiohttp has one for large bodies that are given as bytes."""
    fetch = tool("fetch").handler(lambda: "y" * TOO_LARGE_FOR_AIOHTTP).build()
    with ScriptedRuntime() as runtime, make_side(kind, api_key=runtime.api_key, base_url=runtime.base_url) as side:
        runtime.reply(tool_calls=[("fetch", {})])
        runtime.reply("done")
        message = side.result(side.agent({"name": "x", "tools": [fetch]}).send_message("x" * TOO_LARGE_FOR_AIOHTTP))
        assert message.text == "done"
        assert runtime.requests[0].text == "x" * TOO_LARGE_FOR_AIOHTTP
        assert runtime.tool_results[0].result == "y" * TOO_LARGE_FOR_AIOHTTP


def spoil(value: Any) -> None:
    """Change everything in a JSON value."""
    for each in list(value.values()) if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            spoil(each)
    if isinstance(value, dict):
        value["spoilt"] = True
    else:
        value.append("spoilt")


@pytest.mark.parametrize("takes", ["one mapping", "names", "types", "all names"])
def test_what_a_handler_does_to_its_arguments_changes_no_message(serve: Serve, connect: Connect, takes: str) -> None:
    """Nor does what callbacks do to the call that they are given; each gets what the agent wrote."""
    written = {"items": [{"name": "tea"}], "more": {"a": [1]}}
    seen: list[object] = []

    def handle(**arguments: Any) -> str:
        seen.append(copy.deepcopy(arguments))
        spoil(arguments)
        return "ok"

    def by_names(items: list[Any], more: dict[str, Any]) -> str:
        return handle(items=items, more=more)

    def by_mapping(arguments: dict[str, Any]) -> str:
        seen.append(copy.deepcopy(arguments))
        spoil(arguments)
        return "ok"

    handlers: dict[str, Callable[..., Any]] = {"one mapping": by_mapping, "names": by_names, "all names": handle}
    given = tool("shop")(by_names) if takes == "types" else tool("shop").handler(handlers[takes]).build()

    def look(call: ToolCall) -> None:
        seen.append(call.arguments)
        for value in (call.arguments, call.raw):
            spoil(value)

    served = serve([Text("Let me see."), Calls("shop", written)], ["done"])
    side = connect(served)
    agent = side.agent({"name": "x", "tools": [given]})
    stream = agent.send_message("Go", stream=True, on_tool_call=look)
    snapshots = side.snapshots(stream)
    calls = [call for snapshot in snapshots for call in snapshot.tool_calls]
    assert seen == [written, written]
    assert {repr(call.arguments) for call in calls if call.undecoded_arguments is None} <= {"{}", repr(written)}
    assert calls[-1].arguments == written
    assert all("spoilt" not in repr(call.raw) for call in calls)


def whole_message() -> Message:
    """A message with everything in it that JSON can hold, as it is read from a server."""
    call = {
        "id": "c",
        "type": "internal",
        "status": "completed",
        "function": {"name": "finish", "arguments": {"a": [1]}},
        "data": {"b": [2]},
        "widget": {"c": [3]},
    }
    block = {"type": "text", "text": "Hello", "extra": [4]}
    return structure({"id": "m", "status": "ready", "content": [block], "tool_invocations": [call]}, Message)


CHAT: dict[str, Any] = {
    "id": "h",
    "output": {"a": [1]},
    "context": {"b": [2]},
    "active_run": {"id": "r", "output": [{"c": 3}]},
    "pending_interrupts": [{"id": "i", "meta": {"d": [4]}}],
}


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda message, _: message.raw, id="Message.raw"),
        pytest.param(lambda message, _: message.output, id="Message.output"),
        pytest.param(lambda message, _: message.content[0].raw, id="Content.raw"),
        pytest.param(lambda message, _: message.tool_calls[0].arguments, id="ToolCall.arguments"),
        pytest.param(lambda message, _: message.tool_calls[0].raw, id="ToolCall.raw"),
        pytest.param(lambda message, _: message.tool_calls[0].data, id="ToolCall.data"),
        pytest.param(lambda message, _: message.tool_calls[0].widget, id="ToolCall.widget"),
        pytest.param(lambda _, chat: chat.output, id="Chat.output"),
        pytest.param(lambda _, chat: chat.context, id="Chat.context"),
        pytest.param(lambda _, chat: chat.raw, id="Chat.raw"),
        pytest.param(lambda _, chat: chat.active_run.output, id="Run.output"),
        pytest.param(lambda _, chat: chat.pending_interrupts[0].meta, id="Interrupt.meta"),
        pytest.param(lambda _, chat: chat.pending_interrupts[0].raw, id="Interrupt.raw"),
    ],
)
def test_editing_what_was_read_from_a_model_changes_no_model(read: Callable[[Message, Chat], Any]) -> None:
    """Each reading gives a dict or list of its own, which json can write."""
    message, chat = whole_message(), structure(copy.deepcopy(CHAT), Chat)
    value = read(message, chat)
    before = json.dumps(value)
    spoil(value)
    assert json.dumps(read(message, chat)) == before
    assert (message, chat) == (whole_message(), structure(copy.deepcopy(CHAT), Chat))
    assert "spoilt" not in repr((message, chat, message.raw, chat.raw))


def test_a_model_that_copies_what_it_holds_is_an_ordinary_class_otherwise() -> None:
    """It can be compared, hashed, shown, changed into another, pickled and copied, and not be assigned to."""
    call = whole_message().tool_calls[0]
    assert pickle.loads(pickle.dumps(call)) == copy.deepcopy(call) == call  # noqa: S301 - it was written here
    assert hash(copy.deepcopy(call)) == hash(call)
    assert attrs.evolve(call, name="other").arguments == attrs.asdict(call)["arguments"] == {"a": [1]}
    assert "arguments={'a': [1]}" in repr(call)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        call.arguments = {}  # type: ignore[misc]  # what must fail
    assert (Content(ContentType.TEXT, "x").raw, Run().output, Interrupt().meta) == ({}, None, {})


def test_a_runtime_keeps_what_models_and_observers_edit(serve: Serve, connect: Connect) -> None:
    """Both are given copies; the next step's conversation is what was said."""
    sent: list[Any] = []
    served = serve([Calls("pay", {"items": [1]})], ["done"], ["again"], observer=sent.append)
    agent = (side := connect(served)).agent({"name": "x", "tools": [tool("pay").handler(lambda: "paid").build()]})
    side.result(agent.send_message("Pay"))
    spoil(next(each for each in sent if isinstance(each, SentResult)).arguments)
    spoil(past_arguments(served))
    side.result(agent.send_message("Again"))
    assert past_arguments(served) == {"items": [1]}


def past_arguments(served: Served) -> Any:
    """The arguments of the only call so far, as the model was shown them last."""
    (call,) = (call for message in served.script.asked[-1].messages for call in message.tool_calls)
    return call.arguments
