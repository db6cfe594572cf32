"""The errors of reading JSON as Python types, and the readers of values that are written as one string or number.

Outputs of agents and arguments of tool calls are read here. Unlike ``codec.py``, which reads the service's own
responses leniently, this converts nothing: a string is not accepted for a list.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import math
import re
import reprlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from inferencesh.errors import exception_text

from .hints import type_name

__all__ = ["SCALARS", "MismatchError", "Scalar", "gathered", "problems_of", "same_json", "short", "told"]

_MOST_SHOWN = 300  # characters of one problem
_MOST_TOLD = 5  # problems of one value

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 60
_shortened.maxlevel = 2


def short(value: object) -> str:
    """Return the repr of a value, shortened if it is long."""
    return _shortened.repr(value)


class MismatchError(ValueError):
    """A value that does not fit a type.

    Args:
        problems: The place and the text of each problem. A place is "" for the value itself, or the path of a part as
            it is written in code: ``.address.zip``, ``[0]``, ``['key']``.
        expected: The type, if the value is of another kind altogether; "" otherwise.
    """

    def __init__(self, problems: Iterable[tuple[str, str]], expected: str = "") -> None:
        self.problems = list(problems)
        self.expected = expected
        super().__init__(self.problems, expected)

    def __str__(self) -> str:
        return told(self)

    @classmethod
    def of(cls, expected: Any, value: object) -> MismatchError:
        """Return the error for a value of another kind; ``expected`` is the type or its description."""
        name = expected if isinstance(expected, str) else type_name(expected)
        return cls([("", f"expected {name}, got {short(value)}")], name)


def problems_of(error: BaseException) -> list[tuple[str, str]]:
    """Return the problems that an exception tells of; one of a class's own code has no place."""
    if isinstance(error, MismatchError):
        return error.problems
    # The validators of attrs give the attribute and the value beside the text.
    said = error.args[0] if len(error.args) > 1 and isinstance(error.args[0], str) else exception_text(error)
    return [("", said.partition("\n")[0] or type(error).__name__)]


def told(error: BaseException, root: str = "") -> str:
    """Return the problems of a value as one line; only the first ones if there are many.

    Args:
        error: The exception raised by reading it.
        root: The name of the value, with which the path of each place begins.
    """
    found = problems_of(error)
    shown = []
    for place, text in found[:_MOST_TOLD]:
        path = root + place if root else place.removeprefix(".")
        shown.append(_cut(f"{path}: {text}" if path else text))
    rest = f" (and {len(found) - _MOST_TOLD} more)" if len(found) > _MOST_TOLD else ""
    return "; ".join(shown) + rest


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def gathered(parts: Iterable[tuple[str, Callable[[], Any]]]) -> list[Any]:
    """Read the parts of a value, and raise all their problems together.

    Args:
        parts: The place of each part, and a function that reads it.
    """
    read, problems = [], []
    for place, read_part in parts:
        try:
            read.append(read_part())
        except Exception as error:  # noqa: BLE001 - raised together with the others
            problems += [(place + inner, text) for inner, text in problems_of(error)]
    if problems:
        raise MismatchError(problems)
    return read


