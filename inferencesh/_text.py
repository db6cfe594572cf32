"""JSON without loss of precision, and text that is joined or decoded only when it is read.

A snapshot of a reply that arrives token by token must require neither a copy of the whole text nor the decoding of a
whole line. So it refers to a log of pieces, or to the undecoded line, until its text or ``raw`` is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from .errors import UnreadableError

__all__ = [
    "Form",
    "GrowingText",
    "TextLog",
    "UndecodedMessage",
    "block_of",
    "copied",
    "decode_json",
    "decoded",
    "encode_json",
    "safe_markdown",
    "whole_characters",
]

_BEYOND_64_BITS = float(2**63)  # orjson returns a float where an integer is outside of -2**63 to 2**64 - 1
_LONG_NUMBER = re.compile(r"\d{20,}")


def decode_json(text: bytes | str, *, strict: bool = False, may_round: Callable[[Any], bool] = lambda _: False) -> Any:
    """Decode JSON. Integers are exact; lone surrogates (half an emoji at the end of a token) become U+FFFD.

    Args:
        text: The JSON text.
        strict: Whether lone surrogates are an error instead.
        may_round: A predicate for values whose large integers nobody reads, so that they may be rounded.

    Returns:
        The value.

    Raises:
        UnreadableError: It is not JSON, or holds a number that cannot be represented, such as 1e999 or an integer of
            more digits than Python converts (4300 unless ``sys.set_int_max_str_digits`` says otherwise).
    """
    try:
        value = orjson.loads(text)
        # Checking the decoded numbers is cheaper than searching the text where strings are long.
        return value if may_round(value) or not _has_large_float(value) else json.loads(text)
    except (ValueError, RecursionError) as error:
        return _decode_exactly(text, error, strict=strict)


def encode_json(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """Encode a value as JSON; an ``orjson.Fragment`` is inserted unchanged.

    Args:
        value: The value.
        default: A function that returns a JSON value in place of any other, or raises TypeError.

    Raises:
        TypeError: The value cannot be encoded as JSON.
    """
    try:
        return orjson.dumps(value, default=default)
    except TypeError:
        exact = copied(value, _large_integer_as_text)
        return orjson.dumps(exact, default=default)


def copied(value: Any, leaf: Callable[[Any], Any] | None = None) -> Any:
    """Copy a JSON value, however deeply it is nested.

    Args:
        value: The value.
        leaf: A function that returns a replacement for each value that is neither a dict nor a list, or None.
    """
    top = [value]
    pending: list[Any] = [top]
    for holder in pending:  # it grows meanwhile
        for key, item in list(holder.items()) if isinstance(holder, dict) else enumerate(holder):
            if isinstance(item, dict | list):
                holder[key] = item.copy()
                pending.append(holder[key])
            elif leaf is not None:
                holder[key] = leaf(item)
    return top[0]


def whole_characters(text: str) -> str:
    """Return ``text`` with each lone surrogate replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _has_large_float(value: object) -> bool:
    pending = [value]
    for item in pending:  # it grows meanwhile
        kind = type(item)
        if kind is dict:
            pending.extend(item.values())  # type: ignore[attr-defined]  # mypy does not follow ``type(item)``
        elif kind is list:
            pending.extend(item)  # type: ignore[arg-type]
        elif kind is float and not -_BEYOND_64_BITS < item < _BEYOND_64_BITS:  # type: ignore[operator]
            return True
    return False


def _large_integer_as_text(value: object) -> object:
    if type(value) is not int or -(2**63) <= value < 2**64:
        return value
    try:
        return orjson.Fragment(str(value).encode())
    except ValueError as error:
        raise TypeError(f"an integer has no JSON form: {error}") from None


def _decode_exactly(text: bytes | str, refusal: Exception, *, strict: bool) -> Any:
    """Decode what orjson rejects, if it is JSON apart from lone surrogates and large integers."""
    try:
        read = json.dumps(json.loads(text), ensure_ascii=False, allow_nan=False)
        whole = whole_characters(read)
        if strict and whole != read:
            raise UnreadableError(f"not JSON: {refusal}")
        orjson.loads(_LONG_NUMBER.sub("0", whole))  # rejects what is nested too deeply to be sent again
        return json.loads(whole)
    except (ValueError, RecursionError):
        raise UnreadableError(f"not JSON: {refusal}") from None


