"""Answers that stay open: a chat's events as NDJSON or as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferencesh.local.chats import Run
    from inferencesh.local.feed import Frame, Subscription

__all__ = ["NDJSON", "SSE", "Format", "bare_messages", "choose_format", "stream"]

_logger = logging.getLogger("inferencesh.local")

_NDJSON_TYPES = {"application/x-ndjson", "application/ndjson", "application/jsonl"}


@frozen
class Format:
    """How events are written, and what is sent when there are none."""

    content_type: str
    encode: Callable[[Frame], bytes]
    heartbeat: bytes


def _ndjson(frame: Frame) -> bytes:
    return b'{"event":"%b","data":%b}\n' % (frame.event.encode(), frame.data)


def _sse(frame: Frame) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (frame.event.encode(), frame.data)


def _ndjson_bare(frame: Frame) -> bytes:
    """Write the assistant's messages without a wrapping, everything else with one."""
    if frame.message is not None and frame.message.role == "assistant":
        return frame.data + b"\n"
    return _ndjson(frame)


NDJSON = Format("application/x-ndjson", _ndjson, b'{"type":"heartbeat"}\n')
SSE = Format("text/event-stream", _sse, b": heartbeat\n\n")


def choose_format(request: web.Request) -> Format:
    """Return NDJSON to those who ask for it, else server-sent events."""
    accepted = {
        each.partition(";")[0].strip().lower()
        for header in request.headers.getall("Accept", ())
        for each in header.split(",")
    }
    return NDJSON if accepted & _NDJSON_TYPES else SSE


def bare_messages(form: Format) -> Format:
    """Return the format of a streamed `POST /agents/run`, whose NDJSON lines are the messages themselves."""
    if form is SSE:
        return SSE
    return Format(form.content_type, _ndjson_bare, form.heartbeat)


async def stream(
    request: web.Request,
    subscription: Subscription,
    form: Format,
    heartbeat: float,
    until_settled: Run | None = None,
) -> web.StreamResponse:
    """Send a subscription's events until it ends or the reader leaves.

    Args:
        request: The request to answer.
        subscription: Where the events come from.
        form: How they are written.
        heartbeat: Seconds of silence after which a heartbeat is sent.
        until_settled: End once this run is over or waits for input, instead of staying open.
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
            request.transport.close()  # what was written is still sent, but not the end of the body
            return response
        await response.write_eof()
    except ConnectionError:
        _logger.debug("The reader of a stream has left.")
    return response


async def _send(
    response: web.StreamResponse,
    subscription: Subscription,
    form: Format,
    heartbeat: float,
    until_settled: Run | None,
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
