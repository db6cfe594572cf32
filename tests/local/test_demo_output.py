"""The demo model's outputs: they conform to the schema and contain values of the prompt."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it comes without types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencesh.local._api.forms import check_schema
from inferencesh.local._demo.output import SchemaError, make_output
from inferencesh.local.errors import ProblemError

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NODE = {
    "type": "object",
    "properties": {"value": WHOLE, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["value", "next"],
}


def made(prompt: str, schema: dict[str, object]) -> object:
    """The output, which an independent validator has found to conform."""
    output = make_output(prompt, schema)
    jsonschema.Draft202012Validator(schema).validate(output)
    return output


@pytest.mark.parametrize(
    ("prompt", "schema", "output"),
    [
        ("Hello!", TEXT, "Hello"),
        ('Call it "Rain"', TEXT, "Rain"),
        (
            "The weather in Oslo",
            {"type": "object", "properties": {"city": TEXT}, "required": ["city"]},
            {"city": "Oslo"},
        ),
        ("Take 3", WHOLE, 3),
        ("Take 2.5 of them", {"type": "number"}, 2.5),
        ("Take 2.5 of them", WHOLE, 1),
        ("Take 12", {**WHOLE, "maximum": 10}, 10),
        ("Take none", {**WHOLE, "exclusiveMinimum": 4}, 5),
        ("Take 7", {**WHOLE, "multipleOf": 5}, 10),
        ("Take 7", {**WHOLE, "multipleOf": 5, "maximum": 9}, 5),
        ("Take " + "9" * 5000, WHOLE, 1),
        ("Is it urgent?", {"type": "object", "properties": {"urgent": {"type": "boolean"}}}, {"urgent": True}),
        ("Hello", {"type": "boolean"}, False),
        ("Hello", {"type": "null"}, None),
        ("A blue one", {"enum": ["red", "blue"]}, "blue"),
        ("A green one", {"enum": ["red", "blue"]}, "red"),
        ("A green one", {"enum": ["red", "blue"], "default": "blue"}, "blue"),
        ("Hello", {"const": {"kind": "greeting"}}, {"kind": "greeting"}),
        ("Hello", {}, "Hello"),
        ("Hello", {"properties": {"any": True}, "required": ["any"]}, {"any": "Hello"}),
        ("Hello there", {**TEXT, "maxLength": 5}, "Hello"),
        ("Hi", {**TEXT, "minLength": 4}, "Hi.."),
        ("1, 2 and 3", {"type": "array", "items": WHOLE}, [1, 2, 3]),
        ("1, 2 and 3", {"type": "array", "items": WHOLE, "maxItems": 2}, [1, 2]),
        ("none", {"type": "array", "items": WHOLE}, []),
        ("none", {"type": "array", "items": WHOLE, "minItems": 2}, [1, 1]),
        ("1 1 2", {"type": "array", "items": WHOLE, "uniqueItems": True}, [1, 2]),
        ("Colors: red, green and blue", {"type": "array", "items": TEXT}, ["red", "green", "blue"]),
        ('"a" and "b"', {"type": "array", "items": TEXT}, ["a", "b"]),
        ("Tags for rain", {"type": "array", "items": TEXT}, ["rain"]),
        ("From 3 to Oslo", {"type": "array", "prefixItems": [WHOLE, TEXT], "minItems": 2, "items": False}, [3, "Oslo"]),
        ("Hello", {"anyOf": [WHOLE, {"type": "null"}]}, None),
        ("Hello 4", {"anyOf": [{"type": "null"}, WHOLE]}, 4),
        ("Hello", {"type": ["integer", "null"]}, None),
        ("Hello", {"oneOf": [WHOLE, TEXT]}, "Hello"),
        ("Hello", {"anyOf": [False, {"type": "integer", "minimum": 3}]}, 3),
        ("3", {"anyOf": [{"properties": {"a": WHOLE, "b": False}, "required": ["a", "b"]}, WHOLE]}, 3),
        ("Hello", {"type": "object"}, {}),
        ("Hello", {"type": "object", "additionalProperties": WHOLE, "minProperties": 1}, {"key1": 1}),
        ("Hello", {"type": "object", "required": ["a"]}, {"a": "Hello"}),
        ("Hello", {"type": "object", "properties": {"n": WHOLE}}, {}),
        (
            "Hello",
            {"allOf": [{"properties": {"a": WHOLE}}, {"properties": {"b": WHOLE}, "required": ["a", "b"]}]},
            {"a": 1, "b": 1},
        ),
        ("5", {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, {"value": 5, "next": None}),
        ("5 6", {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, {"value": 5, "next": {"value": 6, "next": None}}),
        ("5", {"$ref": "#/$defs/a~1b", "$defs": {"a/b": WHOLE}}, 5),
    ],
)
def test_outputs_come_from_prompt_and_schema(prompt: str, schema: dict[str, object], output: object) -> None:
    """Numbers, quotations and words where they fit, the plainest value elsewhere."""
    assert made(prompt, schema) == output


@pytest.mark.parametrize("form", ["date", "date-time", "email", "uri", "uuid"])
def test_well_known_formats_get_an_example(form: str) -> None:
    """Strings with a format get a valid sample."""
    output = make_output("Hello", {**TEXT, "format": form})
    jsonschema.validate(output, {**TEXT, "format": form}, format_checker=jsonschema.FormatChecker())
    assert output != "Hello"


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"properties": {"a": False}, "required": ["a"]}, "output.a: the schema allows nothing there"),
        ({"additionalProperties": False, "required": ["a"]}, "output.a: the schema allows nothing there"),
        ({"anyOf": [False]}, "output: the schema allows nothing there"),
        ({"allOf": [False]}, "output: nothing is allowed there"),
        ({**WHOLE, "minimum": 3, "maximum": 2}, "output: no number is within the limits of the schema"),
        ({**WHOLE, "minimum": 1, "multipleOf": 5, "maximum": 4}, "output: no number is within the limits"),
        ({**WHOLE, "minimum": 1e30}, "output: no number is within the limits"),
        ({**TEXT, "pattern": "^R"}, "output: the demo model does not know the keyword pattern"),
        ({**TEXT, "minLength": 3, "maxLength": 2}, "output: the demo model makes no text of 3 characters or more"),
        ({**TEXT, "minLength": 10**9}, "output: the demo model makes no text of 1000000000 characters"),
        ({"type": "array", "minItems": 10**9}, "asks for too much"),
        ({"type": "array", "items": WHOLE, "minItems": 2, "uniqueItems": True}, "finds no list of that length"),
        ({"type": "array", "items": False, "minItems": 1}, "output[0]: the schema allows nothing there"),
        ({"type": "object", "minProperties": 10**9}, "asks for too much"),
        ({"required": ["a", "b"], "maxProperties": 1}, "output: the schema requires more properties than it allows"),
        ({"$ref": "https://example.com/schema"}, "does not follow the reference https://example.com/schema"),
        ({"$ref": "#/$defs/Missing"}, "output: the reference #/$defs/Missing leads to no schema"),
        ({"$ref": "#"}, "output: its references lead in a circle"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "contains itself without an end"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "contains itself without an end"),
    ],
)
def test_a_schema_that_cannot_be_satisfied_is_given_up_on(schema: dict[str, object], why: str) -> None:
    """With the place and the reason, and without taking all memory or time."""
    check_schema(schema, "output_schema")
    with pytest.raises(SchemaError) as caught:
        make_output("Hello", schema)
    assert why in str(caught.value)


def _schemas() -> st.SearchStrategy[dict[str, Any]]:
    counts = st.integers(0, 3)
    texts: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": counts, "maxLength": counts}
    )
    bounds = st.integers(-5, 5)
    optional = {"minimum": bounds, "maximum": bounds, "exclusiveMinimum": bounds, "exclusiveMaximum": bounds}
    numbers: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])}, optional={**optional, "multipleOf": st.integers(1, 4)}
    )
    plain: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"enum": [1, "a", None]}, {"const": [2]}, {}]
    )
    names = st.sampled_from(["urgent", "city", "count"])

    def deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        lists: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner},
            optional={"minItems": counts, "maxItems": counts, "uniqueItems": st.booleans()},
        )
        objects: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=3)},
            optional={
                "required": st.lists(names, unique=True),
                "additionalProperties": st.booleans() | inner,
                "minProperties": counts,
            },
        )
        choices: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
            {"anyOf": st.lists(inner, min_size=1, max_size=3)}
        )
        return lists | objects | choices

    return st.recursive(texts | numbers | plain, deeper, max_leaves=8)


@settings(max_examples=400, deadline=None)
@given(prompt=st.sampled_from(["", "Urgent: 3 in Oslo", '1, 2.5 and "x"', "a, b and c", "4 -7"]), schema=_schemas())
def test_whatever_is_made_conforms(prompt: str, schema: dict[str, object]) -> None:
    """An independent validator agrees; where nothing can be made, that is said."""
    check_schema(schema, "output_schema")
    try:
        output = make_output(prompt, schema)
    except SchemaError:
        return
    jsonschema.Draft202012Validator(schema).validate(output)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["object", "array", "string", "a", "#", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "required", "enum", "items", "anyOf", "allOf", "$ref", "$defs", "a", "minItems"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=400, deadline=None)
@given(schema=JSON)
def test_no_schema_is_too_strange(schema: object) -> None:
    """It is refused when it comes in, or given up on, or satisfied; nothing else happens."""
    try:
        check_schema(schema, "output_schema")
        assert isinstance(schema, dict)
        make_output("Hello 3", schema)
    except (ProblemError, SchemaError) as error:
        assert str(error)  # noqa: PT017 - each of these is a good end
