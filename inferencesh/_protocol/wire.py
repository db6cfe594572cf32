"""Decoders from the bytes of a stream, NDJSON or server-sent events, to events.

The formats are those that the official Python, JavaScript and Swift SDKs read. An NDJSON line is a JSON object
``{"event", "data", "fields"?}``, a bare object (in the response to a streamed POST), or a heartbeat. A server-sent
event carries the same in its ``event:`` and ``data:`` fields.
"""

from __future__ import annotations

import abc
import codecs
import io
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from inferencesh._text import decode_json
from inferencesh.config import MAX_LINE_BYTES
from inferencesh.errors import UnreadableError

from .lines import DeltaLines, GrownLine, LineGrowth, TextPiece

__all__ = [
    "Event",
    "EventDecoder",
    "LineSplitter",
    "NDJSONDecoder",
    "SSEDecoder",
    "SSEValues",
    "event_decoder",
    "whole_event",
]

_MAX_SHOWN = 60  # bytes of an unreadable line in an error's text
_KNOWN_EVENTS = ("delta", "chat_messages", "chats", "agent_runs")  # the most frequent first; their data is an object


class Event(TypedDict):
    """One event of a stream. A decoded NDJSON line is one without being converted.

    Attributes:
        event: ``chats``, ``chat_messages``, ``agent_runs``, ``delta``, or a name that this version does not know.
        data: The object that the event is about.
        fields: The names of the fields that ``data`` updates; absent or empty when ``data`` is the whole object.
    """

    event: str
    data: dict[str, Any]
    fields: NotRequired[Sequence[str]]


def whole_event(event: Event | GrownLine | TextPiece) -> Event:
    """Return an event as the server wrote it, also one whose line was recognized without being decoded."""
    if isinstance(event, GrownLine):
        return Event(event="chat_messages", data=event.form.data)
    if isinstance(event, tuple):
        message_id, seq, text = event
        numbered = {} if seq is None else {"seq": seq}
        return Event(event="delta", data={"delta": {"response": text}, **numbered, "resource_id": message_id})
    return event


class LineSplitter:
    """A splitter of a byte stream into lines that end at ``\\n`` and nowhere else.

    Text readers also split at U+2028 and similar characters, which may occur unescaped in JSON strings. Memory is
    bounded by ``limit``.

    Args:
        limit: The longest line, in bytes.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and return the lines that they complete, each with its line end.

        Raises:
            UnreadableError: A line is longer than the limit.
        """
        if b"\n" in data:
            lines = io.BytesIO(data).readlines()  # three to ten times as fast as ``split``
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        else:
            lines, rest = [], data
        longest = self._size + len(data)
        if lines and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if longest > self._limit and max([self._size, *(len(line) - 1 for line in lines)]) > self._limit:
            self._parts.clear()
            raise UnreadableError(f"the server sent a line of more than {self._limit} bytes")
        return lines

    def close(self) -> bytes:
        """End the stream and return what follows the last line end."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return rest


class EventDecoder(abc.ABC):
    """The base of the decoders from the bytes of a stream to events.

    Attributes:
        problems: Errors for the lines that could not be read, in order; the caller handles and clears them.

    Args:
        limit: The longest line, in bytes.
        default: The name of events whose line tells none; "" leaves such lines out.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES, default: str = "") -> None:
        self._lines = LineSplitter(limit)
        self._default = default
        self._offset = 0
        self.problems: list[UnreadableError] = []

    def feed(self, data: bytes) -> Sequence[Event | GrownLine | TextPiece]:
        """Add bytes and return the events that they complete.

        Raises:
            UnreadableError: A line or event is longer than the limit; the rest of the stream cannot be read.
        """
        return self._decode(self._lines.feed(data))

    def close(self) -> Sequence[Event | GrownLine | TextPiece]:
        """End the stream and return the event in a last line without a line end."""
        rest = self._lines.close()
        return self._decode([rest] if rest else [])

    @abc.abstractmethod
    def _decode(self, lines: list[bytes]) -> Sequence[Event | GrownLine | TextPiece]:
        """Return the events of whole lines."""

    def _report(self, error: UnreadableError, text: bytes, offset: int) -> None:
        """Add to ``problems`` that the text at ``offset`` of the stream cannot be read."""
        cut = text[:_MAX_SHOWN].rstrip(b"\n")
        self.problems.append(UnreadableError(f"unreadable at byte {offset} of the stream: {error}; it begins {cut!r}"))


class NDJSONDecoder(EventDecoder):
    """A decoder of newline-delimited JSON.

    Args:
        limit: The longest line, in bytes.
        default: As for ``EventDecoder``.
    """

    def __init__(self, limit: int = MAX_LINE_BYTES, default: str = "") -> None:
        super().__init__(limit, default)
        self._growth = LineGrowth()
        self._deltas = DeltaLines()

    def _decode(self, lines: list[bytes]) -> list[Event | GrownLine | TextPiece]:
        events: list[Event | GrownLine | TextPiece] = []
        deltas, growth = self._deltas, self._growth
        end = 0
        while end < len(lines):
            if deltas.known and (end := deltas.take(lines, end, events)) == len(lines):
                break
            line, start, end = lines[end], end, end + 1
            if growth.frame is not None and (grown := growth.take(line)) is not None:
                events.append(grown)
                continue
            try:
                value = decode_json(line, may_round=_is_delta)
                whole = type(value) is dict and len(value) == 2 and type(value.get("data")) is dict
                # Nearly every line is an event without being converted.
                event = value if whole and value.get("event") in _KNOWN_EVENTS else read_event(value, "", self._default)
            except UnreadableError as error:
                if not line.isspace():
                    self._report(error, line, self._offset + sum(map(len, lines[:start])))
                continue
            if event is not None:
                events.append(event)
                if event["event"] == "delta":
                    if deltas.learn(line, event["data"]):
                        growth.forget()
                elif event["event"] == "chat_messages" and not event.get("fields"):
                    growth.learn(line, event["data"])
        self._offset += sum(map(len, lines))
        return events


