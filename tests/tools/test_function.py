"""Tools made of functions: what the agent is told of them, how their arguments arrive, and what is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import gc
import inspect
import json
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencesh import ConfigurationError, FunctionTool, Tool, ToolContext, tool
from inferencesh._turns.conversation import AgentSetup
from inferencesh.tools.handler import ArgumentsError

if TYPE_CHECKING:
    from collections.abc import Hashable as OnlyForCheckers

CONTEXT = ToolContext("chat", "call", "t")


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
    """A place.

    Attributes:
        x: To the right.
    """

    x: int
    y: Annotated[int, "Downwards"] = 0


@attrs.define
class Tree:
    """Something that holds itself."""

    name: str
    children: list[Tree] = attrs.Factory(list)


@dataclasses.dataclass
class Box:
    """What holds things."""

    corner: Point
    size: tuple[int, int] = (1, 1)


class Query(TypedDict):
    """What is looked for."""

    text: str
    limit: NotRequired[Annotated[int, msgspec.Meta(ge=1, description="At most")]]


class Pair(NamedTuple):
    """Two of them."""

    a: int
    b: str


def schema_of(built: Mapping[str, Any]) -> Any:
    """The JSON Schema of a tool's arguments."""
    return built["client"]["input_schema"]


def hinted(hint: object) -> Callable[..., Any]:
    """A function that returns its one argument, which has this hint."""

    def f(value: Any) -> Any:
        return value

    f.__annotations__ = {"value": hint}
    return f


def call(built: Tool, **arguments: Any) -> Any:
    """What a call of the tool with these arguments returns; they go through JSON as those of an agent do."""
    return built.bind(json.loads(json.dumps(arguments)), CONTEXT)()


def converted(hint: object, value: object) -> Any:
    """What a function with a parameter of this hint gets for a JSON value."""
    return call(tool(hinted(hint)), value=value)


# -- what the agent is told


def test_a_tool_made_of_a_function() -> None:
    """The wire form has its name, docstring and parameters; what has a default may be left out."""

    @tool
    def find(query: str, limit: int = 5, *, color: Color = Color.RED, since: dt.date | None = None) -> list[str]:
        """Find things.

        Anywhere.

        Args:
            query: What to
                look for.
            limit (int): How many.

        Returns:
            Things.
        """
        return [query, str(limit), color.value, str(since)]

    assert isinstance(find, Tool)
    assert dict(find) == {
        "name": "find",
        "display_name": "find",
        "description": "Find things.\n\nAnywhere.\n\nReturns: Things.",
        "type": "client",
        "require_approval": False,
        "client": {
            "input_schema": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "What to\nlook for."},
                    "limit": {"type": "integer", "description": "How many.", "default": 5},
                    "color": {"type": "string", "enum": ["green", "red"], "description": "A colour.", "default": "red"},
                    "since": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                },
                "required": ["query"],
            }
        },
    }
    assert call(find, query="tea", color="green", since="2026-01-02") == ["tea", "5", "green", "2026-01-02"]


def google(query: str, limit: int = 1) -> None:
    """Find things.

    Args:
        query (str): What to look for.
        limit: How many.
    """


def numpy(query: str, limit: int = 1) -> None:
    """Find things.

    Parameters
    ----------
    query : str
        What to look for.
    limit
        How many.
    """


