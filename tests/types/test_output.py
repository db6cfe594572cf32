"""Types as outputs: the schema an agent is given for one, and its output read as one, strictly."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pickle
import types
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import pytest

from inferencesh import ConfigurationError, OutputError
from inferencesh._types.output import OutputType

T = TypeVar("T")


class Color(enum.Enum):
    """A plain enum."""

    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    """An enum whose members are ints."""

    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    """An enum whose members are strings."""

    GOOD = "good"


@attrs.define
class Address:
    """Where somebody lives.

    Attributes:
        zip: The code.
    """

    zip: int
    street: str = ""


@attrs.define
class Person:
    """Somebody."""

    name: str
    address: Address | None = None
    tags: list[str] = attrs.Factory(list)


@dataclasses.dataclass
class Point:
    """A place."""

    x: int
    y: float = 1.5


@dataclasses.dataclass
class Node:
    """Something that holds more of itself."""

    value: int
    children: list[Node] = dataclasses.field(default_factory=list)
    left: Optional["Node"] = None  # noqa: UP045, UP037 - as people write it
    by_name: dict[str, "Node"] = dataclasses.field(default_factory=dict)  # noqa: UP037 - likewise


@attrs.define
class Chain:
    """The same with attrs."""

    value: int
    rest: list["Chain"] = attrs.Factory(list)  # noqa: UP037 - as people write it


class Movie(TypedDict, total=False):
    """A mapping."""

    title: Required[str]
    year: int


class Series(TypedDict):
    """The other way round."""

    title: str
    seasons: NotRequired[int]


class Pair(NamedTuple):
    """A tuple."""

    a: int
    b: str


@dataclasses.dataclass
class Box(Generic[T]):
    """Something generic."""

    item: T


@attrs.define
class Checked:
    """With a check of its own."""

    count: int = attrs.field(validator=attrs.validators.ge(0))


@attrs.define
class Limited:
    """With a limit that stands in the schema."""

    count: Annotated[int, msgspec.Meta(ge=0, description="how many")]


class Plain:
    """Nothing that could be written as JSON."""


@attrs.define
class Outer:
    """With a field that has no schema."""

    inner: list[Inner]


@attrs.define
class Inner:
    """With the field itself."""

    thing: Plain


class Twin(NamedTuple):
    """A tuple that holds more of itself."""

    a: int
    rest: Twin | None


class Tree(TypedDict):
    """A mapping that does."""

    a: int
    rest: NotRequired[list[Tree]]


def made(name: str) -> type:
    """A class whose field names the class itself within a type that is no string, as without postponed annotations."""
    field: Any = dataclasses.field(default_factory=list)
    cls = dataclasses.make_dataclass(name, [("a", int), ("rest", types.GenericAlias(list, (name,)), field)])
    cls.__module__ = __name__
    return cls


Made = made("Made")
UserId = NewType("UserId", int)
NAMED = "12345678-1234-5678-1234-567812345678"

GOOD: list[tuple[Any, Any, Any]] = [
    (Person, {"name": "Ann"}, Person("Ann")),
    (Person, {"name": "Ann", "address": {"zip": 1}, "tags": ["a"]}, Person("Ann", Address(1), ["a"])),
    (Person, {"name": "Ann", "address": None, "more": 1}, Person("Ann")),
    (Point, {"x": 1, "y": 2}, Point(1, 2.0)),
    (Point, {"x": 1.0}, Point(1)),
    (Movie, {"title": "Alien", "year": 1979}, {"title": "Alien", "year": 1979}),
    (Movie, {"title": "Alien"}, {"title": "Alien"}),
    (Series, {"title": "Alien"}, {"title": "Alien"}),
    (Series, {"title": "Alien", "seasons": 1}, {"title": "Alien", "seasons": 1}),
    (Node, {"value": 1, "children": [{"value": 2}]}, Node(1, [Node(2)])),
    (Node, {"value": 1, "left": {"value": 2}}, Node(1, left=Node(2))),
    (Node, {"value": 1, "by_name": {"a": {"value": 2}}}, Node(1, by_name={"a": Node(2)})),
    (Chain, {"value": 1, "rest": [{"value": 2}]}, Chain(1, [Chain(2)])),
    (Box[int], {"item": 1}, Box(1)),
    (Twin, [1, [2, None]], Twin(1, Twin(2, None))),
    (Tree, {"a": 1, "rest": [{"a": 2}]}, {"a": 1, "rest": [{"a": 2}]}),
    (Made, {"a": 1, "rest": [{"a": 2}]}, Made(1, [Made(2)])),
    (Limited, {"count": 3}, Limited(3)),
    (dict[str, float], {"a": 1, "b": 2.5}, {"a": 1.0, "b": 2.5}),
    (dict[int, str], {"1": "a"}, {1: "a"}),
    (dict[Color, int], {"red": 1}, {Color.RED: 1}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (dict, {"a": [1]}, {"a": [1]}),
    (list[int], [1, 2], [1, 2]),
    (list, [1, "a"], [1, "a"]),
    (list[Person], [{"name": "Ann"}], [Person("Ann")]),
    (Sequence[int], [1], [1]),
    (set[int], [1, 1], {1}),
    (frozenset[str], ["a"], frozenset({"a"})),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (Pair, [1, "a"], Pair(1, "a")),
    (Color, "red", Color.RED),
    (Level, 2, Level.HIGH),
    (Mood, "good", Mood.GOOD),
    (Literal["a", 1], "a", "a"),
    (int | str, "1", "1"),
    (float | int, 1, 1),
    (Person | None, {"name": "Ann"}, Person("Ann")),
    (list[int] | str, [1], [1]),
    (str, "x", "x"),
    (int, 3, 3),
    (float, 3, 3.0),
    (bool, True, True),
    (UserId, 3, 3),
    (datetime.datetime, "2024-01-02T03:04:05Z", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (datetime.date, "2024-01-02", datetime.date(2024, 1, 2)),
    (datetime.time, "03:04:00", datetime.time(3, 4)),
    (datetime.timedelta, "PT1H", datetime.timedelta(hours=1)),
    (uuid.UUID, NAMED, uuid.UUID(NAMED)),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (decimal.Decimal, 1.1, decimal.Decimal("1.1")),
    (bytes, "aGk=", b"hi"),
    (Any, [1, {"a": None}], [1, {"a": None}]),
    (object, [1, {"a": None}], [1, {"a": None}]),
]


@pytest.mark.parametrize(("output_type", "output", "value"), GOOD, ids=str)
def test_what_fits_comes_back_as_the_type(output_type: Any, output: object, value: object) -> None:
    """With defaults for what is left out, and in the very types that were asked for."""
    read = OutputType.of(output_type).read(output)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("output_type", "output", "value"), GOOD, ids=str)
def test_what_is_no_object_may_stand_in_one(output_type: Any, output: object, value: object) -> None:
    """As the schema asks for it; what is an object by itself stands in none."""
    wanted = OutputType.of(output_type)
    assert wanted.schema["type"] == "object"
    if wanted.in_object:
        assert set(wanted.schema["properties"]) == {"value"}
        assert wanted.schema["required"] == ["value"]
        assert wanted.read({"value": output}) == value


BAD: list[tuple[Any, Any, str]] = [
    (Person, {"name": "Ann", "address": {"zip": "abc"}}, "address.zip: expected int, got 'abc'"),
    (Person, {"name": 1}, "name: expected str, got 1"),
    (Person, {}, "name: is missing"),
    (Person, {"name": "Ann", "address": {}}, "address.zip: is missing"),
    (Person, {"name": "Ann", "tags": "abc"}, "tags: expected list[str], got 'abc'"),
    (Person, {"name": "Ann", "tags": ["a", 1, None]}, "tags[1]: expected str, got 1; tags[2]: expected str, got None"),
    (Person, {"name": "Ann", "address": 3}, "address: expected Address or None, got 3"),
    (Person, "Ann", "expected Person, got 'Ann'"),
    (Point, {"x": True}, "x: expected int, got True"),
    (Point, {"x": 1.5}, "x: expected int, got 1.5"),
    (Point, {"x": "1"}, "x: expected int, got '1'"),
    (Point, {"x": 1, "y": "2"}, "y: expected float, got '2'"),
    (Point, {"x": 1, "y": 10**400}, "y: expected float, got 1000"),
    (Movie, {"year": 1}, "title: is missing"),
    (Series, {"seasons": 1}, "title: is missing"),
    (Series, {"title": "Alien", "seasons": "x"}, "seasons: expected int, got 'x'"),
    (Movie, [], "expected Movie, got []"),
    (Node, {"value": 1, "children": [{"value": 2}, {"value": "x"}]}, "children[1].value: expected int, got 'x'"),
    (Box[int], {"item": "a"}, "item: expected int, got 'a'"),
    (Checked, {"count": -1}, "'count' must be >= 0: -1"),
    (Limited, {"count": -1}, "count: must be at least 0, got -1"),
    (dict[str, float], {"a": "x"}, "['a']: expected float, got 'x'"),
    (dict[str, float], [1], "expected dict[str, float], got [1]"),
    (dict[int, str], {"a": "a"}, "['a']: expected int, got 'a'"),
    (list[int], "123", "expected list[int], got '123'"),
    (list[int], {"value": [1, "x"]}, "[1]: expected int, got 'x'"),
    (list[int], {"a": 1}, "expected list[int], got {'a': 1}"),
    (list, "abc", "expected list, got 'abc'"),
    (set[int], {"a": 1}, "expected set[int], got {'a': 1}"),
    (tuple[int, str], ["a", 1], "[0]: expected int, got 'a'; [1]: expected str, got 1"),
    (tuple[int, str], [1], "expected tuple[int, str] with 2 items, got [1]"),
    (Pair, [1, 2], "[1]: expected str, got 2"),
    (Color, "blue", "expected one of 'red', 'green', got 'blue'"),
    (Level, True, "expected one of 1, 2, got True"),
    (Mood, 1, "expected one of 'good', got 1"),
    (Literal["a", 1], True, "expected one of 'a', 1, got True"),
    (int | str, 1.5, "expected int or str, got 1.5"),
    (str, 1, "expected str, got 1"),
    (bool, 1, "expected bool, got 1"),
    (bool, "true", "expected bool, got 'true'"),
    (int, None, "without an output"),
    (datetime.datetime, "tomorrow", "expected a date and time such as 2024-01-31T12:00:00Z, got 'tomorrow'"),
    (datetime.time, "03:04", "expected a time such as 12:00:00, got '03:04'"),
    (datetime.date, "20240102", "expected a date such as 2024-01-31, got '20240102'"),
    (datetime.timedelta, "P1Y", "expected a duration such as P1DT12H, got 'P1Y'"),
    (datetime.datetime, 5, "expected a date and time such as 2024-01-31T12:00:00Z, got 5"),
    (uuid.UUID, "x", "expected a UUID, got 'x'"),
    (uuid.UUID, NAMED.replace("-", ""), "expected a UUID with hyphens, got '1234"),
    (decimal.Decimal, "NaN", "expected a decimal number, got 'NaN'"),
    (decimal.Decimal, "1e99999999999999999999", "expected a decimal number, got '1e9"),
    (decimal.Decimal, "x", "expected a decimal number, got 'x'"),
    (decimal.Decimal, True, "expected a decimal number, got True"),
    (bytes, "?", "expected bytes in base64, got '?'"),
]


@pytest.mark.parametrize(("output_type", "output", "text"), BAD, ids=str)
def test_what_does_not_fit_is_named_with_its_place(output_type: Any, output: object, text: str) -> None:
    """Nothing is converted that the schema does not allow; the error carries the output as it came."""
    with pytest.raises(OutputError) as caught:
        OutputType.of(output_type).read(output)
    assert text in str(caught.value)
    assert caught.value.output == output


def test_an_error_names_the_type_without_its_metadata() -> None:
    """A reader wants to know what was expected, not how it is written."""
    with pytest.raises(OutputError, match=r"is no valid list\[int\]: \[0\]: must be at most 5, got 9"):
        OutputType.of(list[Annotated[int, msgspec.Meta(le=5)]]).read([9])


def test_an_error_is_short_however_large_the_output() -> None:
    """Values and lists of problems are cut in the text; the output itself is whole."""
    output = {str(number): "x" * 100_000 for number in range(100)}
    with pytest.raises(OutputError, match=r"\(and 95 more\)") as caught:
        OutputType.of(dict[str, int]).read(output)
    assert len(str(caught.value)) < 2000
    assert caught.value.output == output


def test_an_output_may_be_nested_as_deeply_as_it_likes() -> None:
    """One too deep for the interpreter is an error like any other."""
    output: dict[str, Any] = {"value": 1}
    for _ in range(900):
        output = {"value": 1, "left": output}
    with pytest.raises(OutputError) as caught:
        OutputType.of(Node).read(output)
    assert len(str(caught.value)) < 3000


def test_an_error_can_be_sent_to_another_process() -> None:
    """With the output."""
    copy = pickle.loads(pickle.dumps(OutputError("wrong", {"a": 1})))  # noqa: S301 - it is our own
    assert str(copy) == "wrong"
    assert copy.output == {"a": 1}


# -- schemas -----------------------------------------------------------------------------------------------------------


def test_a_schema_stands_by_itself() -> None:
    """Classes stand in the places where they are used, and not under ``$defs``."""
    address = {
        "description": "Where somebody lives.",
        "type": "object",
        "properties": {
            "zip": {"type": "integer", "description": "The code."},
            "street": {"type": "string", "default": ""},
        },
        "required": ["zip"],
    }
    assert OutputType.of(Person).schema == {
        "description": "Somebody.",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "address": {"anyOf": [address, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name"],
    }


def test_a_recursive_class_is_referred_to() -> None:
    """Its definition goes with the schema, which is an object all the same."""
    schema = OutputType.of(Node).schema
    assert schema["type"] == "object"
    assert schema["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert schema["$defs"]["Node"]["properties"]["value"] == {"type": "integer"}
    within = OutputType.of(list[Node]).schema
    assert within["properties"]["value"]["items"] == {"$ref": "#/$defs/Node"}
    assert set(within["$defs"]) == {"Node"}


def test_limits_and_descriptions_of_fields_are_told() -> None:
    """What ``Annotated`` says of them."""
    count = {"type": "integer", "minimum": 0, "description": "how many"}
    assert OutputType.of(Limited).schema["properties"] == {"count": count}


@pytest.mark.parametrize(
    ("output_type", "texts"),
    [
        (Plain, ["Plain"]),
        (Outer, ["Outer", "inner.thing", "Plain"]),
        (list[Outer], ["list[Outer]", "inner.thing", "Plain"]),
        (Point | dict[str, int], ["Point | dict", "cannot be told apart"]),
        (complex, ["complex"]),
        (typing.Callable[[], int], ["Callable"]),
        ("Person", ["'Person'"]),
        (3, ["3"]),
        (msgspec.defstruct("Struct", [("a", int)]), ["Struct"]),
    ],
    ids=str,
)
def test_a_type_without_a_schema_is_refused(output_type: Any, texts: list[str]) -> None:
    """With the type and the field that is the reason."""
    with pytest.raises(ConfigurationError) as caught:
        OutputType.of(output_type)
    assert all(text in str(caught.value) for text in texts), caught.value
