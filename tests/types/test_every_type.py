"""Every type that tools and outputs take: what is valid arrives equal, the rest is refused, and the schema agrees."""

from __future__ import annotations

import copy
import functools
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferencesh import OutputError, tool
from inferencesh._types.output import OutputType
from inferencesh.tools.handler import ArgumentsError

from . import page
from .every_type import ROWS, Row
from .test_json_types import ANYTHING, Judge, hinted

BY_NAME = {row.name: row for rows in ROWS.values() for row in rows}
EVERY = pytest.mark.parametrize("row", list(BY_NAME.values()), ids=lambda row: row.name)
# More of them with --hypothesis-profile=deep.
BUDGET = settings(
    max_examples=settings().max_examples // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@functools.cache
def tool_of(name: str) -> Any:
    """A tool that takes and returns a value of a row."""
    return tool(hinted(BY_NAME[name].hint))


@functools.cache
def output_of(name: str) -> OutputType[Any]:
    """The output type of a row."""
    return OutputType.of(BY_NAME[name].hint)


@functools.cache
def judge_of(name: str) -> Any:
    """What ``jsonschema`` says of the arguments of that tool."""
    return Judge(tool_of(name)["client"]["input_schema"])


def as_argument(row: Row, written: Any) -> Any:
    """A JSON value as the argument of a tool."""
    return tool_of(row.name).bind({"value": written}, None)()


def as_output(row: Row, written: Any) -> Any:
    """A JSON value as an output, wrapped as the schema asks for it."""
    kind = output_of(row.name)
    return kind.read({"value": written} if kind.in_object else written)


def complaint(row: Row, written: Any) -> str:
    """What is wrong with a value; "" if it is accepted."""
    try:
        as_argument(row, written)
    except ArgumentsError as error:
        return str(error)
    return ""


def fits_schema(row: Row, written: Any) -> bool:
    """Whether ``jsonschema`` accepts the value."""
    return not list(judge_of(row.name).iter_errors({"value": written}))


@EVERY
@BUDGET
@given(data=st.data())
def test_what_is_valid_arrives_equal(row: Row, data: st.DataObject) -> None:
    """As an argument and as an output; the schema allows it."""
    value, written = data.draw(row.values)
    written = json.loads(json.dumps(written))
    assert fits_schema(row, written)
    got = as_argument(row, written)
    assert got == value
    assert type(got) is type(value) or isinstance(value, int | float)
    if written is not None:  # that would be no output
        assert as_output(row, written) == value


@EVERY
@BUDGET
@given(data=st.data())
def test_the_schema_and_the_reader_agree(row: Row, data: st.DataObject) -> None:
    """On values of which something was changed; what is refused is told in words."""
    _, written = data.draw(row.values)
    changed = data.draw(mutations(json.loads(json.dumps(written))))
    told = complaint(row, changed)
    if not told:
        assert fits_schema(row, changed)
        return
    assert row.unsaid or not fits_schema(row, changed), told
    assert told.startswith("invalid arguments: value")
    assert "Traceback" not in told
    with pytest.raises(OutputError):
        as_output(row, changed)


@EVERY
@BUDGET
@given(data=st.data())
def test_a_partial_output_is_a_value_of_the_type_or_none(row: Row, data: st.DataObject) -> None:
    """However much of it has arrived; at the end it is the whole value."""
    value, written = data.draw(row.values)
    kind = output_of(row.name)
    changed = data.draw(mutations(json.loads(json.dumps(written))))
    kind.read_partial({"value": changed} if kind.in_object else changed)
    whole = {"value": written} if kind.in_object else written
    if written is not None:  # that would be no output
        assert kind.read_partial(whole, over=True) == value
        assert kind.read_partial(whole) == value


@st.composite
def mutations(draw: st.DrawFn, value: Any) -> Any:
    """The value with one change somewhere in it."""
    value = copy.deepcopy(value)
    holder = [value]
    places: list[tuple[Any, Any]] = [(holder, 0)]
    for parent, key in places:  # it grows meanwhile
        part = parent[key]
        if isinstance(part, dict | list):
            places += [(part, inner) for inner in (part if isinstance(part, dict) else range(len(part)))]
    parent, key = draw(st.sampled_from(places))
    part = parent[key]
    match draw(st.sampled_from(["other", "near", "remove", "add"])):
        case "near" if isinstance(part, bool):
            parent[key] = int(part)
        case "near" if isinstance(part, int | float):
            near = [part + 1, -part, float(part), str(part), part * 10, part + 0.5]
            parent[key] = draw(st.sampled_from([each for each in near if each not in {math.inf, -math.inf}]))  # no JSON
        case "near" if isinstance(part, str):
            parent[key] = draw(st.sampled_from([part + "z", part[:-1], part.upper(), " " + part, [part], ""]))
        case "remove" if parent is not holder and isinstance(parent, dict):
            del parent[key]
        case "remove" if parent is not holder:
            parent.pop(key)
        case "add" if isinstance(part, dict):
            part[draw(st.sampled_from(["a", "x", "kind", "1"]))] = draw(ANYTHING)
        case "add" if isinstance(part, list):
            part.append(draw(ANYTHING))
        case _:
            parent[key] = draw(ANYTHING)
    return json.loads(json.dumps(holder[0]))


def test_the_page_of_the_documentation_is_up_to_date() -> None:
    """Each row of its tables is made of a type of these tests; ``python -m tests.types.page`` writes it anew."""
    assert page.PATH.read_text(encoding="utf-8") == page.written()
