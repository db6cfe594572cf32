"""Messages and other models read as the dicts that the service sends, for programs that were written for dicts."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
from typing import Any

import attrs
import pytest

from inferencesh import Chat, FileRef, Interrupt, Message, ToolCall, string, tool
from inferencesh._types.codec import structure
from inferencesh.local import ToolCall as Calls
from tests.support import Gate

from .conftest import Connect, Serve

MESSAGE: dict[str, Any] = {
    "id": "m1",
    "short_id": "m1",
    "chat_id": "c1",
    "agent_run_id": "r1",
    "order": 3,
    "status": "ready",
    "role": "assistant",
    "content": [{"type": "text", "error": None, "text": "Hello", "image": None, "file": None, "tool_calls": None}],
    "tool_invocations": [
        {
            "id": "t1",
            "tool_invocation_id": "call_1",
            "type": "client",
            "status": "awaiting_input",
            "function": {"name": "look_up", "arguments": {"word": "pelican"}},
            "result": None,
            "data": None,
            "widget": None,
        }
    ],
    "task_id": None,
    "a_field_of_a_later_version": {"x": [1]},
}
CHAT = {"id": "c1", "status": "busy", "name": "A chat", "active_run": {"id": "r1", "state": "working"}, "output": 5}
INTERRUPT = {"id": "i1", "reason": "confirmation", "status": "pending", "meta": {"tool_name": "x"}, "run_id": "r1"}


@pytest.mark.parametrize(
    ("cls", "form"), [(Message, MESSAGE), (Chat, CHAT), (Interrupt, INTERRUPT)], ids=["message", "chat", "interrupt"]
)
def test_a_model_reads_as_what_the_server_sent(cls: type[Any], form: dict[str, Any]) -> None:
    """Every field, nested ones as plain dicts and lists, so that it can also be written as JSON."""
    model = structure(copy.deepcopy(form), cls)
    assert dict(model).items() >= form.items()
    assert json.loads(json.dumps(dict(model))) == dict(model)
    for name, value in form.items():
        assert model[name] == model.get(name) == value
        assert name in model
    assert set(form) <= set(model) == set(model.keys())
    assert dict(model.items()) == dict(model)
    assert list(model.values()) == list(dict(model).values())


def test_what_there_is_not_is_missing_as_in_a_dict() -> None:
    """A KeyError, or the default."""
    message = Message("m1")
    with pytest.raises(KeyError, match="colour"):
        message["colour"]
    assert "colour" not in message
    assert message.get("colour") is None
    assert message.get("colour", "red") == "red"


@pytest.mark.parametrize("model", [Message(""), Chat(), FileRef(), Interrupt(), ToolCall("", "")], ids=type)
def test_a_model_does_not_become_a_mapping(model: Any) -> None:
    """It is true also when empty, equal to no dict, has a hash and no length, and cannot be changed."""
    assert model
    assert model != dict(model)
    assert not isinstance(model, dict)
    assert isinstance(hash(model), int)
    assert not hasattr(model, "__len__")
    assert not hasattr(model, "__setitem__")
    assert not hasattr(model, "__dict__")
    assert pickle.loads(pickle.dumps(model)) == copy.deepcopy(model) == attrs.evolve(model) == model  # noqa: S301 - its own


def test_what_is_made_of_the_view_changes_nothing() -> None:
    """Editing a nested list or dict."""
    message = structure(copy.deepcopy(MESSAGE), Message)
    message["content"][0]["text"] = "changed"
    message["tool_invocations"].clear()
    message["a_field_of_a_later_version"]["x"].append(2)
    assert dict(message) == {**dict(message), **MESSAGE}


def test_the_view_of_a_snapshot_is_as_far_as_the_snapshot(serve: Serve, connect: Connect) -> None:
    """While the text grows, however the server sends it; an earlier snapshot keeps its own."""
    for updates in ("snapshots", "deltas", "both"):
        gate = Gate()
        side = connect(serve(["Hello,", gate, " world"], updates=updates))
        stream = side.agent().send_message("Hi", stream=True)
        first = side.next(stream)
        gate.open()
        snapshots = [first, *side.snapshots(stream)]
        for snapshot in snapshots:
            (block,) = snapshot["content"]
            assert (block["type"], block["text"]) == ("text", snapshot.text)
            assert (snapshot["id"], snapshot["status"]) == (snapshot.id, snapshot.status)
            assert json.dumps(dict(snapshot))
        assert (first["content"][0]["text"], snapshots[-1]["content"][0]["text"]) == ("Hello,", "Hello, world")


def test_callbacks_that_were_written_for_dicts_go_on_working(serve: Serve, connect: Connect) -> None:
    """As the official SDK calls them: on_message with each message, on_tool_call with id, name and args."""
    side = connect(serve([Calls("look_up", {"word": "pelican"})], ["A bird."]))
    agent = side.agent({"name": "tester", "tools": [tool("look_up").param("word", string()).build()]})
    seen: list[tuple[str, str]] = []
    waiting: list[Any] = []

    def on_message(message: Any) -> None:
        texts = [block["text"] for block in message.get("content") or [] if block["type"] == "text"]
        seen.append((message["status"], "".join(texts)))

    def on_tool_call(call: Any) -> None:
        waiting.append((call.id, call.name, call.args))

    reply = side.result(agent.send_message("Look it up", on_message=on_message, on_tool_call=on_tool_call))
    ((call_id, name, args),) = waiting
    assert (name, args) == ("look_up", {"word": "pelican"})
    (invocation,) = reply["tool_invocations"]
    assert (invocation["id"], invocation["status"]) == (call_id, "awaiting_input")
    assert invocation["function"] == {"name": "look_up", "arguments": {"word": "pelican"}}
    side.result(agent.submit_tool_result(call_id, "a bird"))
    side.snapshots(agent.stream_messages(on_message=on_message))
    assert seen[-1] == ("ready", "A bird.")
    assert seen.count(seen[-1]) == 1  # there is no last call with a message that was there before


def test_the_view_of_a_file_has_its_fields() -> None:
    """As an upload returns it in the official SDK."""
    made = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    file = json.loads(json.dumps(dict(FileRef(uri="https://x/y", size=3, created_at=made))))
    assert (file["uri"], file["created_at"]) == ("https://x/y", "2026-01-02T03:04:05Z")