class SSEDecoder(EventDecoder):
    """A decoder of server-sent events. It ignores comments, which only keep the connection alive."""

    def __init__(self, limit: int = MAX_LINE_BYTES, default: str = "") -> None:
        super().__init__(limit, default)
        self._limit = limit
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def _decode(self, lines: list[bytes]) -> list[Event]:
        events = []
        if lines and self._offset == 0:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        for line in lines:
            # A field may also end in a bare carriage return. Splitting there is safe: JSON escapes it inside strings.
            for part in line.removesuffix(b"\n").removesuffix(b"\r").split(b"\r"):
                event = self._take(part)
                if event is not None:
                    events.append(event)
            self._offset += len(line)
        return events

    def close(self) -> Sequence[Event | GrownLine | TextPiece]:
        """End the stream and return the last event, even if the blank line after it is missing."""
        events = list(super().close())
        event = self._take(b"")
        return [*events, event] if event is not None else events

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)
            self._size += len(value) + 1  # empty lines count as well
            if self._size > self._limit + 1:
                raise UnreadableError(f"the server sent an event of more than {self._limit} bytes")
        return None

    def _dispatch(self) -> Event | None:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data, self._size = "", [], 0
        if not data or name == "heartbeat":
            return None
        name = "" if name == "message" else name
        try:
            return read_event(decode_json(data, may_round=_is_delta), name, self._default)
        except UnreadableError as error:
            if not _may_carry_anything(name):
                self._report(error, data, self._offset)
            return None


def event_decoder(content_type: str, limit: int = MAX_LINE_BYTES, default: str = "") -> EventDecoder:
    """Return a decoder for a stream's content type.

    Args:
        content_type: The ``Content-Type`` header, or "". Everything that is neither server-sent events nor HTML is read
            as NDJSON, for which servers and proxies send many content types.
        limit: The longest line, in bytes.
        default: The name of events whose line tells none.

    Raises:
        UnreadableError: It is HTML, most likely the error page of a proxy.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return SSEDecoder(limit, default)
    if media_type in {"text/html", "application/xhtml+xml"}:
        raise UnreadableError(
            f"the server answered the stream request with {media_type}; a proxy in between may have sent an error page"
        )
    return NDJSONDecoder(limit, default)


def read_event(value: object, name: str = "", default: str = "") -> Event | None:
    """Read a decoded line as an event.

    Args:
        value: The decoded JSON.
        name: The event's name if the framing carries it, else "".
        default: The name of an object that comes without one; "" finds it out from the fields of the object.

    Returns:
        The event, or None for heartbeats, null data, bare objects of an unknown kind, and unknown events whose data is
        not an object.

    Raises:
        UnreadableError: It is not a JSON object, or the data of a known event is not one.
    """
    if not isinstance(value, dict):
        raise UnreadableError(f"expected a JSON object, not {type(value).__name__}")
    inner = value.get("event")
    data: object = value
    if isinstance(inner, str) and "role" not in value:  # a bare message has a role, and may have a field of that name
        name, data = inner, value.get("data")
    elif "data" in value and value.keys() <= {"data", "fields", "id", "type", "event"}:
        data = value["data"]
    if name == "heartbeat" or data is None or (not name and value.get("type") == "heartbeat"):
        return None
    if not isinstance(data, dict):
        if _may_carry_anything(name):
            return None
        raise UnreadableError(f"the data of an event is {type(data).__name__}, not an object")
    name = name or default or _kind_of(data)
    fields = value.get("fields") if data is not value else None
    return Event(event=name, data=data, fields=_names(fields)) if name else None


def _is_delta(value: object) -> bool:
    """Whether a line is a token delta, of which only texts and small numbers are used."""
    return type(value) is dict and value.get("event") == "delta"


def _may_carry_anything(name: str) -> bool:
    """Whether an event is of a kind that this version does not know, whose data may be any value."""
    return bool(name) and name not in _KNOWN_EVENTS


def _names(fields: object) -> tuple[str, ...]:
    return tuple(field for field in fields if isinstance(field, str)) if isinstance(fields, list) else ()


def _kind_of(data: Mapping[str, object]) -> str:
    """Return the event name for a bare object from the fields that only its kind has, or ""."""
    if "role" in data:
        return "chat_messages"
    if "delta" in data:
        return "delta"
    if "active_run" in data or "agent_data" in data:
        return "chats"
    if "state" in data and "chat_id" in data:
        return "agent_runs"
    return ""


class SSEValues(SSEDecoder):
    """A decoder of server-sent events of any kind, each to a JSON value.

    An event with a name becomes the object that NDJSON has in its place, ``{"event": ..., "data": ...}``, and one
    without becomes its data.
    """

    def _dispatch(self) -> Any:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._data, self._size = "", [], 0
        if not data or name == "heartbeat":
            return None
        try:
            value = decode_json(data)
        except UnreadableError as error:
            self._report(error, data, self._offset)
            return None
        return {"event": name, "data": value} if name not in {"", "message"} else value
