"""Reading and writing JSON with integers of any size, which orjson alone reads as floats and refuses to write."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

from .errors import StreamError

__all__ = ["UnreadableError", "copied", "decode_json", "encode_json", "whole_characters"]

_BEYOND_64_BITS = float(2**63)  # orjson returns a float where an integer is outside of -2**63 to 2**64 - 1
_LONG_NUMBER = re.compile(r"\d{20,}")


class UnreadableError(StreamError):
    """The server sent something that cannot be read as what it should be."""


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
