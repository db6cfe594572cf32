"""Filters of lists: conditions on the fields of a record's wire form."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from inferencesh._text import decode_json, encode_json
from inferencesh.local.errors import invalid

if TYPE_CHECKING:
    from inferencesh.local.records import Wire

    from .fields import Fields

__all__ = ["Condition", "passes", "read_filters", "read_search"]

Condition: TypeAlias = Callable[["Wire"], bool]
"""Whether a record, in decoded wire form, is wanted."""

_Test: TypeAlias = Callable[[object, object], bool]


def read_search(body: Fields) -> Callable[[str], bool]:
    """Return the test of a name for a request's ``search``: a text, or an object with ``term`` and ``exact``.

    Raises:
        ProblemError: 422 if it is neither.
    """
    if not isinstance(body.data.get("search"), dict):
        term, exact = body.text("search") or "", False
    else:
        search = body.nested("search")
        assert search is not None
        term, exact = search.text("term") or "", search.flag("exact")
    wanted = term.strip().casefold()
    if exact and wanted:
        return lambda name: name.casefold() == wanted
    return lambda name: wanted in name.casefold()


def read_filters(body: Fields) -> list[Condition]:
    """Return the conditions of a request's ``filters``, all of which must hold.

    Raises:
        ProblemError: 422 if a filter lacks its field or operator, has another operator, or a value of another type.
    """
    return [_read_filter(each) for each in body.objects("filters")]


def passes(wire: Callable[[], Wire], filters: list[Condition]) -> bool:
    """Whether all filters hold for a record.

    Args:
        wire: Returns the record in wire form.
        filters: The conditions.

    Raises:
        ProblemError: 422 if a filter is about a field that the record does not have.
    """
    if not filters:
        return True
    record = decode_json(encode_json(wire()))  # outputs and arguments are text until they are encoded
    return all(holds(record) for holds in filters)


def _read_filter(fields: Fields) -> Condition:
    for name in ("field", "operator"):
        fields.require(name)
    path, operator = (fields.text("field") or "").split("."), fields.text("operator") or ""
    if operator not in _TESTS:
        raise invalid(fields.path("operator"), f"must be one of {', '.join(_TESTS)}.")
    value = fields.data.get("value")
    if operator in {"in", "not_in"}:
        value = fields.items("value")
    if operator in {"like", "ilike"}:
        value = _pattern(fields.text("value") or "", ignore_case=operator == "ilike")
    test = _TESTS[operator]

    def holds(record: Wire) -> bool:
        if path[0] not in record:
            raise invalid(fields.path("field"), f"{path[0][:64]!r} is not a field of this list.")
        return test(_find(record, path), value)

    return holds


def _find(record: object, path: list[str]) -> object:
    """Return the field at a path, None if there is none: below the first name records have different fields."""
    for name in path:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def _equal(found: object, value: object) -> bool:
    pair = _comparable(found), _comparable(value)
    return pair[0] == pair[1] and isinstance(pair[0], bool) == isinstance(pair[1], bool)


def _listed(found: object, values: object) -> bool:
    return isinstance(values, list) and any(_equal(found, each) for each in values)


def _compared(wanted: Callable[[int], bool]) -> _Test:
    """Return the test of two numbers, two times or two texts, by the sign of their difference."""

    def test(found: object, value: object) -> bool:
        match _comparable(found), _comparable(value):
            case (int() | float() as left, int() | float() as right):
                return wanted((left > right) - (left < right))
            case (datetime() as left, datetime() as right):
                return wanted((left > right) - (left < right))
            case (str() as left, str() as right):
                return wanted((left > right) - (left < right))
        return False

    return test


def _contains(found: object, value: object) -> bool:
    if isinstance(found, str) and isinstance(value, str):
        return value.casefold() in found.casefold()
    return isinstance(found, list) and any(_equal(each, value) for each in found)


def _matches(found: object, pattern: object) -> bool:
    return isinstance(found, str) and isinstance(pattern, re.Pattern) and pattern.match(found) is not None


def _pattern(text: str, *, ignore_case: bool) -> re.Pattern[str]:
    """Return a pattern of SQL's LIKE, with ``%`` and ``_`` as wildcards, as a regular expression."""
    # fnmatch writes expressions that take no exponential time, whatever the pattern is.
    literal: dict[str, str | int | None] = {"*": "[*]", "?": "[?]", "[": "[[]", "%": "*", "_": "?"}
    return re.compile(fnmatch.translate(text.translate(str.maketrans(literal))), re.IGNORECASE if ignore_case else 0)


def _comparable(value: object) -> object:
    """Return a timestamp as a time, since they may be written with different precision, and anything else as it is."""
    if isinstance(value, str) and re.match(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return value
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return value


_TESTS: Mapping[str, _Test] = {
    "eq": _equal,
    "neq": lambda found, value: not _equal(found, value),
    "in": _listed,
    "not_in": lambda found, value: not _listed(found, value),
    "gt": _compared(lambda sign: sign > 0),
    "gte": _compared(lambda sign: sign >= 0),
    "lt": _compared(lambda sign: sign < 0),
    "lte": _compared(lambda sign: sign <= 0),
    "like": _matches,
    "ilike": _matches,
    "contains": _contains,
    "not_contains": lambda found, value: not _contains(found, value),
    "is_null": lambda found, _: found is None,
    "is_not_null": lambda found, _: found is not None,
    "is_empty": lambda found, _: found in (None, "", [], {}),
    "is_not_empty": lambda found, _: found not in (None, "", [], {}),
}
