"""The types that tools and outputs take, each with values, for the tests and for the page of the documentation."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import annotated_types
import attrs
import msgspec
import pydantic
import pydantic.dataclasses
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

__all__ = ["ROWS", "Row"]

T = TypeVar("T")
Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")
Pairs = TypeAliasType("Pairs", list[tuple[T, T]], type_params=(T,))
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.frozen
class Person:
    name: str
    age: int = 0


@dataclasses.dataclass
class Order:
    item: str
    _: dataclasses.KW_ONLY
    buyer: Person | None = None
    sizes: list[int] = dataclasses.field(default_factory=list)


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Place(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


@attrs.define
class Tree:
    value: int
    children: list[Tree] = attrs.Factory(list)


@dataclasses.dataclass
class User:
    name: str
    kind: Literal["user"] = "user"


@dataclasses.dataclass
class Firm:
    number: int
    kind: Literal["firm"] = "firm"


@attrs.frozen
class Circle:
    radius: int
    label: str = ""


@attrs.frozen
class Square:
    side: int
    label: str = ""


class City(pydantic.BaseModel):
    name: str
    people: int = pydantic.Field(default=0, ge=0)


class Country(pydantic.BaseModel):
    name: str = pydantic.Field(alias="countryName", min_length=1)
    cities: list[City] = []
    founded: datetime.date | None = None


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Folder(pydantic.BaseModel):
    name: str
    inside: list[Folder] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Tags(pydantic.RootModel[list[str]]):
    pass


@pydantic.dataclasses.dataclass
class Point:
    x: int
    y: Annotated[int, pydantic.Field(le=10)] = 0


class Even(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        """Refuse odd numbers."""
        if number % 2:
            raise ValueError("must be even")
        return number


@attrs.define
class Trip:
    to: City
    via: list[City] = attrs.Factory(list)


def is_even(number: int) -> bool:
    """Whether a number is even."""
    return number % 2 == 0


@attrs.frozen
class Row:
    """A type with its values.

    Attributes:
        name: The type as it is written in code.
        hint: The type.
        values: Values of it, each with its JSON.
        enforced: What is checked, for the page.
        unsaid: Whether the schema cannot say all of it, so that the reader refuses more.
    """

    name: str
    hint: Any
    values: st.SearchStrategy[tuple[Any, Any]]
    enforced: str = "the type"
    unsaid: bool = False


def plain(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Values that are their own JSON."""
    return values.map(lambda value: (value, value))


