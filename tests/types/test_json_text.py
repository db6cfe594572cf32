"""JSON with integers of any size, read and written exactly, and nothing else changed by that."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._text import UndecodedMessage, copied, decode_json, encode_json
from inferencesh._types.codec import structure
from inferencesh._types.encoding import dump_json
from inferencesh.errors import UnreadableError
from inferencesh.models import Chat, Message, read_partial

LARGE = [2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**63) - 1, 10**40 + 7, 10**400 + 1]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(LARGE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


def same(one: object, other: object) -> bool:
    """Whether two values are equal down to the types and signs of their numbers."""
    return repr(one) == repr(other)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_any_json_is_read_as_the_standard_library_reads_it(value: object, as_bytes: bool, indent: int | None) -> None:
    """As text or bytes, compact or indented."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    assert same(decode_json(text.encode() if as_bytes else text), json.loads(text))


@given(VALUES)
def test_any_json_is_written_so_that_it_reads_the_same(value: object) -> None:
    """By the client and by what the embedded runtime uses."""
    assert same(json.loads(encode_json(value)), value)
    assert same(json.loads(dump_json(value)), value)


@pytest.mark.parametrize("text", ["1e300", "-1e300", "-0.0", "1E5", "18446744073709551617.0", "2e19", "0.1", '"1e300"'])
def test_floats_stay_floats(text: str) -> None:
    """Also where an exact integer stands beside them."""
    assert same(decode_json(text), json.loads(text))
    assert same(decode_json(f"[{text}, {2**70}]"), [json.loads(text), 2**70])


def test_digits_in_strings_stay_strings() -> None:
    """And the last of two equal keys counts, with and without a large integer."""
    assert decode_json(f'{{"a": "{2**70}", "a": "{2**71}"}}') == {"a": str(2**71)}
    assert decode_json(f'{{"a": {2**70}, "a": {2**71}}}') == {"a": 2**71}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "1e999", f"[{2**70}, NaN]", f"[{10**400}, 1e999]"])
def test_what_is_no_number_is_refused(text: str) -> None:
    """Also beside an exact integer."""
    with pytest.raises(UnreadableError, match="not JSON"):
        decode_json(text)


def test_an_integer_of_too_many_digits_is_unreadable_at_once() -> None:
    """Python converts no more than 4300 digits, since that takes quadratic time."""
    started = time.perf_counter()
    for text in ("9" * 5000, f'{{"a": [{"9" * 2_000_000}]}}'):
        with pytest.raises(UnreadableError, match="not JSON"):
            decode_json(text)
    assert time.perf_counter() - started < 2
    assert read_partial('{"a": 1, "b": ' + "9" * 5000 + "}", over=True) is None
    assert decode_json("9" * 4300) == int("9" * 4300)


def test_an_integer_of_too_many_digits_cannot_be_written() -> None:
    """It is refused like anything else that has no JSON form."""
    with pytest.raises(TypeError, match="no JSON form"):
        dump_json({"a": 10**5000})


@pytest.mark.parametrize("number", ["1", str(2**70), str(10**400)])
def test_what_is_nested_too_deeply_is_refused(number: str) -> None:
    """With and without a large integer inside, and never with a RecursionError."""
    for depth in (1025, 100_000):
        with pytest.raises(UnreadableError):
            decode_json("[" * depth + number + "]" * depth)
    deep: Any = decode_json("[" * 500 + number + "]" * 500)
    for _ in range(500):
        (deep,) = deep
    assert deep == int(number)


def test_a_large_number_in_the_deepest_place_is_unreadable_at_worst() -> None:
    """orjson takes up to 1024 levels, the exact decoder as many as the interpreter allows: in 3.11 fewer."""
    try:
        deep = decode_json("[" * 1020 + str(2**70) + "]" * 1020)
    except UnreadableError as error:
        assert "not JSON" in str(error)  # noqa: PT017 - whether it is raised depends on the interpreter
    else:
        while isinstance(deep, list):
            (deep,) = deep
        assert deep == 2**70


def test_lone_surrogates_are_read_beside_exact_integers() -> None:
    """Unless the caller wants them refused."""
    text = rf'{{"a": "\ud83d", "b": {2**70}}}'
    assert decode_json(text) == {"a": "\ufffd", "b": 2**70}
    assert decode_json(f"[{10**400}]", strict=True) == [10**400]
    with pytest.raises(UnreadableError):
        decode_json(text, strict=True)


def test_what_orjson_writes_by_itself_is_written_beside_exact_integers() -> None:
    """Datetimes, for one, and beside lone surrogates."""
    noon = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert json.loads(dump_json({"at": noon, "wei": 2**70})) == {"at": "2026-11-28T12:00:00+00:00", "wei": 2**70}
    assert json.loads(dump_json({"at": noon, "name": "\ud83d"})) == {
        "at": "2026-11-28T12:00:00+00:00",
        "name": "\ufffd",
    }


def test_a_line_without_large_numbers_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact decoder is asked only where it makes a difference."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the exact decoder was used")

    line = orjson.dumps({"a": "9" * 30, "b": [1.5, 2**64 - 1, -(2**63), {"c": -1e18}]})
    monkeypatch.setattr(json, "loads", refuse)
    assert decode_json(line)["b"][1] == 2**64 - 1


@pytest.mark.parametrize("number", LARGE)
def test_every_part_of_a_message_has_exact_integers(number: int) -> None:
    """Arguments as an object or as JSON text, data, the output, and forms that are decoded late."""
    for arguments in ({"n": number}, json.dumps({"n": number})):
        invocation = {
            "id": "c",
            "type": "internal",
            "function": {"name": "finish", "arguments": arguments},
            "data": json.dumps({"n": number}),
            "result": {"n": number},
        }
        line = json.dumps({"data": {"id": "m", "status": "ready", "tool_invocations": [invocation]}}).encode()
        message = structure(decode_json(line)["data"], Message)
        call = message.tool_calls[0]
        assert call.arguments == call.data == message.output == {"n": number}
        assert json.loads(call.result or "") == {"n": number}
        assert UndecodedMessage(line).data == json.loads(line)["data"]
    assert read_partial(f'{{"n": {number}, "m": ') == {"n": number}
    assert structure({"id": "c", "output": {"n": number}}, Chat).output == {"n": number}


@given(VALUES)
def test_a_copy_shares_nothing_that_can_be_changed(value: object) -> None:
    """It is equal, and a change anywhere in it does not show in the value."""
    before = repr(value)
    twin = copied(value)
    assert same(twin, value)
    pending = [twin]
    for each in pending:
        if isinstance(each, dict | list):
            pending.extend(each.values() if isinstance(each, dict) else each)
            each.clear()
    assert repr(value) == before


def test_infinity_is_refused_beside_large_integers_too() -> None:
    """JSON has none, and null in its place would be another value."""
    with pytest.raises(TypeError, match="NaN and Infinity"):
        dump_json([math.inf, 2**70])