def sphinx(query: str, limit: int = 1) -> None:
    """Find things.

    :param str query: What to look for.
    :param limit: How many.
    :rtype: None
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_docstrings_of_three_styles(function: Callable[..., Any]) -> None:
    """Each says the same."""
    built = tool(function)
    properties = schema_of(built)["properties"]
    assert built["description"] == "Find things."
    assert {name: schema["description"] for name, schema in properties.items()} == {
        "query": "What to look for.",
        "limit": "How many.",
    }


def test_a_function_without_hints_and_docstring() -> None:
    """Its parameters take anything; there is nothing to describe."""

    @tool
    def guess(x, y=None):  # type: ignore[no-untyped-def]  # what is tested
        return [x, y]

    assert guess["description"] == ""
    assert schema_of(guess) == {"type": "object", "properties": {"x": {}, "y": {}}, "required": ["x"]}
    assert call(guess, x={"any": ["thing"]}) == [{"any": ["thing"]}, None]


def test_a_function_without_parameters() -> None:
    """The schema is that of the builder."""
    built = tool(test_a_function_without_parameters)
    assert schema_of(built) == {"type": "object", "properties": {}, "required": []}
    assert schema_of(built) == schema_of(tool("t").build())


def test_descriptions_in_annotated_win_over_the_docstring() -> None:
    """As plain text or as msgspec's Meta, also inside a union."""

    def f(
        a: Annotated[int, "text"],
        b: Annotated[int, msgspec.Meta(description="meta", ge=3)],
        c: Annotated[str, "inside"] | None = None,
        d: Annotated[Color, "choice"] = Color.RED,
    ) -> None:
        """F.

        Args:
            a: doc
            b: doc
            c: doc
            d: doc
        """

    properties = schema_of(tool(f))["properties"]
    assert properties["a"]["description"] == "text"
    assert properties["b"] == {"type": "integer", "description": "meta", "minimum": 3}
    assert properties["c"]["description"] == "inside"
    assert properties["d"]["description"] == "choice"


def test_options_win_over_the_function() -> None:
    """Given to ``tool``, or by the builder's steps; both decorate."""

    @tool("search", description="Options.", display_name="Search", require_approval=True)
    def by_options(q: str) -> str:
        """Docstring."""
        return q

    @tool("search").describe("Options.").display("Search").require_approval()
    def by_steps(q: str) -> str:
        """Docstring."""
        return q

    @tool(name="search", description="Options.", display_name="Search", require_approval=True)
    def by_names(q: str) -> str:
        """Docstring."""
        return q

    assert dict(by_options) == dict(by_steps) == dict(by_names)
    assert by_options["name"] == "search"
    assert by_options["description"] == "Options."
    assert by_options["display_name"] == "Search"
    assert by_options["require_approval"] is True


def test_empty_options_leave_it_to_the_function() -> None:
    """``@tool()`` is ``@tool``."""

    @tool()
    def find(q: str) -> str:
        """Docstring."""
        return q

    assert (find.name, find["description"]) == ("find", "Docstring.")
    assert dict(tool(find)) == dict(find), "a tool is made of the function again"
    assert tool(find, description="Other")["description"] == "Other"


def test_the_options_of_a_plain_builder() -> None:
    """They are its first steps."""
    built = tool("t", description="d", display_name="D", require_approval=True).build()
    assert (built["description"], built["display_name"], built["require_approval"]) == ("d", "D", True)


# -- schemas and values of hints