def by(written: Callable[[Any], Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Values with a function that makes their JSON."""
    return values.map(lambda value: (value, written(value)))


def lists(make: Callable[[list[Any]], Any], item: st.SearchStrategy[tuple[Any, Any]], **size: Any) -> Any:
    """Lists of values."""
    return st.lists(item, **{"max_size": 3, **size}).map(
        lambda pairs: (make([a for a, _ in pairs]), [b for _, b in pairs])
    )


def dicts(key: st.SearchStrategy[tuple[Any, str]], item: st.SearchStrategy[tuple[Any, Any]], **size: Any) -> Any:
    """Dicts of values; keys are texts in JSON."""
    pairs = st.lists(st.tuples(key, item), max_size=3, unique_by=lambda pair: pair[0][1], **size)
    return pairs.map(lambda found: ({k: v for (k, _), (v, _) in found}, {k: v for (_, k), (_, v) in found}))


def made(cls: Callable[..., Any], **fields: st.SearchStrategy[tuple[Any, Any]]) -> Any:
    """Instances of a class; a field that ends with an underscore may be left out."""
    required = {name: each for name, each in fields.items() if not name.endswith("_")}
    optional = {name.removesuffix("_"): each for name, each in fields.items() if name.endswith("_")}
    return st.fixed_dictionaries(required, optional=optional).map(
        lambda found: (
            cls(**{name: value for name, (value, _) in found.items()}),
            {name: written for name, (_, written) in found.items()},
        )
    )


def iso(moment: datetime.datetime | datetime.time) -> str:
    """A time in its JSON form."""
    return moment.isoformat().replace("+00:00", "Z")


def duration(length: datetime.timedelta) -> str:
    """A duration in its JSON form."""
    sign, length = ("-", -length) if length < datetime.timedelta() else ("", length)
    return f"{sign}P{length.days}DT{length.seconds}.{length.microseconds:06}S"


SMALL = st.integers(-5, 5)
INT = plain(SMALL | st.integers(-(2**70), 2**70))
STR = plain(st.text(max_size=4))
NAME = plain(st.sampled_from(["Ann", "Bo", "", "é"]))
FLOAT = plain(st.floats(allow_nan=False, allow_infinity=False))
COLORS = by(lambda value: value.value, st.sampled_from(Color))
ZONED = by(iso, st.datetimes(timezones=st.just(datetime.UTC)))
PERSON = made(Person, name=NAME, age_=plain(SMALL))
TREE: Any = st.recursive(
    made(Tree, value=plain(SMALL)),
    lambda inner: made(Tree, value=plain(SMALL), children=lists(list, inner)),
    max_leaves=3,
)
FOLDER: Any = st.recursive(
    made(Folder, name=NAME), lambda inner: made(Folder, name=NAME, inside=lists(list, inner)), max_leaves=3
)
JSON = plain(
    st.recursive(
        st.none() | SMALL | st.text("ab", max_size=2),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
        max_leaves=4,
    )
)
CITY = made(City, name=NAME, people_=plain(st.integers(0, 9)))
COUNTRY = st.fixed_dictionaries(
    {"countryName": plain(st.sampled_from(["France", "Chad"]))}, optional={"cities": lists(list, CITY)}
).map(
    lambda found: (
        Country(**{key: value for key, (value, _) in found.items()}),
        {key: written for key, (_, written) in found.items()},
    )
)
USER = made(User, name=NAME, kind=plain(st.just("user")))
FIRM = made(Firm, number=plain(SMALL), kind=plain(st.just("firm")))
CAT = made(Cat, lives=plain(SMALL), kind=plain(st.just("cat")))
DOG = made(Dog, name=NAME, kind=plain(st.just("dog")))

SCALARS = [
    Row("str", str, STR),
    Row("int", int, INT, "no text, no bool; 3.0 is the integer 3, as in JSON Schema"),
    Row("float", float, FLOAT, "finite; an integer is accepted"),
    Row("bool", bool, plain(st.booleans()), "no 0 and 1"),
    Row("None", None, plain(st.none())),
    Row("Any", Any, JSON, "nothing"),
    Row(
        "decimal.Decimal", decimal.Decimal, by(str, st.decimals(-100, 100, places=2)), "exact; a number is accepted too"
    ),
    Row("uuid.UUID", uuid.UUID, by(str, st.uuids()), "with hyphens"),
    Row("datetime.datetime", datetime.datetime, ZONED, "RFC 3339; without an offset it is naive"),
    Row("datetime.date", datetime.date, by(str, st.dates()), "RFC 3339"),
    Row("datetime.time", datetime.time, by(iso, st.times()), "RFC 3339; the offset may be left out"),
    Row(
        "datetime.timedelta",
        datetime.timedelta,
        by(duration, st.timedeltas(datetime.timedelta(-10), datetime.timedelta(10))),
        "ISO 8601, without years and months",
    ),
    Row("bytes", bytes, by(lambda value: base64.b64encode(value).decode(), st.binary(max_size=4)), "base64"),
    Row("pathlib.Path", pathlib.Path, by(str, st.sampled_from([pathlib.Path("a/b"), pathlib.Path("c")]))),
    Row("Color (an Enum)", Color, COLORS, "one of the values"),
    Row("Level (an IntEnum)", Level, by(int, st.sampled_from(Level)), "one of the values"),
    Row("Access (a Flag)", Access, by(lambda value: value.value, st.sampled_from([Access.READ, ~Access(0)])), "a sum"),
    Row('Literal["a", 1]', Literal["a", 1], plain(st.sampled_from(["a", 1])), "one of the values"),
    Row("Literal[Color.RED]", Literal[Color.RED], st.just((Color.RED, "red")), "one of the values"),
    Row('NewType("UserId", int)', UserId, INT),
]
CONTAINERS = [
    Row("list[int]", list[int], lists(list, INT)),
    Row("Sequence[float]", Sequence[float], lists(list, FLOAT)),
    Row("tuple[int, ...]", tuple[int, ...], lists(tuple, INT)),
    Row("tuple[int, str]", tuple[int, str], st.tuples(SMALL, st.text(max_size=2)).map(lambda pair: (pair, list(pair)))),
    Row("set[int]", set[int], lists(set, INT, unique_by=lambda pair: pair[0]), "an item may be repeated"),
    Row("frozenset[Color]", frozenset[Color], lists(frozenset, COLORS, unique=True), "an item may be repeated"),
    Row("deque[int]", collections.deque[int], lists(collections.deque, INT)),
    Row("dict[str, float]", dict[str, float], dicts(STR, FLOAT)),
    Row("Mapping[str, Any]", Mapping[str, Any], dicts(STR, JSON)),
    Row("dict[int, str]", dict[int, str], dicts(by(str, SMALL), STR), "keys are texts of integers"),
    Row("dict[Color, int]", dict[Color, int], dicts(COLORS, INT), "keys are values of the enum"),
]
CONSTRAINTS = [
    Row(
        "Annotated[int, Ge(1), Le(5)]",
        Annotated[int, annotated_types.Ge(1), annotated_types.Le(5)],
        plain(st.integers(1, 5)),
        "limits",
    ),
    Row(
        "Annotated[int, Interval(gt=0, lt=3)]",
        Annotated[int, annotated_types.Interval(gt=0, lt=3)],
        plain(st.integers(1, 2)),
        "limits",
    ),
    Row(
        "Annotated[int, Field(ge=1, le=5)]",
        Annotated[int, pydantic.Field(ge=1, le=5)],
        plain(st.integers(1, 5)),
        "limits",
    ),
    Row(
        "Annotated[int, Meta(multiple_of=3)]",
        Annotated[int, msgspec.Meta(multiple_of=3)],
        plain(SMALL.map(lambda n: n * 3)),
        "the factor",
    ),
    Row("Annotated[float, Gt(0)]", Annotated[float, annotated_types.Gt(0)], plain(st.floats(0.5, 9)), "the limit"),
    Row(
        "Annotated[str, Len(2, 4)]",
        Annotated[str, annotated_types.Len(2, 4)],
        plain(st.text("abé", min_size=2, max_size=4)),
        "the length, in characters",
    ),
    Row(
        'Annotated[str, Field(pattern="^a")]',
        Annotated[str, pydantic.Field(pattern="^a")],
        plain(st.just("a") | st.just("ab")),
        "the pattern",
    ),
    Row(
        "Annotated[int | None, Ge(0)]",
        Annotated[int | None, annotated_types.Ge(0)],
        plain(st.none() | st.integers(0, 3)),
        "the limit, of the members that it fits",
    ),
    Row(
        "Annotated[list[int], Len(1, 3)]",
        Annotated[list[int], annotated_types.Len(1, 3)],
        lists(list, INT, min_size=1),
        "the number of items",
    ),
    Row(
        "Annotated[dict[str, int], MinLen(1)]",
        Annotated[dict[str, int], annotated_types.MinLen(1)],
        dicts(STR, INT, min_size=1),
        "the number of entries",
    ),
    Row(
        "Annotated[datetime, Timezone(...)]",
        Annotated[datetime.datetime, annotated_types.Timezone(...)],
        ZONED,
        "an offset",
        unsaid=True,
    ),
    Row(
        "Annotated[date, Ge(date(2024, 1, 1))]",
        Annotated[datetime.date, annotated_types.Ge(datetime.date(2024, 1, 1))],
        by(str, st.dates(datetime.date(2024, 1, 1))),
        "the limit",
        unsaid=True,
    ),
    Row(
        "Annotated[Decimal, Ge(0)]",
        Annotated[decimal.Decimal, annotated_types.Ge(0)],
        by(str, st.decimals(0, 9, places=1)),
        "the limit",
        unsaid=True,
    ),
    Row(
        "Annotated[bytes, MaxLen(2)]",
        Annotated[bytes, annotated_types.MaxLen(2)],
        by(lambda value: base64.b64encode(value).decode(), st.binary(max_size=2)),
        "the number of bytes",
        unsaid=True,
    ),
    Row(
        "Annotated[set[int], MinLen(2)]",
        Annotated[set[int], annotated_types.MinLen(2)],
        lists(set, INT, min_size=2, unique_by=lambda pair: pair[0]),
        "different items",
        unsaid=True,
    ),
    Row(
        "Annotated[int, Predicate(is_even)]",
        Annotated[int, annotated_types.Predicate(is_even)],
        plain(SMALL.map(lambda n: n * 2)),
        "what the function says",
        unsaid=True,
    ),
]
CLASSES = [
    Row("an attrs class", Person, PERSON, "fields; converters and validators run"),
    Row(
        "a dataclass",
        Order,
        made(Order, item=NAME, buyer_=PERSON | plain(st.none()), sizes_=lists(list, INT)),
        "fields; `__post_init__` runs",
    ),
    Row("a TypedDict", Movie, made(dict, title=NAME, year_=INT), "keys; others are left out"),
    Row("a NamedTuple", Place, st.tuples(SMALL, SMALL).map(lambda pair: (Place(*pair), list(pair))), "places"),
    Row("Box[int] (a generic class)", Box[int], made(Box, inside=INT), "fields of the given types"),
    Row("Tree (holds itself)", Tree, TREE, "fields, at any depth"),
    Row("type Json = dict[str, Json] | ...", Json, JSON),
    Row(
        "type Pairs[T] = list[tuple[T, T]]",
        Pairs[int],
        lists(list, st.tuples(SMALL, SMALL).map(lambda pair: (pair, list(pair)))),
    ),
]
UNIONS = [
    Row("int | str", int | str, INT | STR),
    Row("int | float", int | float, plain(SMALL) | plain(st.floats(0.1, 0.9)), "2 is an int, 2.0 a float"),
    Row("Person | None", Person | None, PERSON | plain(st.none())),
    Row("Color | int", Color | int, COLORS | INT, "an enum's value is the enum"),
    Row(
        "date | str",
        datetime.date | str,
        by(str, st.dates()) | plain(st.text("ab", max_size=3)),
        "a text that is a date is a date",
    ),
    Row("list[int] | dict[str, int]", list[int] | dict[str, int], lists(list, INT) | dicts(STR, INT)),
    Row("User | Firm (with a tag)", User | Firm, USER | FIRM, "the tag, which must be given"),
    Row(
        "Circle | Square (without a tag)",
        Circle | Square,
        made(Circle, radius=INT, label_=NAME) | made(Square, side=INT, label_=NAME),
        "the fields that tell them apart",
    ),
]
PYDANTIC = [
    Row("a pydantic model", City, CITY, "by pydantic, in strict mode"),
    Row("Country (nested, alias)", Country, COUNTRY, "by pydantic; names are the aliases"),
    Row("Page[int] (generic)", Page[int], made(Page[int], items=lists(list, INT)), "by pydantic"),
    Row("Folder (holds itself)", Folder, FOLDER, "by pydantic"),
    Row("Tags (a RootModel)", Tags, lists(Tags, STR), "by pydantic"),
    Row(
        "Even (with a validator)",
        Even,
        made(Even, number=plain(SMALL.map(lambda n: n * 2))),
        "by its validators",
        unsaid=True,
    ),
    Row("a pydantic dataclass", Point, made(Point, x=INT, y_=plain(st.integers(-5, 10))), "by pydantic"),
    Row(
        'Annotated[Cat | Dog, Field(discriminator="kind")]',
        Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
        CAT | DOG,
        "the tag",
    ),
    Row("Cat | Dog (models)", Cat | Dog, CAT | DOG, "the tag, which must be given"),
    Row("City | int", City | int, CITY | INT, "either"),
    Row(
        "Trip (an attrs class with models)",
        Trip,
        made(Trip, to=CITY, via_=lists(list, CITY)),
        "fields; models by pydantic",
    ),
    Row("dict[str, City] | None", dict[str, City] | None, dicts(STR, CITY) | plain(st.none()), "models by pydantic"),
    Row("conint(ge=1)", pydantic.conint(ge=1), plain(st.integers(1, 9)), "limits"),
    Row(
        "Annotated[int, AfterValidator(abs)]",
        Annotated[int, pydantic.AfterValidator(abs)],
        plain(st.integers(0, 9)),
        "by pydantic",
    ),
    Row(
        "SecretStr",
        pydantic.SecretStr,
        by(lambda value: value.get_secret_value(), st.text(max_size=3).map(pydantic.SecretStr)),
        "by pydantic",
    ),
]
ROWS: Mapping[str, Sequence[Row]] = {
    "Values": SCALARS,
    "Containers": CONTAINERS,
    "Constraints": CONSTRAINTS,
    "Classes": CLASSES,
    "Unions": UNIONS,
    "pydantic": PYDANTIC,
}
