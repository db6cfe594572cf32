"""Types of pydantic: its schema in our form, nothing converted unless a model asks for it, problems with places."""

from __future__ import annotations

import collections
import dataclasses
import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import attrs
import pydantic
import pytest

from inferencesh import ConfigurationError, OutputError, tool
from inferencesh._types.hints import type_name
from inferencesh._types.output import OutputType
from inferencesh.tools.handler import ArgumentsError

from .test_json_types import as_argument, as_output, untold


class City(pydantic.BaseModel):
    """A city."""

    name: str
    people: int = pydantic.Field(default=0, ge=0, description="How many.")
    founded: datetime.date | None = None


class Lenient(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=False)
    number: int


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Mixed(pydantic.BaseModel):
    city: City
    lenient: Lenient | None = None
    field: Annotated[int, pydantic.Field(strict=False)] = 0
    pets: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]] = []


class House(pydantic.BaseModel):
    city: City
    pets: list[Cat] = []


class Written(pydantic.BaseModel):
    day: datetime.date

    @pydantic.model_validator(mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        """Accept the day alone."""
        return {"day": value} if isinstance(value, str) else value


class Closed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    user_name: str = pydantic.Field(alias="userName")


class Checked(pydantic.BaseModel):
    a: int
    b: int = 0

    @pydantic.field_validator("a")
    @classmethod
    def check(cls, a: int) -> int:
        """Raise something that is no ValueError."""
        if a == 7:
            raise RuntimeError("seven\nTraceback")
        return a

    @pydantic.model_validator(mode="after")
    def compare(self) -> Checked:
        """Compare the fields."""
        if self.b > self.a:
            raise ValueError("b must not be above a")
        return self


class Account(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(coerce_numbers_to_str=True)
    number: str
    size: int = 0


class Limited(pydantic.BaseModel):
    text: str = pydantic.Field(default="a", min_length=1)
    secret: pydantic.SecretStr | None = pydantic.Field(default=None, min_length=1)
    items: list[int] = pydantic.Field(default=[], max_length=1)
    day: pydantic.PastDate | None = None
    size: Literal["S", "L"] = "S"
    sizes: list[int] = []
    union: int | str | City | None = None


def colour_of(value: Any) -> Any:
    """Return the tag of a fruit."""
    return value.get("colour") if isinstance(value, dict) else None


class Fruit(pydantic.BaseModel):
    colour: str


ByFunction = Annotated[
    Annotated[Fruit, pydantic.Tag("red")] | Annotated[Fruit, pydantic.Tag("blue")], pydantic.Discriminator(colour_of)
]


@attrs.define
class Plain:
    """An attrs class, which pydantic does not know."""

    a: int


def complaint(hint: Any, value: object) -> str:
    """What is wrong with an argument."""
    with pytest.raises(ArgumentsError) as caught:
        as_argument(hint, value)
    return str(caught.value).removeprefix("invalid arguments: ")


def test_the_schema_is_pydantics_in_our_form() -> None:
    """Inlined, without titles and defaults of null; the descriptions are there."""
    schema = OutputType.of(Mixed).schema
    assert schema["properties"]["city"] == {
        "type": "object",
        "description": "A city.",
        "properties": {
            "name": {"type": "string"},
            "people": {"type": "integer", "default": 0, "minimum": 0, "description": "How many."},
            "founded": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        },
        "required": ["name"],
    }
    cat, dog = schema["properties"]["pets"]["items"]["oneOf"]
    assert cat["required"] == ["lives", "kind"]
    assert dog["required"] == ["name", "kind"]
    assert "$defs" not in schema


class Documented(pydantic.BaseModel):
    """A booking.

    Attributes:
        guests: How many come.
        nights: Not this.
    """

    guests: int
    nights: int = pydantic.Field(default=1, description="How long.")


def test_the_docstring_of_a_model_describes_its_fields() -> None:
    """Where they do not describe themselves; the description of the model is the rest."""
    schema = OutputType.of(Documented).schema
    assert schema["description"] == "A booking."
    texts = {name: each["description"] for name, each in schema["properties"].items()}
    assert texts == {"guests": "How many come.", "nights": "How long."}


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (City, {"name": "a", "people": "3"}, "value.people: expected int, got '3'"),
        (City, {"name": "a", "people": -1}, "value.people: must be at least 0, got -1"),
        (City, {}, "value.name: is missing"),
        (City, 5, "value: expected City, got 5"),
        (City, [], "value: expected City, got []"),
        (list[City], [{"name": "a"}, {"name": 1}], "value[1].name: expected str, got 1"),
        (dict[str, City] | None, {"a b": {}}, "value['a b'].name: is missing"),
        (City | int, "x", "value: expected City or int, got 'x'"),
        (City | int, {"name": 1}, "value.name: expected str, got 1"),
        (Mixed, {"city": {"name": "a"}, "pets": [{"kind": "cow"}]}, "value.pets[0].kind: expected one of 'cat', 'dog'"),
        (Mixed, {"city": {"name": "a"}, "pets": [{}]}, "value.pets[0].kind: is missing"),
        (Mixed, {"city": {"name": "a"}, "pets": [{"kind": "cat"}]}, "value.pets[0].lives: is missing"),
        (Cat | Dog, {"kind": "cow"}, "value.kind: expected one of 'cat', 'dog', got 'cow'"),
        (Cat | Dog, {"lives": 9}, "value.kind: is missing, expected one of 'cat', 'dog'"),
        (Closed, {"userName": "a", "x": 1}, "value.x: there is no such field"),
        (Closed, {"user_name": "a"}, "value.userName: is missing"),
        (Checked, {"a": 1, "b": 2}, "value: b must not be above a, got {"),
        (Checked, {"a": 7}, "value: seven"),
        (ByFunction, {"colour": "green"}, "value: must have one of the tags 'red', 'blue', got {"),
        (ByFunction, {}, "value: must have a tag, got {}"),
        (
            Annotated[City, pydantic.Field(description="x")],
            {"people": 0.5},
            "value.name: is missing; value.people: exp",
        ),
        (Limited, {"union": []}, "value.union: expected int or str or City, got []"),
        (Limited, {"union": {"name": 1}}, "value.union.name: expected str, got 1"),
        (Limited, {"size": 1, "sizes": [{}]}, "value.size: expected 'S' or 'L', got 1; value.sizes[0]: expected int"),
        (Limited, {"text": ""}, "value.text: must have at least 1 character, got ''"),
        (Limited, {"secret": ""}, "value.secret: must have at least 1 character, got ''"),
        (Limited, {"items": [1, 2]}, "value.items: must have at most 1 item, got [1, 2]"),
        (Limited, {"day": "2999-01-01"}, "value.day: must be in the past, got"),
        (Limited, {"size": "XL"}, "value.size: expected 'S' or 'L', got 'XL'"),
    ],
    ids=lambda value: type_name(value) if isinstance(value, type) else None,
)
def test_problems_have_their_places(hint: Any, value: object, says: str) -> None:
    """One sentence a field, and never a traceback."""
    assert complaint(hint, value).startswith(says)
    assert "Traceback" not in complaint(hint, value)


