"""Docstrings: what reaches the agent, and which parameters are described, in four styles and odd forms."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import annotated_doc
import attrs
import msgspec
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from inferencesh import tool
from inferencesh._types.docstrings import docs_of, field_docs

WORDS = ["order", "the", "customer's", "number", "e.g.", "x=1", "(optional)", "100%", "a-b", "it", "[EUR]", "`id`"]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(lambda words: f"Say {' '.join(words)}.")
NAMES = st.from_regex(r"[a-z][a-z0-9_]{1,8}", fullmatch=True)
TYPES = st.sampled_from(["", "int", "str, optional", "dict[str, list[int]]", "Callable[[int], str]", "a.B | None"])
PARAMETERS = st.dictionaries(NAMES, st.tuples(TYPES, st.lists(SENTENCES, min_size=1, max_size=3)), max_size=4)
KEPT = st.lists(
    st.tuples(st.sampled_from(["Note", "Warning", "Returns"]), SENTENCES), max_size=3, unique_by=lambda pair: pair[0]
)

Described = Mapping[str, tuple[str, Sequence[str]]]
Sections = Sequence[tuple[str, str]]


def indented(lines: Sequence[str], by: int = 4) -> str:
    """The lines of a description, all indented."""
    return textwrap.indent("\n".join(lines), " " * by)


def google(parameters: Described, sections: Sections) -> str:
    """In Google's style."""
    entries = [
        f"{name}{f' ({kind})' if kind else ''}: {text}\n{indented(rest)}".rstrip()
        for name, (kind, (text, *rest)) in parameters.items()
    ]
    blocks = [f"Args:\n{textwrap.indent(chr(10).join(entries), '    ')}"] if entries else []
    return "\n\n".join([*blocks, *(f"{title}:\n    {text}" for title, text in sections), "Yields:\n    int: steps"])


def numpy(parameters: Described, sections: Sections) -> str:
    """In NumPy's style."""
    entries = [f"{name}{f' : {kind}' if kind else ''}\n{indented(lines)}" for name, (kind, lines) in parameters.items()]
    blocks = [f"Parameters\n----------\n{chr(10).join(entries)}"] if entries else []
    kept = [f"{title}\n{'-' * len(title)}\n{text}" for title, text in sections]
    return "\n\n".join([*blocks, *kept, "References\n----------\n.. [1] A book."])


def sphinx(parameters: Described, sections: Sections) -> str:
    """In Sphinx's style, with directives."""
    entries = []
    for name, (kind, (text, *rest)) in parameters.items():
        entries += [f":param {name}: {text}\n{indented(rest)}".rstrip(), *([f":type {name}: {kind}"] if kind else [])]
    kept = [f".. {title.lower()}:: {text}" for title, text in sections if title != "Returns"]
    fields = [f":returns: {text}" for title, text in sections if title == "Returns"]
    return "\n\n".join([*kept, "\n".join([*entries, *fields, ":rtype: int"])])


def epydoc(parameters: Described, sections: Sections) -> str:
    """In epydoc's style."""
    entries = []
    for name, (kind, (text, *rest)) in parameters.items():
        entries += [f"@param {name}: {text}\n{indented(rest)}".rstrip(), *([f"@type {name}: {kind}"] if kind else [])]
    fields = [f"@{'return' if title == 'Returns' else title.lower()}: {text}" for title, text in sections]
    return "\n".join([*entries, *fields, "@author: Somebody"])


@given(
    st.lists(SENTENCES, max_size=3), PARAMETERS, KEPT, st.sampled_from([google, numpy, sphinx, epydoc]), st.booleans()
)
def test_what_is_written_in_any_style_is_read(
    prose: Sequence[str],
    parameters: Described,
    sections: Sections,
    style: Callable[[Described, Sections], str],
    below: bool,
) -> None:
    """The summary, the paragraphs, the sections and every parameter, whether or not the text begins on a new line."""
    text = textwrap.indent("\n\n".join([*prose, style(parameters, sections)]), "    ")
    description, named = docs_of(f"\n{text}\n    " if below else text.lstrip())
    assert named == {name: "\n".join(lines) for name, (_, lines) in parameters.items()}
    assert sorted(description.split("\n\n")) == sorted(
        [*prose, *(f"{title}: {said}" for title, said in sections)] or [""]
    )
    assert description.startswith("\n\n".join(prose))