def same_json(one: object, other: object) -> bool:
    """Whether two scalars are the same value in JSON, where true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


@attrs.frozen
class Scalar:
    """How a type is written as a JSON string or number.

    Attributes:
        schema: Its JSON Schema.
        read: Returns the value for a JSON value; raises MismatchError or ValueError.
        expected: What is expected, for errors; "" for the type's name.
        trait: What constraints apply to: ``number``, ``decimal``, ``text``, ``bytes``, ``order`` or "".
    """

    schema: dict[str, Any]
    read: Callable[[Any], Any]
    expected: str = ""
    trait: str = ""


_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_DATE = r"(\d{4})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))?"
_DATE_FORM = re.compile(_DATE, re.ASCII)
_TIME_FORM = re.compile(_TIME, re.ASCII)
_DATETIME_FORM = re.compile(rf"{_DATE}[Tt ]{_TIME}", re.ASCII)
_DURATION = re.compile(
    r"([+-])?P(?=[\dT])(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d+))?S)?)?", re.ASCII
)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MismatchError.of(str, value)
    return value


def _integer(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MismatchError.of(int, value)
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MismatchError.of(float, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise MismatchError.of(float, value)
    return number


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise MismatchError.of(bool, value)
    return value


def _null(value: object) -> None:
    if value is not None:
        raise MismatchError.of("None", value)


def _decimal(value: object) -> decimal.Decimal:
    text = value if isinstance(value, str) else repr(value)  # the repr of other types does not match
    if not _DECIMAL.fullmatch(text):
        raise ValueError
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:  # the exponent is out of range
        raise ValueError from None


def _matched(form: re.Pattern[str], value: object) -> list[str | None]:
    found = form.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError
    return list(found.groups())


def _date(value: object) -> datetime.date:
    year, month, day = _matched(_DATE_FORM, value)
    return datetime.date(int(year or 0), int(month or 0), int(day or 0))


def _time(value: object) -> datetime.time:
    return _time_of(_matched(_TIME_FORM, value))


def _datetime(value: object) -> datetime.datetime:
    year, month, day, *time = _matched(_DATETIME_FORM, value)
    return datetime.datetime.combine(datetime.date(int(year or 0), int(month or 0), int(day or 0)), _time_of(time))


def _time_of(parts: list[str | None]) -> datetime.time:
    hour, minute, second, fraction, utc, sign, hours, minutes = parts
    zone: datetime.tzinfo | None = datetime.UTC if utc else None
    if hours is not None:
        if int(hours) > 23 or int(minutes or 0) > 59:
            raise ValueError
        offset = datetime.timedelta(hours=int(hours), minutes=int(minutes or 0))
        zone = datetime.timezone(-offset if sign == "-" else offset) if offset else datetime.UTC
    return datetime.time(int(hour or 0), int(minute or 0), int(second or 0), _microseconds(fraction), zone)


def _microseconds(fraction: str | None) -> int:
    return int((fraction or "")[:6].ljust(6, "0"))


def _duration(value: object) -> datetime.timedelta:
    sign, weeks, days, hours, minutes, seconds, fraction = _matched(_DURATION, value)
    if weeks is None and days is None and hours is None and minutes is None and seconds is None:
        raise ValueError
    try:
        length = datetime.timedelta(
            weeks=int(weeks or 0),
            days=int(days or 0),
            hours=int(hours or 0),
            minutes=int(minutes or 0),
            seconds=int(seconds or 0),
            microseconds=_microseconds(fraction),
        )
    except OverflowError:
        raise ValueError from None
    return -length if sign == "-" else length


def _uuid(value: object) -> uuid.UUID:
    read = uuid.UUID(value) if isinstance(value, str) else None
    if read is None:
        raise ValueError
    if str(read) != str(value).lower():  # it had no hyphens, or braces
        raise MismatchError.of("a UUID with hyphens", value)
    return read


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - as for a text of another form
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError from None


def _form(name: str, read: Callable[[Any], Any], expected: str, trait: str = "order") -> Scalar:
    return Scalar({"type": "string", "format": name}, read, expected, trait)


def _bytes(make: Callable[[bytes], Any]) -> Scalar:
    schema = {"type": "string", "contentEncoding": "base64"}
    return Scalar(schema, lambda value: make(_base64(value)), "bytes in base64", "bytes")


SCALARS: dict[Any, Scalar] = {
    str: Scalar({"type": "string"}, _text, trait="text"),
    int: Scalar({"type": "integer"}, _integer, trait="number"),
    float: Scalar({"type": "number"}, _number, trait="number"),
    bool: Scalar({"type": "boolean"}, _boolean),
    type(None): Scalar({"type": "null"}, _null),
    bytes: _bytes(bytes),
    bytearray: _bytes(bytearray),
    memoryview: _bytes(memoryview),
    decimal.Decimal: _form("decimal", _decimal, "a decimal number", "decimal"),
    uuid.UUID: _form("uuid", _uuid, "a UUID", ""),
    datetime.date: _form("date", _date, "a date such as 2024-01-31"),
    datetime.datetime: _form("date-time", _datetime, "a date and time such as 2024-01-31T12:00:00Z"),
    datetime.time: _form("time", _time, "a time such as 12:00:00"),
    datetime.timedelta: _form("duration", _duration, "a duration such as P1DT12H"),
}
