"""Between JSON and the models: lenient about what a server sends, exact about what this side does."""

from __future__ import annotations

import datetime
import enum
import json
import pathlib
import uuid
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._text import decode_json
from inferencesh._types.codec import structure
from inferencesh._types.encoding import dump_json, encode_result
from inferencesh.errors import StreamError, UnreadableError
from inferencesh.models import (
    Chat,
    ChatStatus,
    Content,
    ContentType,
    FileRef,
    Message,
    MessageStatus,
    Role,
    Run,
    RunState,
    ToolCall,
    ToolType,
)
from tests.protocol.forms import CHAT, FIXED, REPLY, RUN, invocation, message

MODELS: list[type[Any]] = [Message, ToolCall, Chat, Run, FileRef, Content]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def read(**data: Any) -> Message:
    """A message with these fields."""
    return structure({"id": "m1", **data}, Message)


# -- messages


def test_a_message_is_read_with_everything_it_has() -> None:
    """Every field that this version knows."""
    blocks = [
        {"type": "reasoning", "text": "Let me think."},
        {"type": "text", "text": "Hel"},
        {"type": "text", "text": "lo"},
        {"type": "image", "image": "https://x/y.png", "text": None},
        {"type": "file", "file": "https://x/y.pdf", "error": "too large"},
    ]
    data = message(
        content=blocks, status="ready", created_at="2026-11-22T10:00:00.000000Z", tool_invocations=[invocation()]
    )
    read_message = structure(data, Message)
    assert attrs.evolve(read_message, content=(), tool_calls=()) == Message(
        id=REPLY,
        chat_id=CHAT,
        role=Role.ASSISTANT,
        status=MessageStatus.READY,
        created_at=datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC),
        order=4,
        run_id=RUN,
    )
    assert [block.type for block in read_message.content] == ["reasoning", "text", "text", "image", "file"]
    assert (read_message.text, read_message.reasoning) == ("Hello", "Let me think.")
    assert read_message.content[3] == Content(type=ContentType.IMAGE, image="https://x/y.png")
    assert (read_message.content[4].file, read_message.content[4].error) == ("https://x/y.pdf", "too large")
    assert read_message.done
    (call,) = read_message.tool_calls
    assert (call.id, call.name, call.arguments) == ("call-1", "calculator", {"expression": "42 * 17"})
    assert read_message.pending_tool_calls == (call,)


def test_nulls_and_absent_fields_take_their_defaults() -> None:
    """Optional fields come as null."""
    null = dict.fromkeys(
        ["chat_id", "role", "status", "content", "tool_invocations", "created_at", "order", "agent_run_id"]
    )
    assert read(**null) == read() == Message(id="m1")
    assert read(**null).text == ""


TIMES: list[tuple[object, datetime.datetime | None]] = [
    ("2026-11-22T10:00:00Z", datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)),
    ("2026-11-22t10:00:00.25z", datetime.datetime(2026, 11, 22, 10, 0, 0, 250_000, tzinfo=datetime.UTC)),
    ("2026-11-22T10:00:00.123456789Z", datetime.datetime(2026, 11, 22, 10, 0, 0, 123_456, tzinfo=datetime.UTC)),
    ("2026-11-22T15:30:00+05:30", datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)),
    ("2026-11-22T02:00:00-08:00", datetime.datetime(2026, 11, 22, 10, tzinfo=datetime.UTC)),
    ("0001-01-01T00:00:00Z", None),  # Go's zero value
    ("2026-11-22T10:00:00", None),  # which hour that is depends on the place
    ("2026-11-22T10:00:00+99:00", None),
]
ODD_TIMES: list[object] = ["", "yesterday", "2026-13-40T10:00:00Z", "2026-11-22", "\u0661", 5, 1.5, True, [], {}]


@pytest.mark.parametrize(("stated", "time"), [*TIMES, *((odd, None) for odd in ODD_TIMES)])
def test_times_are_aware_or_none(stated: object, time: datetime.datetime | None) -> None:
    """Of messages, chats and files alike; what was sent remains in ``raw``."""
    found, chat = read(created_at=stated), structure({"created_at": stated, "updated_at": stated}, Chat)
    file = structure({"uri": "x", "created_at": stated}, FileRef)
    assert (found.created_at, chat.created_at, chat.updated_at, file.created_at) == (time, time, time, time)
    assert time is None or found.created_at is None or found.created_at.utcoffset() is not None
    assert found.raw["created_at"] == chat.raw["updated_at"] == stated


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([], ""),
        ("plain", "plain"),
        ("", ""),
        ([{"type": "text", "text": None}], ""),
        ([{"text": "untyped"}], "untyped"),
        ([{"type": "text", "text": "a"}, None, 5, {"type": "text", "text": "b"}], "ab"),
        ({"type": "text", "text": "not a list"}, ""),
        ([{"type": "hologram", "text": "x"}], ""),
    ],
)
def test_content_of_any_form_has_a_text(content: object, text: str) -> None:
    """What is no block of text adds nothing to it."""
    assert read(content=content).text == text