@given(
    st.lists(
        st.sampled_from(
            [
                *("Args:", "    x: y", "  x", "", ":param x: y", "@param", ":param", "Note:", "----", "Returns", "```"),
                *("Parameters", "==", ".. note::", ":", "Raises: x", "\tx (int: y", "- x", "Do it.", "\ud800", "Args"),
            ]
        )
        | st.text(max_size=8),
        max_size=14,
    ).map("\n".join)
)
def test_no_docstring_is_an_error(text: str) -> None:
    """Whatever it says."""
    description, named = docs_of(text)
    assert isinstance(description, str)
    assert all(named.values())


@pytest.mark.parametrize(
    ("docstring", "description", "named"),
    [
        ("Args:\n    x: The x.", "", {"x": "The x."}),
        ("Args:\n        x: The x.\n    Returns:\n        One.", "Returns: One.", {"x": "The x."}),
        ("Do.\n\n\n\nArgs:\n\n    x: The x.\n\n\n    y: The y.\n", "Do.", {"x": "The x.", "y": "The y."}),
        ("Do.\nArgs:\n    x: The x.\n\nMore.", "Do.\nMore.", {"x": "The x."}),
        ("Do.\n\nArgs:\nx: The x.\ny: The y.\n\nMore.", "Do.\n\nMore.", {"x": "The x.", "y": "The y."}),
        ("Do.\n\n    Args:\n        x: The x.\n\n    More.", "Do.\n\nMore.", {"x": "The x."}),
        ("Do.\n\nargs:\n  x: The x.", "Do.", {"x": "The x."}),
        ("Do.\n\n**Args:**\n  - `x`: The x.\n  - **y**: The y.", "Do.", {"x": "The x.", "y": "The y."}),
        (
            "Do.\n\nArgs:\n  x:\n    The x.\n\n    Second paragraph.\n  y: Y.",
            "Do.",
            {"x": "The x.\n\nSecond paragraph.", "y": "Y."},
        ),
        (
            "Do.\n\nArgs:\n  *args: Rest.\n  **kw: Names.\n  x, y: Both.",
            "Do.",
            {"args": "Rest.", "kw": "Names.", "x": "Both.", "y": "Both."},
        ),
        (
            "Do.\n\nArgs:\n  x (Callable[[int], str], optional): The x: all (of it).",
            "Do.",
            {"x": "The x: all (of it)."},
        ),
        ("Do.\n\nArgs:\n  x : int\n    The x.\n  y : The y.", "Do.", {"x": "The x.", "y": "The y."}),
        ("Do.\n\nArgs:\n  note:\n    A note.\n  returns: What.", "Do.", {"note": "A note.", "returns": "What."}),
        ("Do.\n\nArgs:\n  x: See http://a/b\n  http://c/d", "Do.", {"x": "See http://a/b\nhttp://c/d"}),
        ("Do.\n\nArgs:\n  x - The x.\n  y -- The y.", "Do.", {"x": "The x.", "y": "The y."}),
        ("Do.\n\nArgs: x: The x.", "Do.", {"x": "The x."}),
        ("Parameters: how they work", "Parameters: how they work", {}),
        ("Do.\n\nArgs:\n    None", "Do.", {}),
        ("Do.\n\nKeyword Args:\n  x: X.\n\nOther Parameters:\n  y: Y.", "Do.", {"x": "X.", "y": "Y."}),
        ("Do.\n\nArgs:\n  x: X.\nAttributes:\n  x: Other.\n  y: Y.", "Do.", {"x": "X.", "y": "Y."}),
        ("Do.\n\nReturns:\n    A list\n    of things.", "Do.\n\nReturns: A list\nof things.", {}),
        ("Do.\n\nReturns: One.", "Do.\n\nReturns: One.", {}),
        (
            "Do.\n\nRaises:\n  ValueError: No.\n  KeyError: Gone.",
            "Do.\n\nRaises:\n    ValueError: No.\n    KeyError: Gone.",
            {},
        ),
        ("Do.\n\nRaises\n------\nValueError\n    If it is\n    odd.", "Do.\n\nRaises: ValueError: If it is odd.", {}),
        ("Do.\n\nReturns\n-------\nlist of int\n    All.", "Do.\n\nReturns: list of int: All.", {}),
        (
            "Do.\n\n:raises ValueError: No.\n:raises KeyError: Gone.",
            "Do.\n\nRaises:\n    ValueError: No.\n    KeyError: Gone.",
            {},
        ),
        ("Do.\n\nExample:\n    >>> f(1)\n    Args:\n    2", "Do.\n\nExample:\n    >>> f(1)\n    Args:\n    2", {}),
        ("Do.\n\n```\nArgs:\n  x: 1\n```\n\nMore.", "Do.\n\n```\nArgs:\n  x: 1\n```\n\nMore.", {}),
        ("Do.\n\nTodo:\n  * More.\n\nSee Also:\n  g\n\nTodo: x\n\nNote: Yes.", "Do.\n\nNote: Yes.", {}),
        ("Do.\n\nWhen to use:\n    Seldom.", "Do.\n\nWhen to use:\n    Seldom.", {}),
        (
            "Do.\n\n.. deprecated:: 2.0\n   Call g.\n.. seealso:: g\n.. code::\n   x",
            "Do.\n\nDeprecated: 2.0\nCall g.\n\n.. code::\n   x",
            {},
        ),
        (
            ":param int x: The x,\nand more.\n:param list[int] y: Y.\n:param a, b: Both.",
            "",
            {"x": "The x,\nand more.", "y": "Y.", "a": "Both.", "b": "Both."},
        ),
        (":param x:The x.", "", {"x": "The x."}),
        (
            "Do.\n\nParameters\n----------\nx, y : int, default 3\n    Both.\n*args\n    Rest.\nz: The z of it.",
            "Do.",
            {"x": "Both.", "y": "Both.", "args": "Rest.", "z": "The z of it."},
        ),
        ("Do.\n\nParameters:\n-----------\nx : {'a', 'b'}\n    X.\n\nNote:\n    Hi.", "Do.\n\nNote: Hi.", {"x": "X."}),
        ("Do.\n\nArgs:\n  x: X.\n\n:param y: Y.", "Do.", {"x": "X.", "y": "Y."}),
    ],
)
def test_odd_and_mixed_forms(docstring: str, description: str, named: dict[str, str]) -> None:
    """People and models write docstrings in more ways than four."""
    assert docs_of(docstring) == (description, named)
    assert docs_of(textwrap.indent(docstring, "    ").lstrip() + "\n    ") == (description, named)


def descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """What a tool of this function says of its parameters."""
    properties = tool(function)["client"]["input_schema"]["properties"]
    return {name: schema["description"] for name, schema in properties.items() if "description" in schema}


def test_a_description_in_the_hint_counts_before_the_docstring() -> None:
    """In every form that libraries have for it; the first one in the hint counts."""

    def f(
        text: Annotated[int, "text"],
        doc: Annotated[int, typing_extensions.Doc("doc")],
        other: Annotated[int, annotated_doc.Doc("other doc")],
        field: Annotated[int, pydantic.Field(description="field")],
        meta: Annotated[int, msgspec.Meta(description="meta")],
        two: Annotated[int, "first", typing_extensions.Doc("second")],
        plain: int,
    ) -> None:
        """F.

        Args:
            text: docstring
            doc: docstring
            other: docstring
            field: docstring
            meta: docstring
            two: docstring
            plain: docstring
        """

    assert descriptions(f) == {
        "text": "text",
        "doc": "doc",
        "other": "other doc",
        "field": "field",
        "meta": "meta",
        "two": "first",
        "plain": "docstring",
    }


@attrs.frozen
class Base:
    """A base.

    Attributes:
        documented: In the class.
        overridden: By the base.
    """

    documented: int
    overridden: int


@attrs.frozen
class Derived(Base):
    """A class.

    Args:
        overridden: By the class.
    """

    under: int
    """Under the field,
    in two lines."""
    meta: int = attrs.field(metadata={"description": "In metadata."})
    plain: int = 0


