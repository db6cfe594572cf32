"""Message streams as HTTP responses: server-sent events and NDJSON, for the streaming response of any framework.

Example:
    ```python
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from inferencesh import web

    app = FastAPI()


    @app.post("/chat")
    async def chat(text: str) -> StreamingResponse:
        stream = await agent.send_message(text, stream=True, conflate=True)
        return StreamingResponse(web.sse(stream), headers=web.SSE_HEADERS)
    ```

Both are async iterators of bytes, one event in each, and import no framework. Awaiting the stream first, as above, lets
what goes wrong at the beginning become an ordinary error response; `describe_error` says with which status.

Events, by name, with the fields of their JSON object:

- ``message``: a snapshot, the whole message so far: id, chat_id, text, delta, status, done, tool_calls
- ``done``: the end: the final message as a snapshot
- ``input_required``: a pause: the message whose tool_calls include some with "pending": true
- ``error``: the end: type, detail and status, which say nothing about the inside of this program

An NDJSON line carries the name as the field ``event``. In between come keep-alives: a comment in server-sent events, a
line with the event ``keep_alive`` in NDJSON.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, Self, TypeAlias

import anyio
import attrs

from ._loops.threads import hand_over, running_loop
from ._types.codec import dump_json
from .errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConfigurationError,
    ConflictError,
    InferenceError,
    InputRequiredError,
    NotFoundError,
    RateLimitError,
    RunFailedError,
    StreamError,
)
from .models import Message, ToolCall
from .stream import AsyncMessageStream

__all__ = ["NDJSON_HEADERS", "SSE_HEADERS", "Problem", "WebStream", "describe_error", "ndjson", "snapshot", "sse"]

logger = logging.getLogger("inferencesh")

# no-transform and X-Accel-Buffering keep proxies from holding events back, to compress them or to fill a buffer.
_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
SSE_HEADERS: Final[dict[str, str]] = {"Content-Type": "text/event-stream; charset=utf-8", **_HEADERS}
"""The response headers that go with ``sse``."""
NDJSON_HEADERS: Final[dict[str, str]] = {"Content-Type": "application/x-ndjson", **_HEADERS}
"""The response headers that go with ``ndjson``."""

_CLOSING = 10.0  # seconds that a cancelled reader waits for the stream to be closed and the run to be stopped
_DETAIL = 500  # characters of a detail that are passed on
_KEY = re.compile(r"\binf_[\w-]+")


def sse(stream: AsyncMessageStream, *, keep_alive: float | None = 15.0, stop_on_disconnect: bool = False) -> WebStream:
    """Turn a message stream into server-sent events.

    Args:
        stream: What ``send_message(..., stream=True)`` or ``stream_messages()`` returned; with ``conflate=True`` a
            browser that reads slowly gets the newest snapshot instead of a backlog.
        keep_alive: Seconds of silence after which a comment is sent, or None for never. Servers that notice only
            at the next write that the browser has gone need it short.
        stop_on_disconnect: Whether to end the run on the server, too, when this is closed before its last event.

    Returns:
        An async iterator of bytes. However it is left, closed, cancelled or dropped, the stream is closed at once.

    Raises:
        ConfigurationError: ``keep_alive`` is not a positive number.
        TypeError: ``stream`` is something else.

    Example:
        ```python
        stream = await agent.send_message("Hello", stream=True, conflate=True)
        async for event in sse(stream, keep_alive=10):
            print(event.decode())
        ```

        ```text
        event: message
        ...
        event: done
        ...
        ```
    """
    return WebStream(stream, _SSE, keep_alive, stop_on_disconnect=stop_on_disconnect)


def ndjson(
    stream: AsyncMessageStream, *, keep_alive: float | None = 15.0, stop_on_disconnect: bool = False
) -> WebStream:
    """Turn a message stream into newline-delimited JSON; everything else is as for ``sse``.

    Example:
        ```python
        stream = await agent.send_message("Hello", stream=True)
        async for line in ndjson(stream, stop_on_disconnect=True):
            print(line.decode())
        ```

        ```text
        {"event":"message",...
        ...{"event":"done",...
        ```
    """
    return WebStream(stream, _NDJSON, keep_alive, stop_on_disconnect=stop_on_disconnect)


def snapshot(message: Message, *, paused: bool = False) -> dict[str, object]:
    """What a browser is shown of a message; the results of tools, which may be confidential, are not part of it.

    Args:
        message: The message.
        paused: Whether the run waits for input. Only then do calls count as pending; while it goes on they may be those
            of tools that have a handler, which nobody else is to answer.

    Returns:
        A new dict that JSON can carry: id, chat_id, role, text, delta, status, done, tool_calls (each with id, name,
        arguments, status, pending).

    Example:
        ```python
        message = await agent.send_message("Hello")
        print(snapshot(message)["status"])
        ```

        ```text
        ready
        ```
    """
    return {
        "id": message.id,
        "chat_id": message.chat_id,
        "role": message.role.value,
        "text": message.text,
        "delta": message.delta,
        "status": message.status.value,
        "done": message.done,
        "tool_calls": [_call(call, paused=paused) for call in message.tool_calls],
    }


@attrs.frozen
class Problem:
    """An error as it may be told to a browser.

    Attributes:
        type: A word for programs: ``not_found``, ``conflict``, ``rate_limited``, ``run_failed``, ``upstream_refused``,
            ``upstream_unreachable``, ``upstream_timeout``, ``stream_lost`` or ``internal_error``.
        detail: A sentence for people, with nothing about the inside of this program.
        status: The HTTP status that fits.
        retry_after: Seconds after which another try makes sense, if the service said so.

    Example:
        ```python
        problem = Problem("rate_limited", "Too many requests.", 503, retry_after=2.4)
        print(problem.status, problem.headers)
        ```

        ```text
        503 {'Retry-After': '2'}
        ```
    """

    type: str
    detail: str
    status: int
    retry_after: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that go with it."""
        return {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}

    def as_dict(self) -> dict[str, object]:
        """Its fields for a JSON body."""
        return {"type": self.type, "detail": self.detail, "status": self.status}


