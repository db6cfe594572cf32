"""The language of scenarios: what a server answers, step by step.

A script is a sequence of steps. A mapping is one line of a stream, bytes are a piece of a body that says nothing about
where lines end, a ``Reply`` is a whole answer, and everything else is one of the steps below. A script that runs out
leaves the connection as it is: after a ``Reply`` it serves the next request, a stream stays open until the client
leaves.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import anyio
import attrs

from .forms import HEARTBEAT, Json, accepted_of, problem, task_of

if TYPE_CHECKING:
    from .connection import Exchange

NDJSON = "application/x-ndjson"
_REASONS = {200: "OK", 401: "Unauthorized", 429: "Too Many Requests", 503: "Service Unavailable"}


def encode(line: object) -> bytes:
    """A line as it travels: JSON in UTF-8, ended by a newline."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def head(status: int = 200, content_type: str = NDJSON, *, headers: Mapping[str, str] | None = None) -> bytes:
    """The head of an answer whose body follows in chunks."""
    fields = {"Content-Type": content_type, "Transfer-Encoding": "chunked"} | dict(headers or {})
    return _head(status, fields)


def _head(status: int, fields: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@attrs.frozen
class Reply:
    """A whole answer with JSON in it, in the envelope that the scenario speaks.

    Args:
        data: What the envelope holds; bytes are sent as the body, as they are.
        status: The HTTP status.
        headers: Headers besides the length and the type.
        content_type: The type of the body.
    """

    data: object
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    content_type: str = "application/json"

    def render(self, envelope: str) -> bytes:
        """The bytes of the answer."""
        body = self.data if isinstance(self.data, bytes) else encode(self._wrapped(envelope))
        fields = {"Content-Type": self.content_type, "Content-Length": str(len(body))}
        return _head(self.status, fields | dict(self.headers)) + body

    def _wrapped(self, envelope: str) -> object:
        if envelope == "v1":
            outcome = {"success": self.status < 400, "status": self.status}
            return outcome | {"error" if self.status >= 400 else "data": self.data}
        if envelope == "v2" or self.status >= 400:
            return self.data
        return {"data": self.data, "messages": []}


Step = Json | bytes | Reply | Callable[["Exchange"], Awaitable[None]]
Script = Sequence[Step]


@attrs.frozen(kw_only=True)
class Scenario:
    """What a server answers. Of several answers to one request, the last is for every further time.

    Args:
        post: Answers to ``POST /agents/run``.
        runs: Answers to ``POST /apps/run``.
        streams: What consecutive connections to the stream of the chat or task get.
        answers: Answers to other requests, by method and path. Without one, the chat and its messages are told as the
            streams have told them so far, and any other request succeeds.
        envelope: The generation of the service: v1, v2 or v3.
        head: The head of streams.
    """

    post: Sequence[Script] = ((Reply(accepted_of()),),)
    runs: Sequence[Script] = ((Reply(task_of(1)),),)
    streams: Sequence[Script] = ()
    answers: Mapping[str, Sequence[Script]] = attrs.field(factory=dict)
    envelope: str = "v3"
    head: bytes = head()


def refuse(status: int, code: str, detail: str = "no", **headers: str) -> Script:
    """An error answer; header names are given with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "application/problem+json"
    return (Reply(problem(status, code, detail), status, named, kind),)


def redirect(target: str, status: int = 307) -> Script:
    """An answer that sends the client elsewhere."""
    return (Reply(b"", status, {"Location": target}, "text/plain"),)


def page(text: str = "<h1>Bad gateway</h1>", status: int = 200) -> Script:
    """What a proxy puts in the place of an answer."""
    return (Reply(f"<!doctype html>\n<html>{text}</html>\n".encode(), status, {}, "text/html"),)


# Pieces of a body


def raw(data: bytes) -> Step:
    """Bytes of the answer itself, outside of any chunk."""

    async def step(exchange: Exchange) -> None:
        exchange.open = True
        await exchange.connection.write(data)

    return step


def bytewise(line: Json) -> Step:
    """A line whose every byte travels in a chunk and a segment of its own."""

    async def step(exchange: Exchange) -> None:
        for byte in encode(line):
            await exchange.send(bytes([byte]))
            await anyio.sleep(0.001)  # for the reader to take it; the kernel would join what lies around
        exchange.server.remember(line)

    return step


def half(line: Json, part: float = 0.5) -> bytes:
    """The beginning of a line that never comes to its end."""
    data = encode(line)
    return data[: int(len(data) * part)]


def together(*lines: Json) -> Step:
    """Several lines in one chunk."""

    async def step(exchange: Exchange) -> None:
        await exchange.send(b"".join(map(encode, lines)))
        for line in lines:
            exchange.server.remember(line)

    return step


# Waiting


def hold(name: str) -> Step:
    """Send nothing until the test calls ``server.release(name)``."""

    async def step(exchange: Exchange) -> None:
        await exchange.server.until(lambda: exchange.server.is_released(name))

    return step


def tell(name: str) -> Step:
    """Let the test, or another script, know that this point was reached: ``server.is_released(name)``."""

    async def step(exchange: Exchange) -> None:
        exchange.server.release(name)

    return step


def after(line: str, count: int = 1) -> Step:
    """Send nothing until the request named ``line`` has come ``count`` times."""

    async def step(exchange: Exchange) -> None:
        await exchange.server.until(lambda: len(exchange.server.seen(line)) >= count)

    return step


def beating(line: str, every: float = 0.1) -> Step:
    """Nothing but heartbeats until the request named ``line`` has come."""

    async def step(exchange: Exchange) -> None:
        while not exchange.server.seen(line):
            await anyio.sleep(every)
            await exchange.send(encode(HEARTBEAT))

    return step


def delay(seconds: float) -> Step:
    """Be slow."""

    async def step(exchange: Exchange) -> None:
        await anyio.sleep(seconds)

    return step


def heartbeats(count: int, every: float) -> Step:
    """Nothing but heartbeats, one every so many seconds."""

    async def step(exchange: Exchange) -> None:
        for _ in range(count):
            await anyio.sleep(every)
            await exchange.send(encode(HEARTBEAT))

    return step


async def STALL(exchange: Exchange) -> None:  # noqa: N802 (a word of the scripts' language)
    """Send nothing more until the client leaves."""
    await exchange.connection.gone()


# Ends


async def EOF(exchange: Exchange) -> None:  # noqa: N802
    """End the body as HTTP wants it; the connection can serve another request."""
    if not exchange.open:
        await exchange.connection.write(exchange.server.scenario.head)
    exchange.ended = True
    await exchange.connection.write(b"0\r\n\r\n")


async def CUT(exchange: Exchange) -> None:  # noqa: N802
    """Close the connection in the middle of the body, with a FIN."""
    await exchange.connection.die(reset=False)


async def RST(exchange: Exchange) -> None:  # noqa: N802
    """Close the connection with a RST."""
    await exchange.connection.die(reset=True)


async def HALF_CLOSE(exchange: Exchange) -> None:  # noqa: N802
    """Say with a FIN that nothing more is sent, and go on reading."""
    exchange.connection.transport.write_eof()
    await exchange.connection.gone()
