"""The two clients are one interface: same names, same arguments in the same order, same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import inferencesh
from inferencesh import (
    Agent,
    Agents,
    AsyncAgent,
    AsyncAgents,
    AsyncChats,
    AsyncEventStream,
    AsyncFiles,
    AsyncInference,
    AsyncMessageStream,
    AsyncResponseStream,
    AsyncSession,
    AsyncSessions,
    AsyncTasks,
    AsyncTaskStream,
    Chats,
    EventStream,
    Files,
    Inference,
    MessageStream,
    ResponseStream,
    Session,
    Sessions,
    Tasks,
    TaskStream,
    async_inference,
    inference,
)
from inferencesh.client import ClientOptions

PAIRS: list[tuple[type, type]] = [
    (AsyncInference, Inference),
    (AsyncAgent, Agent),
    (AsyncMessageStream, MessageStream),
    (AsyncResponseStream, ResponseStream),
    (AsyncEventStream, EventStream),
    (AsyncFiles, Files),
    (AsyncChats, Chats),
    (AsyncAgents, Agents),
    (AsyncTasks, Tasks),
    (AsyncTaskStream, TaskStream),
    (AsyncSessions, Sessions),
    (AsyncSession, Session),
]

# What the async world calls differently.
SYNC_NAMES = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
# Awaiting a stream has no blocking counterpart.
ASYNC_ALONE = {"__await__"}
# Agents and streams are made by their client, each with what it needs.
UNCOMPARED = {"__init__"}


def interface(cls: type) -> dict[str, Any]:
    """The public members of a class, and the special methods it defines, but for those that only refuse."""
    return {
        name: member
        for name, member in vars(cls).items()
        if (not name.startswith("_") or name.startswith("__"))
        and (inspect.isfunction(member) or isinstance(member, property | classmethod))
        and name not in {"__del__", "__repr__"}
        and not getattr(member, "__qualname__", "").startswith("refusing.")
    }


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults, in order."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def members() -> list[Any]:
    """Every member of every pair."""
    return [
        pytest.param(asynchronous, blocking, name, id=f"{asynchronous.__name__}.{name}")
        for asynchronous, blocking in PAIRS
        for name in interface(asynchronous)
        if name not in ASYNC_ALONE | UNCOMPARED
    ]


@pytest.mark.parametrize(("asynchronous", "blocking", "name"), members())
def test_members_take_the_same_arguments(asynchronous: type, blocking: type, name: str) -> None:
    """Every member of an async class exists in the blocking one, with the same parameters."""
    twin = interface(blocking).get(SYNC_NAMES.get(name, name))
    assert twin is not None, f"{blocking.__name__} lacks {name}"
    member = interface(asynchronous)[name]
    assert type(twin) is type(member)
    if inspect.isfunction(member):
        assert not inspect.iscoroutinefunction(twin)
        assert parameters(twin) == parameters(member)
    elif isinstance(member, classmethod):
        assert parameters(twin.__func__) == parameters(member.__func__)


def test_no_pair_is_left_out() -> None:
    """Every public class whose name begins with Async has a twin of the other kind here."""
    asynchronous = {name for name in inferencesh.__all__ if name.startswith("Async")}
    assert {(each.__name__, twin.__name__) for each, twin in PAIRS} == {
        (name, name.removeprefix("Async")) for name in asynchronous
    }


@pytest.mark.parametrize(("asynchronous", "blocking"), PAIRS, ids=lambda cls: cls.__name__)
def test_the_blocking_classes_have_nothing_more(asynchronous: type, blocking: type) -> None:
    """No member without an async twin."""
    twins = {SYNC_NAMES.get(name, name) for name in interface(asynchronous)}
    assert set(interface(blocking)) - twins == set()


def test_clients_are_made_alike() -> None:
    """Constructors have the same parameters, and so have the factories."""
    assert parameters(Inference) == parameters(AsyncInference)
    assert parameters(inference) == parameters(async_inference)
    options = [name for name, *_ in parameters(AsyncInference)]
    assert ["api_key", *ClientOptions.__annotations__] == options


@pytest.mark.parametrize(("asynchronous", "blocking"), PAIRS, ids=lambda cls: cls.__name__)
def test_both_are_documented(asynchronous: type, blocking: type) -> None:
    """A docstring on every public member of both."""
    for cls in (asynchronous, blocking):
        for name, member in interface(cls).items():
            assert name.startswith("__") or inspect.getdoc(member), f"{cls.__name__}.{name}"


def test_arguments_of_clients_are_explained_in_the_same_words() -> None:
    """The list of arguments does not drift apart."""

    def arguments(cls: type) -> str:
        return (inspect.getdoc(cls) or "").partition("Args:")[2].partition("Example:")[0]

    assert arguments(Inference) == arguments(AsyncInference)
    for name, *_ in parameters(AsyncInference):
        assert f"    {name}: " in arguments(AsyncInference)
