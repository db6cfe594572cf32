"""Message streams as HTTP responses: server-sent events and NDJSON, for the streaming response of any framework.

Also what a page needs to show them: ``render_markdown``, and the scripts and styles of a chat in ``page_files``.

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

``sse`` and ``ndjson`` return async iterators of bytes, one event in each, and import no framework. Await the stream
first, as above: then an error at the beginning can become an ordinary error response, and ``describe_error`` says with
which status.

Events, by name, with the fields of their JSON object:

- ``message``: a snapshot, the whole message so far: id, chat_id, text, delta, status, done, tool_calls, output, …
- ``done``: the end: the final message as a snapshot
- ``input_required``: a pause: the message whose tool_calls include some with "pending": true
- ``error``: the end: type, detail and status, without internals of this program

An NDJSON line has the name in the field ``event``. Keep-alives are sent between events: a comment in server-sent
events, a line with the event ``keep_alive`` in NDJSON.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeAlias

import anyio
import attrs

from ._loops.threads import hand_over, running_loop
from ._page.markdown import RenderedMarkdown, render_markdown
from ._types.encoding import dump_json
from .config import check_seconds
from .errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConflictError,
    InferenceError,
    InputRequiredError,
    NotFoundError,
    RateLimitError,
    RunFailedError,
    StreamError,
)
from .models import ContentType, Message, ToolCall, json_output
from .stream import AsyncMessageStream

__all__ = [
    "NDJSON_HEADERS",
    "PAGE_HEADERS",
    "SSE_HEADERS",
    "Problem",
    "RenderedMarkdown",
    "WebStream",
    "describe_error",
    "ndjson",
    "page_files",
    "render_markdown",
    "snapshot",
    "sse",
]

logger = logging.getLogger("inferencesh")

# no-transform and X-Accel-Buffering stop proxies from delaying events in order to compress them or to fill a buffer.
_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
SSE_HEADERS: Final[dict[str, str]] = {"Content-Type": "text/event-stream; charset=utf-8", **_HEADERS}
"""The response headers for ``sse``."""
NDJSON_HEADERS: Final[dict[str, str]] = {"Content-Type": "application/x-ndjson", **_HEADERS}
"""The response headers for ``ndjson``."""
PAGE_HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types inferencesh-markdown"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The response headers for a page made of ``page_files``: it loads and runs nothing but files of its own server."""

_PAGE_FILES = Path(__file__).parent / "_page" / "static"
_CLOSING = 10.0  # seconds that a cancelled reader waits until the stream is closed and the run stopped
_DETAIL = 500  # characters of an error's detail that a browser gets
_ATTACHED = frozenset({ContentType.IMAGE, ContentType.FILE})
_KEY = re.compile(r"\binf_[\w-]+")


def sse(stream: AsyncMessageStream, *, keep_alive: float | None = 15.0, stop_on_disconnect: bool = False) -> WebStream:
    """Turn a message stream into server-sent events.

    Args:
        stream: What ``send_message(..., stream=True)`` or ``stream_messages()`` returned; with ``conflate=True`` a
            browser that reads slowly gets the newest snapshot instead of a backlog.
        keep_alive: Seconds of silence after which a comment is sent, or None for never. Keep it short where the web
            server notices only at its next write that the browser has disconnected.
        stop_on_disconnect: Whether to stop the run on the server as well when this is closed before its last event.

    Returns:
        An async iterator of bytes. When it is closed, cancelled or dropped, the stream is closed at once.

    Raises:
        ConfigurationError: ``keep_alive`` is not a positive number.
        TypeError: ``stream`` is not a stream of the async client.

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
    """Turn a message stream into newline-delimited JSON; with the arguments, result and errors of ``sse``.

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
    """Return what a browser is shown of a message; results of tools, which may be confidential, are left out.

    Args:
        message: The message.
        paused: Whether the run waits for input. Only then are calls shown as pending: while the run goes on, they may
            be answered by a handler of this program.

    Returns:
        A new JSON-serializable dict: id, chat_id, role, text, delta, status, done, tool_calls (each with id, name,
        arguments, status, pending), attachments ("image" or "file" for each, without their addresses), output (the
        structured output as far as it is complete, as a JSON value whatever its ``output_type``; None without one).

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
        "attachments": [each.type.value for each in message.content if each.type in _ATTACHED],
        "output": json_output(message),
    }


def page_files() -> Path:
    """Return the directory of the scripts and styles of a chat page, for the static files of any framework.

    They are JavaScript modules that need no build step, and style sheets, which the guide on chat pages describes:
    messages with Markdown and tool calls, a message box with files, connections that are taken up again.

    Returns:
        The directory. It holds nothing else, so that it can be served as a whole.

    Example:
        ```python
        from fastapi import FastAPI
        from fastapi.staticfiles import StaticFiles

        app = FastAPI()
        app.mount("/parts", StaticFiles(directory=page_files()))
        print(sorted(path.name for path in page_files().glob("m*.js")))
        ```

        ```text
        ['markdown.js', 'messages.js']
        ```
    """
    return _PAGE_FILES


@attrs.frozen
class Problem:
    """An error in the form in which a browser may see it.

    Attributes:
        type: The kind of error, for programs: ``not_found``, ``conflict``, ``input_required``, ``rate_limited``,
            ``run_failed``, ``upstream_refused``, ``upstream_unreachable``, ``upstream_timeout``, ``stream_lost`` or
            ``internal_error``.
        detail: A sentence for people, without internals of this program.
        status: The HTTP status for the response.
        retry_after: Seconds after which to try again, if the service gave them, or None.

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
        """The response headers for this error: ``Retry-After``, or none."""
        return {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}

    def as_dict(self) -> dict[str, object]:
        """Return type, detail and status, for a JSON body."""
        return {"type": self.type, "detail": self.detail, "status": self.status}