HINTS: list[tuple[object, dict[str, Any], object, object]] = [
    (str, {"type": "string"}, "a", "a"),
    (int, {"type": "integer"}, 3, 3),
    (float, {"type": "number"}, 3, 3.0),
    (bool, {"type": "boolean"}, True, True),
    (Any, {}, {"a": 1}, {"a": 1}),
    (object, {}, [1], [1]),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
    (Literal[1, 2], {"type": "integer", "enum": [1, 2]}, 2, 2),
    (Color, {"type": "string", "enum": ["green", "red"], "description": "A colour."}, "red", Color.RED),
    (Level, {"type": "integer", "enum": [1, 2], "description": "How much."}, 2, Level.HIGH),
    (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),  # noqa: UP045 - what is tested
    (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a", "a"),
    (list[Literal["a"]], {"type": "array", "items": {"type": "string", "enum": ["a"]}}, ["a"], ["a"]),
    (Sequence[int], {"type": "array", "items": {"type": "integer"}}, [1], [1]),
    (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
    (
        dict[int, object],
        {"type": "object", "propertyNames": {"pattern": "^-?(0|[1-9][0-9]*)$"}, "additionalProperties": {}},
        {"1": "a"},
        {1: "a"},
    ),
    (dt.date, {"type": "string", "format": "date"}, "2026-01-02", dt.date(2026, 1, 2)),
    (uuid.UUID, {"type": "string", "format": "uuid"}, str(uuid.UUID(int=5)), uuid.UUID(int=5)),
    (bytes, {"type": "string", "contentEncoding": "base64"}, "YWI=", b"ab"),
    (
        Point,
        {
            "type": "object",
            "description": "A place.",
            "properties": {
                "x": {"type": "integer", "description": "To the right."},
                "y": {"type": "integer", "description": "Downwards", "default": 0},
            },
            "required": ["x"],
        },
        {"x": 1},
        Point(1),
    ),
    (
        Query,
        {
            "type": "object",
            "description": "What is looked for.",
            "properties": {
                "text": {"type": "string"},
                "limit": {"type": "integer", "minimum": 1, "description": "At most"},
            },
            "required": ["text"],
        },
        {"text": "a", "limit": 2},
        {"text": "a", "limit": 2},
    ),
]


@pytest.mark.parametrize(("hint", "schema", "value", "expected"), HINTS, ids=[str(case[0]) for case in HINTS])
def test_hints(hint: object, schema: dict[str, Any], value: object, expected: object) -> None:
    """Each has a self-contained schema, and a value that fits it arrives as what the hint says."""
    assert schema_of(tool(hinted(hint)))["properties"]["value"] == schema
    got = converted(hint, value)
    assert got == expected
    assert type(got) is type(expected)


def test_classes_hold_classes() -> None:
    """All are made, at any depth, and their schemas stand where they are used."""
    box = converted(list[Box | None], [None, {"corner": {"x": 1, "y": 2}, "size": [3, 4]}])
    assert box == [None, Box(Point(1, 2), (3, 4))]
    sent = schema_of(tool(hinted(list[Box | None])))
    assert "$" not in json.dumps(sent)
    corner = sent["properties"]["value"]["items"]["anyOf"][0]["properties"]["corner"]
    assert corner["required"] == ["x"]
    assert converted(Pair, [1, "a"]) == Pair(1, "a")
    assert converted(set[int], [1, 1, 2]) == {1, 2}


def test_a_class_that_holds_itself_is_a_reference_within_the_schema() -> None:
    """It cannot be written out; the definition is in the same schema."""
    sent = schema_of(tool(hinted(Tree)))
    assert sent["properties"]["value"] == {"$ref": "#/$defs/Tree"}
    assert list(sent["$defs"]) == ["Tree"]
    assert sent["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert converted(Tree, {"name": "a", "children": [{"name": "b"}]}) == Tree("a", [Tree("b")])


def test_no_nulls_and_titles_are_sent() -> None:
    """A default of None says no more than that the argument may be left out."""

    @attrs.define
    class Title:
        title: str | None = None
        other: int | None = None

    def f(a: Title, b: str | None = None) -> None:
        """F."""

    sent = schema_of(tool(f))
    assert "default" not in json.dumps(sent)
    assert set(sent["properties"]["a"]["properties"]) == {"title", "other"}
    assert sent["required"] == ["a"]


class Here:
    """Where one node is."""

    @attrs.define
    class Node:
        """One node."""

        inner: list[Here.Node] = attrs.Factory(list)


class There:
    """Where another one is."""

    @attrs.define
    class Node:
        """Another node."""

        inner: list[There.Node] = attrs.Factory(list)


def test_two_classes_of_one_name_are_told_apart() -> None:
    """Also where both hold themselves."""

    def f(a: Here.Node, b: There.Node) -> tuple[object, object]:
        return a, b

    built = tool(f)
    a, b = call(built, a={"inner": [{}]}, b={})
    assert (type(a), type(b)) == (Here.Node, There.Node)
    sent = schema_of(built)
    assert len(sent["$defs"]) == 2
    assert sent["properties"]["a"] != sent["properties"]["b"]


def test_two_classes_that_no_name_tells_apart() -> None:
    """Local ones made twice by the same lines, for instance."""

    def make() -> Any:
        @attrs.define
        class Node:
            value: int
            inside: Any = None

        Node.__annotations__["inside"] = Node | None
        return Node

    def f(a: Any, b: Any) -> None:
        """F."""

    f.__annotations__.update(a=make(), b=make())
    sent = schema_of(tool(f))
    assert [sent["properties"][name] for name in "ab"] == [{"$ref": "#/$defs/Node"}, {"$ref": "#/$defs/Node_2"}]
    assert sent["$defs"].keys() == {"Node", "Node_2"}


def test_a_default_that_can_be_changed_is_not_shared_between_calls() -> None:
    """What one conversation has put into it is not seen by another."""

    @tool
    def collect(item: str, kept: list[list[str]] = [[]], seen: dict[str, int] = {}) -> str:  # noqa: B006 - the point
        kept[0].append(item)
        seen[item] = seen.get(item, 0) + 1
        return f"{kept} {seen}"

    class Counter(pydantic.BaseModel):
        number: int = 0

    @tool
    def count(counter: Counter = Counter()) -> int:  # noqa: B008 - the point
        counter.number += 1
        return counter.number

    assert [call(collect, item="a"), call(collect, item="a")] == ["[['a']] {'a': 1}"] * 2
    assert [call(count), call(count)] == [1, 1]
    assert schema_of(collect)["properties"]["kept"]["default"] == [[]]


def test_defaults_that_json_cannot_say_are_not_told() -> None:
    """The agent only learns that the argument may be left out."""
    nothing = object()

    def f(a: Any = nothing, b: Point = Point(3)) -> tuple[object, Point]:
        return a, b

    sent = schema_of(tool(f))
    assert sent["properties"]["a"] == {}
    assert sent["properties"]["b"]["default"] == {"x": 3, "y": 0}
    assert call(tool(f)) == (nothing, Point(3))


def upper(text: str) -> str:
    """Convert what an account is given."""
    return text.upper()


@attrs.frozen
class Account:
    """Somebody's account."""

    owner: str = attrs.field(converter=upper)
    admin: bool = attrs.field(init=False, default=False)
    _note: str = ""


@dataclasses.dataclass
class Holder:
    """What has accounts."""

    accounts: dict[str, list[Account]]
    secret: int = dataclasses.field(init=False, default=0)


def test_classes_are_made_by_their_own_init() -> None:
    """Converters run, and what ``__init__`` does not take cannot be set from outside."""

    @tool
    def f(holder: Holder) -> Holder:
        return holder

    sent = schema_of(f)["properties"]["holder"]
    assert list(sent["properties"]) == ["accounts"]
    assert list(sent["properties"]["accounts"]["additionalProperties"]["items"]["properties"]) == ["owner", "_note"]
    given_account = {"owner": "ann", "admin": True, "_note": "n"}
    got = call(f, holder={"accounts": {"a": [given_account]}, "secret": 9})
    assert got.secret == 0
    (account,) = got.accounts["a"]
    assert (account.owner, account.admin, account._note) == ("ANN", False, "n")


T = TypeVar("T")


@attrs.frozen
class Crate(Generic[T]):
    """A crate of something."""

    inside: T


def test_generic_classes() -> None:
    """With what they hold."""
    sent = schema_of(tool(hinted(Crate[int])))["properties"]["value"]
    assert sent["properties"]["inside"] == {"type": "integer"}
    assert converted(Crate[int], {"inside": 3}) == Crate(3)


@settings(max_examples=200, deadline=None)
@given(st.builds(Box, st.builds(Point, st.integers(), st.integers()), st.tuples(st.integers(), st.integers())))
def test_what_was_written_comes_back(box: Box) -> None:
    """A value sent as JSON arrives as it was."""
    assert converted(Box, msgspec.to_builtins(box)) == box


# -- arguments that do not fit


@tool
def order(item: str, amount: int, points: list[Point], color: Color = Color.RED) -> str:
    """Order something."""
    raise AssertionError("it was called")


def problems(arguments: dict[str, Any], built: Tool = order) -> str:
    """What the agent is told about arguments that do not fit."""
    bound = built.bind(arguments, CONTEXT)
    with pytest.raises(ArgumentsError) as caught:
        bound()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"item": 5}, "item: expected str, got 5"),
        ({"amount": "three"}, "amount: expected int, got 'three'"),
        ({"amount": True}, "amount: expected int, got True"),
        ({"amount": None}, "amount: expected int, got None"),
        ({"points": [{"x": 1}, {"x": "1"}]}, "points[1].x: expected int, got '1'"),
        ({"points": [{}]}, "points[0].x: is missing"),
        ({"color": "blue"}, "color: expected one of 'red', 'green', got 'blue'"),
        ({"ammount": 3}, "there is no argument 'ammount'"),
    ],
)
def test_the_agent_is_told_which_argument_is_wrong_and_why(change: dict[str, Any], says: str) -> None:
    """With the place inside it; the function is not called."""
    assert says in problems({"item": "tea", "amount": 3, "points": [], **change})


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Nobody wants to try five times."""
    told = problems({"item": 5, "points": [{"x": "1"}, {"y": True}], "color": "blue"})
    assert told == (
        "invalid arguments: item: expected str, got 5; amount: is missing; points[0].x: expected int, got '1'; "
        "points[1].x: is missing; points[1].y: expected int, got True; "
        "color: expected one of 'red', 'green', got 'blue'"
    )


def test_a_classes_own_checks_are_told_too() -> None:
    """Validators and converters belong to what is allowed."""

    @attrs.frozen
    class Dose:
        amount: int = attrs.field(validator=attrs.validators.gt(0))
        at: int = attrs.field(default=0, converter=int)

        def __attrs_post_init__(self) -> None:
            if self.amount > 100:
                raise ValueError("that is too much")

    @tool
    def give(dose: Dose) -> Dose:
        return dose

    assert "'amount' must be > 0" in problems({"dose": {"amount": -1}}, give)
    assert "dose: that is too much" in problems({"dose": {"amount": 101}}, give)
    assert call(give, dose={"amount": 5}) == Dose(5)


def test_text_that_looks_like_an_errors_place_is_no_place() -> None:
    """An argument's text is quoted in the error, and may say anything."""
    told = problems({"item": "tea", "amount": 3, "points": [], "color": "x - at `$.amount`"})
    assert "color: expected one of 'red', 'green', got 'x - at `$.amount`'" in told


