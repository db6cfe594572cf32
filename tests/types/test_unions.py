"""Unions: how their members are told apart, what is said of a value that fits none, and which unions are refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import sys
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, NotRequired, Self, TypeVar

import annotated_types
import attrs
import pytest
from typing_extensions import ReadOnly, TypeAliasType, TypedDict

from inferencesh import tool

from .test_json_types import BOTH, as_argument, complaint, hinted, untold

T = TypeVar("T")
Either = TypeVar("Either", int, str)
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")
Stack = TypeAliasType("Stack", list[T], type_params=(T,))


class Kind(enum.Enum):
    USER = "user"
    FIRM = "firm"


@dataclasses.dataclass
class User:
    name: str
    kind: Literal[Kind.USER] = Kind.USER


@attrs.define
class Firm:
    number: int
    kind: Literal["firm", "company"] = "firm"


class Club(TypedDict):
    kind: Literal["club"]
    members: list[User | Firm | Club]


@attrs.frozen
class Circle:
    radius: int
    label: str = ""


@attrs.frozen
class Square:
    side: int
    label: str = ""


@attrs.frozen
class Cube:
    side: int
    depth: int


@attrs.frozen
class Other:
    label: str = ""


@dataclasses.dataclass
class Link:
    to: Self | None = None
    unit: ClassVar[int] = 1
    size: Final[int] = 2
    seed: dataclasses.InitVar[int] = 3


class Frozen(TypedDict):
    a: ReadOnly[int]
    b: NotRequired[ReadOnly[str]]


@attrs.frozen
class Wrap(Generic[T]):
    inside: T


@dataclasses.dataclass
class Holder(Generic[T]):
    value: T | None
    rest: list[Holder[T]] = dataclasses.field(default_factory=list)


@BOTH
@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (User | Firm, {"kind": "user", "name": "Ann"}, User("Ann")),
        (User | Firm, {"kind": "company", "number": 1}, Firm(1, "company")),
        (
            User | Firm | Club,
            {"kind": "club", "members": [{"kind": "firm", "number": 1}]},
            {"kind": "club", "members": [Firm(1)]},
        ),
        (Circle | Square | None, {"side": 1, "label": "a"}, Square(1, "a")),
        (Circle | Square | None, {"radius": 1}, Circle(1)),
        (Square | Cube, {"side": 1}, Square(1)),
        (Square | Cube, {"side": 1, "depth": 2}, Cube(1, 2)),
        (Circle | Other, {}, Other()),
        (Wrap[int] | Wrap[str], {"inside": "a"}, Wrap("a")),
        (Kind | int, "user", Kind.USER),
        (Literal["auto"] | int | None, "auto", "auto"),
        (int | float, 1.5, 1.5),
        (datetime.date | str, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.date | datetime.datetime, "2026-01-02T03:04:05", datetime.datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001
        (list[int] | list[str], ["a"], ["a"]),
        (tuple[int, int] | tuple[int, int, int], [1, 2, 3], (1, 2, 3)),
        (dict[str, int] | list[int] | str, {"a": 1}, {"a": 1}),
        (Annotated[int, annotated_types.Lt(0)] | str, -1, -1),
        (Json, {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
        (Stack[int] | None, [1], [1]),
        (Either, "a", "a"),
        (collections.deque[int], [1], collections.deque([1])),
        (pathlib.Path | None, "a/b", pathlib.Path("a/b")),
        (Link, {"to": {"size": 1}}, Link(Link(size=1))),
        (Frozen, {"a": 1}, {"a": 1}),
        (Holder[int], {"value": 1, "rest": [{"value": None}]}, Holder(1, [Holder(None)])),
    ],
    ids=str,
)
def test_what_is_meant(read: Any, hint: Any, value: object, expected: object) -> None:
    """Of the types that a value fits, the one that is meant."""
    got = read(hint, value)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (User | Firm, {"kind": "x"}, "value.kind: expected one of 'user', 'company', 'firm', got 'x'"),
        (User | Firm, {"kind": []}, "value.kind: expected one of 'user', 'company', 'firm', got []"),
        (User | Firm, {"name": "Ann"}, "value.kind: is missing, expected one of 'user', 'company', 'firm'"),
        (User | Firm, {"kind": "user", "name": 1}, "value.name: expected str, got 1"),
        (User | Firm, "user", "value: expected User or Firm, got 'user'"),
        (Circle | Square, {"side": "x"}, "value.side: expected int, got 'x'"),
        (Json, 1.5, "value: expected dict[str, Json] or list[Json] or str or int or None, got 1.5"),
        (Holder[int], {"value": 1, "rest": [{"value": "a"}]}, "value.rest[0].value: expected int or None, got 'a'"),
    ],
    ids=str,
)
def test_what_fits_no_member(hint: Any, value: object, says: str) -> None:
    """The tags that exist are told, and what is wrong with the member that was meant."""
    assert complaint(hint, value) == says


def test_a_tag_is_required_in_the_schema() -> None:
    """Even if it has a default in the class."""
    user, firm = tool(hinted(User | Firm))["client"]["input_schema"]["properties"]["value"]["anyOf"]
    assert (user["required"], user["properties"]["kind"]["enum"]) == (["name", "kind"], ["user"])
    assert (firm["required"], firm["properties"]["kind"]["enum"]) == (["number", "kind"], ["company", "firm"])
    assert as_argument(User, {"name": "Ann"}) == User("Ann")  # alone it may be left out


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (
            Other | Link,
            "Other and Link cannot be told apart in JSON: neither requires a field that the other one lacks",
        ),
        (
            Circle | dict[str, int],
            "Circle and dict[str, int] cannot be told apart in JSON: an object with those fields",
        ),
        (bytes | str, "bytes in base64 and str cannot be told apart in JSON"),
        (pathlib.Path | str, "a path and str cannot be told apart in JSON"),
        (decimal.Decimal | int, "a decimal number and int cannot be told apart in JSON"),
        (list[int] | set[int], "list[int] and set[int] cannot be told apart in JSON: the same list"),
        (list[int] | tuple[int, ...], "list[int] and tuple[int, ...] cannot be told apart in JSON: the same list"),
        (Kind | Literal["user"], "one of 'user', 'firm' and one of 'user' cannot be told apart in JSON: 'user' may be"),
        (Holder[int] | Holder[str], "Holder[int] and Holder[str] cannot be told apart in JSON: neither requires"),
        (Holder[Other | Link], "in its field value: Other and Link cannot be told apart"),
    ],
    ids=str,
)
def test_what_cannot_be_told_apart_is_refused_at_once(hint: Any, reason: str) -> None:
    """The error says why, and where."""
    assert untold(hint).startswith(reason)


MODERN = """
import dataclasses

type Tree[T] = dict[str, Tree[T]] | T

@dataclasses.dataclass
class Pair[A, B]:
    a: A
    b: list[B] | None = None

def first[T: int](values: list[T]) -> T:
    return values[0]
"""

if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("written", ["evaluated", "text"])
    def test_the_type_statement_and_type_parameters(written: str) -> None:
        """Generic and recursive aliases, classes and functions, as Python 3.12 writes them; hints may be texts."""
        names: dict[str, Any] = {"__name__": __name__}
        exec(compile(MODERN, "modern", "exec", dont_inherit=written == "evaluated"), names)  # noqa: S102 - it is our own
        assert tool(names["first"]).bind({"values": [3]}, None)() == 3
        assert as_argument(names["Tree"][int], {"a": {"b": 1}}) == {"a": {"b": 1}}
        pair = names["Pair"]
        assert as_argument(pair[str, int], {"a": "x", "b": [1]}) == pair("x", [1])
        assert complaint(pair[str, int], {"a": 1}) == "value.a: expected str, got 1"