def describe_error(error: BaseException) -> Problem:
    """Say what a browser may know of an exception: no key, no address, no traceback.

    What the agent service said is passed on: 404 and 409 with their own status, since they are about what the browser
    asked for, everything else as 502, 503 or 504, since it is between this program and the service. What is not an
    ``InferenceError`` becomes a 500 without particulars.

    Example:
        ```python
        try:
            message = await client.agent({"name": "greeter"}, chat_id="no-such-chat").send_message("Hello")
        except InferenceError as error:
            problem = describe_error(error)
            print(problem.status, problem.type)
        ```

        ```text
        404 not_found
        ```
    """
    match error:
        case RunFailedError():
            return Problem("run_failed", _safe(error.detail), 502)
        case NotFoundError():
            return Problem("not_found", _safe(error.detail), 404)
        case ConflictError():
            return Problem("conflict", _safe(error.detail), 409)
        case RateLimitError():
            return Problem("rate_limited", _safe(error.detail), 503, error.retry_after)
        case APIError():
            return Problem("upstream_refused", _safe(error.detail), 502, error.retry_after)
        case APITimeoutError():
            return Problem("upstream_timeout", "The agent service did not answer in time.", 504)
        case APIConnectionError():
            return Problem("upstream_unreachable", "The agent service could not be reached.", 502)
        case InputRequiredError():
            return Problem("input_required", "The chat waits for an approval or other input; give that first.", 409)
        case StreamError():
            return Problem("stream_lost", "The reply was lost before it was complete.", 502)
        case _:
            return Problem("internal_error", "Something went wrong in this service.", 500)


