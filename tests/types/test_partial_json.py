"""JSON that breaks off: what is complete of it, and never less of a longer text than of a shorter one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh.models import read_partial
from tests.protocol.forms import FIXED

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
OBJECTS = st.dictionaries(st.text(), VALUES, min_size=1, max_size=4)


def is_part(part: Any, whole: Any) -> bool:
    """Whether everything in ``part`` stands in the same place of ``whole``, scalars being whole."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    return type(part) is type(whole) and part == whole


@FIXED
@given(OBJECTS, st.booleans())
def test_what_is_read_of_a_beginning_is_part_of_the_whole(value: dict[str, Any], escaped: bool) -> None:
    """At every place where the text can break off; and more text never takes anything back."""
    text = json.dumps(value, ensure_ascii=escaped)
    before: object = {}
    for end in range(1, len(text) + 1):
        part = read_partial(text[:end])
        assert is_part(part, value), text[:end]
        assert is_part(before, part), text[:end]
        before = part
    assert before == value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", None),
        ("{", {}),
        ('{"a', {}),
        ('{"a": "some tex', {}),
        ('{"a": "12', {}),
        ('{"a": "some text"', {"a": "some text"}),
        ('{"a": 12', {}),
        ('{"a": 12 ', {"a": 12}),
        ('{"a": 12, "b', {"a": 12}),
        ('{"a": -1.5e', {}),
        ('{"a": tru', {}),
        ('{"a": true', {"a": True}),
        ('{"list": [1, 2', {"list": [1]}),
        ('{"list": [{"x": 1, "y": ', {"list": [{"x": 1}]}),
        ('{"a": "\\ud83d', {}),
        ("[1, ", [1]),
        ("12", None),
        ("no JSON", None),
        ('{"a": NaN', None),
        ('{"a" x', None),
        ("[" * 1000, None),
    ],
)
def test_only_what_is_complete_is_there(text: str, part: object) -> None:
    """A string or number is there when its end is; what is no JSON is nothing."""
    assert read_partial(text) == part


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("-1.5e3", -1500.0), ('{"a": 1', {}), ('{"a": 1}', {"a": 1}), ("true", True)]
)
def test_a_number_at_the_very_end_is_complete_when_no_more_comes(text: str, value: object) -> None:
    """But not in an object that was cut off: there it may have been longer."""
    assert read_partial(text, over=True) == value
