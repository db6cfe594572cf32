"""Validation of request bodies: typed access to JSON fields, with errors that name the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh._text import decode_json, encode_json
from inferencesh.errors import UnreadableError
from inferencesh.local.errors import ProblemError, invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aiohttp import web

__all__ = ["Fields", "read_body"]

MAX_DEPTH = 240

_KINDS = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a string",
}


async def read_body(request: web.Request) -> Fields:
    """Return the JSON object in a request's body; an empty body counts as an empty object.

    Raises:
        ProblemError: 400 if it is not JSON, not an object, or nested too deeply.
    """
    body = await request.read()
    if not body.strip():
        return Fields({})
    try:
        data = decode_json(body, strict=True)
    except UnreadableError as error:
        raise ProblemError(400, f"The body is {error}.") from error
    if not isinstance(data, dict):
        raise ProblemError(400, f"The body must be a JSON object, not {_kind(data)}.")
    _check_depth(body, data)
    return Fields(data)


def _check_depth(body: bytes, data: object) -> None:
    """Refuse an object that can be decoded but not encoded again as part of a larger object."""
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:  # true of nearly all bodies
        return
    try:
        encode_json([[[[[[[[data]]]]]]]])
    except TypeError as error:
        raise ProblemError(400, f"The body is nested too deeply; up to {MAX_DEPTH} levels are fine.") from error


class Fields:
    """The fields of one JSON object. A field with the value null counts as absent.

    The methods that return a field raise a ``ProblemError`` with status 422 if it has another type.

    Args:
        data: The object.
        path: The path of the object within the body, "" for the body itself.
    """

    def __init__(self, data: dict[str, object], path: str = "") -> None:
        self._data = data
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    @property
    def data(self) -> Mapping[str, object]:
        """All fields, unchecked."""
        return self._data

    def path(self, name: str) -> str:
        """Return the path of a field within the body."""
        return f"{self._path}.{name}" if self._path else name

    def require(self, name: str) -> None:
        """Raise a ``ProblemError`` with status 422 if a field is absent."""
        if name not in self:
            raise invalid(self.path(name), "is missing.")

    def text(self, name: str) -> str | None:
        """Return a string field, or None."""
        value = self._data.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, value, "a string")

    def flag(self, name: str) -> bool:
        """Return a boolean field, False if absent."""
        value = self._data.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(name, value, "a boolean")

    def count(self, name: str) -> int | None:
        """Return an integer field, or None."""
        value = self._data.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, value, "an integer")

    def mapping(self, name: str) -> dict[str, object] | None:
        """Return an object field as a dict, or None."""
        value = self._data.get(name)
        if value is None or isinstance(value, dict):
            return value
        raise self._wrong(name, value, "an object")

    def nested(self, name: str) -> Fields | None:
        """Return an object field as ``Fields``, or None."""
        value = self.mapping(name)
        return None if value is None else Fields(value, self.path(name))

    def items(self, name: str) -> list[object]:
        """Return a list field, empty if absent."""
        value = self._data.get(name)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise self._wrong(name, value, "a list")

    def objects(self, name: str) -> Iterator[Fields]:
        """Yield the objects of a list field as ``Fields``."""
        for index, value in enumerate(self.items(name)):
            if not isinstance(value, dict):
                raise self._wrong(f"{name}[{index}]", value, "an object")
            yield Fields(value, self.path(f"{name}[{index}]"))

    def texts(self, name: str) -> list[str]:
        """Return a list of strings, empty if absent."""
        values: list[str] = []
        for index, value in enumerate(self.items(name)):
            if not isinstance(value, str):
                raise self._wrong(f"{name}[{index}]", value, "a string")
            values.append(value)
        return values

    def text_map(self, name: str) -> dict[str, str] | None:
        """Return an object whose values are all strings, or None."""
        values: dict[str, str] = {}
        for key, value in (self.mapping(name) or {}).items():
            if not isinstance(value, str):
                raise self._wrong(f"{name}.{key}", value, "a string")
            values[key] = value
        return values if name in self else None

    def _wrong(self, name: str, value: object, expected: str) -> ProblemError:
        return invalid(self.path(name), f"must be {expected}, not {_kind(value)}.")


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS[type(value)]
