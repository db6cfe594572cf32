"""Tools: schemas, the builder, and ``Tool``, which is its wire form and carries its handler."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import Mock

import pytest

from inferencesh.errors import ConfigurationError
from inferencesh.tools import (
    Tool,
    array,
    boolean,
    enum_of,
    inline,
    integer,
    is_inline,
    number,
    obj,
    optional,
    string,
    tool,
)


def schema_of(built: Tool) -> Any:
    """Return the JSON Schema of a tool's arguments."""
    return built["client"]["input_schema"]


def parameter(schema: Mapping[str, Any]) -> Any:
    """Return the form in which a parameter with this schema is sent."""
    return schema_of(tool("t").param("p", schema).build())["properties"]["p"]


# -- schemas


@pytest.mark.parametrize(
    ("helper", "kind"), [(string, "string"), (number, "number"), (integer, "integer"), (boolean, "boolean")]
)
def test_simple_schemas(helper: Callable[..., dict[str, Any]], kind: str) -> None:
    """Plain JSON Schema; no description where none is given."""
    assert helper() == {"type": kind}
    assert helper("What it is") == {"type": kind, "description": "What it is"}


def test_the_schema_of_a_choice() -> None:
    """A string with the allowed values."""
    assert enum_of(("a", "b")) == {"type": "string", "enum": ["a", "b"]}
    assert enum_of(["a"], "Which") == {"type": "string", "description": "Which", "enum": ["a"]}


def test_the_schema_of_a_list() -> None:
    """It has the schema of the items."""
    assert array(string("Each")) == {"type": "array", "items": {"type": "string", "description": "Each"}}
    assert array(number(), "All")["description"] == "All"


def test_the_schema_of_an_object_requires_what_is_not_optional() -> None:
    """``required`` is left out if nothing is required."""
    assert obj({"a": string(), "b": optional(number())}, "Both") == {
        "type": "object",
        "description": "Both",
        "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
        "required": ["a"],
    }
    assert obj({"b": optional(number())}) == {"type": "object", "properties": {"b": {"type": "number"}}}


def test_optional_leaves_the_schema_it_was_given_as_it_was() -> None:
    """A schema may be used twice."""
    schema = string("A")
    assert parameter(optional(schema)) == {"type": "string", "description": "A"}
    assert schema == {"type": "string", "description": "A"}


DEEP = obj({"list": array(obj({"a": string(), "b": optional(array(optional(string())))}))})
RAW = {
    "type": "object",
    "properties": {
        "list": {
            "type": "array",
            "items": {"type": "object", "properties": {"a": string(), "b": optional(array(string()))}},
        }
    },
}


@pytest.mark.parametrize("schema", [DEEP, RAW, optional(DEEP), array(DEEP)["items"]])
def test_the_mark_of_optional_is_taken_out_at_any_depth(schema: Mapping[str, Any]) -> None:
    """Inside objects and lists too, and what is not optional there is required there."""
    sent = parameter(schema)
    assert "optional" not in json.dumps(sent)
    items = sent["properties"]["list"]["items"]
    assert items["required"] == ["a"]
    assert items["properties"]["b"] == {"type": "array", "items": {"type": "string"}}


def test_a_property_may_itself_be_called_optional() -> None:
    """The mark is a key of schemas, not of properties."""
    sent = parameter(obj({"optional": string()}))
    assert sent == {"type": "object", "properties": {"optional": {"type": "string"}}, "required": ["optional"]}


def test_other_keys_of_a_schema_are_kept() -> None:
    """Whatever JSON Schema has."""
    schema = {"type": "string", "pattern": "^a", "anyOf": [{"minLength": 1}]}
    assert parameter(schema) == schema


def test_what_a_schema_requires_by_itself_is_required_once() -> None:
    """Its own ``required`` is kept, and properties not marked as optional are added once."""
    mixed = {"type": "object", "properties": {"a": string(), "b": string(), "c": optional(string())}, "required": ["a"]}
    assert parameter(mixed)["required"] == ["a", "b"]
    own = {"type": "object", "properties": {"a": string(), "b": string()}, "required": ["b"]}
    assert parameter(own)["required"] == ["b"], "without marks, a schema means what it says"
    silent = {"type": "object", "properties": {"a": string()}}
    assert parameter(silent) == silent


# -- the builder


