"""Finds lines that say what the line before them said, with more text at the end: nearly all of a growing message's.

Such a line is compared with the one before as bytes, and only the text that is new is decoded. That costs a small part
of decoding the line, and what it costs beyond comparing grows with what is new and not with the message.

What a line may differ in is learned from two lines that were decoded: in the time of the last change, and from the
place on where the text of the earlier one ended. A later line is a grown one if it has the same bytes before that place
and behind it, and what stands between is by itself the inside of a JSON string. So nothing is assumed of how a server
writes JSON but that it writes the same things in the same way; a line that does not fit is decoded as ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
import orjson

from inferencesh._text import Form, UndecodedMessage

__all__ = ["DeltaLines", "GrownLine", "LineGrowth", "TextPiece", "text_added"]

TextPiece: TypeAlias = tuple[str, int | None, str]  # of a delta: the message's id, the number in sequence, and the text

_STAMP = re.compile(rb'"updated_at": ?"')  # quotes inside strings are escaped, so it cannot be found in a text
_STAMP_BYTES = b"0123456789-:.+TZ"
_LONGEST_STAMP = 40
_MOST_ATTEMPTS = 8  # to learn from a message's lines; then they are written in a way that this does not know


@attrs.define
class GrownLine:
    """A line that says what an earlier one said, with more text at the end.

    Attributes:
        before: The form of the message that the earlier line held.
        form: Its own form.
        added: The text that it has more.
    """

    before: Form
    form: UndecodedMessage
    added: str


class LineGrowth:
    """The lines of one stream.

    Attributes:
        frame: How the lines of a message are written, or None while ``take`` cannot tell.
    """

    __slots__ = ("_attempts", "_end", "_form", "_line", "_start", "frame")

    def __init__(self) -> None:
        self._line = b""  # the last whole form of a message
        self._form: Form | None = None  # the same, as it was handed out
        self._attempts = 0
        self.frame: _Frame | None = None
        self._start = self._end = 0  # from where on the line is repeated in the next, and where its text ends

    def take(self, line: bytes) -> GrownLine | None:
        """Take in a line.

        Args:
            line: A whole line.

        Returns:
            What it adds to the line before; None when the line has to be decoded, and given to ``learn`` if it is the
            whole form of a message.
        """
        frame, before = self.frame, self._form
        if frame is None or before is None:
            return None
        start, end = frame.bounds(line)
        same = self._line[self._start : self._end]
        text_end = start + len(same)
        if text_end >= end or not line.startswith(same, start):
            return None
        added = _string(line[text_end:end])
        if added is None:
            return None
        form = UndecodedMessage(line)
        self._line, self._form, self._start, self._end = line, form, start, end
        return GrownLine(before, form, added)

    def learn(self, line: bytes, form: dict[str, object]) -> None:
        """Take in a line that had to be decoded.

        Args:
            line: The line.
            form: The whole form of a message that it holds.
        """
        line_before, form_before = self._line, self._form
        self._line, self._form, self.frame = line, form, None
        if not isinstance(form_before, dict) or form_before.get("id") != form.get("id"):
            self._attempts = 0
        elif self._attempts < _MOST_ATTEMPTS:
            self._attempts += 1
            added = text_added(form_before, form)
            if added:
                self._compare(line_before, line, added)

    def _compare(self, before: bytes, line: bytes, added: str) -> None:
        """Learn from two lines of which the second has ``added`` to the text of the first."""
        stamp = _STAMP.search(line)
        place = _first_difference(before, line)
        head = line[: stamp.end()] if stamp is not None and stamp.end() <= place else b""
        start, start_before = (each.find(b'"', len(head)) if head else 0 for each in (line, before))
        place = start_before + _first_difference(before[start_before:], line[start:])
        tail = before[place:]  # as it was behind the shorter text
        stamp = _STAMP.search(tail)
        frame = _Frame(head, tail, b"") if stamp is None else _Frame(head, tail[: stamp.end()], _behind(tail, stamp))
        (found, end), text_end = frame.bounds(line), start + place - start_before
        if found == start and end > text_end and _string(line[text_end:end]) == added:
            self.frame, self._start, self._end = frame, start, end


@attrs.frozen
class _Frame:
    """What the lines of a message have in common, apart from its text.

    Attributes:
        head: How they begin, up to the time of the last change; empty where that does not stand before the text.
        tail: What follows on the text, up to that time if it stands behind the text.
        rest: What follows on the time then.
    """

    head: bytes
    tail: bytes
    rest: bytes

    def bounds(self, line: bytes) -> tuple[int, int]:
        """Return where a line repeats the one before from, and where its text ends; (0, 0) if it does not fit."""
        head, tail, rest, start, end = self.head, self.tail, self.rest, 0, len(line)
        if head:
            stamp = len(head)
            start = line.find(b'"', stamp, stamp + _LONGEST_STAMP)
            if start < 0 or not line.startswith(head) or line[stamp:start].strip(_STAMP_BYTES):
                return 0, 0
        if rest:
            stamp_end = end - len(rest)
            end = line.rfind(b'"', stamp_end - _LONGEST_STAMP, stamp_end) + 1
            if not line.endswith(rest) or line[end:stamp_end].strip(_STAMP_BYTES):
                return 0, 0
        return (start, end - len(tail)) if line.endswith(tail, 0, end) else (0, 0)


_SEQUENCE = re.compile(rb'"seq": ?([0-9]+)')


class DeltaLines:
    """Recognizes lines that hold the next piece of a message's text, once such a line was decoded.

    Attributes:
        known: Whether ``take`` knows what such a line looks like.
    """

    __slots__ = ("_ending", "_head", "_message_id", "_pattern", "_seq", "_start", "known")

    def __init__(self) -> None:
        self.known = False
        self._head = self._ending = self._pattern = b""
        self._start = 0
        self._message_id = ""
        self._seq: int | None = None

    def take(self, line: bytes) -> TextPiece | None:
        """Return the piece in a line; None when the line has to be decoded, and given to ``learn`` if it is a delta."""
        ending = self._ending
        if not line.endswith(ending) or not line.startswith(self._head):
            return None
        try:
            text = line[self._start : -len(ending)].decode()
        except UnicodeDecodeError:
            return None
        if (
            not text.isprintable() or text == "" or '"' in text or "\\" in text
        ):  # it may mean something else, or nothing
            return None
        seq = self._seq
        if seq is not None:
            seq = self._seq = seq + 1
            self._ending = self._pattern % (seq + 1)
        return self._message_id, seq, text

    def learn(self, line: bytes, data: Mapping[str, Any]) -> None:
        """Take in the line of a delta that had to be decoded.

        Args:
            line: The line.
            data: The event's data.
        """
        self.known = False
        delta, message_id, seq = data.get("delta"), data.get("resource_id"), data.get("seq")
        if not isinstance(delta, dict) or delta.keys() != {"response"} or not data.keys() <= _OF_A_DELTA:
            return
        text = delta["response"]
        if not isinstance(text, str) or not text.isprintable() or not isinstance(message_id, str):
            return
        quoted = b'"%b"' % text.encode()
        start = line.find(quoted) + 1
        if line.count(quoted) != 1:
            return
        rest = line[start + len(quoted) - 2 :].replace(b"%", b"%%")
        number = _SEQUENCE.search(rest)
        if seq is not None:
            if number is None or type(seq) is not int:
                return
            rest = b"%b%%d%b" % (rest[: number.start(1)], rest[number.end(1) :])
        self.known = True
        self._message_id, self._head, self._start, self._pattern = message_id, line[:start], start, rest
        self._seq = seq
        self._ending = rest % (() if seq is None else seq + 1)


_OF_A_DELTA = {"delta", "seq", "resource_id"}


def _behind(tail: bytes, stamp: re.Match[bytes]) -> bytes:
    """What follows on a time, its closing quote first."""
    return tail[tail.find(b'"', stamp.end()) :]


def _first_difference(one: bytes, other: bytes) -> int:
    """The index of the first byte in which two texts differ; found by halving, since comparing runs is what is fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _string(inside: bytes) -> str | None:
    """What a JSON string means of which this is the inside; None where it is no such thing."""
    try:
        value = orjson.loads(b'"%b"' % inside)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, str) else None


def text_added(before: dict[str, Any], data: dict[str, Any]) -> str | None:
    """What a message's only block, of text, has gained from one whole form to the next.

    Args:
        before: The earlier form.
        data: The later form; it is the same again afterwards.

    Returns:
        The text, or None when more has changed than that and the time of the last change, or less.
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
    # What may differ is set to what it was, for the comparison alone: a copy would take ten times as long.
    stamp = data.get(_ASIDE)
    block["text"], data["content"] = old_text, old_content
    if stamp is not None and _ASIDE in before:
        data[_ASIDE] = before[_ASIDE]
    try:
        same = block == old_block and data == before
    finally:
        block["text"], data["content"] = text, content
        if stamp is not None:
            data[_ASIDE] = stamp
    return text[len(old_text) :] if same and text.startswith(old_text) else None


_ASIDE = "updated_at"  # changes with every update, and says nothing else