# -- the ways to write a tool


class Shop:
    """Something with methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def find(self, item: str, limit: int = 1) -> str:
        """Find something.

        Args:
            item: What.
        """
        return f"{self.name}: {item} {limit}"

    @tool("slow_find", description="Slowly.")
    async def find_slowly(self, item: str) -> str:
        """Find something."""
        return self.name + item

    @tool
    @staticmethod
    def inner_static(item: str) -> str:
        """Without an object."""
        return item

    @staticmethod
    @tool
    def outer_static(item: str) -> str:
        """Without an object."""
        return item

    @tool
    @classmethod
    def of_class(cls, item: str) -> str:
        """With the class."""
        return f"{cls.__name__}: {item}"

    def plain(self, item: str) -> str:
        """Without a decorator."""
        return f"{self.name}, plainly: {item}"

    def __call__(self, item: str) -> str:
        """Be called."""
        return f"{self.name}, called: {item}"


ITEM = {"type": "string"}


def test_a_method_is_the_tool_of_its_object() -> None:
    """The agent does not see ``self``; the method can still be called."""
    shop, other = Shop("one"), Shop("two")
    assert schema_of(shop.find)["properties"] == {
        "item": {"type": "string", "description": "What."},
        "limit": {"type": "integer", "default": 1},
    }
    assert shop.find.name == "find"
    assert call(shop.find, item="tea") == shop.find("tea") == "one: tea 1"
    assert call(other.find, item="tea", limit=2) == "two: tea 2"
    assert shop.find_slowly.name == "slow_find"
    assert inspect.iscoroutinefunction(shop.find_slowly.handler)


def test_static_and_class_methods() -> None:
    """In either order of the decorators, with and without an object."""
    shop: Any = Shop("x")  # type checkers do not see through a static method inside
    for built in (Shop.inner_static, Shop.outer_static, shop.inner_static, shop.outer_static):
        assert schema_of(built)["properties"] == {"item": ITEM}
        assert call(built, item="tea") == built("tea") == "tea"
    assert schema_of(Shop.of_class)["properties"] == {"item": ITEM}
    assert call(Shop.of_class, item="tea") == Shop("x").of_class("tea") == "Shop: tea"


def test_a_method_without_its_object_cannot_be_given_to_an_agent() -> None:
    """There would be nothing to call it on."""
    with pytest.raises(ConfigurationError, match=r"shop\.find"):
        AgentSetup.read({"tools": [Shop.find]})
    assert AgentSetup.read({"tools": [Shop("x").find, Shop.of_class, Shop.outer_static]}).tools["find"]


def test_a_tool_that_a_class_holds_is_no_method_of_it() -> None:
    """A function of a module stays what it is."""

    class Holder:
        order = order

    assert Holder.order is order
    assert AgentSetup.read({"tools": [order]}).tools == {"order": order}


def add(a: int, b: int) -> int:
    """Add.

    Args:
        a: One.
        b: Other.
    """
    return a + b


def doubled(function: Callable[..., int]) -> Callable[..., int]:
    """Decorate a function, as people do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> int:
        return 2 * function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("function", "name", "result"),
    [
        (add, "add", 5),
        (doubled(add), "add", 10),
        (functools.partial(doubled(add)), "add", 10),
    ],
)
def test_functions_in_other_clothes(function: Callable[..., Any], name: str, result: int) -> None:
    """Their name, docstring and hints are those of the function inside."""
    built = tool(function)
    assert (built.name, built["description"]) == (name, "Add.")
    assert schema_of(built)["properties"]["a"] == {"type": "integer", "description": "One."}
    assert call(built, a=2, b=3) == result


