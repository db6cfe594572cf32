"""Types as JSON, for tools' arguments and for outputs alike: what a schema allows is what is read, and nothing else."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypedDict,
    TypeVar,
)

import attrs
import jsonschema  # type: ignore[import-untyped]  # it comes without types
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferencesh import ConfigurationError, OutputError, ToolContext, tool
from inferencesh._types.output import OutputType
from inferencesh.tools.handler import ArgumentsError

T = TypeVar("T")
Bounded = TypeVar("Bounded", bound=int)
UserId = NewType("UserId", int)


class Color(enum.Enum):
    """A colour."""

    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    """How much."""

    LOW = 1
    HIGH = 2


@attrs.frozen
class Point:
    """A place."""

    x: int
    y: float = 0.0
    inside: bool = attrs.field(init=False, default=False)


@dataclasses.dataclass
class Box:
    """What holds things."""

    corner: Point
    names: dict[str, Color] = dataclasses.field(default_factory=dict)
    size: Annotated[list[int], msgspec.Meta(max_length=2)] | None = None


@attrs.define
class Tree:
    """Something that holds itself."""

    value: int
    children: list[Tree] = attrs.Factory(list)
    next: Tree | None = None


class Movie(TypedDict, total=False):
    """A mapping with little that is required."""

    a: Required[str]
    b: int


class Series(TypedDict):
    """The other way round."""

    a: str
    b: NotRequired[list[Level]]


class Pair(NamedTuple):
    """A tuple of which a part may be left out."""

    a: int
    b: str = ""


@attrs.frozen
class Crate(Generic[T]):
    """Something generic.

    Attributes:
        inside: What is in it.
    """

    inside: T


class Placed(NamedTuple, Generic[T]):
    """A generic tuple.

    Attributes:
        what: What it is.
    """

    what: T
    beside: list[T]


class Named(TypedDict, Generic[T]):
    """A generic mapping."""

    a: T


@attrs.frozen
class Noted:
    """With notes that are not hashable."""

    a: Annotated[int, ["note"]]
    b: dict[str, Annotated[int, ["note"]]]


@attrs.define
class Later:
    """With times and what is left to ``__init__``."""

    at: datetime.datetime
    times: list[datetime.time] | None = None
    local: Annotated[datetime.datetime | None, msgspec.Meta(description="there")] = None
    total: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.total = 1


# -- both ways of reading ----------------------------------------------------------------------------------------------


def hinted(hint: object) -> Callable[..., Any]:
    """A function that returns its one argument, which has this hint."""

    def f(value: Any) -> Any:
        return value

    f.__annotations__ = {"value": hint}
    return f


def as_argument(hint: Any, value: object) -> Any:
    """A value as the argument of a tool."""
    return tool(hinted(hint)).bind({"value": value}, ToolContext("chat", "call", "t"))()


def as_output(hint: Any, value: object) -> Any:
    """A value as an output."""
    return OutputType.of(list[hint]).read([value])[0]


BOTH = pytest.mark.parametrize("read", [as_argument, as_output])


def complaint(hint: Any, value: object) -> str:
    """What both say is wrong with a value, from the place where it stands."""
    with pytest.raises(ArgumentsError) as of_argument:
        as_argument(hint, value)
    with pytest.raises(OutputError) as of_output:
        as_output(hint, value)
    text = str(of_argument.value).removeprefix("invalid arguments: ")
    other = str(of_output.value).partition(": ")[2]
    assert re.sub(r"(^|; )value", r"\1[0]", text) == other
    return text


# -- the schema as the judge -------------------------------------------------------------------------------------------

_OFFSET = r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?"
_TIME = rf"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?{_OFFSET}"
_FORMS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": _TIME,
    "date-time": rf"\d{{4}}-\d\d-\d\d[Tt ]{_TIME}",
    "duration": r"[+-]?P(?=[\dT])(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "decimal": r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?",
}


def _format(_: object, form: str, value: object, schema: object) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(value, str):
        return
    if form in _FORMS and not re.fullmatch(_FORMS[form], value, re.ASCII):
        yield jsonschema.ValidationError(f"no {form}")
    elif form in {"date", "date-time"}:
        try:
            datetime.date.fromisoformat(value[:10])
        except ValueError:
            yield jsonschema.ValidationError(f"no {form}")


def _encoding(_: object, name: str, value: object, schema: object) -> Iterator[jsonschema.ValidationError]:
    try:
        base64.b64decode(str(value), validate=True)
    except ValueError:
        yield jsonschema.ValidationError("no base64")


def _type(judge: Any, kind: str, value: object, schema: Mapping[str, Any]) -> Iterator[jsonschema.ValidationError]:
    """The type, where a decimal may be a number too: models write prices like that."""
    number = schema.get("format") == "decimal" and judge.is_type(value, "number")
    if not number and not judge.is_type(value, kind):
        yield jsonschema.ValidationError(f"no {kind}")


# Sets take an item twice, as sets do, and what the draft leaves to others is checked.
Judge = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {"format": _format, "contentEncoding": _encoding, "type": _type, "uniqueItems": lambda *_: ()},
)


def judged(schema: Mapping[str, Any], value: object) -> set[tuple[str | int, ...]]:
    """The places where a value does not fit a schema: of objects that lack something, that of what is missing."""
    places: set[tuple[str | int, ...]] = set()
    for error in Judge(schema).iter_errors(value):
        inner = [each for each in error.context or () if len(each.relative_path) > 0 or each.validator == "required"]
        for each in inner or [error]:
            lacking = [name for name in each.validator_value if name not in each.instance] if _lacks(each) else [None]
            path = tuple(each.absolute_path)
            places |= {path if name is None else (*path, name) for name in lacking}
    return places


def _lacks(error: Any) -> bool:
    return bool(error.validator == "required")


def told(text: str) -> set[tuple[str | int, ...]]:
    """The places that an ArgumentsError tells of."""
    found = set()
    for line in text.removeprefix("invalid arguments: ").split("; "):
        place = line.partition(": ")[0]
        parts = re.findall(r"\.(\w+)|\['(\w*)'\]|\[(\d+)\]|^(\w+)", place)
        found.add(tuple(int(number) if number else field or key or name for field, key, number, name in parts))
    return found


# -- types and values --------------------------------------------------------------------------------------------------

HASHABLE: list[Any] = [int, str, bool, float, Color, Level, None, Literal["a", 1], datetime.date, uuid.UUID]
LEAVES: list[Any] = [
    *(*HASHABLE, datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal, bytes, Any, object, list, dict),
    *(Point, Box, Tree, Movie, Series, Pair, Crate, Crate[int], Placed[str], Named[Color], Noted, Later, UserId),
    *(int | str, int | float, Point | None, list[int] | str, Annotated[int, msgspec.Meta(ge=0, lt=3)] | None),
    *(Annotated[str, msgspec.Meta(min_length=1, pattern="^a")], Annotated[float, msgspec.Meta(gt=0)], tuple[()]),
    *(dict[Annotated[str, msgspec.Meta(max_length=2)], int], set[int], frozenset[Color], T, Bounded),
]
TYPES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),  # type: ignore[valid-type]  # made at run time
        inner.map(lambda hint: Sequence[hint]),  # type: ignore[valid-type]  # as above
        inner.map(lambda hint: dict[str, hint]),  # type: ignore[valid-type]  # as above
        inner.map(lambda hint: Mapping[str, hint]),  # type: ignore[valid-type]  # as above
        inner.map(lambda hint: Annotated[hint, "text"]),  # as above
        inner.map(lambda hint: tuple[hint, ...]),  # type: ignore[valid-type]  # as above
        st.tuples(inner, inner).map(lambda pair: tuple[pair[0], pair[1]]),  # type: ignore[valid-type]  # as above
        inner.map(lambda hint: Crate[hint]),  # type: ignore[valid-type]  # as above
        st.sampled_from(HASHABLE).map(lambda hint: set[hint]),  # type: ignore[valid-type]  # as above
    ),
    max_leaves=4,
)
TEXT = st.text("ab", max_size=3)
NUMBERS = st.integers(-(2**53), 2**53) | st.integers(-3, 3) | st.floats(-4, 4) | st.sampled_from([1.0, -0.0, 1e300])
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | TEXT
    | st.sampled_from(["red", "2026-01-02", "12:00:00", "YWI=", "1.5", "P1D"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from("xyab"), inner, max_size=3),
    max_leaves=5,
)
SAMPLES = {
    "date": st.dates().map(str),
    "time": st.times().map(str) | st.just("03:04:05.5+01:00"),
    "date-time": st.datetimes().map(str) | st.just("2026-01-02T03:04:05Z"),
    "duration": st.sampled_from(["P1D", "PT1H30M"]),
    "uuid": st.uuids().map(str),
    "decimal": st.sampled_from(["1", "-1.50", "1e3"]) | NUMBERS,
}


def values(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema, most of which fit it; now and then something else stands there, or in the place of a part."""
    return st.integers(0, 15).flatmap(lambda n: ANYTHING if n == 0 else _fitting(schema, root, depth))