_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^`\n]*\n(.*?)(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_SCRIPT = re.compile(r"(javascript|vbscript)(\\?:)(?=\S)", re.IGNORECASE)


def safe_markdown(text: str) -> str:
    """Return Markdown from an untrusted source without raw HTML, for a viewer that would pass that on to a browser.

    Code becomes HTML elements with every special character as an entity: in Markdown itself no character can be
    escaped inside code, and viewers differ in what they take for code.

    Args:
        text: The Markdown.
    """
    parts, end = [], 0
    for block in _FENCE.finditer(text):
        parts += [_prose(text[end : block.start()]), f"\n\n<pre><code>{_as_entities(block[2])}</code></pre>\n\n"]
        end = block.end()
    return "".join([*parts, _prose(text[end:])])


def _prose(text: str) -> str:
    parts, end = [], 0
    for span in _CODE_SPAN.finditer(text):
        parts += [_without_html(text[end : span.start()]), f"<code>{_as_entities(span[2].strip())}</code>"]
        end = span.end()
    return "".join([*parts, _without_html(text[end:])])


def _without_html(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return _SCRIPT.sub(r"\1 \2", text)  # with a space it is no link


def _as_entities(text: str) -> str:
    return re.sub(r"[^\w\s]", lambda found: f"&#{ord(found[0])};", text)


class TextLog:
    """A text that grows by pieces, and every earlier state of which can still be read.

    All snapshots of a message share one log, and each stores the length that the text had. One thread appends; any
    number of threads may read.

    Args:
        text: The initial text.

    Attributes:
        length: The length of the whole text, in characters.
    """

    __slots__ = ("_base", "_read", "length")

    _FOLD = 1024  # pieces kept before they are joined, so that memory depends on the text and not on their number

    def __init__(self, text: str = "") -> None:
        pieces: list[str] = []
        self._base = (text, pieces)  # the text up to the last fold, and the pieces since
        self._read: tuple[list[str], int, str] | None = None  # the pieces, how many of them were read, the text so far
        self.length = len(text)

    def append(self, piece: str) -> int:
        """Add a piece at the end, and return the length of the text."""
        pieces = self._base[1]
        pieces.append(piece)
        length = self.length = self.length + len(piece)
        if len(pieces) >= self._FOLD:
            self._fold()
        return length

    def read(self, length: int) -> str:
        """Return the first ``length`` characters."""
        text, pieces = self._base
        count, read = 0, self._read
        if read is not None and read[0] is pieces:
            # CPython extends a string in place if nothing else refers to it, so that reading the text after every piece
            # costs the piece and not the whole text. Another thread that reads meanwhile joins the text anew.
            self._read = None
            _, count, text = read
            del read
        if len(text) < length:
            piece = pieces[count]
            if len(text) + len(piece) < length:
                total = len(pieces)
                piece, count = "".join(pieces[count:total]), total
            else:
                count += 1  # and no further, even if more has arrived: that would have to be cut off again
            text += piece
        self._read = pieces, count, text
        return text if len(text) == length else text[:length]

    def _fold(self) -> None:
        """Join the pieces up to the last one that was read, or all of them if nobody reads along."""
        pieces, read = self._base[1], self._read
        if read is not None and read[0] is pieces and read[1] > len(pieces) // 2:
            _, count, text = read
        else:
            count, text = len(pieces), self.read(self.length)
        self._base = (text, pieces[count:])


class GrowingText:
    """The state of a log at one moment; ``str()`` reads its text.

    Args:
        log: The log.

    Attributes:
        log: The log.
        length: The length of this text, in characters.
    """

    __slots__ = ("length", "log")

    def __init__(self, log: TextLog) -> None:
        self.log = log
        self.length = log.length

    def __str__(self) -> str:
        return self.log.read(self.length)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Copy and pickle the text alone, without the log, which may have grown far beyond it."""
        return str, (str(self),)


class UndecodedMessage:
    """A line of a stream with a whole message of one block, decoded when it is first read.

    Args:
        line: The line, a JSON object with the message under ``data``.
    """

    __slots__ = ("_stored",)

    def __init__(self, line: bytes) -> None:
        # The line, then the message; one attribute, so that threads may race.
        self._stored: bytes | dict[str, Any] = line

    @property
    def data(self) -> dict[str, Any]:
        """The message."""
        stored = self._stored
        if isinstance(stored, bytes):
            stored = self._stored = decode_json(stored)["data"]
        return stored


Form = Mapping[str, Any] | UndecodedMessage


def decoded(form: Form) -> Mapping[str, Any]:
    """Return a message in wire form, decoding it if necessary."""
    return form.data if isinstance(form, UndecodedMessage) else form


def block_of(form: Form) -> Mapping[str, Any]:
    """Return the only block of an undecoded message, or a decoded block unchanged."""
    if not isinstance(form, UndecodedMessage):
        return form
    block: Mapping[str, Any] = form.data["content"][0]
    return block
