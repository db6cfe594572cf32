"""Single values of what a language model has written, read strictly: texts, numbers, enums, and texts that mean more.

Nothing is converted that is not what the type's JSON Schema says: no text is taken for a number, no number for a text,
and no 1 for True. Dates, UUIDs, decimals and bytes (in base64) are read from text, and a whole number may come as 3.0.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import functools
import math
import reprlib
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .output_schema import type_name

__all__ = ["SCALARS", "Hook", "MismatchError", "short"]

Hook = Callable[[Any, Any], Any]

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 60
_shortened.maxlevel = 2


def short(value: object) -> str:
    """A value's repr, cut where it is long."""
    return _shortened.repr(value)


class MismatchError(ValueError):
    """A value is not of the type it should be of."""

    def __init__(self, expected: Any, value: object) -> None:
        name = expected if isinstance(expected, str) else type_name(expected)
        super().__init__(f"expected {name}, got {short(value)}")


def _read_text(value: object, cls: Any) -> Any:
    if issubclass(cls, enum.Enum):  # an enum of strings is found here as well
        return _read_enum(value, cls)
    if not isinstance(value, str):
        raise MismatchError(cls, value)
    return value


def _read_int(value: object, cls: Any) -> Any:
    if issubclass(cls, enum.Enum):
        return _read_enum(value, cls)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MismatchError(cls, value)
    return value


def _read_float(value: object, cls: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MismatchError(cls, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise MismatchError(cls, value)
    return number


def _read_bool(value: object, cls: Any) -> bool:
    if not isinstance(value, bool):
        raise MismatchError(cls, value)
    return value


def _read_none(value: object, cls: Any) -> None:
    if value is not None:
        raise MismatchError(cls, value)


def _read_enum(value: object, cls: Any) -> Any:
    expected = f"one of {short([member.value for member in cls])[1:-1]}"
    if isinstance(value, bool):  # equal to 0 or 1
        raise MismatchError(expected, value)
    try:
        return cls(value)
    except ValueError:
        raise MismatchError(expected, value) from None


def _read_decimal(value: object, _: object) -> decimal.Decimal:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return decimal.Decimal(str(value))
        except decimal.InvalidOperation:
            raise MismatchError("a decimal number", value) from None
    raise MismatchError("a decimal number", value)


def _written_as(form: str, read: Callable[[str], Any]) -> Hook:
    """A hook for what is written as text of a certain form."""

    def hook(value: object, _: object) -> Any:
        if isinstance(value, str):
            try:
                return read(value)
            except ValueError:
                raise MismatchError(form, value) from None
        raise MismatchError(form, value)

    return hook


def _read_duration(text: str) -> datetime.timedelta:
    import msgspec

    return msgspec.convert(text, datetime.timedelta)  # its ValidationError is a ValueError


SCALARS: Mapping[Any, Hook] = {
    str: _read_text,
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    types.NoneType: _read_none,
    enum.Enum: _read_enum,
    decimal.Decimal: _read_decimal,
    uuid.UUID: _written_as("a UUID", uuid.UUID),
    bytes: _written_as("bytes in base64", functools.partial(base64.b64decode, validate=True)),
    datetime.date: _written_as("a date (ISO 8601)", datetime.date.fromisoformat),
    datetime.datetime: _written_as("a date and time (ISO 8601)", datetime.datetime.fromisoformat),
    datetime.time: _written_as("a time (ISO 8601)", datetime.time.fromisoformat),
    datetime.timedelta: _written_as("a duration (ISO 8601)", _read_duration),
}