def test_what_a_partial_has_fixed_is_none_of_the_agents_business() -> None:
    """By position or name, whatever its hint."""

    def query(database: Shop, text: str, *, table: str = "t", limit: complex = 5) -> str:
        """Ask."""
        return f"{database.name} {text} {table} {limit}"

    built = tool(functools.partial(query, Shop("db"), table="x", limit=3))
    assert schema_of(built)["properties"] == {"text": ITEM}
    assert call(built, text="a") == "db a x 3"
    assert "no argument 'table'" in problems({"text": "a", "table": "secrets"}, built)


def test_methods_and_objects_that_can_be_called() -> None:
    """An object is named by its class."""
    shop = Shop("one")
    by_method, by_object = tool(shop.plain), tool(shop)
    assert (by_method.name, by_method["description"]) == ("plain", "Without a decorator.")
    assert call(by_method, item="tea") == "one, plainly: tea"
    assert (by_object.name, by_object["description"]) == ("Shop", "Be called.")
    assert call(by_object, item="tea") == "one, called: tea"


def test_a_tool_looks_like_its_function() -> None:
    """To people, and to what inspects it."""
    built = tool(add)
    assert built(2, b=3) == 5
    assert getattr(built, "__name__") == "add"  # noqa: B009 - unknown to type checkers
    assert built.__doc__ == add.__doc__
    assert inspect.signature(built) == inspect.signature(add)
    assert built.handler is add
    assert isinstance(built, FunctionTool)
    with pytest.raises(TypeError):
        built["name"] = "other"


