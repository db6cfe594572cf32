"""Lines that only add text, recognized without decoding them as JSON.

Nearly all lines of a stream differ from the line before in little more than the text that is new. There are two kinds:

* The next delta of a message is its text between bytes that are known (``DeltaLines``).
* A whole message that has grown repeats the bytes of the line before and has more at the end of its text
  (``LineGrowth``). Only what is new is decoded, so that the cost depends on the new text and not on the message.

Neither assumes how a server writes JSON. Both learn the form of a line from lines that were decoded, and return None
for a line that does not fit, which is then decoded as usual.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import orjson

from inferencesh._text import Form, UndecodedMessage

__all__ = ["DeltaLines", "GrownLine", "LineGrowth", "TextPiece", "text_added"]

TextPiece: TypeAlias = tuple[str, int | None, str]  # a delta of text alone: the message's id, ``seq``, and the text

_UPDATED_AT = "updated_at"  # changes with every update of a message and says nothing else
_TIME = re.compile(rb'"updated_at": ?"')  # cannot match inside a string, where quotes are escaped
_TIME_BYTES = b"0123456789-:.+TZ"
_MAX_TIME_BYTES = 40
_MAX_ATTEMPTS = 8  # decoded lines of one message to learn from before its form counts as unknown
_SEQ = re.compile(rb'"seq": ?([0-9]+)')
_DELTA_KEYS = {"delta", "seq", "resource_id"}


class DeltaLines:
    """Recognizes the lines that hold the next delta of a message, once one such line was decoded.

    Attributes:
        known: Whether the form of such a line is known, so that ``take`` can be called.
    """

    __slots__ = ("_head", "_message_id", "_seq", "_tail", "_tail_format", "known")

    def __init__(self) -> None:
        self.known = False
        self._message_id = ""
        self._seq: int | None = None  # of the last delta; None where the server does not number them
        self._head = b""  # the line up to the text
        self._tail_format = b""  # the line from the end of the text, with a placeholder for ``seq``
        self._tail = b""  # the same with the ``seq`` that is due

    def take(self, lines: Sequence[bytes], start: int, pieces: list[Any]) -> int:
        """Recognize as many lines as hold the next delta.

        Args:
            lines: The lines.
            start: The index of the first line.
            pieces: The list to which a ``TextPiece`` is appended for each of them.

        Returns:
            The index of the next line, which has to be decoded (and, if it is a delta, learned from).
        """
        head, tail, tail_format, message_id, seq = (
            self._head,
            self._tail,
            self._tail_format,
            self._message_id,
            self._seq,
        )
        size, index = len(head), start
        for index in range(start, len(lines)):
            line = lines[index]
            if not line.endswith(tail) or not line.startswith(head):
                break
            try:
                text = line[size : -len(tail)].decode()
            except UnicodeDecodeError:
                break
            # Escapes, and characters that may not stand in a JSON string, are left to the JSON decoder.
            if not text or not text.isprintable() or '"' in text or "\\" in text:
                break
            if seq is not None:
                seq += 1
                tail = tail_format % (seq + 1)
            pieces.append((message_id, seq, text))
        else:
            index = len(lines)
        self._tail, self._seq = tail, seq
        return index

    def learn(self, line: bytes, data: Mapping[str, Any]) -> bool:
        """Learn the form of a delta's line that had to be decoded.

        Args:
            line: The line.
            data: The event's data.

        Returns:
            Whether such lines are recognized from now on, and were not before.
        """
        known = self.known
        self._learn(line, data)
        return self.known and not known

    def _learn(self, line: bytes, data: Mapping[str, Any]) -> None:
        message_id, seq, delta = data.get("resource_id"), data.get("seq"), data.get("delta")
        text = delta.get("response") if isinstance(delta, dict) and len(delta) == 1 else None
        if isinstance(text, str) and text.isprintable() and isinstance(message_id, str) and data.keys() <= _DELTA_KEYS:
            head, quoted, tail = line.partition(b'"%b"' % text.encode())
            if quoted:
                self._learn_form(head + b'"', b'"' + tail, data, text)
                return
        # The text is written with escapes, or there is none; what is known of other lines still holds.
        self.known = self.known and message_id == self._message_id and type(seq) is type(self._seq)
        if self.known and seq is not None:
            self._expect(seq)

    def _learn_form(self, head: bytes, tail: bytes, data: Mapping[str, Any], text: str) -> None:
        seq = data.get("seq")
        tail_format = tail.replace(b"%", b"%%")
        number = _SEQ.search(tail_format)
        if type(seq) is int and number is not None:
            tail_format = b"%b%%d%b" % (tail_format[: number.start(1)], tail_format[number.end(1) :])
        elif seq is not None:
            self.known = False
            return
        self._head, self._tail_format, self._message_id = head, tail_format, data["resource_id"]
        self._expect(seq)
        # The place of the text, and of the number, is certain if a line with others there decodes to them.
        trial = {**data, "delta": {"response": text + "."}, **({} if seq is None else {"seq": seq + 1})}
        try:
            decoded = orjson.loads(b"%b%b.%b" % (head, text.encode(), self._tail))
        except orjson.JSONDecodeError:  # the line has what only the slower decoder takes
            self.known = False
        else:
            self.known = trial in (decoded.get("data"), decoded)

    def _expect(self, seq: int | None) -> None:
        """Note the ``seq`` of a delta, None where the server does not number them."""
        self._seq = seq
        self._tail = self._tail_format % (() if seq is None else seq + 1)


@attrs.define
class GrownLine:
    """A line with a whole message that is the one of an earlier line with more text at the end.

    Attributes:
        before: The message in the earlier line.
        form: The message in this line.
        added: The text that was added.
    """

    before: Form
    form: UndecodedMessage
    added: str


class LineGrowth:
    """Recognizes the lines with a whole message that has grown, once two lines of that message were decoded.

    These show what the lines differ in: the time of the last change, and what follows the end of the earlier text. A
    later line is recognized if it has the same bytes before and after that, with the inside of a JSON string between.

    Attributes:
        frame: What the lines of the message have in common; None while that is not known.
    """

    __slots__ = ("_attempts", "_end", "_form", "_line", "_start", "frame")

    def __init__(self) -> None:
        self._line = b""  # the last line with a whole message
        self._form: Form | None = None  # the message, as it was returned
        self._start = self._end = 0  # the part of the line that the next one repeats, up to the end of the text
        self._attempts = 0
        self.frame: _Frame | None = None

    def take(self, line: bytes) -> GrownLine | None:
        """Return what a line adds to the one before, or None if it has to be decoded (and, if whole, learned from)."""
        frame, before = self.frame, self._form
        if frame is None or before is None:
            return None
        start, end = frame.bounds(line)
        same = self._line[self._start : self._end]
        text_end = start + len(same)
        if text_end >= end or not line.startswith(same, start):
            return None
        added = _decode_string(line[text_end:end])
        if added is None:
            return None
        form = UndecodedMessage(line)
        self._line, self._form, self._start, self._end = line, form, start, end
        return GrownLine(before, form, added)

    def learn(self, line: bytes, form: dict[str, object]) -> None:
        """Learn the form of a whole message's line that had to be decoded.

        Args:
            line: The line.
            form: The message that it holds.
        """
        line_before, form_before = self._line, self._form
        self._line, self._form, self.frame = line, form, None
        if not isinstance(form_before, dict) or form_before.get("id") != form.get("id"):
            self._attempts = 0
        elif self._attempts < _MAX_ATTEMPTS:
            self._attempts += 1
            added = text_added(form_before, form)
            if added:
                self._compare(line_before, line, added)

    def forget(self) -> None:
        """Discard the first line of a message that grows by deltas; if it grows as a whole too, the next is learned."""
        if self.frame is None:
            self._line, self._form = b"", None

    def _compare(self, before: bytes, line: bytes, added: str) -> None:
        """Learn the frame from two lines, the second of which adds ``added`` to the text."""
        time = _TIME.search(line)
        place = _first_difference(before, line)
        head = line[: time.end()] if time is not None and time.end() <= place else b""
        start, start_before = (each.find(b'"', len(head)) if head else 0 for each in (line, before))
        place = start_before + _first_difference(before[start_before:], line[start:])
        tail = before[place:]
        time = _TIME.search(tail)
        frame = _Frame(head, tail, b"")
        if time is not None:
            frame = _Frame(head, tail[: time.end()], tail[tail.find(b'"', time.end()) :])
        (found, end), text_end = frame.bounds(line), start + place - start_before
        if found == start and end > text_end and _decode_string(line[text_end:end]) == added:
            self.frame, self._start, self._end = frame, start, end


@attrs.frozen
class _Frame:
    """What the lines of a message have in common, apart from the text.

    Attributes:
        head: Their beginning, up to the time of the last change; empty where that does not come before the text.
        tail: What follows the text: up to the time where that comes after the text, else all the rest.
        rest: What follows the time then.
    """

    head: bytes
    tail: bytes
    rest: bytes

    def bounds(self, line: bytes) -> tuple[int, int]:
        """Return the part of a line from the end of ``head`` to the end of the text; (0, 0) if it does not fit."""
        head, tail, rest, start, end = self.head, self.tail, self.rest, 0, len(line)
        if head:
            time = len(head)
            start = line.find(b'"', time, time + _MAX_TIME_BYTES)
            if start < 0 or not line.startswith(head) or line[time:start].strip(_TIME_BYTES):
                return 0, 0
        if rest:
            time_end = end - len(rest)
            end = line.rfind(b'"', time_end - _MAX_TIME_BYTES, time_end) + 1
            if not line.endswith(rest) or line[end:time_end].strip(_TIME_BYTES):
                return 0, 0
        return (start, end - len(tail)) if line.endswith(tail, 0, end) else (0, 0)


def _first_difference(one: bytes, other: bytes) -> int:
    """Return the index of the first byte that differs; a binary search, since comparing slices runs in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _decode_string(inside: bytes) -> str | None:
    """Return the value of a JSON string of which this is the inside, or None if it is not one."""
    try:
        value = orjson.loads(b'"%b"' % inside)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, str) else None


def text_added(before: dict[str, Any], data: dict[str, Any]) -> str | None:
    """Return the text that a message's only block has gained from one whole form to the next.

    Args:
        before: The earlier form.
        data: The later form. It is changed for the comparison and restored.

    Returns:
        The text, or None if anything else has changed but the time of the last change.
    """
    content, old_content = data.get("content"), before.get("content")
    if type(content) is not list or type(old_content) is not list or not len(content) == len(old_content) == 1:
        return None
    block, old_block = content[0], old_content[0]
    if type(block) is not dict or type(old_block) is not dict or block.get("type", "text") != "text":
        return None
    text, old_text = block.get("text"), old_block.get("text")
    if type(text) is not str or type(old_text) is not str or len(text) <= len(old_text):
        return None
    # For the comparison what may differ is set to its earlier value: copying would take ten times as long.
    time = data.get(_UPDATED_AT)
    block["text"], data["content"] = old_text, old_content
    if time is not None and _UPDATED_AT in before:
        data[_UPDATED_AT] = before[_UPDATED_AT]
    try:
        same = block == old_block and data == before
    finally:
        block["text"], data["content"] = text, content
        if time is not None:
            data[_UPDATED_AT] = time
    return text[len(old_text) :] if same and text.startswith(old_text) else None
