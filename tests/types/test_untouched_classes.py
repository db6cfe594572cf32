"""The classes in the hints of tools and outputs are the user's: nothing is written to them."""

from __future__ import annotations

import copy
import dataclasses
import enum
from typing import Any, Generic, NamedTuple, NotRequired, Required, TypedDict, TypeVar

import attrs
import pytest

from inferencesh import FunctionTool, tool
from inferencesh.tools.handler import ToolContext

T = TypeVar("T")


class Color(enum.Enum):
    """A color."""

    RED = "red"


@attrs.define
class Attrs:
    """With hints in strings, one of them nested."""

    color: Color
    others: list["Attrs"] = attrs.field(factory=list)  # noqa: UP037 - what is in the string is the point


@dataclasses.dataclass
class Data:
    """The same as a dataclass."""

    color: Color
    others: list["Data"] = dataclasses.field(default_factory=list)  # noqa: UP037 - as above


class Keys(TypedDict):
    """The same as a TypedDict, whose class does not see in strings what is required."""

    color: Required[Color]
    others: NotRequired[list[Keys]]


class SomeKeys(TypedDict, total=False):
    """Only what is marked is required."""

    color: Required[Color]
    others: list[SomeKeys]


class Places(NamedTuple):
    """The same as a NamedTuple."""

    color: Color
    others: list[Color] = []  # noqa: RUF012 - not of a class, but of its constructor


@attrs.define
class Crate(Generic[T]):
    """A generic class."""

    color: T
    others: list[T]


@attrs.define
class ColorCrate(Crate[Color]):
    """One that knows of what."""


@dataclasses.dataclass
class Shelf(Generic[T]):
    """A generic dataclass."""

    color: T
    others: list[Crate[T]] = dataclasses.field(default_factory=list)


class KeysOf(TypedDict, Generic[T]):
    """A generic TypedDict."""

    color: T
    others: NotRequired[list[T]]


class ColorKeys(KeysOf[Color]):
    """One that knows of what."""


def snapshot(cls: Any) -> dict[str, Any]:
    """What a class holds, and what its fields say; msgspec's own cache of what it has looked up is its own affair."""
    held = {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in vars(cls).items()
        if name != "__msgspec_cache__"
    }
    fields = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return {
        "held": held,
        "types": [each.type for each in fields],
        "annotations": dict(vars(cls).get("__annotations__", {})),
    }


def taking(hint: Any) -> FunctionTool[..., Any]:
    """Make a tool of a function with one parameter."""

    def take(value: object) -> object:
        return value

    take.__annotations__["value"] = hint
    return tool(take)


COLOR = {"color": "red"}
BOTH = {**COLOR, "others": ["red"]}
CASES = [
    (Attrs, {**COLOR, "others": [COLOR]}, Attrs(Color.RED, [Attrs(Color.RED)])),
    (Data, {**COLOR, "others": [COLOR]}, Data(Color.RED, [Data(Color.RED)])),
    (Keys, {**COLOR, "others": [COLOR]}, {"color": Color.RED, "others": [{"color": Color.RED}]}),
    (SomeKeys, {**COLOR, "others": [COLOR]}, {"color": Color.RED, "others": [{"color": Color.RED}]}),
    (Places, ["red", ["red"]], Places(Color.RED, [Color.RED])),
    (Crate[Color], BOTH, Crate(Color.RED, [Color.RED])),
    (ColorCrate, BOTH, ColorCrate(Color.RED, [Color.RED])),
    (Shelf[Color], {**COLOR, "others": [BOTH]}, Shelf(Color.RED, [Crate(Color.RED, [Color.RED])])),
    (KeysOf[Color], COLOR, {"color": Color.RED}),
    (ColorKeys, BOTH, {"color": Color.RED, "others": [Color.RED]}),
]


@pytest.mark.parametrize(("hint", "written", "read"), CASES, ids=[str(case[0]) for case in CASES])
def test_nothing_is_written_to_a_class(hint: Any, written: object, read: object) -> None:
    """Neither by the schema nor by reading, and what is read is what the hints say."""
    cls = getattr(hint, "__origin__", hint)
    before = snapshot(cls)
    context = ToolContext(chat_id="c", call_id="i", tool_name="take")
    assert taking(hint).bind({"value": written}, context)() == read
    assert snapshot(cls) == before


@pytest.mark.parametrize("hint", [Keys, SomeKeys])
def test_the_schema_and_the_reader_agree_on_what_is_required(hint: Any) -> None:
    """Where annotations are strings, too."""
    built = taking(hint)
    assert built["client"]["input_schema"]["$defs"][hint.__name__]["required"] == ["color"]
    with pytest.raises(ValueError, match=r"value\.color: is missing"):
        built.bind({"value": {}}, None)()
    assert built.bind({"value": COLOR}, None)() == {"color": Color.RED}
