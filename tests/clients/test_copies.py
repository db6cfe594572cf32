"""Copying and pickling what holds connections: a TypeError that names it, whether it is in use or not."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import inferencesh
from inferencesh import AsyncInference, AsyncMessageStream, Inference
from inferencesh._loops.loop_thread import LoopThread

from .conftest import Connect, Serve


@dataclasses.dataclass
class Holder:
    """What an application keeps its client in."""

    held: Any


COPIES: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy of what holds it": lambda thing: copy.deepcopy([{"held": thing}]),
    "asdict": lambda thing: dataclasses.asdict(Holder(thing)),
    "pickle": pickle.dumps,
    "pickle of the oldest kind": lambda thing: pickle.dumps(thing, 0),
}
PARTS: dict[str, Callable[[Any], Any]] = {
    "client": lambda client: client,
    "agent": lambda client: client.agent("a/b"),
    "stream": lambda client: client.agent("a/b").send_message("Hi", stream=True),
    "loop": lambda client: _loop(client.agent("a/b").send_message("Hi", stream=True)),
    "chats": lambda client: client.chats,
    "list": lambda client: client.chats.list(),
    "files": lambda client: client.files,
    "agents": lambda client: client.agents,
}


def _loop(stream: Any) -> Any:
    return stream.__aiter__() if isinstance(stream, AsyncMessageStream) else iter(stream)


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("way", COPIES)
def test_what_holds_connections_is_not_copied(
    serve: Serve, connect: Connect, way: str, part: str, used: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says which object it was and what to do; nothing half-made complains afterwards."""
    side = connect(serve(["Hello"]))
    if used:
        side.result(side.agent().send_message("Hi"))
    thing = PARTS[part](side.client)
    with pytest.raises(TypeError, match=rf"^{type(thing).__name__} objects cannot be copied or pickled, .*; \w+"):
        COPIES[way](thing)
    del thing
    gc.collect()
    assert capsys.readouterr().err == ""


def test_the_key_is_not_in_the_error() -> None:
    """As in no other."""
    with pytest.raises(TypeError) as caught:
        pickle.dumps(AsyncInference("inf_secret"))
    assert "inf_secret" not in str(caught.value)


def _classes() -> Iterator[type]:
    for name in inferencesh.__all__:
        thing: Any = getattr(inferencesh, name)
        if inspect.isclass(thing) and thing.__new__ is object.__new__ and not inspect.isabstract(thing):
            yield thing
    yield LoopThread


@pytest.mark.parametrize("cls", list(_classes()), ids=lambda cls: cls.__name__)
def test_an_object_that_was_never_initialised_goes_without_a_word(cls: type, recwarn: pytest.WarningsRecorder) -> None:
    """As libraries make them that copy by themselves; an error in ``__del__`` would be a warning here."""
    thing: object = object.__new__(cls)
    del thing
    gc.collect()
    assert not recwarn.list


def test_copies_of_clients_that_wrap_a_plain_one(serve: Serve) -> None:
    """Messages, which hold nothing, are copied as ever."""
    with Inference(**serve(["Hello"]).address) as client:
        message = client.agent("a/b").send_message("Hi")
    assert copy.deepcopy(message) == message
