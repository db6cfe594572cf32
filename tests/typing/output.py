"""What a type checker knows about structured output; mypy and pyright check this file, nothing runs it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Coroutine
from typing import Any, TypedDict, assert_type

import attrs

from inferencesh import Agent, AsyncAgent, AsyncMessageStream, Message, MessageStream


@attrs.frozen
class City:
    """An attrs class."""

    name: str
    people: int


@dataclasses.dataclass
class Order:
    """A dataclass."""

    items: list[str]


class Rating(TypedDict):
    """A TypedDict."""

    stars: int


class Size(enum.Enum):
    """An enum."""

    SMALL = "s"


async def asynchronous(agent: AsyncAgent, wants: bool) -> None:
    """The async client: a type gives an instance of it; none, or what is no class, any JSON value."""
    assert_type(await agent.run("Hi", output_type=City), City)
    assert_type(await agent.run("Hi", output_type=Order), Order)
    assert_type(await agent.run("Hi", output_type=Rating), Rating)
    assert_type(await agent.run("Hi", output_type=Size), Size)
    assert_type(await agent.run("Hi", output_type=list[int]), list[int])
    assert_type(await agent.run("Hi", output_type=dict[str, City]), dict[str, City])
    assert_type(await agent.run("Hi"), Any)
    assert_type(await agent.run("Hi", output_type=City, files=[b"x"], on_message=print), City)

    assert_type(await agent.send_message("Hi", output_type=City), Message)
    stream = agent.send_message("Hi", stream=True, output_type=City)
    assert_type(stream, AsyncMessageStream[City])
    async for message in stream:
        assert_type(message, Message)
    assert_type(await stream.get_final_output(), City)
    async with agent.send_message("Hi", stream=True, output_type=list[int]) as entered:
        assert_type(entered, AsyncMessageStream[list[int]])
        assert_type(await entered.get_final_output(), list[int])
    opened = await agent.send_message("Hi", stream=True, output_type=City)
    assert_type(await opened.get_final_output(), City)
    untyped = agent.send_message("Hi", stream=True)
    assert_type(untyped, AsyncMessageStream)
    assert_type(await untyped.get_final_output(), Any)
    either = agent.send_message("Hi", stream=wants, output_type=City)
    assert_type(either, AsyncMessageStream | Coroutine[Any, Any, Message])


def blocking(agent: Agent, wants: bool) -> None:
    """The blocking client, the same."""
    assert_type(agent.run("Hi", output_type=City), City)
    assert_type(agent.run("Hi", output_type=list[int]), list[int])
    assert_type(agent.run("Hi"), Any)
    assert_type(agent.send_message("Hi", output_type=City), Message)
    stream = agent.send_message("Hi", stream=True, output_type=City)
    assert_type(stream, MessageStream[City])
    for message in stream:
        assert_type(message, Message)
    assert_type(stream.get_final_output(), City)
    with agent.send_message("Hi", stream=True, output_type=dict[str, int]) as entered:
        assert_type(entered.get_final_output(), dict[str, int])
    assert_type(agent.send_message("Hi", stream=True), MessageStream)
    assert_type(agent.send_message("Hi", stream=wants), MessageStream | Message)


class Holder:
    """A stream stands in hints with or without its type of output."""

    plain: AsyncMessageStream
    typed: AsyncMessageStream[City]
    blocking: MessageStream | None = None


async def mistakes(agent: AsyncAgent, blocking_agent: Agent) -> None:
    """What a checker refuses."""
    print((await agent.run("Hi", output_type=City)).nam)  # type: ignore[attr-defined]  # a City has a name
    number: int = blocking_agent.run("Hi", output_type=City)  # type: ignore[assignment]  # it is a City
    stream = blocking_agent.send_message("Hi", stream=True, output_type=City)
    other: Order = stream.get_final_output()  # type: ignore[assignment]  # as above
    print(number, other)