# -- the context


def with_context(item: str, context: ToolContext) -> list[str]:
    """Use it."""
    return [item, context.call_id]


def with_optional(item: str, *, info: ToolContext | None = None) -> list[str]:
    """Use it where it is there."""
    return [item, info.call_id if info else ""]


def with_annotated(context: Annotated[ToolContext, "what is known"], item: str) -> list[str]:
    """Take it first."""
    return [item, context.call_id]


@pytest.mark.parametrize("function", [with_context, with_optional, with_annotated])
def test_the_context_is_filled_in_and_not_shown(function: Callable[..., Any]) -> None:
    """Under whatever name, and the agent cannot give one itself."""
    built = tool(function)
    assert schema_of(built) == {"type": "object", "properties": {"item": ITEM}, "required": ["item"]}
    assert call(built, item="tea") == ["tea", "call"]
    assert "there is no argument" in problems({"item": "tea", "context": {}, "info": {}}, built)


def test_a_context_that_only_checkers_know() -> None:
    """Its name is enough."""

    def f(item: str, context: Any) -> str:
        return str(context.call_id)

    f.__annotations__["context"] = "hidden.ToolContext | None"
    assert call(tool(f), item="tea") == "call"


def test_a_context_under_a_local_name() -> None:
    """It is not taken for a class that the agent fills in."""
    from inferencesh import ToolContext as Known

    @tool
    def f(item: str, context: Known) -> str:
        return context.call_id

    assert list(schema_of(f)["properties"]) == ["item"]
    assert call(f, item="tea") == "call"


