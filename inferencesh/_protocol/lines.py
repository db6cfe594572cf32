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
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import attrs
import orjson

from inferencesh._text import Form, LateForm

__all__ = ["LineGrowth", "text_added", "without_superseded"]

# The head of a line, as far as the message's id; a server that orders its keys otherwise has every line decoded.
_HEAD = re.compile(rb'\{"event":"chat_messages","data":\{"id":"[^"\\]{1,64}"')
_PENDING = b'"status":"pending"'
# Of calls as well as of messages: what is final or waits may matter on its own, an update of single fields always.
_MATTERS = (b'"ready"', b'"failed"', b'"cancelled"', b'"completed"', b'"awaiting_', b'"in_progress"', b'"fields"')


def without_superseded(lines: list[bytes]) -> Iterator[bytes]:
    """The lines of one read, with b"" in the place of each that the next replaces.

    Args:
        lines: Whole lines of NDJSON, in order.
    """
    for line, following in pairwise([*lines, b""]):
        yield b"" if _is_superseded(line, following) else line


def _is_superseded(line: bytes, following: bytes) -> bool:
    head = _HEAD.match(line)
    if head is None or not following.startswith(head[0]):
        return False
    return _PENDING in line and not any(pattern in line for pattern in _MATTERS)


_STAMP = re.compile(rb'"updated_at": ?"')  # quotes inside strings are escaped, so it cannot be found in a text
_STAMP_BYTES = b"0123456789-:.+TZ"
_LONGEST_STAMP = 40
_MOST_ATTEMPTS = 8  # to learn from a message's lines; then they are written in a way that this does not know


class LineGrowth:
    """The lines of one stream."""

    __slots__ = ("_attempts", "_end", "_form", "_frame", "_line", "_start")

    def __init__(self) -> None:
        self._line = b""  # the last whole form of a message
        self._form: Form | None = None  # the same, as it was handed out
        self._attempts = 0
        self._frame: _Frame | None = None  # what its lines have in common, where that has been learned
        self._start = self._end = 0  # from where on the line is repeated in the next, and where its text ends

    @property
    def has_learned(self) -> bool:
        """Whether it is known how the lines of a message are written, so that ``take`` may find one."""
        return self._frame is not None

    def take(self, line: bytes) -> tuple[Form, LateForm, str] | None:
        """Take in a line.

        Args:
            line: A whole line.

        Returns:
            The form of the message before, its new form and the text that it has more; None when the line has to be
            decoded, and given to ``learn`` if it is the whole form of a message.
        """
        frame, before = self._frame, self._form
        if frame is None or before is None:
            return None
        start, end = frame.start(line), frame.end(line)
        same = self._line[self._start : self._end]
        text_end = start + len(same)
        if start < 0 or text_end >= end or not line.startswith(same, start):
            return None
        added = _string(line[text_end:end])
        if added is None:
            return None
        form = LateForm(line)
        self._line, self._form, self._start, self._end = line, form, start, end
        return before, form, added

    def learn(self, line: bytes, form: dict[str, object]) -> None:
        """Take in a line that had to be decoded.

        Args:
            line: The line.
            form: The whole form of a message that it holds.
        """
        line_before, form_before = self._line, self._form
        self._line, self._form, self._frame = line, form, None
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
        end, text_end = frame.end(line), start + place - start_before
        if frame.start(line) == start and end > text_end and _string(line[text_end:end]) == added:
            self._frame, self._start, self._end = frame, start, end


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

    def start(self, line: bytes) -> int:
        """From where on a line is repeated in the next; -1 where it is not of this frame."""
        head = self.head
        if not head:
            return 0
        start = len(head)
        end = line.find(b'"', start, start + _LONGEST_STAMP)
        return end if line.startswith(head) and not line[start:end].strip(_STAMP_BYTES) else -1

    def end(self, line: bytes) -> int:
        """Where a line's text ends; -1 where it is not of this frame."""
        tail, rest, end = self.tail, self.rest, len(line)
        if rest:
            end -= len(rest)
            start = line.rfind(b'"', end - _LONGEST_STAMP, end) + 1
            if not line.endswith(rest) or line[start:end].strip(_STAMP_BYTES):
                return -1
            end = start
        return end - len(tail) if line.endswith(tail, 0, end) else -1


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