@dataclasses.dataclass
class Data:
    """A dataclass."""

    x: int
    """Under x."""
    y: int = dataclasses.field(default=0, metadata={"description": "In metadata."})


class Keys(TypedDict):
    """A TypedDict.

    Attributes:
        a: The a.
    """

    a: int


class MoreKeys(Keys):
    """Another.

    Attributes:
        b: The b.
    """

    b: int


class Place(NamedTuple):
    """A place.

    Attributes:
        x: To the right.
    """

    x: int


class Custom:
    """A class with its own constructor."""

    def __init__(self, x: int) -> None:
        """Make it.

        Args:
            x: In the constructor.
        """


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (
            Derived,
            {
                "documented": "In the class.",
                "overridden": "By the class.",
                "under": "Under the field,\nin two lines.",
                "meta": "In metadata.",
            },
        ),
        (Data, {"x": "Under x.", "y": "In metadata."}),
        (MoreKeys, {"b": "The b."} | ({"a": "The a."} if sys.version_info >= (3, 12) else {})),  # 3.11 forgets the base
        (Place, {"x": "To the right."}),
        (Custom, {"x": "In the constructor."}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_fields_are_described_where_people_describe_them(cls: type, expected: dict[str, str]) -> None:
    """In the class's docstring or a base's, in that of ``__init__``, under the field, and in its metadata."""
    found = field_docs(cls)
    assert {name: found[name] for name in expected} == expected


def test_fields_of_parameters_are_described() -> None:
    """The agent gets them with the schema."""

    def f(data: Data, derived: Derived) -> None:
        """F."""

    properties = tool(f)["client"]["input_schema"]["properties"]
    assert properties["data"]["properties"]["x"]["description"] == "Under x."
    assert properties["derived"]["properties"]["under"]["description"] == "Under the field,\nin two lines."
    assert properties["derived"]["properties"]["documented"]["description"] == "In the class."


class WithInit:
    """The class."""

    def __call__(self, x: int) -> int:
        return x


class WithInitOnly:
    def __init__(self) -> None:
        """Search.

        Args:
            x: The x.
        """

    def __call__(self, x: int) -> int:
        return x


def test_a_callable_object_is_described_by_its_class() -> None:
    """By the docstring of ``__call__``, of the class, or of ``__init__``."""
    assert tool("a")(WithInit())["description"] == "The class."
    built = tool("b")(WithInitOnly())
    assert built["description"] == "Search."
    assert built["client"]["input_schema"]["properties"]["x"]["description"] == "The x."


def test_what_is_no_text_describes_nothing() -> None:
    """An object may have anything as its docstring, and a default may have any attribute."""

    class Odd:
        description = "not meant"

    def f(x: typing.Any = Odd()) -> None: ...  # noqa: B008 - what is tested

    f.__doc__ = typing.cast("str", 3)
    assert docs_of(typing.cast("str", 3)) == ("", {})
    assert descriptions(f) == {}


@pytest.mark.parametrize("source", ["", "class Typed(", None], ids=["empty", "changed meanwhile", "none"])
def test_a_class_whose_source_cannot_be_read_is_described_by_its_docstring(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook there is none, and a file may have been changed since it was imported."""
    module = types.ModuleType("typed_elsewhere")
    if source is not None:
        module.__file__ = str(tmp_path / "typed_elsewhere.py")
        Path(module.__file__).write_text(source, encoding="utf-8")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cls = attrs.make_class("Typed", ["x"], class_body={"__doc__": "T.\n\nArgs:\n    x: The x."})
    cls.__module__ = module.__name__
    assert field_docs(cls) == {"x": "The x."}
