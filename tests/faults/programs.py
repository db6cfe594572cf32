"""Programs that tests run in a process of their own: ``python -m tests.faults.programs NAME URL``.

Each says on stdout how far it is, for the test to send a signal at the right moment; a program that goes wrong ends
with a traceback on stderr, where nothing may ever stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from inferencesh import AsyncInference, Inference, Timeout, string, tool
from inferencesh.config import Backoff

from .forms import KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

OPTIONS: dict[str, Any] = {
    "api_key": KEY,
    "timeout": Timeout(connect=5, idle=20, total=20),
    "backoff": Backoff(initial=0.01, factor=1.0, maximum=0.01),
}


def say(word: str) -> None:
    """Tell the test."""
    print(word, flush=True)


def interrupted(url: str, use: Callable[[Inference], None]) -> None:
    """Ctrl-C during ``use``; then the client must still work."""
    client = Inference(base_url=url, **OPTIONS)
    try:
        use(client)
    except KeyboardInterrupt:
        say("interrupted")
    say(client.agent("a/b").send_message("Hi").text)
    client.close()


def reading(url: str) -> None:
    """Ctrl-C while waiting for a snapshot."""

    def use(client: Inference) -> None:
        for snapshot in client.agent("a/b").send_message("Hi", stream=True):
            say(snapshot.text)

    interrupted(url, use)


def calling(url: str) -> None:
    """Ctrl-C while waiting for the reply of a plain call."""

    def use(client: Inference) -> None:
        client.agent("a/b").send_message("Hi", on_message=lambda text, _done: say(text))

    interrupted(url, use)


def in_the_body(url: str) -> None:
    """Ctrl-C in the body of the loop."""

    def use(client: Inference) -> None:
        for snapshot in client.agent("a/b").send_message("Hi", stream=True):
            say(snapshot.text)
            time.sleep(30)

    interrupted(url, use)


def in_a_tool(url: str) -> None:
    """Ctrl-C in a tool that runs on the calling thread."""

    def slow(expression: str) -> str:
        say("working")
        time.sleep(30)
        return expression

    def use(client: Inference) -> None:
        calculator = tool("calculator").param("expression", string()).handler(slow).build()
        client.agent({"name": "t", "tools": [calculator]}).send_message("Hi")

    interrupted(url, use)


def in_an_async_tool(url: str) -> None:
    """Ctrl-C while a tool runs on the background loop."""

    async def slow(expression: str) -> str:
        say("working")
        await asyncio.sleep(30)
        return expression

    def use(client: Inference) -> None:
        calculator = tool("calculator").param("expression", string()).handler(slow).build()
        client.agent({"name": "t", "tools": [calculator]}).send_message("Hi")

    interrupted(url, use)


def async_reading(url: str) -> None:
    """Ctrl-C under asyncio.run."""

    async def main() -> None:
        async with AsyncInference(base_url=url, **OPTIONS) as client:
            async for snapshot in client.agent("a/b").send_message("Hi", stream=True):
                say(snapshot.text)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        say("interrupted")


def at_any_moment(url: str) -> None:
    """A real signal raises KeyboardInterrupt at every half millisecond of a turn; in the end the client still works."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    client = Inference(base_url=url, **OPTIONS)
    client.agent("a/b").send_message("Hi")  # what is imported once is not what is tested
    for step in range(1, 61):
        with contextlib.suppress(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, step * 0.0005)
            for _ in client.agent("a/b").send_message("Hi", stream=True):
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
    say(client.agent("a/b").send_message("Hi").text)
    say("left")
    sys.stdin.readline()
    client.close()


def terminated(url: str) -> None:
    """SIGTERM that ends the program as a server's worker would."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    reading(url)


def killed(url: str) -> None:
    """SIGTERM that nobody handles."""
    reading(url)


def unclosed(url: str) -> None:
    """The program ends after a turn, with its client open."""
    client = Inference(base_url=url, **OPTIONS)
    say(client.agent("a/b").send_message("Hi").text)
    globals()["kept"] = client


def unclosed_in_a_stream(url: str) -> None:
    """The program ends in the middle of a stream that is still referenced."""
    stream = Inference(base_url=url, **OPTIONS).agent("a/b").send_message("Hi", stream=True)
    say(next(stream).text)
    globals()["kept"] = stream


def unclosed_by_an_error(url: str) -> None:
    """The program ends by SystemExit out of the body of a loop."""
    for snapshot in Inference(base_url=url, **OPTIONS).agent("a/b").send_message("Hi", stream=True):
        say(snapshot.text)
        sys.exit(0)


def unclosed_async(url: str) -> None:
    """The page's async snippet: nothing is ever closed."""

    async def main() -> None:
        client = AsyncInference(base_url=url, **OPTIONS)
        async for snapshot in client.agent("a/b").send_message("Hi", stream=True):
            say(snapshot.text)
            break

    asyncio.run(main())


def forked(url: str) -> None:
    """A fork in the middle of a stream: the child has a turn of its own, the parent's goes on to its end."""
    client = Inference(base_url=url, **OPTIONS)
    stream = client.agent("a/b").send_message("Hi", stream=True)
    say(next(stream).text)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        say("child " + client.agent("a/b").send_message("Hi").text)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    say(f"child ended {os.waitstatus_to_exitcode(status)}")
    sys.stdin.readline()
    say("parent " + stream.get_final_message().text)
    say("parent " + client.agent("a/b").send_message("Hi").text)


def forked_with_the_stream(url: str) -> None:
    """The child drops and closes what it got of the parent's stream, and cannot read it."""
    client = Inference(base_url=url, **OPTIONS)
    stream = client.agent("a/b").send_message("Hi", stream=True)
    say(next(stream).text)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        stream.close()
        del stream
        client.close()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    say(f"child ended {os.waitstatus_to_exitcode(status)}")
    sys.stdin.readline()
    say("parent " + stream.get_final_message().text)


def forked_async(url: str) -> None:
    """An async client made before the fork works in both processes."""
    client = AsyncInference(base_url=url, **OPTIONS)

    async def turn() -> str:
        return (await client.agent("a/b").send_message("Hi")).text

    say(asyncio.run(turn()))
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        say("child " + asyncio.run(turn()))
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    say(f"child ended {os.waitstatus_to_exitcode(status)}")
    say("parent " + asyncio.run(turn()))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