def _fitting(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return values(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth + 1)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values(each, root, depth) for each in reversed(schema["anyOf"])])
    simple: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": st.integers(-3, 3) | st.integers(-(2**53), 2**53) | st.just(2.0),
        "number": NUMBERS,
        "string": st.just("YWI=") if "contentEncoding" in schema else SAMPLES.get(schema.get("format", ""), TEXT),
    }
    match schema.get("type"):
        case "array":
            return _lists(schema, root, depth)
        case "object":
            return _objects(schema, root, depth)
        case kind:
            return simple.get(str(kind), ANYTHING)


def _lists(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    places = [values(each, root, depth) for each in schema.get("prefixItems", ())]
    if places:
        lengths = st.integers(schema["minItems"] - 1, schema["maxItems"])
        return lengths.flatmap(lambda length: st.tuples(*places[: max(length, 0)])).map(list)
    items = schema.get("items", {})
    return st.lists(values(items, root, depth) if items is not False else ANYTHING, max_size=0 if depth > 2 else 3)


def _objects(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        rest = schema.get("additionalProperties", {})
        return st.dictionaries(TEXT, values(rest, root, depth) if depth < 3 else st.nothing(), max_size=2)
    known = {name: values(each, root, depth) for name, each in schema["properties"].items()}
    required = {name: known[name] for name in schema.get("required", ())}
    optional = {name: known[name] for name in known.keys() - required.keys()} if depth < 3 else {}
    others = st.dictionaries(st.just("inside"), ANYTHING, max_size=1)
    whole = st.builds(lambda own, more: {**more, **own}, st.fixed_dictionaries(required, optional=optional), others)
    without = st.sampled_from([*required, None, None, None])
    return st.builds(lambda value, name: {key: each for key, each in value.items() if key != name}, whole, without)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Mapping[str, Any], Any]:
    """A type, the schema of a tool's arguments with one of it, and a value that may or may not fit."""
    hint = draw(TYPES)
    schema = tool(hinted(hint))["client"]["input_schema"]
    return hint, schema, draw(values(schema["properties"]["value"], schema))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_what_a_schema_allows_is_read_and_the_rest_is_refused_with_its_places(case: tuple[Any, Any, Any]) -> None:
    """By tools and outputs alike; every place that JSON Schema finds is told, as far as not too many are wrong."""
    hint, schema, value = case
    wrong = judged(schema, {"value": value})
    if not wrong:
        assert repr(as_argument(hint, value)) == repr(as_output(hint, value))
        return
    text = complaint(hint, value)
    if text.endswith(" more)"):
        return
    places = told(text)
    assert all(any(place[: len(each)] == each for each in wrong) for place in places), (places, wrong)
    for each in wrong:  # or what it is in: of a list of the wrong length no more is said
        assert any(place[: len(each)] == each or each[: len(place)] == place for place in places), (places, wrong)


# -- single facts ------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, 3.0, 3),
        (float, 3, 3.0),
        (decimal.Decimal, 1.1, decimal.Decimal("1.1")),
        (datetime.datetime, "2026-01-02T03:04:05", datetime.datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - has none
        (bytearray, "YWI=", bytearray(b"ab")),
        (Pair, [1], Pair(1)),
        (Placed[str], ["a", ["b"]], Placed("a", ["b"])),
        (Named[Color], {"a": "red", "other": 1}, {"a": Color.RED}),
        (Movie, {"a": "a", "other": 1}, {"a": "a"}),
        (Crate, {"inside": [1]}, Crate([1])),
        (Point, {"x": 1, "inside": True}, Point(1)),
        (dict[float, int], {"1.5": 2}, {1.5: 2}),
        (dict[Level, int], {"1": 2}, {Level.LOW: 2}),
        (set[int], [1, 1], {1}),
        (Noted, {"a": 1, "b": {"c": 2}}, Noted(1, {"c": 2})),
        (list[Annotated[int, ["a note that is not hashable"]]], [1], [1]),
    ],
    ids=str,
)
def test_what_is_read(read: Callable[[Any, object], Any], hint: Any, value: object, expected: object) -> None:
    """In the very type that was asked for, and without what nobody asked for."""
    got = read(hint, value)
    assert got == expected
    assert type(got) is type(expected)


