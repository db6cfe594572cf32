"""Constraints: in the schema, checked before the function is called, and refused where they have no meaning."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
from typing import Annotated, Any, NewType

import annotated_types
import attrs
import fastapi
import msgspec
import pydantic
import pytest

from inferencesh import ConfigurationError, tool
from inferencesh.tools.handler import ArgumentsError

from .test_json_types import as_argument, hinted, untold

NOON = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (Annotated[int, annotated_types.Ge(1), annotated_types.Le(5)], 99, "must be at most 5, got 99"),
        (Annotated[int, annotated_types.Interval(gt=0, lt=3)], 3, "must be less than 3, got 3"),
        (Annotated[int, pydantic.Field(ge=1, le=5)], 0, "must be at least 1, got 0"),
        (Annotated[int, pydantic.Field(multiple_of=3)], 4, "must be a multiple of 3, got 4"),
        (Annotated[float, msgspec.Meta(gt=0)], 0, "must be greater than 0, got 0"),
        (
            Annotated[decimal.Decimal, annotated_types.MultipleOf(decimal.Decimal("0.01"))],
            "1.005",
            "must be a multiple",
        ),
        (Annotated[str, annotated_types.Len(2, 3)], "a", "must have at least 2 characters, got 'a'"),
        (Annotated[str, annotated_types.MaxLen(1)], "ab", "must have at most 1 character, got 'ab'"),
        (Annotated[str, pydantic.StringConstraints(pattern="^a")], "b", "must match '^a', got 'b'"),
        (Annotated[list[int], annotated_types.MinLen(1)], [], "must have at least 1 item, got []"),
        (Annotated[dict[str, int], annotated_types.MinLen(2)], {"a": 1}, "must have at least 2 entries, got {'a': 1}"),
        (Annotated[set[int], annotated_types.MinLen(2)], [1, 1], "must have at least 2 items, got [1, 1]"),
        (Annotated[bytes, annotated_types.MaxLen(1)], "YWI=", "must have at most 1 byte, got 'YWI='"),
        (Annotated[int | None, annotated_types.Ge(0)], -1, "must be at least 0, got -1"),
        (
            Annotated[datetime.datetime, annotated_types.Timezone(...)],
            "2024-01-01T00:00:00",
            "must have a time zone, got",
        ),
        (
            Annotated[datetime.datetime, annotated_types.Timezone(None)],
            "2024-01-01T00:00:00Z",
            "must be without a time",
        ),
        (
            Annotated[datetime.datetime, annotated_types.Timezone("Europe/Berlin")],
            "2024-01-01T00:00:00Z",
            "must be in the time zone Europe/Berlin, got",
        ),
        (
            Annotated[datetime.datetime, annotated_types.Ge(NOON)],
            "2024-01-01T11:00:00Z",
            "must be at least 2024-01-01 12",
        ),
        (
            Annotated[datetime.datetime, annotated_types.Ge(NOON)],
            "2024-01-01T13:00:00",
            "must be at least 2024-01-01 12",
        ),
        (Annotated[float, pydantic.Field(multiple_of=0.01)], 19.995, "must be a multiple of 0.01, got 19.995"),
        (Annotated[decimal.Decimal, pydantic.Field(multiple_of=2)], "1e999999", "must be a multiple of 2, got"),
        (Annotated[int, annotated_types.Predicate(lambda n: n > 1)], 1, "must satisfy the condition of its type, got"),
        (annotated_types.LowerCase[str], "A", "must satisfy str.islower, got 'A'"),
        (Annotated[int, annotated_types.Predicate(lambda n: 1 / n)], 0, "division by zero"),
    ],
)
def test_what_a_constraint_refuses(hint: Any, value: object, says: str) -> None:
    """In the words of the type."""
    with pytest.raises(ArgumentsError) as caught:
        as_argument(hint, value)
    assert str(caught.value).startswith(f"invalid arguments: value: {says}")


def test_multiples_are_those_of_the_decimal_fraction_that_is_written() -> None:
    """19.99 / 0.01 is no whole number in binary."""
    for number in (19.99, 0.3, 1e300, 7):
        assert as_argument(Annotated[float, pydantic.Field(multiple_of=0.01)], number) == number


def test_all_constraints_of_a_type_hold() -> None:
    """Also two of the same kind."""
    hint = Annotated[int, annotated_types.Ge(1), annotated_types.Ge(3)]
    schema = tool(hinted(hint))["client"]["input_schema"]["properties"]["value"]
    assert schema == {"type": "integer", "minimum": 1, "allOf": [{"minimum": 3}]}
    with pytest.raises(ArgumentsError, match="must be at least 3, got 2"):
        as_argument(hint, 2)


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (Annotated[str, annotated_types.Ge(3)], "the constraint ge=3 does not apply to str"),
        (Annotated[bool, annotated_types.Ge(0)], "the constraint ge=0 does not apply to bool"),
        (Annotated[int, annotated_types.MinLen(3)], "the constraint min_length=3 does not apply to int"),
        (Annotated[Any, annotated_types.Ge(3)], "the constraint ge=3 does not apply to Any"),
        (Annotated[int, pydantic.Field(pattern="a")], "the constraint pattern='a' does not apply to int"),
        (Annotated[str, annotated_types.Timezone(...)], "the constraint tz=Ellipsis does not apply to str"),
        (Annotated[int, annotated_types.Ge("a")], "ge='a' is no limit of numbers"),
        (Annotated[datetime.date, annotated_types.Ge(3)], "ge=3 is no limit of date"),
        (Annotated[str, pydantic.Field(pattern="(")], "the pattern '(' is no regular expression"),
        (Annotated[int, pydantic.Field(alias="x")], "Field(alias=...) is for models of pydantic"),
        (Annotated[int, pydantic.Field(validate_default=True)], "Field(validate_default=True) is for models of"),
        (fastapi.UploadFile, "UploadFile belongs to FastAPI"),
        (Annotated[int, fastapi.Query(ge=1)], "Query(...) belongs to FastAPI"),
        (Annotated[int, fastapi.Depends(int)], "Depends(...) belongs to FastAPI"),
    ],
)
def test_a_constraint_that_cannot_be_kept_is_refused_when_the_tool_is_made(hint: Any, reason: str) -> None:
    """And not ignored."""
    assert untold(hint).startswith(reason)


@pytest.mark.parametrize(
    ("default", "reason"),
    [
        (fastapi.Query(3), r"Query\(\.\.\.\) belongs to FastAPI"),
        (fastapi.Body(), r"Body\(\.\.\.\) belongs to FastAPI"),
        (fastapi.Header(), r"Header\(\.\.\.\) belongs to FastAPI"),
        (fastapi.Depends(int), r"Depends\(\.\.\.\) belongs to FastAPI"),
        (attrs.field(default=3), r"attrs\.field\(\.\.\.\) is for attrs classes"),
        (attrs.Factory(list), r"attrs\.Factory\(\.\.\.\) is for attrs classes"),
        (..., r"\.\.\. is for pydantic and FastAPI: leave it out, and the parameter is required"),
        (dataclasses.field(default=3), r"dataclasses\.field\(\.\.\.\) is for dataclasses"),
        (msgspec.field(default=3), r"msgspec\.field\(\.\.\.\) is for Structs"),
        (pydantic.PrivateAttr(3), r"PrivateAttr\(\.\.\.\) is for pydantic's models"),
    ],
)
def test_a_default_that_means_something_to_others_is_refused(default: Any, reason: str) -> None:
    """The error names the parameter."""

    def find(limit: int = default) -> int:
        """Find."""
        return limit

    with pytest.raises(ConfigurationError, match=rf"the parameter 'limit' of the function .*find.* {reason}"):
        tool(find)


Age = NewType("Age", Annotated[int | None, pydantic.Field(description="In years.")])  # type: ignore[valid-newtype]  # works


def test_constraints_of_a_new_type_add_up() -> None:
    """The union in it has them where they apply, and its description stays."""
    hint = Annotated[Age, annotated_types.Ge(0)]
    schema = tool(hinted(hint))["client"]["input_schema"]["properties"]["value"]
    assert schema == {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "description": "In years."}
    with pytest.raises(ArgumentsError, match="must be at least 0, got -1"):
        as_argument(hint, -1)


def test_unknown_metadata_is_left_alone() -> None:
    """It may mean something to somebody else."""
    assert as_argument(Annotated[int, object(), ["a"], annotated_types.Unit("cm"), None], 3) == 3


def test_examples_reach_the_agent() -> None:
    """And what else a schema may say."""
    hint = Annotated[int, pydantic.Field(examples=[4], json_schema_extra={"x-unit": "cm"}, ge=1, deprecated=True)]
    schema = tool(hinted(hint))["client"]["input_schema"]["properties"]["value"]
    assert schema == {"type": "integer", "minimum": 1, "examples": [4], "x-unit": "cm", "deprecated": True}
