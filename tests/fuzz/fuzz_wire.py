"""Fuzz target for ``wire`` and ``responses``: any bytes, in any chunks, under any content type.

The only exceptions that what a server sends may lead to:

- decoding a stream: ``UnreadableError``, for a line or an event over the limit and for an HTML page; anything else that
  cannot be read is left in ``problems``, as an ``UnreadableError`` too
- reading an answer: ``APIError``, for an envelope that says that the request failed

Run it with atheris where that is installed (``python -m tests.fuzz.fuzz_wire -max_total_time=600``); otherwise it is a
search by hypothesis (``python -m tests.fuzz.fuzz_wire 100000``: so many examples). The test suite runs a short one.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferencesh._http.requests import error_from_response, read_response, retry_after
from inferencesh._protocol.lines import GrownLine
from inferencesh._protocol.wire import event_decoder
from inferencesh.errors import APIError, InferenceError, UnreadableError

__all__ = ["inputs", "one_input"]

CONTENT_TYPES = ("application/x-ndjson", "text/event-stream", "text/html", "")
STATUSES = (200, 204, 302, 400, 412, 429, 500)
LIMITS = (16, 1024, 64 * 1024 * 1024)

_WORDS = [
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b" ",
        b":",
        b",",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\u2028",
        b"\xe2\x80\xa8",
        b"\xff",
    ),
    *(b"\\ud83d", b"\\ude00", b"\xf0\x9f\x98\x80", b"null", b"true", b"NaN", b"1e999", b"-0", b"9" * 30, b"[" * 300),
    *(b"event: chats\n", b"data: {}\n\n", b"data", b"id: 1\n", b"retry: 5\n", b": beat\n", b"event: heartbeat\n"),
    b'{"event": "chats", "data": {"id": "a"}}\n',
    b'{"event": "delta", "data": {"delta": {"response": "a"}, "seq": 1, "resource_id": "m"}}\n',
    b'{"event": "chat_messages", "data": {"id": "m"}, "fields": ["status"]}\n',
    b'{"type": "heartbeat"}\n',
    b'{"success": false, "status": 404, "error": {"code": "x"}}',
    b'{"data": {"a": 1}, "messages": []}',
    b'{"type": "https://api.inference.sh/errors/x", "detail": "no", "errors": [1, {}]}',
    b"<!doctype html><html>",
]
inputs = st.binary(max_size=64) | st.lists(st.sampled_from(_WORDS) | st.binary(max_size=6), max_size=12).map(b"".join)


def one_input(data: bytes) -> None:
    """Decode one input as a stream and as an answer; raises whatever must not be raised.

    Args:
        data: The first byte chooses what it is read as and the second the chunks; the rest is what a server sent.
    """
    kind, cut, sent = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    _decode(CONTENT_TYPES[kind % 4], LIMITS[kind // 4 % 3], [sent[: cut + 1], sent[cut + 1 : 2 * cut], sent[2 * cut :]])
    _answer(STATUSES[kind % 7], {"Retry-After": sent[:40].decode("latin-1"), "Location": "https://x/y"}, sent)


def _decode(content_type: str, limit: int, chunks: list[bytes]) -> None:
    try:
        decoder = event_decoder(content_type, limit)
        events = [event for chunk in chunks for event in decoder.feed(chunk)] + list(decoder.close())
    except UnreadableError:
        return
    whole = [event for event in events if isinstance(event, dict)]
    assert {type(event) for event in events} <= {dict, GrownLine, tuple}
    assert all(event["event"] and type(event["data"]) is dict for event in whole)
    assert {type(problem) for problem in decoder.problems} <= {UnreadableError}


def _answer(status: int, headers: dict[str, str], body: bytes) -> None:
    try:
        read_response(status, headers, body)
    except APIError as error:
        _look_at(error)
    except UnreadableError as error:  # an HTML page, which a proxy has sent, or a part of JSON
        _look_at(error)
    _look_at(error_from_response(status, headers, body))
    wait = retry_after(headers)
    assert wait is None or 0 <= wait < float("inf")


def _look_at(error: InferenceError) -> None:
    """Whatever an error shows of itself can be shown."""
    assert str(error)
    assert isinstance(getattr(error, "errors", ()), tuple)


def search(examples: int) -> None:
    """Search with hypothesis for an input that raises what must not be raised."""
    quick = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    quick(given(inputs)(one_input))()


def main(arguments: list[str]) -> None:
    """Search with atheris, or with hypothesis where that is not installed."""
    if importlib.util.find_spec("atheris") is None:
        search(int(arguments[1]) if len(arguments) > 1 else 20_000)
        return
    atheris: Any = importlib.import_module("atheris")  # it has no types, and is not among the dependencies
    atheris.instrument_all()
    atheris.Setup(arguments, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
