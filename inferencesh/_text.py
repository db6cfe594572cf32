"""The whole form of a message as a server sent it, decoded when somebody looks at it."""

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
    "LateForm",
    "TextLog",
    "block_of",
    "copied",
    "decode_json",
    "decoded",
    "encode_json",
    "whole_characters",
]

_BEYOND_64_BITS = float(2**63)  # orjson returns a float where an integer is outside of -2**63 to 2**64 - 1
_LONG_NUMBER = re.compile(r"\d{20,}")


def decode_json(text: bytes | str, *, strict: bool = False, may_round: Callable[[Any], bool] = lambda _: False) -> Any:
    """Decode JSON. Integers are exact; lone surrogates (half an emoji cut off by a token's end) become U+FFFD.

    Args:
        text: The JSON text.
        strict: Whether lone surrogates are refused instead.
        may_round: Whether nobody looks at the large integers of a value, so that it need not be searched for them.

    Returns:
        The value.

    Raises:
        UnreadableError: It is not JSON, or holds a number that cannot be represented, such as 1e999 or an integer of
            more digits than Python converts (4300 unless ``sys.set_int_max_str_digits`` says otherwise).
    """
    try:
        value = orjson.loads(text)
        # Looking at the decoded numbers costs the same however long the strings are; searching the text does not.
        return value if may_round(value) or not _has_large_float(value) else json.loads(text)
    except (ValueError, RecursionError) as error:
        return _decode_exactly(text, error, strict=strict)


def encode_json(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """Encode plain values as JSON; ``orjson.Fragment`` is taken as it stands.

    Args:
        value: The value.
        default: Returns a plain value in place of one that has no JSON form, or raises TypeError.

    Raises:
        TypeError: It holds something that has no JSON form.
    """
    try:
        return orjson.dumps(value, default=default)
    except TypeError:
        exact = copied(value, _large_integer_as_text)
        return orjson.dumps(exact, default=default)


def copied(value: Any, leaf: Callable[[Any], Any] | None = None) -> Any:
    """Copy a JSON value, however deeply it is nested.

    Args:
        value: The value; what is neither a dict nor a list is taken as it is.
        leaf: What is put in place of each value that is neither, or None.
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
    """``text`` with halves of characters replaced by U+FFFD."""
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
    """Decode what orjson refuses, if it is JSON apart from lone surrogates and the size of its integers."""
    try:
        read = json.dumps(json.loads(text), ensure_ascii=False, allow_nan=False)
        whole = whole_characters(read)
        if strict and whole != read:
            raise UnreadableError(f"not JSON: {refusal}")
        orjson.loads(_LONG_NUMBER.sub("0", whole))  # refuses what is nested too deeply to be sent again
        return json.loads(whole)
    except (ValueError, RecursionError):
        raise UnreadableError(f"not JSON: {refusal}") from None


class TextLog:
    """A text that grows by pieces, of which every earlier state stays readable at no cost until it is read.

    A snapshot of a reply that arrives token by token must not copy the whole text for each token. One log serves all
    snapshots of a message: they hold how long the text was, and it is joined when somebody asks. One thread appends;
    any number may read meanwhile, since what readers look at is replaced whole, and never changed but by appending.
    """

    __slots__ = ("_base", "_joined", "length")

    _FOLD = 1024  # pieces; what nobody reads is joined now and then, so that memory follows the text, not the pieces

    def __init__(self, text: str = "") -> None:
        pieces: list[str] = []
        self._base = (text, pieces)  # the text up to the last fold, and what was added since
        self._joined = (pieces, 0, text)  # the longest text that was read: of which pieces, how many of them
        self.length = len(text)

    def append(self, piece: str) -> None:
        """Add a piece at the end."""
        head, pieces = self._base
        pieces.append(piece)
        self.length += len(piece)
        if len(pieces) >= self._FOLD:
            self._base = (head + "".join(pieces), [])

    def read(self, length: int) -> str:
        """The first ``length`` characters."""
        head, pieces = self._base
        of, count, text = self._joined
        if of is not pieces:
            count, text = 0, head
        if len(text) < length:
            total = len(pieces)
            text += "".join(pieces[count:total])
            self._joined = (pieces, total, text)
        return text if len(text) == length else text[:length]


class GrowingText:
    """The text of a TextLog as it stood at one moment; ``str()`` reads it."""

    __slots__ = ("_length", "_log")

    def __init__(self, log: TextLog) -> None:
        self._log = log
        self._length = log.length

    def __str__(self) -> str:
        return self._log.read(self._length)

    def is_part_of(self, log: TextLog, length: int) -> bool:
        """Whether it is the first ``length`` characters of ``log``, told without reading it."""
        return self._log is log and self._length == length


class LateForm:
    """A line of a stream that is known to be the whole form of a message with one block, and has not been decoded.

    Args:
        line: The line: a JSON object with the message under ``data``.
    """

    __slots__ = ("_data", "_line")

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The message."""
        if self._data is None:
            self._data = decode_json(self._line)["data"]
            self._line = b""
        return self._data


Form = Mapping[str, Any] | LateForm


def decoded(form: Form) -> Mapping[str, Any]:
    """A message's whole form, decoded by now."""
    return form.data if isinstance(form, LateForm) else form


def block_of(form: Form) -> Mapping[str, Any]:
    """The only block of a message's late form, or a block itself."""
    if not isinstance(form, LateForm):
        return form
    block: Mapping[str, Any] = form.data["content"][0]
    return block