def by_names(item: str, context: ToolContext) -> list[str]:
    """Take the arguments by name."""
    return [item, context.call_id]


def by_mapping(arguments: Mapping[str, Any], context: ToolContext) -> list[str]:
    """Take all arguments as one mapping."""
    return [arguments["item"], context.call_id]


def by_mapping_last(context: ToolContext, arguments: Mapping[str, Any], extra: int = 0) -> list[str]:
    """Take the mapping last."""
    return [arguments["item"], context.call_id]


def by_position(arguments: Mapping[str, Any], context: ToolContext, /) -> list[str]:
    """Take both by position."""
    return [arguments["item"], context.call_id]


def by_keywords(*, context: ToolContext, **rest: Any) -> list[str]:
    """Take whatever names there are."""
    return [rest["item"], context.call_id]


@pytest.mark.parametrize("handler", [by_names, by_mapping, by_mapping_last, by_position, by_keywords])
def test_plain_handlers_get_the_context_too(handler: Callable[..., Any]) -> None:
    """However they take their arguments."""
    built = tool("t").param("item", ITEM).handler(handler).build()
    assert call(built, item="tea") == ["tea", "call"]


def test_a_handler_that_wants_nothing_but_the_context() -> None:
    """It is not taken for the mapping of the arguments."""

    def handle(context: ToolContext) -> str:
        return context.call_id

    assert call(tool("t").handler(handle).build()) == "call"


def test_an_argument_named_like_the_context_is_refused() -> None:
    """Only the client gives one."""
    built = tool("t").param("item", ITEM).handler(by_names).build()
    with pytest.raises(TypeError, match="context"):
        built.bind({"item": "tea", "context": "mine"}, CONTEXT)


# -- names that are not there


def test_a_local_class_whose_own_hints_are_local_is_an_error_that_says_so() -> None:
    """The function is made elsewhere, and nothing can look them up from there."""

    @attrs.define
    class Inner:
        a: int

    @attrs.define
    class Outer:
        inner: Inner

    with pytest.raises(ConfigurationError, match=r"'value' .* name 'Inner' is not defined.* top of its module"):
        tool(hinted(Outer))


def test_local_classes() -> None:
    """Hints may name what is defined next to the function, here as text."""

    @attrs.frozen
    class Local:
        a: int

    @tool
    def function(value: Local | None) -> object:
        return value

    class Holder:
        @tool
        def method(self, value: list[Local]) -> object:
            return value

    @dataclasses.dataclass
    class Outer:
        inner: Local
        outer: Outer | None = None

    @tool
    def nested(value: Outer) -> object:
        return value

    assert call(function, value={"a": 1}) == Local(1)
    assert call(nested, value={"inner": {"a": 1}, "outer": {"inner": {"a": 2}}}) == Outer(Local(1), Outer(Local(2)))
    assert call(Holder().method, value=[{"a": 1}]) == [Local(1)]
    assert call(tool("t")(function), value={"a": 1}) == Local(1)


