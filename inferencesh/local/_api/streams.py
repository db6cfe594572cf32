"""Streaming responses: the events of a chat as NDJSON or as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import attrs
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferencesh.local.feed import Frame, Subscription

__all__ = ["NDJSON", "SSE", "Format", "bare_messages", "bare_tasks", "choose_format", "stream"]

_logger = logging.getLogger("inferencesh.local")

_NDJSON_TYPES = {"application/x-ndjson", "application/ndjson", "application/jsonl"}


@attrs.frozen
class Format:
    """The encoding of events, and the heartbeat sent while there are none."""

    content_type: str
    encode: Callable[[Frame], bytes]
    heartbeat: bytes


def _ndjson(frame: Frame) -> bytes:
    return b'{"event":"%b","data":%b}\n' % (frame.event.encode(), frame.data)


def _sse(frame: Frame) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (frame.event.encode(), frame.data)


def _ndjson_bare(frame: Frame) -> bytes:
    """Encode the assistant's messages without the event wrapper, everything else with it."""
    if frame.message is not None and frame.message.role == "assistant":
        return frame.data + b"\n"
    return _ndjson(frame)


NDJSON = Format("application/x-ndjson", _ndjson, b'{"type":"heartbeat"}\n')
SSE = Format("text/event-stream", _sse, b": heartbeat\n\n")


def choose_format(request: web.Request) -> Format:
    """Return NDJSON if the ``Accept`` header asks for it, else server-sent events."""
    accepted = {
        each.partition(";")[0].strip().lower()
        for header in request.headers.getall("Accept", ())
        for each in header.split(",")
    }
    return NDJSON if accepted & _NDJSON_TYPES else SSE


def bare_messages(form: Format) -> Format:
    """Return the variant of a format for ``POST /agents/run``, whose NDJSON lines are the messages themselves."""
    if form is SSE:
        return SSE
    return Format(form.content_type, _ndjson_bare, form.heartbeat)


def bare_tasks(form: Format) -> Format:
    """Return the variant of a format for the streams of tasks, which hold the tasks themselves."""
    if form is SSE:
        return Format(form.content_type, lambda frame: b"data: %b\n\n" % frame.data, form.heartbeat)
    return Format(form.content_type, lambda frame: frame.data + b"\n", form.heartbeat)


class Settles(Protocol):
    """A run or a task."""

    @property
    def settled(self) -> bool:
        """Whether it has ended or is paused."""


async def stream(
    request: web.Request,
    subscription: Subscription,
    form: Format,
    heartbeat: float,
    until_settled: Settles | None = None,
) -> web.StreamResponse:
    """Send the events of a subscription until it ends or the reader disconnects.

    Args:
        request: The request to respond to.
        subscription: The source of the events.
        form: The format of the stream.
        heartbeat: Seconds without an event after which a heartbeat is sent.
        until_settled: A run or task with which the stream ends, once that has ended or is paused.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": form.content_type,
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
    )
    try:
        await response.prepare(request)
        await _send(response, subscription, form, heartbeat, until_settled)
        if subscription.cut and request.transport is not None:
            request.transport.close()  # sends what was written, but not the end of the body
            return response
        await response.write_eof()
    except ConnectionError:
        _logger.debug("The reader of a stream disconnected.")
    return response


async def _send(
    response: web.StreamResponse,
    subscription: Subscription,
    form: Format,
    heartbeat: float,
    until_settled: Settles | None,
) -> None:
    while True:
        try:
            async with asyncio.timeout(heartbeat):
                frames = await subscription.take()
        except TimeoutError:
            await response.write(form.heartbeat)
            continue
        if frames is None:
            return
        await response.write(b"".join(map(form.encode, frames)))
        if until_settled and until_settled.settled and subscription.drained:
            return