def str_of(key: str) -> str:
    """Convert a key of few."""
    return {"a": "A"}[key]


@attrs.define
class Validated:
    """With the checks that attrs has."""

    name: str = attrs.field(validator=attrs.validators.matches_re("[a-z]+"))
    count: Any = attrs.field(default=1, validator=attrs.validators.instance_of(int))
    key: str = attrs.field(default="a", converter=str_of)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (int, "3", "value: expected int, got '3'"),
        (int, True, "value: expected int, got True"),
        (dict[float, int], {"NaN": 1}, "value['NaN']: expected float, got 'NaN'"),
        (Color | None, "blue", "value: expected one of 'red', 'green' or None, got 'blue'"),
        (Annotated[int, msgspec.Meta(ge=0)] | None, -1, "value: must be at least 0, got -1"),
        (Annotated[list[Point], msgspec.Meta(max_length=0)], [{"x": 1}], "value: must have at most 0 items, got ["),
        (
            dict[Annotated[str, msgspec.Meta(min_length=3)], int],
            {"12": 1},
            "value['12']: must have at least 3 char",
        ),
        (
            Annotated[datetime.datetime, msgspec.Meta(tz=True)],
            "2026-01-02T03:04:05",
            "value: must have a time zone, got",
        ),
        (Pair, [], "value: expected Pair with 1 to 2 items, got []"),
        (tuple[()], [1], "value: expected tuple[()] with 0 items, got [1]"),
        (list[None], [False], "value[0]: expected None, got False"),
        (Validated, {"name": "A"}, "value: 'name' must match regex '[a-z]+' ('A' doesn't)"),
        (
            Validated,
            {"name": "a", "count": "b"},
            "value: 'count' must be <class 'int'> (got 'b' that is a <class 'str'>).",
        ),
        (Validated, {"name": "a", "key": "b"}, "value: 'b'"),  # what its own code says, and not that a field is missing
        (Box, {"corner": {"y": "a"}, "names": {"n": 1}}, "value.corner.x: is missing; value.corner.y: expected float"),
    ],
    ids=str,
)
def test_what_is_refused(hint: Any, value: object, says: str) -> None:
    """With the same words, each with its place."""
    assert says in complaint(hint, value)


