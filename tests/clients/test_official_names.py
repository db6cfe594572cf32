"""Methods of the official SDK's clients and agents, in both clients; ``tests/test_migrating.py`` has the names."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

import pytest

import inferencesh
from inferencesh import (
    AsyncInference,
    ConfigurationError,
    ConfigurationWarning,
    Inference,
    InferenceError,
    PendingApproval,
    UploadFileOptions,
    pending_approvals,
)
from inferencesh.local import ToolCall as Calls
from inferencesh.types import AgentNames, ClientNames
from tests.support import Gate

from .conftest import Connect, Serve
from .sides import Side

BASE64 = "aGVsbG8="
DATA = "data:text/plain;base64,aGVsbG8="


@pytest.mark.parametrize("form", ["bytes", "base64", "data", "path", "text path"])
def test_upload_file_takes_what_the_official_one_takes(
    serve: Serve, connect: Connect, tmp_path: Path, form: str
) -> None:
    """And what ``client.files.upload`` takes; the answer reads as a dict."""
    path = tmp_path / "hello.txt"
    path.write_bytes(b"hello")
    data = {"bytes": b"hello", "base64": BASE64, "data": DATA, "path": path, "text path": str(path)}[form]
    side = connect(serve(["Hello"]))
    file = side.result(side.client.upload_file(data))
    assert file["size"] == 5
    assert file["filename"] == ("hello.txt" if "path" in form else "")
    named = side.result(side.client.upload_file(data, UploadFileOptions("x.bin", "application/x-tar")))
    assert (named["filename"], named["content_type"]) == ("x.bin", "application/x-tar")


@pytest.mark.parametrize("data", ["no such file.txt", "/no/such/file", "x" * 5000, "a\0b"], ids=range(4))
def test_a_text_that_is_no_file_is_refused(serve: Serve, connect: Connect, data: str) -> None:
    """Rather than sent as what somebody may have meant."""
    side = connect(serve(["Hello"]))
    if data.startswith("x"):
        data += "!"
    with pytest.raises(InferenceError, match="neither a path that exists"):
        side.result(side.client.upload_file(data))


def test_options_that_cannot_be_sent_are_warned_of(serve: Serve, connect: Connect) -> None:
    """Instead of being dropped in silence."""
    side = connect(serve(["Hello"]))
    with pytest.warns(ConfigurationWarning, match="path and public"):
        side.result(side.client.upload_file(b"x", UploadFileOptions(public=True)))


def begin(side: Side, agent: Any) -> None:
    """Send a message and leave the turn after its first snapshot."""
    stream = agent.send_message("Hi", stream=True)
    side.next(stream)
    side.close(stream)


def test_stop_chat_ends_the_run(serve: Serve, connect: Connect) -> None:
    """And does nothing without a chat."""
    side = connect(serve(["Hello,", Gate(), " world"]))
    agent = side.agent()
    side.result(agent.stop_chat())
    begin(side, agent)
    side.result(agent.stop_chat())
    assert side.result(agent.wait()).status == "cancelled"


def test_stream_all_follows_the_turn_with_callbacks(serve: Serve, connect: Connect) -> None:
    """Until it ends; on_chat is refused with what to use instead."""
    gate = Gate()
    side = connect(serve(["Hello,", gate, " world"]))
    agent = side.agent()
    begin(side, agent)
    gate.open()
    messages: list[Any] = []
    deltas: list[Any] = []
    side.result(agent.stream_all(on_message=messages.append, on_delta=deltas.append))
    assert messages[-1]["status"] == "ready"
    assert "".join(each.delta["response"] for each in deltas) == " world"
    with pytest.raises(ConfigurationError, match="stream_events"):
        side.result(agent.stream_all(on_chat=print))


def test_stream_chat_follows_the_states_of_the_chat(serve: Serve, connect: Connect) -> None:
    """As dicts or objects; leaving it closes the connection."""
    served = serve(["Hello"])
    side = connect(served)
    agent = side.agent()
    side.result(agent.send_message("Hi"))
    stream = agent.stream_chat()
    chat: Any = side.next(stream)
    assert (chat["id"], chat.id) == (agent.chat_id, agent.chat_id)
    if side.kind == "async":
        side.close(stream)
    del stream
    gc.collect()
    served.wait_until_left()


def test_pending_approvals_of_a_chat(serve: Serve, connect: Connect) -> None:
    """As an object or a dict, with a ``meta`` of either form; of nothing there are none."""
    side = connect(serve([Calls("delete", {"path": "a"})], ["Done."]))
    config = {"name": "x", "tools": [{"name": "delete", "type": "client", "require_approval": True, "client": {}}]}
    agent = side.agent(config)
    message = side.result(agent.send_message("Delete it"))
    chat = side.result(agent.get_chat())
    (call,) = message.pending_approvals
    expected = PendingApproval(chat.pending_interrupts[0].id, call.id, chat.id, "delete", {"path": "a"})
    assert pending_approvals(chat) == pending_approvals(dict(chat)) == [expected]
    interrupt = {"id": "i1", "reason": "tool_approval", "status": "pending", "meta": '{"tool_name": "t"}'}
    ended = {**interrupt, "status": "resolved"}
    other = {**interrupt, "reason": "confirmation"}
    found = pending_approvals({"id": "c1", "pending_interrupts": [interrupt, ended, other]})
    assert found == [PendingApproval("i1", "", "c1", "t", {})]
    assert pending_approvals(None) == pending_approvals({"pending_interrupts": None}) == []


@pytest.mark.parametrize("cls", [Inference, AsyncInference])
def test_every_method_is_found_on_either_client(cls: type) -> None:
    """Bound to it, and not on its class, which has only what is documented there."""
    client = cls("inf_key")
    for thing, names in ((client, ClientNames), (client.agent("a/b"), AgentNames)):
        for name in (name for name in vars(names) if not name.startswith("_")):
            assert getattr(thing, name).__self__ is thing
            assert not hasattr(type(thing), name)
    for name in ("sockets", "live"):
        with pytest.raises(AttributeError, match=r"live sockets are not built here, see docs/migrating\.md"):
            getattr(client, name)


def test_the_module_of_types_has_the_present_names_too() -> None:
    """As the official one has; a name that neither has is an AttributeError."""
    types = importlib.import_module("inferencesh.types")
    assert types.TaskStatus is inferencesh.TaskStatus
    assert types.ChatMessageDTO is inferencesh.Message
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = types.nothing_of_the_kind