def test_unknown_fields_stay_readable() -> None:
    """In ``raw``, of messages, calls, blocks and chats."""
    data = message(
        hologram=1, content=[{"type": "text", "text": "x", "style": 2}], tool_invocations=[invocation(widget=3)]
    )
    found = structure(data, Message)
    assert (found.raw["hologram"], found.content[0].raw["style"], found.tool_calls[0].raw["widget"]) == (1, 2, 3)
    assert structure({"id": "c", "raw": "theirs", "mood": 4}, Chat).raw["mood"] == 4


def test_unknown_enum_values_are_kept_as_they_are() -> None:
    """Later servers have more of them; they equal their text and only that."""
    found = read(role="oracle", status="dreaming", content=[{"type": "hologram"}])
    assert (found.role, found.status, found.content[0].type) == ("oracle", "dreaming", "hologram")
    assert not found.done
    assert found.role == Role("oracle") != Role.USER
    assert isinstance(found.role, Role)
    assert repr(found.role) == "<Role.oracle: 'oracle'>"
    call = structure(invocation("pondering", type="oracle"), ToolCall)
    assert (call.status, call.type, call.pending, call.done) == ("pondering", "oracle", False, False)
    assert repr(structure({"state": "dizzy"}, Run).state) == "<RunState.dizzy: 'dizzy'>"
    assert repr(structure({"status": "dizzy"}, Chat).status) == "<ChatStatus.dizzy: 'dizzy'>"


def test_an_enum_takes_no_other_things_than_text() -> None:
    """A number is no later server's value."""
    with pytest.raises(ValueError, match="5 is not a valid Role"):
        Role(5)  # type: ignore[arg-type]  # which is what must fail


@pytest.mark.parametrize("data", [{}, {"id": None}, {"id": ""}, {"id": 5}, {"role": "assistant"}])
def test_a_message_without_an_id_is_unreadable(data: dict[str, object]) -> None:
    """Nothing could be done with it."""
    with pytest.raises(UnreadableError, match="without an id"):
        structure(data, Message)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", [None, [], "text", 5, True])
def test_what_is_no_object_is_no_model(model: type, data: object) -> None:
    """The error is a StreamError and says what came instead."""
    with pytest.raises(UnreadableError, match="the server sent"):
        structure(data, model)
    assert issubclass(UnreadableError, StreamError)


@FIXED
@given(st.sampled_from(MODELS), st.data())
def test_no_object_leads_to_another_exception(model: type[Any], data: st.DataObject) -> None:
    """Any JSON in any field gives a model or says that it is unreadable."""
    names = [*vars(model)["__slots__"], "tool_invocations", "function", "agent_run_id", "raw"]
    value = data.draw(st.dictionaries(st.sampled_from(names), json_values, max_size=6))
    try:
        found: object = structure({"id": "x", **value}, model)
    except UnreadableError:
        return
    assert isinstance(found, model)
    repr(found)
    hash(found)


@pytest.mark.parametrize("field", ["chat_id", "created_at", "role", "content", "tool_invocations", "order"])
def test_deep_nesting_is_unreadable_at_worst(field: str) -> None:
    """Untrusted depth never becomes another exception."""
    deep = decode_json("[" * 900 + "]" * 900)
    for value in (deep, [{"text": deep}], [{"id": "c", "function": {"name": deep, "arguments": deep}}]):
        try:
            read(**{field: value})
        except UnreadableError:
            continue


@pytest.mark.parametrize(
    ("order", "number"),
    [(7, 7), ("7", 7), (7.9, 7), (True, 1), (None, 0), ("x", 0), ([], 0), (1e400, 0), ("nan", 0), (-3, -3)],
)
def test_a_place_in_the_chat_is_a_whole_number(order: object, number: int) -> None:
    """Or none."""
    assert read(order=order).order == number


# -- tool calls