def test_all_problems_are_told_at_once() -> None:
    """As for our own classes."""
    told = complaint(House, {"city": {"name": 1, "people": "x"}, "pets": 3}).split("; ")
    assert told == [
        "value.city.name: expected str, got 1",
        "value.city.people: expected int, got 'x'",
        "value.pets: expected list, got 3",
    ]


def test_an_integer_may_be_written_with_a_point() -> None:
    """3.0 is an integer in JSON Schema, also where pydantic is strict."""
    assert as_argument(City, {"name": "a", "people": 3.0}) == City(name="a", people=3)


class Varied(pydantic.BaseModel):
    number: int = 0
    secret: pydantic.SecretStr | None = None
    sizes: Mapping[str, int] = {}
    queue: collections.deque[int] = collections.deque()
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None = None


@pytest.mark.parametrize(
    "given",
    [{"number": "3"}, {"number": True}, {"pet": {"kind": "cat", "lives": False}}, {"queue": ["1"]}, {"secret": 1}],
)
def test_what_pydantic_itself_makes_lenient_does_not_count(given: dict[str, Any]) -> None:
    """It says so of the schemas of some types, which are no wish of the model."""
    assert ": expected " in complaint(Varied, given)


def test_only_what_asks_for_it_is_converted() -> None:
    """A model that says ``strict=False``, a field that does, and what runs a validator before pydantic's own."""
    given = {"city": {"name": "a"}, "lenient": {"number": "3"}, "field": "4"}
    got = as_argument(Mixed, given)
    assert (got.lenient, got.field) == (Lenient(number=3), 4)
    assert as_argument(Written, "2026-01-02") == as_argument(Written, {"day": "2026-01-02"})
    assert as_argument(Annotated[int, pydantic.BeforeValidator(int)], "4") == 4
    assert as_argument(Account, {"number": 4}) == Account(number="4")
    if not pydantic.VERSION.startswith(("2.11.", "2.12.")):  # whose models cannot be made strict in part
        assert "value.city.people: expected int" in complaint(Mixed, {**given, "city": {"name": "a", "people": "3"}})


@pytest.mark.parametrize("default", [pydantic.Field(default=3, ge=1, description="How many"), pydantic.Field(3, ge=1)])
def test_field_as_the_default_of_a_parameter(default: Any) -> None:
    """Its default is the parameter's, which may be left out; its constraints are enforced."""

    def find(limit: int = default) -> int:
        """Find.

        Args:
            limit: How many
        """
        return limit

    built = tool(find)
    schema = built["client"]["input_schema"]
    assert schema["properties"]["limit"] == {"type": "integer", "minimum": 1, "description": "How many", "default": 3}
    assert schema["required"] == []
    assert built.bind({}, None)() == 3
    assert built.bind({"limit": 5}, None)() == 5
    with pytest.raises(ArgumentsError, match="limit: must be at least 1, got 0"):
        built.bind({"limit": 0}, None)()