def describe_error(error: BaseException) -> Problem:
    """Describe an exception for a browser, without API key, address or traceback.

    Errors of the agent service are passed on: 404 and 409 with their own status, since they are about what the browser
    asked for, all others as 502, 503 or 504, since they are between this program and the service. An exception that is
    not an ``InferenceError`` becomes a 500 without details.

    Args:
        error: The exception.

    Returns:
        The description.

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
        self._closed = True  # for __del__, until the arguments have been checked
        if not isinstance(stream, AsyncIterable) or isinstance(stream, Iterator):  # the blocking one is both
            raise TypeError(
                f"the stream must be the async client's send_message(..., stream=True) or stream_messages(), "
                f"not {type(stream).__name__}"
            )
        check_seconds("keep_alive", keep_alive, optional=True)
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
            # The task must not refer to this object, which some frameworks drop instead of closing it.
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
        if last:
            self._closed = True
        if not event:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the stream, and stop the run with ``stop_on_disconnect``. May be called more than once."""
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
    """How events are encoded."""

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
    """Put a stream's events into a queue, at most one ahead of the reader."""
    try:
        async for message in stream:
            await events.put((form.encode("message", snapshot(message)), False))
        final = await stream.get_final_message()
        paused = _waits(final)
        shown = {**snapshot(final, paused=paused), "delta": ""}  # the snapshots before had all of its text
        last = form.encode("input_required" if paused else "done", shown)
    except Exception as error:  # noqa: BLE001 - it becomes the last event, and is logged
        last = form.encode("error", _logged(error, stream.chat_id).as_dict())
    except BaseException:  # such as the cancellation by aclose(), which another task may have called
        while not events.empty():
            events.get_nowait()
        events.put_nowait((b"", True))  # ends the wait for an event
        raise
    await events.put((last, True))


def _begin_closing(reader: asyncio.Task[None] | None, stream: AsyncMessageStream, *, stop: bool) -> asyncio.Task[None]:
    """Close a stream in a task of its own, which goes on when the reader is cancelled or dropped."""
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
            logger.warning(
                "chat %s: the browser has disconnected, but the run could not be stopped: %s", stream.chat_id, error
            )


def _call(call: ToolCall, *, paused: bool) -> dict[str, object]:
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": call.status.value,
        "pending": paused and call.pending,
    }


def _waits(message: Message) -> bool:
    """Whether the turn has paused, instead of ending, with this message."""
    return message.paused or not message.done


def _logged(error: Exception, chat_id: str | None) -> Problem:
    problem = describe_error(error)
    if isinstance(error, InferenceError):
        logger.warning("chat %s: a reply ended with %s", chat_id, type(error).__name__)
    else:
        logger.error("chat %s: a reply ended with an unexpected error", chat_id, exc_info=error)
    return problem


def _safe(detail: str) -> str:
    """Return the first line of the service's text, shortened, with everything that looks like an API key masked."""
    first, _, _ = detail.strip().partition("\n")
    return _KEY.sub("***", first)[:_DETAIL]