def test_a_tool_with_everything() -> None:
    """The wire form that the official builders make."""
    built = (
        tool("calculator")
        .describe("Do math")
        .display("Calculator")
        .param("expression", string("Expression"))
        .param("digits", optional(integer()))
        .require_approval()
        .build()
    )
    assert dict(built) == {
        "name": "calculator",
        "display_name": "Calculator",
        "description": "Do math",
        "type": "client",
        "require_approval": True,
        "client": {
            "input_schema": {
                "type": "object",
                "properties": {
                    "expression": {"type": "string", "description": "Expression"},
                    "digits": {"type": "integer"},
                },
                "required": ["expression"],
            }
        },
    }


def test_a_tool_with_nothing_but_a_name() -> None:
    """``required`` is present even if nothing is required."""
    assert dict(tool("ping").build()) == {
        "name": "ping",
        "display_name": "ping",
        "description": "",
        "type": "client",
        "require_approval": False,
        "client": {"input_schema": {"type": "object", "properties": {}, "required": []}},
    }
    assert tool("ping").require_approval(False).build()["require_approval"] is False


@pytest.mark.parametrize(
    ("build", "says"),
    [
        pytest.param(lambda: tool(""), "no name", id="no name"),
        pytest.param(lambda: tool("  "), "no name", id="a blank name"),
        pytest.param(lambda: tool(None), "no name", id="a name that is none"),
        pytest.param(lambda: tool("t").param("a", string()).param("a", string()), "'a' is defined twice", id="twice"),
        pytest.param(lambda: tool("t").param("a", "string"), "must be a mapping", id="schema"),  # type: ignore[arg-type]  # what is tested
        pytest.param(lambda: tool("t").param("", string()), "name must be text", id="parameter without name"),
        pytest.param(lambda: tool("t").param(5, string()), "name must be text", id="parameter 5"),  # type: ignore[arg-type]  # what is tested
        pytest.param(lambda: tool("t").handler("f"), "must be a function", id="handler"),  # type: ignore[call-overload]  # what is tested
        pytest.param(lambda: tool("t").param("a", {"default": object()}), "JSON", id="no JSON form"),
        pytest.param(lambda: tool("t").param("a", {"properties": {"b": "string"}}), "'b'", id="nested schema"),
        pytest.param(lambda: tool("t").param("a", {"items": {"properties": {"b": 5}}}), "'b'", id="schema in items"),
    ],
)
def test_a_bad_definition_is_an_error_at_build(build: Callable[[], Any], says: str) -> None:
    """Not before, and not at the first call of the tool."""
    with pytest.raises(ConfigurationError, match=says):
        build().build()


def test_all_problems_are_told_at_once() -> None:
    """One ``build`` reports all problems."""
    with pytest.raises(ConfigurationError) as caught:
        tool("").param("a", string()).param("a", string()).param("b", 5).build()  # type: ignore[arg-type]  # what is tested
    assert all(text in str(caught.value) for text in ("no name", "'a' is defined twice", "'b'"))


@pytest.mark.parametrize("helper", [lambda: obj({"a": "string"}), lambda: array("string")])  # type: ignore[dict-item,arg-type]  # what is tested
def test_a_nested_schema_that_is_none_is_named_where_it_is_written(helper: Callable[[], Any]) -> None:
    """The helpers cannot wait for ``build``, but their error is of the same kind."""
    with pytest.raises(ConfigurationError, match="mapping"):
        helper()


# -- the mapping


def test_a_tool_is_a_mapping_of_its_wire_form() -> None:
    """``dict``, indexing, iteration and JSON see the wire form and nothing else."""
    built = tool("t").handler(lambda: "secret").build()
    assert isinstance(built, Mapping)
    assert built["name"] == built.name == "t"
    assert list(built) == list(dict(built))
    assert len(built) == 6
    assert built == dict(built)
    assert "handler" not in json.dumps(dict(built))
    with pytest.raises(KeyError):
        built["handler"]
    with pytest.raises(TypeError):
        built["name"] = "other"


def test_a_tools_repr_says_whether_it_has_a_handler() -> None:
    """The handler itself is not shown."""
    assert repr(tool("t").build()) == "Tool('t', handler=no)"
    assert repr(tool("t").handler(print).build()) == "Tool('t', handler=yes)"


def test_changing_a_wire_form_does_not_change_the_tool_made_of_it() -> None:
    """It has its own."""
    wire = {"name": "t"}
    made = Tool(wire)
    wire["name"] = "other"
    assert made.name == "t"


# -- handlers


def by_mapping(arguments: dict[str, Any]) -> Any:
    return arguments["expression"]