def test_a_default_factory_makes_a_new_value_each_time() -> None:
    """What one call has put into it is not seen by another; in ``Annotated`` a default counts as well."""

    def collect(
        item: str,
        kept: list[str] = pydantic.Field(default_factory=list),  # noqa: B008 - what is tested
        *,
        size: Annotated[int, pydantic.Field(default=2)],
        needed: int = pydantic.Field(gt=0),
    ) -> list[Any]:
        """Collect."""
        kept.append(item)
        return [kept, size, needed]

    built = tool(collect)
    assert built["client"]["input_schema"]["required"] == ["item", "needed"]
    for _ in range(2):
        assert built.bind({"item": "a", "needed": 1}, None)() == [["a"], 2, 1]


def test_field_as_the_default_in_a_plain_dataclass() -> None:
    """An instance gets the value, and not the ``FieldInfo``."""

    @dataclasses.dataclass
    class Query:
        limit: int = pydantic.Field(default=3, le=5)

    assert as_argument(Query, {}) == Query(3)
    assert complaint(Query, {"limit": 6}) == "value.limit: must be at most 5, got 6"


def test_what_pydantic_cannot_read_is_refused_when_the_tool_is_made() -> None:
    """An attrs class inside a model, and a validator of pydantic on one; the error says what to do."""

    class Holder(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        plain: Plain

    for hint in (Holder, Annotated[Plain, pydantic.AfterValidator(lambda value: value)]):
        assert "no attrs classes" in untold(hint)


def test_a_model_with_a_name_that_is_not_defined_is_refused() -> None:
    """The error says which name, and what to do."""

    class Parent(pydantic.BaseModel):
        child: "Child"  # type: ignore[name-defined]  # noqa: F821, UP037 - it is defined nowhere

    told = untold(Parent)
    assert "its hints name Child, which is not defined: define it first, or call model_rebuild()" in told


def test_a_model_nested_deeply_is_told() -> None:
    """Not a traceback."""

    class Chain(pydantic.BaseModel):
        next: Any = None

    value: dict[str, Any] = {}
    for _ in range(5000):
        value = {"next": value}
    kind = OutputType.of(Chain)
    with pytest.raises(OutputError, match=r"nested too deeply|recursion"):
        kind.read(value)


def test_a_model_as_output() -> None:
    """As an instance, at the end and, as soon as it is complete, before it."""
    kind = OutputType.of(list[City])
    assert as_output(City, {"name": "Paris"}) == City(name="Paris")
    assert kind.read_partial({"value": [{"name": "a"}, {}]}) == [City(name="a")]
    assert kind.read_partial({"value": [{"name": "a"}, {}]}, over=True) is None
    assert OutputType.of(City).read_partial({}) is None
    assert OutputType.of(City).read_partial({"name": "a"}) == City(name="a")
    with pytest.raises(ConfigurationError, match="no attrs classes"):
        OutputType.of(Annotated[Plain, pydantic.AfterValidator(lambda value: value)])  # type: ignore[arg-type]  # a hint


class Trip(pydantic.BaseModel):
    title: str
    stops: list[City] = []
    by_name: dict[str, City] = {}
    note: str = ""


class LenientTrip(Trip):
    @pydantic.field_validator("note", mode="before")
    @classmethod
    def as_text(cls, note: object) -> str:
        """Accept anything."""
        return str(note)


@pytest.mark.parametrize("trip", [Trip, LenientTrip])
def test_a_model_that_grows_is_never_gone_again(trip: type[Trip]) -> None:
    """A part of it that is not complete yet is left out, at any depth."""
    kind = OutputType.of(trip)
    oslo = City(name="Oslo")
    grown: list[tuple[object, object]] = [
        ({}, None),
        ({"title": "North"}, trip(title="North")),
        ({"title": "North", "stops": [{}]}, trip(title="North", stops=[])),
        ({"title": "North", "stops": [{"name": "Oslo"}]}, trip(title="North", stops=[oslo])),
        ({"title": "North", "stops": [{"name": "Oslo"}, {}]}, trip(title="North", stops=[oslo])),
        (
            {"title": "North", "stops": [{"name": "Oslo"}], "by_name": {"o": {"name": "Oslo"}, "b": {"people": 1}}},
            trip(title="North", stops=[oslo], by_name={"o": oslo}),
        ),
    ]
    assert [kind.read_partial(value) for value, _ in grown] == [expected for _, expected in grown]
    assert kind.read_partial({"title": "North", "stops": [{}], "note": "x"}) is None  # no longer the last part
    assert kind.read_partial({"title": "North", "stops": [{}]}, over=True) is None