@pytest.mark.parametrize(
    ("arguments", "decoded", "undecoded"),
    [
        ({"expression": "1"}, {"expression": "1"}, None),
        ('{"expression": "1"}', {"expression": "1"}, None),
        (' {"a": {"b": [1]}} ', {"a": {"b": [1]}}, None),
        ("{}", {}, None),
        ("", {}, None),
        ("  ", {}, None),
        (None, {}, None),
        ('{"expr', {}, '{"expr'),
        ("[1]", {}, "[1]"),
        ([1], {}, "[1]"),
        ('"text"', {}, '"text"'),
        (5, {}, "5"),
    ],
)
def test_arguments_are_decoded_whether_object_or_text(
    arguments: object, decoded: dict[str, object], undecoded: str | None
) -> None:
    """What is no object (yet) is kept as it came, so that no handler runs on arguments nobody sent."""
    call = structure(invocation(function={"name": "calculator", "arguments": arguments}), ToolCall)
    assert call.arguments == decoded
    assert call.undecoded_arguments == undecoded


@pytest.mark.parametrize(
    ("status", "kind", "pending"),
    [
        ("awaiting_input", "client", True),
        ("in_progress", "client", True),
        ("pending", "client", False),
        ("awaiting_approval", "client", False),
        ("waiting", "client", False),
        ("completed", "client", False),
        ("awaiting_input", "mcp", False),
        ("in_progress", "app", False),
    ],
)
def test_a_client_call_waits_in_either_status(status: str, kind: str, pending: bool) -> None:
    """The official SDKs disagree about which one means it."""
    assert structure(invocation(status, type=kind), ToolCall).pending is pending


@pytest.mark.parametrize(
    ("status", "done"), [("completed", True), ("failed", True), ("cancelled", True), ("pending", False)]
)
def test_a_call_is_done_when_it_is_over(status: str, done: bool) -> None:
    """Whichever way."""
    assert structure(invocation(status), ToolCall).done is done


def test_a_call_says_whether_a_person_has_to_approve_it() -> None:
    """By its status or by its own word."""
    assert structure(invocation("awaiting_approval"), ToolCall).requires_approval
    assert structure(invocation("pending", require_approval=True), ToolCall).requires_approval
    assert not structure(invocation("pending", require_approval="yes"), ToolCall).requires_approval


def test_a_call_without_a_function_has_a_name_all_the_same() -> None:
    """Where it stands on the call itself."""
    call = structure({"id": "c", "name": "calculator", "function": None}, ToolCall)
    assert (call.name, call.arguments, call.type, call.status) == ("calculator", {}, ToolType.CLIENT, "pending")
    assert structure({"id": "c", "result": {"a": 1}}, ToolCall).result == '{"a":1}'


def test_calls_without_an_id_are_no_calls() -> None:
    """Nobody could answer them."""
    assert read(tool_invocations=[{"status": "awaiting_input"}, None, 5, invocation()]).tool_calls[0].id == "call-1"
    assert read(tool_invocations={"a": 1}).tool_calls == ()


# -- the other models


def test_a_chat_is_read_with_its_run() -> None:
    """Null is as good as absent."""
    data = {
        "id": CHAT,
        "status": "busy",
        "name": None,
        "context": {"user": "x"},
        "active_run": {"id": RUN, "state": "working", "error": None, "output": {"a": 1}},
        "output": [1],
    }
    found = structure(data, Chat)
    assert (found.id, found.status, found.name, found.context) == (CHAT, ChatStatus.BUSY, "", {"user": "x"})
    assert found.active_run == Run(id=RUN, state=RunState.WORKING, output={"a": 1})
    assert found.output == [1]
    assert found.raw == data
    assert structure({}, Chat) == Chat()
    assert structure({"active_run": None, "context": "x"}, Chat) == Chat()


def test_what_stands_where_text_should_is_shown_as_the_json_it_was() -> None:
    """Better than failing on it."""
    found = structure({"name": {"a": [1, None]}, "created_at": 5, "active_run": {"error": True}}, Chat)
    assert (found.name, found.created_at) == ('{"a":[1,null]}', None)
    assert found.active_run == Run(error="True")


def test_a_file_is_read() -> None:
    """Sizes as numbers."""
    assert structure({"id": "f", "uri": "https://x", "size": "12"}, FileRef) == FileRef(
        id="f", uri="https://x", size=12
    )


# -- JSON


@pytest.mark.parametrize("bad", [b"", b"{", b"nope", b"NaN", b"[Infinity]", b"\xff", b"[" * 5000, b"1" * 5000 + b"e"])
def test_what_is_no_json_is_unreadable(bad: bytes) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(UnreadableError, match="not JSON"):
        decode_json(bad)