class WebStream:
    """A message stream as bytes for an HTTP response; made by ``sse`` and ``ndjson``. For one reader.

    Example:
        ```python
        events = sse(agent.send_message("Hello", stream=True))
        try:
            print(await anext(events))
        finally:
            await events.aclose()
        ```
    """

    def __init__(
        self, stream: AsyncMessageStream, form: _Form, keep_alive: float | None, *, stop_on_disconnect: bool
    ) -> None:
        self._closed = True  # until there is something to close
        if not isinstance(stream, AsyncIterable):
            raise TypeError(
                f"this needs the async client's send_message(..., stream=True) or stream_messages(), "
                f"not a {type(stream).__name__}"
            )
        if keep_alive is not None and not keep_alive > 0:
            raise ConfigurationError(f"keep_alive must be more than 0 seconds, or None for none, not {keep_alive!r}")
        self._stream = stream
        self._form = form
        self._keep_alive = keep_alive
        self._stop = stop_on_disconnect
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: _Events = asyncio.Queue(maxsize=1)
        self._reader: asyncio.Task[None] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._closed:
            raise StopAsyncIteration
        if self._reader is None:
            self._loop = asyncio.get_running_loop()
            # It must not hold this object: dropping that is one of the ways in which frameworks leave.
            self._reader = asyncio.create_task(_read(self._stream, self._form, self._events), name="inferencesh web")
        try:
            async with asyncio.timeout(self._keep_alive):
                event, last = await self._events.get()
        except TimeoutError:
            return self._form.keep_alive
        except BaseException:
            with anyio.move_on_after(_CLOSING, shield=True):
                await self.aclose()
            raise
        self._closed = last
        return event

    async def aclose(self) -> None:
        """Close the stream, and stop the run if that was asked for. May be called more than once."""
        if not self._closed:
            self._closed = True
            await asyncio.shield(_begin_closing(self._reader, self._stream, stop=self._stop))

    def __del__(self) -> None:
        if self._closed:
            return
        loop = self._loop or running_loop()
        close = partial(_begin_closing, self._reader, self._stream, stop=self._stop)
        if loop is None or not hand_over(loop, close):
            self._stream._leave()


class _Form(NamedTuple):
    """How events are written."""

    encode: Callable[[str, Mapping[str, object]], bytes]
    keep_alive: bytes


def _encode_sse(name: str, fields: Mapping[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dump_json(fields))  # JSON has no line breaks of its own


def _encode_ndjson(name: str, fields: Mapping[str, object]) -> bytes:
    return dump_json({"event": name, **fields}) + b"\n"


_SSE = _Form(_encode_sse, b": keep-alive\n\n")
_NDJSON = _Form(_encode_ndjson, _encode_ndjson("keep_alive", {}))

_Events: TypeAlias = "asyncio.Queue[tuple[bytes, bool]]"  # each with whether it is the last

_closing: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks weakly


async def _read(stream: AsyncMessageStream, form: _Form, events: _Events) -> None:
    """Put a stream's events into a queue, one ahead of the reader at the most."""
    try:
        async for message in stream:
            await events.put((form.encode("message", snapshot(message)), False))
        final = await stream.get_final_message()
        paused = _waits(final)
        shown = {**snapshot(final, paused=paused), "delta": ""}  # its text has been there before
        last = form.encode("input_required" if paused else "done", shown)
    except Exception as error:  # noqa: BLE001 - it is the reader's last event, and logged
        last = form.encode("error", _logged(error, stream.chat_id).as_dict())
    await events.put((last, True))


def _begin_closing(reader: asyncio.Task[None] | None, stream: AsyncMessageStream, *, stop: bool) -> asyncio.Task[None]:
    """Close a stream in a task of its own, which neither a cancelled nor a dropped reader takes along."""
    task = asyncio.get_running_loop().create_task(_close(reader, stream, stop=stop), name="inferencesh web close")
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    return task


async def _close(reader: asyncio.Task[None] | None, stream: AsyncMessageStream, *, stop: bool) -> None:
    finished = reader is not None and reader.done()
    if reader is not None:
        reader.cancel()
        await asyncio.wait({reader})
    await stream.aclose()
    if stop and not finished:
        try:
            await stream.stop()
        except InferenceError as error:
            logger.warning("chat %s: the reader has left, but the run could not be stopped: %s", stream.chat_id, error)


def _call(call: ToolCall, *, paused: bool) -> dict[str, object]:
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": call.status.value,
        "pending": paused and call.pending,
    }


def _waits(message: Message) -> bool:
    """Whether the turn has paused at this message."""
    return message.paused or not message.done


def _logged(error: Exception, chat_id: str | None) -> Problem:
    problem = describe_error(error)
    if isinstance(error, InferenceError):
        logger.warning("chat %s: a reply ended with %s", chat_id, type(error).__name__)
    else:
        logger.error("chat %s: a reply was ended by an unexpected error", chat_id, exc_info=error)
    return problem


def _safe(detail: str) -> str:
    """One line of what the service said, without anything that looks like an API key."""
    first, _, _ = detail.strip().partition("\n")
    return _KEY.sub("***", first)[:_DETAIL]