def test_a_tool_keeps_no_local_values_alive() -> None:
    """Such as a client next to its function; the names of local classes are all that it needs."""

    class Large:
        """Something that is large."""

    def make() -> tuple[FunctionTool[..., Any], weakref.ref[Large]]:
        large = Large()

        @tool
        def function(value: int) -> object:
            return value

        return function, weakref.ref(large)

    function, large = make()
    gc.collect()
    assert large() is None
    assert call(function, value=1) == 1


def test_a_field_with_the_name_of_its_type() -> None:
    """In a local class, too."""

    @attrs.define
    class Event:
        date: date | None = None
        kind: Kind | None = None

    class Kind(enum.Enum):
        A = "a"

    @tool
    def function(value: Event) -> object:
        return value

    assert call(function, value={"date": "2026-01-01", "kind": "a"}) == Event(dt.date(2026, 1, 1), Kind.A)


def only_for_checkers(value: OnlyForCheckers) -> None:
    """Its hint is not there at run time."""


def unknown_inside(value: list[Unknown]) -> None:  # type: ignore[name-defined]  # noqa: F821 - what is tested
    """Its hint has a typo."""


class NoFields:
    """Nothing that JSON could make."""

    def __init__(self, value: int) -> None:
        self.value = value


@attrs.define
class HoldsNoFields:
    """An attrs class with a field that JSON cannot make."""

    inner: NoFields


@attrs.define
class Dangling:
    """An attrs class whose own hints cannot be resolved."""

    inner: Unknown  # type: ignore[name-defined]  # noqa: F821 - what is tested


BAD_HINTS = [complex, NoFields, Callable[[int], int], list[NoFields], dict[str, NoFields], HoldsNoFields, Dangling]
BAD_UNIONS = [Point | Query | Mapping[str, int], bytes | str, Point | dict[str, int]]


@pytest.mark.parametrize("hint", [*BAD_HINTS, *BAD_UNIONS], ids=str)
def test_a_hint_without_a_schema_is_an_error_that_names_the_parameter(hint: object) -> None:
    """When the tool is made, not when it is called."""
    with pytest.raises(ConfigurationError, match=r"'value' of the function .*hinted.*f") as caught:
        tool(hinted(hint))
    assert "msgspec" not in str(caught.value)
    assert "schema_hook" not in str(caught.value)


@pytest.mark.parametrize("function", [only_for_checkers, unknown_inside])
def test_a_hint_that_cannot_be_resolved_is_an_error_that_names_the_parameter(function: Callable[..., Any]) -> None:
    """And the hint, and what to do."""
    with pytest.raises(ConfigurationError, match=r"'value' of the function .*cannot be resolved.*defined before"):
        tool(function)


def positional_only(a: int, /) -> None:
    """Take it by position."""


def any_number(*items: int) -> None:
    """Take any number."""


def any_name(**items: int) -> None:
    """Take any name."""


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (positional_only, "is positional-only"),
        (any_number, r"\*items.* list"),
        (any_name, r"\*\*items.* dict"),
    ],
)
def test_parameters_that_have_no_name_of_their_own_are_refused(function: Callable[..., Any], says: str) -> None:
    """The agent gives arguments by name."""
    with pytest.raises(ConfigurationError, match=says):
        tool(function)


@pytest.mark.parametrize("thing", [Shop, int, Point])
def test_a_class_is_no_function(thing: Any) -> None:
    """What it makes could not be sent."""
    with pytest.raises(ConfigurationError, match="not of <class"):
        tool(thing)


def test_a_function_without_a_name_needs_one() -> None:
    """A lambda gets it from the builder."""
    with pytest.raises(ConfigurationError, match="has no name"):
        tool(lambda a: a)
    assert call(tool("double")(lambda a: 2 * a), a=2) == 4


@pytest.mark.parametrize(
    "begin", [lambda: tool("t").param("a", ITEM), lambda: tool("t").handler(print), lambda: tool(" ")]
)
def test_a_builder_that_says_something_else_does_not_decorate(begin: Callable[[], Any]) -> None:
    """Parameters and handler are the function's."""
    with pytest.raises(ConfigurationError, match=r"the tool 't'|has no name"):
        begin()(add)
