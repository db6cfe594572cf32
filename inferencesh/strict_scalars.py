"""Single values of what a language model has written, read strictly: texts, numbers, enums, and texts that mean more.

Nothing is converted that is not what the type's JSON Schema says: no text is taken for a number, no number for a text,
and no 1 for True. Dates, times, durations, UUIDs and bytes are read from text in the one form that JSON Schema knows
for them. A whole number may come as 3.0, which JSON Schema allows, and a decimal as a number, which is how models
write prices.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import re
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .strict_problems import MismatchError, short

__all__ = ["SCALARS", "Hook"]

Hook = Callable[[Any, Any], Any]

_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


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
    if not math.isfinite(number):
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
    text = value if isinstance(value, str) else repr(value)  # never one of digits for what is no number
    if not _DECIMAL.fullmatch(text):
        raise MismatchError("a decimal number", value)
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:  # its exponent is beyond all bounds
        raise MismatchError("a decimal number", value) from None


def _written_as(form: str) -> Hook:
    """A hook for what is written as text of a certain form, which msgspec reads."""

    def hook(value: object, cls: Any) -> Any:
        import msgspec

        if not isinstance(value, str):
            raise MismatchError(form, value)
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError:
            raise MismatchError(form, value) from None

    return hook


_read_any_uuid = _written_as("a UUID")


def _read_uuid(value: object, cls: Any) -> uuid.UUID:
    read: uuid.UUID = _read_any_uuid(value, cls)
    if str(read) != str(value).lower():  # it had no hyphens
        raise MismatchError("a UUID with hyphens", value)
    return read


_read_base64 = _written_as("bytes in base64")

SCALARS: Mapping[Any, Hook] = {
    str: _read_text,
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    types.NoneType: _read_none,
    enum.Enum: _read_enum,
    decimal.Decimal: _read_decimal,
    uuid.UUID: _read_uuid,
    bytes: _read_base64,
    bytearray: _read_base64,
    memoryview: _read_base64,
    datetime.date: _written_as("a date such as 2024-01-31"),
    datetime.datetime: _written_as("a date and time such as 2024-01-31T12:00:00Z"),
    datetime.time: _written_as("a time such as 12:00:00"),
    datetime.timedelta: _written_as("a duration such as P1DT12H"),
}