@FIXED
@given(json_values)
def test_what_is_encoded_is_decoded_as_it_was(value: object) -> None:
    """Any JSON there is."""
    assert decode_json(dump_json(value)) == json.loads(json.dumps(value))


@FIXED
@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_unreadable(data: bytes) -> None:
    """No other exception."""
    try:
        dump_json(decode_json(data))
    except UnreadableError:
        return


@FIXED
@given(st.text(st.characters(categories=["Cs", "Ll"]), max_size=6))
def test_lone_surrogates_never_break_encoding_or_decoding(text: str) -> None:
    """They become U+FFFD, in both directions; everything else stays."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert decode_json(json.dumps([text])) == [whole]
    assert decode_json(dump_json({"a": text})) == {"a": whole}


def test_a_tools_result_is_text_or_json() -> None:
    """Strings as they are, everything else as JSON."""

    @attrs.frozen
    class Answer:
        value: int

    assert encode_result("714").text == "714"
    assert encode_result("").text == ""
    assert encode_result(714).text == "714"
    assert encode_result({"b": [1, None, True]}).text == '{"b":[1,null,true]}'
    assert encode_result(None).text == "null"
    assert encode_result(Answer(714)).text == '{"value":714}'
    assert encode_result({"when": datetime.date(2026, 11, 22)}).text == '{"when":"2026-11-22"}'
    assert encode_result(frozenset({1})).text == "[1]"
    assert encode_result({"a": [{1}]}).text == '{"a":[[1]]}'
    assert encode_result(MappingProxyType({"a": MappingProxyType({"b": {2}})})).text == '{"a":{"b":[2]}}'
    assert encode_result({1: "a"}).text == '{"1":"a"}'
    assert encode_result("ä\u2028").text == "ä\u2028"


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 42**170])
def test_a_tools_result_may_be_a_number_of_any_size(number: int) -> None:
    """A calculator's often are; JSON has no limit."""
    assert encode_result(number).text == str(number)
    assert json.loads(dump_json({"n": [number]})) == {"n": [number]}


@pytest.mark.parametrize("value", [object(), {"a": object()}, [lambda: None], {"n": 2**70, "o": object()}])
def test_what_has_no_json_form_is_a_type_error(value: object) -> None:
    """The caller is told so; nothing is sent."""
    with pytest.raises(TypeError):
        dump_json(value)


def test_a_circle_has_no_json_form() -> None:
    """It is an error like any other, and ends."""
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises((TypeError, RecursionError)):
        dump_json(circle)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "value", [NAN, -INFINITE, {"a": NAN}, [None, (1.0, INFINITE)], {NAN: 1}, {"a": 2**70, "b": NAN}, {"\ud800": NAN}]
)
def test_numbers_that_are_none_have_no_json_form(value: object) -> None:
    """NaN and Infinity are refused; null in their place would be another value, and nobody would notice."""
    with pytest.raises(TypeError, match=r"NaN and Infinity have no JSON form|not JSON compliant"):
        dump_json(value)


class Size(enum.Enum):
    """Keys of a mapping."""

    SMALL = 1


@attrs.frozen
class Point:
    """A key that is an object itself."""

    x: int
    y: int


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (Size.SMALL, "1"),
        (Role.USER, "user"),
        (datetime.date(2026, 11, 28), "2026-11-28"),
        (datetime.datetime(2026, 11, 28, 13, 5, tzinfo=datetime.UTC), "2026-11-28T13:05:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.Path("/data"), "/data"),
        ((1, "a"), '[1,"a"]'),
        (frozenset({2, 1}), "[1,2]"),
        (b"key", "a2V5"),
        (Point(1, 2), '{"x":1,"y":2}'),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_key_is_the_text_of_its_value(key: object, text: str) -> None:
    """What JSON writes for a value without quotes, it is as a key with them."""
    assert json.loads(dump_json({key: {key: 1}})) == {text: {text: 1}}


def test_a_key_without_a_text_has_no_json_form() -> None:
    """Its repr would be a key that no reader expects."""
    with pytest.raises(TypeError, match=r"value\[0\], a key: object has no JSON form"):
        dump_json([{object(): 1}])


def test_two_keys_with_one_text_have_no_json_form() -> None:
    """One of the two values would be lost."""
    with pytest.raises(TypeError, match="the same JSON form"):
        dump_json({1: "a", "1": "b"})


def test_a_block_shows_what_it_has() -> None:
    """A message that is printed can be read."""
    assert repr(Content(text="Hello")) == "Content(type='text', text='Hello')"
    assert repr(Content(ContentType.IMAGE, image="a.png")) == "Content(type='image', image='a.png')"