def by_name(expression: str) -> Any:
    return expression


def by_name_with_default(expression: str = "0", digits: int = 2) -> Any:
    return expression if digits == 2 else digits


def by_keyword(*, expression: str) -> Any:
    return expression


def by_keywords(**arguments: Any) -> Any:
    return arguments["expression"]


def by_mapping_with_default(arguments: dict[str, Any], extra: int = 1) -> Any:
    return arguments["expression"] if extra == 1 else extra


def by_position(arguments: dict[str, Any], /) -> Any:
    return arguments["expression"]


def by_positions(*arguments: dict[str, Any]) -> Any:
    return arguments[0]["expression"]


class Methods:
    """Handlers that are methods."""

    def method(self, expression: str) -> Any:
        """Take the argument by its name."""
        return expression

    def __call__(self, args: dict[str, Any]) -> Any:
        """Take all arguments as one mapping."""
        return args["expression"]


@pytest.mark.parametrize(
    "handler",
    [
        by_mapping,
        by_name,
        by_name_with_default,
        by_keyword,
        by_keywords,
        by_mapping_with_default,
        by_position,
        by_positions,
        lambda args: args["expression"],
        lambda expression: expression,
        functools.partial(by_name),
        Methods().method,
        Methods(),
        Mock(side_effect=by_mapping),
    ],
)
def test_a_handler_gets_the_arguments_as_its_signature_asks_for_them(handler: Callable[..., Any]) -> None:
    """As one mapping, or by their names."""
    built = tool("t").param("expression", string()).param("digits", optional(integer())).handler(handler).build()
    assert built.bind({"expression": "42 * 17"})() == "42 * 17"


def test_a_handler_of_several_arguments_gets_them_by_name() -> None:
    """In whatever order the agent gives them."""

    def divide(dividend: int, divisor: int) -> float:
        return dividend / divisor

    built = tool("divide").param("dividend", integer()).param("divisor", integer()).handler(divide).build()
    assert built.bind({"divisor": 4, "dividend": 2})() == 0.5
    assert Tool({"name": "divide"}, divide).bind({"divisor": 4, "dividend": 2})() == 0.5


def test_a_handler_without_parameters_gets_none() -> None:
    """A tool may have no arguments."""
    built = tool("now").handler(lambda: "noon").build()
    assert built.bind({})() == "noon"


def test_a_builtin_that_does_not_tell_its_signature_gets_one_mapping() -> None:
    """There is no way to know its parameters' names."""
    built = tool("t").param("expression", string()).handler(dict).build()
    assert built.bind({"expression": "x"})() == {"expression": "x"}


def test_a_handler_of_a_tool_without_a_schema_gets_one_mapping_or_names() -> None:
    """A tool made of a plain mapping may have no schema at all."""
    assert Tool({"name": "t"}, by_mapping).bind({"expression": "x"})() == "x"
    assert Tool({"name": "t", "client": {"input_schema": None}}, by_mapping).bind({"expression": "x"})() == "x"
    assert (
        Tool({"name": "t", "client": {"input_schema": {"properties": 5}}}, by_keyword).bind({"expression": "x"})()
        == "x"
    )


def test_nothing_is_called_before_the_bound_call_is_made() -> None:
    """Binding only fits the arguments to the parameters."""
    handler = Mock(return_value="x")
    bound = tool("t").handler(handler).build().bind({})
    handler.assert_not_called()
    assert bound() == "x"
    handler.assert_called_once_with({})


@pytest.mark.parametrize("arguments", [{}, {"expression": "x", "other": 1}, {"other": 1}])
def test_arguments_that_do_not_fit_are_a_type_error(arguments: dict[str, Any]) -> None:
    """They come from a language model, which makes mistakes; the agent is told so."""
    with pytest.raises(TypeError):
        tool("t").param("expression", string()).handler(by_name).build().bind(arguments)


def test_a_tool_without_a_handler_cannot_be_bound() -> None:
    """Its results are submitted by hand."""
    with pytest.raises(TypeError, match="t has no handler"):
        tool("t").build().bind({})


def test_inline_marks_a_function_as_cheap() -> None:
    """And changes nothing else about it."""

    @inline
    def cheap(expression: str) -> str:
        return expression

    assert cheap("x") == "x"
    assert is_inline(cheap)
    assert not is_inline(by_name)
    assert not is_inline(None)
    assert not is_inline(Mock()), "whatever attributes it pretends to have"