def untold(hint: Any) -> str:
    """Why no schema can be told for a type, said when a tool is made and when an output is wanted."""
    with pytest.raises(ConfigurationError) as of_tool:
        tool(hinted(hint))
    with pytest.raises(ConfigurationError) as of_output:
        OutputType.of(hint)
    reason = str(of_output.value).partition(" has no JSON Schema: ")[2].partition("; take attrs classes")[0]
    assert str(of_tool.value).endswith(reason)
    return reason


@attrs.define
class Holds:
    """With a field that cannot be had, deep inside."""

    crates: list[Crate[complex]]


@dataclasses.dataclass
class Unhashable:
    """What cannot be in a set."""

    a: int


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (complex, "complex has no JSON form"),
        (Holds, "in its field crates.inside: complex has no JSON form"),
        (msgspec.defstruct("Struct", [("a", int)]), "Struct has no JSON form"),
        (list[int | msgspec.UnsetType], "UnsetType has no JSON form"),
        (set[Unhashable], "Unhashable cannot be in a set, since it is not hashable"),
        (
            set[Annotated[Unhashable, msgspec.Meta(description="text")] | None],
            "Optional[Unhashable] cannot be in a set",
        ),
        (Crate[int] | Crate[Any], "Crate[int] and Crate[Any] cannot be told apart in JSON: neither requires"),
        (bytes | str, "bytes in base64 and str cannot be told apart in JSON: bytes in base64 look like"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_read_is_refused_at_once(hint: Any, reason: str) -> None:
    """Not only when the agent sends one: the reason names the field."""
    assert untold(hint).startswith(reason)


def test_fields_that_nobody_may_set_are_not_required() -> None:
    """What ``__init__`` does not take is left to the class."""
    schema = OutputType.of(Later).schema
    assert "total" not in schema["properties"]
    assert schema["required"] == ["at"]
    assert as_argument(Later, {"at": "2026-01-02T03:04:05Z", "total": 5}).total == 1


def test_the_forms_of_times_are_told() -> None:
    """Wherever they stand; without them an agent could only guess."""
    properties = OutputType.of(Later).schema["properties"]
    assert properties["at"] == {"type": "string", "format": "date-time"}
    assert properties["times"]["anyOf"][0]["items"] == {"type": "string", "format": "time"}
    assert properties["local"]["anyOf"][0] == {"type": "string", "format": "date-time"}
    assert OutputType.of(Crate[datetime.time]).schema["properties"]["inside"]["format"] == "time"


def test_generic_classes_are_described_too() -> None:
    """By their docstring, whatever they were given."""
    inside = {"type": "integer", "description": "What is in it."}
    crate = {"description": "Something generic.", "type": "object", "properties": {"inside": inside}}
    assert OutputType.of(Crate[int]).schema == {**crate, "required": ["inside"]}
    places = OutputType.of(Placed[int]).schema["properties"]["value"]["prefixItems"]
    assert places[0] == {"type": "integer", "description": "What it is."}
