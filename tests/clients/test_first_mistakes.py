"""What people write first and what does not work: the error says what to write instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference
from tests.faults.forms import KEY


async def awaits(thing: Any) -> None:
    """await thing."""
    await thing


async def enters(thing: Any) -> None:
    """async with thing."""
    async with thing:
        pass


async def loops(thing: Any) -> None:
    """async for _ in thing."""
    async for _ in thing:
        pass


async def enters_plainly(thing: Any) -> None:
    """with thing."""
    with thing:
        pass


async def loops_plainly(thing: Any) -> None:
    """for _ in thing."""
    for _ in thing:
        pass


async def takes_first(thing: Any) -> None:
    """thing[0]."""
    print(thing[0])


async def reads_text(thing: Any) -> None:
    """thing.text."""
    print(thing.text)


Use = Callable[[Any], Awaitable[None]]
Case = tuple[str, Use, type[Exception], str]

ASYNC: list[Case] = [
    ("client", enters_plainly, TypeError, "async with AsyncInference"),
    ("agent", awaits, TypeError, r"agent = client\.agent\(\.\.\.\)», then await its methods"),
    ("agent", loops, TypeError, r"async for message in agent\.send_message\(text, stream=True\)"),
    ("agent", loops_plainly, TypeError, r"async for message in agent\.send_message\(text, stream=True\)"),
    ("agent", enters, TypeError, r"nothing to close: write «agent = client\.agent\(\.\.\.\)»"),
    ("agent", enters_plainly, TypeError, r"nothing to close: write «agent = client\.agent\(\.\.\.\)»"),
    ("stream", loops_plainly, TypeError, "write «async for message in"),
    ("stream", enters_plainly, TypeError, "write «async with"),
    ("stream", reads_text, AttributeError, r"no attribute 'text': .*«message = await agent\.send_message"),
    ("list", awaits, TypeError, r"write «async for item in \.\.\.», or «items = \[item async for item in \.\.\.\]»"),
    ("list", loops_plainly, TypeError, "write «async for item in"),
    ("list", takes_first, TypeError, r"«items = \[item async for item in \.\.\.\]»"),
]
BLOCKING: list[Case] = [
    ("client", enters, TypeError, "write «with Inference"),
    ("agent", awaits, TypeError, "its methods need no await"),
    ("agent", loops, TypeError, r"«for message in agent\.send_message\(text, stream=True\)"),
    ("agent", loops_plainly, TypeError, r"«for message in agent\.send_message\(text, stream=True\)"),
    ("agent", enters, TypeError, r"nothing to close: write «agent = client\.agent\(\.\.\.\)»"),
    ("agent", enters_plainly, TypeError, r"nothing to close: write «agent = client\.agent\(\.\.\.\)»"),
    ("stream", awaits, TypeError, "leave «await» and «async» out"),
    ("stream", enters, TypeError, "leave «await» and «async» out"),
    ("stream", loops, TypeError, "write «for message in"),
    ("stream", reads_text, AttributeError, r"no attribute 'text': .* «message = agent\.send_message"),
    ("list", awaits, TypeError, r"write «for item in \.\.\.», or «items = list\(\.\.\.\)»"),
    ("list", loops, TypeError, "write «for item in"),
    ("list", takes_first, TypeError, r"«items = list\(\.\.\.\)»"),
]


def things(client: Any) -> dict[str, Any]:
    """A client, an agent, a stream that was not begun, and a list of which no page was read."""
    agent = client.agent("a/b")
    stream = agent.send_message("Hi", stream=True)
    return {"client": client, "agent": agent, "stream": stream, "list": client.chats.list()}


@pytest.mark.parametrize(("thing", "use", "error", "says"), ASYNC, ids=lambda value: getattr(value, "__name__", None))
async def test_the_async_client_says_what_to_write(thing: str, use: Use, error: type[Exception], says: str) -> None:
    """And nothing is sent."""
    async with AsyncInference(KEY, base_url="http://127.0.0.1:9") as client:
        with pytest.raises(error, match=says):
            await use(things(client)[thing])


@pytest.mark.parametrize(
    ("thing", "use", "error", "says"), BLOCKING, ids=lambda value: getattr(value, "__name__", None)
)
async def test_the_blocking_client_says_what_to_write(thing: str, use: Use, error: type[Exception], says: str) -> None:
    """As the async one."""
    with Inference(KEY, base_url="http://127.0.0.1:9") as client, pytest.raises(error, match=says):
        await use(things(client)[thing])


async def test_a_call_that_lacks_stream_is_a_plain_coroutine() -> None:
    """Tasks and task groups of every library take it; so its loop is refused by Python, which names the coroutine."""
    async with AsyncInference(KEY, base_url="http://127.0.0.1:9") as client:
        reply: Any = client.agent("a/b").send_message("Hi")
        with pytest.raises(TypeError, match="got coroutine"):
            await loops(reply)
        reply.close()


@pytest.mark.parametrize("cls", [AsyncInference, Inference])
def test_other_attributes_are_missing_as_ever(cls: type) -> None:
    """Without advice, and hasattr() works."""
    stream = things(cls(KEY))["stream"]
    assert not hasattr(stream, "texts")
    with pytest.raises(AttributeError, match=r"object has no attribute 'texts'$"):
        print(stream.texts)
