"""Lines that repeat the one before with more text: read without being decoded, and read as decoding would read them."""

from __future__ import annotations

import itertools
import json
import pickle
from itertools import pairwise
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencesh._protocol.lines import GrownLine, LineGrowth, TextPiece
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event, NDJSONDecoder, read_event
from inferencesh._text import UndecodedMessage, decode_json
from inferencesh.errors import UnreadableError
from inferencesh.models import Message

from .forms import CHAT, FIXED, REPLY, Wire, chat, invocation, message, new_chat, over, plain, run, user, working

TIMES = ("2026-11-22T10:00:00.1Z", "2026-11-22T10:00:00.123456Z", "2026-11-22T10:00:00+01:00")


Style = Literal["time first", "text first", "no time"]
STYLES: tuple[Style, ...] = ("time first", "text first", "no time")


def form(text: str, at: int = 0, style: Style = "time first", **changes: object) -> dict[str, Any]:
    """The whole form of a message, as a server writes it; the order of its fields is the server's affair."""
    block = {"type": "text", "error": None, "text": text, "image": None, "file": None, "tool_calls": None}
    stamp = {} if style == "no time" else {"updated_at": TIMES[at % len(TIMES)]}
    whole = {
        "id": "message1",
        **(stamp if style == "time first" else {}),
        "user": {"name": 'the "first" \\ user'},
        "status": "pending",
        "content": [block],
        **stamp,
        "tool_invocations": None,
    }
    return {**whole, **changes}


def line(data: object, *, ascii_only: bool = False, spaces: bool = False, **beside: object) -> bytes:
    """The line that carries a form; servers differ in how they write JSON."""
    separators = (", ", ": ") if spaces else (",", ":")
    value = {"event": "chat_messages", "data": data, **beside}
    return json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")


Decoded = list[Event | GrownLine | TextPiece]


def read(lines: list[bytes]) -> Decoded:
    """What a decoder returns for a stream of these lines."""
    return list(NDJSONDecoder().feed(b"".join(each + b"\n" for each in lines)))


def forms_of(events: Decoded) -> list[Any]:
    """The messages in what a decoder has returned."""
    return [plain(event)["data"] for event in events]


def found(events: Decoded) -> list[str | None]:
    """What each event is known to add to the one before; None where it was decoded instead."""
    return [event.added if isinstance(event, GrownLine) else None for event in events]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_from_the_third_line_on_only_the_new_text_is_decoded(style: Style, *, ascii_only: bool, spaces: bool) -> None:
    """Two lines are decoded to learn how the server writes them, whatever characters the text has."""
    texts = [
        "Once",
        'Once "upon',
        'Once "upon\\',
        'Once "upon\\\n a \u2028 tïme',
        'Once "upon\\\n a \u2028 tïme 😀, 你好',
    ]
    forms = [form(text, at, style) for at, text in enumerate(texts)]
    events = read([line(each, ascii_only=ascii_only, spaces=spaces) for each in forms])
    assert forms_of(events) == forms
    assert found(events) == [None, None, "\\", "\n a \u2028 tïme", " 😀, 你好"]
    _, second, *grown = events
    assert isinstance(second, dict)
    before: object = second["data"]
    for event in grown:
        assert isinstance(event, GrownLine)
        assert event.before is before
        before = event.form


@pytest.mark.parametrize(
    "last",
    [
        line(form("Once upon a time")),
        line(form("Once upon")),
        line(form("Once upon a tale!")),
        line(form("Twice upon a time, there")),
        line(form("Once upon a time, there", status="ready")),
        line(form("Once upon a time, there", id="message2")),
        line(form("Once upon a time, there", tool_invocations=[])),
        line(form("Once upon a time, there", order=3)),
        line(form("Once upon a time, there"), fields=["content"]),
        line(form("Once upon a time, there", updated_at="yesterday")),
        line(form("Once upon a time, there", updated_at=None)),
        line(form("Once upon a time, there")).replace(b"2026-11-22T10:00:00.1Z", b"2026\\u002d11-22T10:00:00.1Z"),
        line(form('Once upon a time"}],"status":"ready","content":[{"text":"')),
        line({**form(""), "content": [form("Once upon a time")["content"][0], form("there")["content"][0]]}),
    ],
)
def test_whatever_else_changes_is_decoded(last: bytes) -> None:
    """A line is compared to its last byte; text that looks like JSON is text."""
    events = read([line(form("Once")), line(form("Once upon")), line(form("Once upon a time")), last])
    assert plain(events[-1])["data"] == orjson.loads(last)["data"]
    assert found(events)[:3] == [None, None, " a time"]
    added = found(events)[-1]
    assert added is None or plain(events[-1])["data"] == form("Once upon a time" + added)


def test_an_unescaped_quote_is_no_text() -> None:
    """What is no JSON is reported as ever, and the line after it is read as ever."""
    good = [line(form(text)) for text in ("a", "ab", "abc")]
    broken = line(form("abcd")).replace(b'abcd"', b'abcd"x"')
    decoder = NDJSONDecoder()
    sent = [*good, broken, line(form("abcde"))]
    events = list(decoder.feed(b"".join(each + b"\n" for each in sent)))
    assert forms_of(events) == [form("a"), form("ab"), form("abc"), form("abcde")]
    assert len(decoder.problems) == 1


def test_halves_of_characters_are_left_to_the_decoder() -> None:
    """An emoji cut in two by a token's end is whole again as soon as its other half has come."""
    cut = "well \ud83d"
    lines = [
        line(form(text), ascii_only=True) for text in ("w", "we", "well ", cut, "well 😀", "well 😀!", "well 😀!!")
    ]
    events = read(lines)
    texts = [each["content"][0]["text"] for each in forms_of(events)]
    assert texts == ["w", "we", "well ", "well \ufffd", "well 😀", "well 😀!", "well 😀!!"]
    assert found(events)[3:5] == [None, None]
    assert found(events)[-1] == "!"


def test_a_server_that_writes_in_ways_not_known_here_is_not_tried_for_ever() -> None:
    """After some lines of a message from which nothing could be learned, the next are decoded and no more."""
    growth = LineGrowth()
    for length in range(1, 20):
        written = line({"number": length, **form("x" * length)})
        assert growth.take(written) is None
        growth.learn(written, orjson.loads(written)["data"])
    for text in ("y", "yy"):  # it is a new message that gives a new chance
        written = line(form(text, id="message2"))
        growth.learn(written, orjson.loads(written)["data"])
    assert growth.take(line(form("yyy", id="message2"))) is not None


def test_an_undecoded_message_survives_pickling() -> None:
    """Snapshots do, so what they hold has to, looked at or not."""
    fresh, looked_at = UndecodedMessage(line(form("a"))), UndecodedMessage(line(form("a")))
    assert looked_at.data == form("a")
    assert pickle.loads(pickle.dumps(fresh)).data == pickle.loads(pickle.dumps(looked_at)).data == form("a")  # noqa: S301


def test_the_block_of_an_undecoded_message_is_not_taken_for_that_of_the_deltas_after_it() -> None:
    """Text that comes token by token has no block as the server sent it."""
    wholes = [{"event": "chat_messages", "data": message("a" * length)} for length in range(1, 5)]
    deltas = [{"event": "delta", "data": {"resource_id": REPLY, "delta": {"response": text}}} for text in "bcd"]
    events = iter(NDJSONDecoder().feed(b"".join(orjson.dumps(each) + b"\n" for each in [*wholes, *deltas])))
    turn, snapshots = Turn(CHAT), list[Message]()
    assert not turn.receive_all(events, 0.0, snapshots, 99)
    assert [(each.text, each.content[0].raw.get("text")) for each in snapshots] == [
        *(("a" * length, "a" * length) for length in range(1, 5)),
        *(("aaaa" + text, None) for text in ("b", "bc", "bcd")),
    ]


CHANGES = st.sampled_from([{}, {}, {}, {}, {"status": "ready"}, {"order": 7}, {"id": "message2"}, {"user": None}])
PIECES = st.one_of(st.text(max_size=6), st.sampled_from(['"', "\\", '"}', "\\u", "\u2028", "\n", '",', "updated_at"]))


@given(
    steps=st.lists(st.tuples(PIECES, st.integers(0, 2), CHANGES, st.booleans()), max_size=12),
    style=st.sampled_from(STYLES),
    ascii_only=st.booleans(),
    spaces=st.booleans(),
)
def test_what_is_read_is_what_decoding_reads(
    steps: list[tuple[str, int, dict[str, object], bool]], style: Style, *, ascii_only: bool, spaces: bool
) -> None:
    """Of any sequence of forms, growing, rewritten or changed otherwise; what is said to be added has been added."""
    text, forms = "", []
    for piece, at, changes, rewritten in steps:
        text = piece if rewritten else text + piece
        forms.append(form(text, at, style, **changes))
    lines = [line(each, ascii_only=ascii_only, spaces=spaces) for each in forms]
    events = read(lines)
    assert forms_of(events) == [orjson.loads(each)["data"] for each in lines]
    for (before, event), data in zip(pairwise(events), forms_of(events)[1:], strict=True):
        if isinstance(event, GrownLine):
            earlier = plain(before)["data"]
            block = earlier["content"][0]
            grown = {**earlier, "content": [{**block, "text": block["text"] + event.added}]}
            assert data == {**grown, **({} if style == "no time" else {"updated_at": data["updated_at"]})}


# -- deltas

Delta = dict[str, Any]


def delta(text: str, seq: int | None, of: object = REPLY, **more: object) -> Delta:
    """A delta that adds to the text."""
    return {"delta": {"response": text}, "seq": seq, "resource_id": of, **more}


def delta_line(data: Delta, *, ascii_only: bool = False, spaces: bool = False) -> bytes:
    """The line that carries a delta."""
    separators = (", ", ": ") if spaces else (",", ":")
    value = {"event": "delta", "data": data}
    return json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("numbered", [False, True])
def test_from_the_second_delta_on_plain_text_is_not_decoded(*, spaces: bool, numbered: bool) -> None:
    """One line is decoded to learn how the server writes deltas; a text that JSON escapes is decoded as well."""
    words = ["Once ", "upon ", 'a "', "tïme", "\n", "there", " was 100%", " 😀"]
    deltas = [delta(word, 9 + place if numbered else None) for place, word in enumerate(words)]
    events = read([delta_line(each, spaces=spaces) for each in deltas])
    assert [plain(event)["data"].get("delta") for event in events] == [each["delta"] for each in deltas]
    assert [plain(event)["data"].get("seq") for event in events] == [each["seq"] for each in deltas]
    kinds = [isinstance(event, tuple) for event in events]
    assert kinds == [False, True, False, True, False, True, True, True], "the two that were decoded change nothing"


@pytest.mark.parametrize(
    "last",
    [
        delta("b", 1),
        delta("b", 4),
        delta("b", None),
        delta("b", 3, "another"),
        delta("b", 3, None),
        delta("b", 3, usage={"total": 1}),
        {**delta("b", 3), "delta": {"response": "b", "reasoning": "c"}},
        {**delta("b", 3), "delta": {"reasoning": "b"}},
        {**delta("b", 3), "delta": {"response": ""}},
        {**delta("b", 3), "delta": {"response": None}},
        delta('b","reasoning":"c', 3),
        delta("b\u2028", 3),
    ],
)
def test_a_delta_that_is_not_the_next_piece_of_text_is_decoded(last: Delta) -> None:
    """Another number, another message, or more than text."""
    events = read([delta_line(delta("a", 1)), delta_line(delta("a", 2)), delta_line(last)])
    assert isinstance(events[1], tuple)
    assert events[2] == {"event": "delta", "data": last}


@pytest.mark.parametrize(
    "first",
    [
        b'{"event":"delta","data":{"delta":{"response":"\\u006d1"},"seq":1,"resource_id":"m1"}}',
        b'{"event":"delta","data":{"delta":{"response":"a"},"seq":7,"seq":1,"resource_id":"m1"}}',
        b'{"event":"delta","data":{"delta":{"response":"a","response":"b"},"seq":1,"resource_id":"b"}}',
        b'{"event":"delta","data":{"delta":{"response":"a"},"seq":1,"resource_id":"\\ud83d"}}',
        b'{"event":"delta","data":{"resource_id":"delta","seq":1,"delta":{"response":"delta"}}}',
    ],
)
def test_a_line_in_which_the_text_cannot_be_located_teaches_nothing(first: bytes) -> None:
    """Where the text stands has to be certain, however oddly a line is written."""
    changed = first.replace(b'"m1"', b'"m2"').replace(b'"seq":7', b'"seq":8').replace(b'"b"', b'"c"')
    changed = changed.replace(b'"response":"delta"', b'"response":"other"')
    decoder = NDJSONDecoder()
    events = list(decoder.feed(first + b"\n" + changed + b"\n"))
    assert [plain(event)["data"] for event in events] == [decode_json(each)["data"] for each in (first, changed)]


SPLINTERS = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b'"seq":',
    b"1",
    b"2",
    b",",
    b'"response":"',
    b"\xc3",
    b"\xf0\x9f",
    b" ",
    b"null",
    b"\\ud83d",
]


@st.composite
def damaged(draw: st.DrawFn, written: bytes) -> bytes:
    """A line into which a few bytes were put or from which they were taken."""
    start = draw(st.integers(0, len(written)))
    end = draw(st.integers(start, min(len(written), start + 4)))
    return written[:start] + draw(st.sampled_from(SPLINTERS)) + written[end:]


def decoded_wholly(lines: list[bytes]) -> list[Event]:
    """The events of lines each of which is decoded by itself."""
    events = []
    for each in lines:
        try:
            event = read_event(decode_json(each))
        except UnreadableError:
            continue
        events += [event] if event is not None else []
    return events


def meaning(event: Event) -> object:
    """What an event says, apart from how it is put: a null number is none."""
    data = dict(event["data"])
    if event["event"] == "delta" and data.get("seq") is None:
        data.pop("seq", None)
    return event["event"], data, tuple(event.get("fields", ()))


@FIXED
@given(st.data(), st.booleans(), st.booleans())
def test_damaged_lines_mean_what_decoding_says(data: st.DataObject, ascii_only: bool, spaces: bool) -> None:
    """Whatever stands in a line that nearly repeats the one before."""
    lines, text = [], ""
    for seq in range(data.draw(st.integers(2, 6))):
        piece = data.draw(st.text(max_size=3))
        text += piece
        if data.draw(st.booleans()):
            written = delta_line(delta(piece, seq), ascii_only=ascii_only, spaces=spaces)
        else:
            written = line(form(text, seq), ascii_only=ascii_only, spaces=spaces)
        lines.append(data.draw(damaged(written)) if data.draw(st.integers(0, 3)) == 0 else written)
    lines = [each.replace(b"\n", b" ") for each in lines]
    assert [meaning(plain(event)) for event in read(lines)] == [meaning(event) for event in decoded_wholly(lines)]


# -- the snapshots of a turn

WORDS = st.one_of(st.text(max_size=4), st.sampled_from(["a", " b", '"', "\\", "\n", "\u2028", "😀", "é", "{", '",']))
STATES: list[Wire] = [
    {"event": "chats", "data": working()},
    {"event": "agent_runs", "data": run("working")},
    {"event": "chats", "data": chat("idle", id="another-chat")},
    {"event": "chats", "data": over()},
    {"event": "usage", "data": {"total": 1}},
    {"event": "chat_messages", "data": user()},
    {"event": "chat_messages", "data": {"id": REPLY, "status": "pending"}, "fields": ["status"]},
    {"event": "chat_messages", "data": {"id": REPLY, "status": "ready"}, "fields": ["status"]},
]
MORE: list[Wire] = [
    *[{}] * 4,
    {"updated_at": TIMES[0]},
    {"updated_at": TIMES[1]},
    {"status": "ready"},
    {"tool_invocations": [invocation("pending")]},
    {"tool_invocations": [invocation()]},
    {"content": None},
    {"content": [{"type": "reasoning", "text": "Hm."}]},
    {"content": [{"type": "image", "image": "https://x/y.png"}]},
    {"content": [{"type": "text", "text": None}]},
]


@st.composite
def replies(draw: st.DrawFn) -> list[Wire]:
    """The events of one reply: deltas, whole messages and what comes between them, with gaps and duplicates."""
    events: list[Wire] = []
    text, seq = "", draw(st.integers(0, 1)) - 1
    numbered, deltas, wholes = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    kinds = ["token"] * 8 * deltas + ["whole"] * 6 * wholes + ["state", "skip", "again", "back", "rewrite"]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=25)):
        word = draw(WORDS)
        if kind in {"token", "skip", "whole"}:
            text += word
            seq += 1
        if kind == "token":
            events.append({"event": "delta", "data": delta(word, seq if numbered else None)})
        elif kind == "whole":
            events.append({"event": "chat_messages", "data": message(text, **draw(st.sampled_from(MORE)))})
        elif kind == "back":
            events.append({"event": "chat_messages", "data": message(text[: draw(st.integers(0, len(text)))])})
        elif kind == "rewrite":
            events.append({"event": "chat_messages", "data": message(word)})
        elif kind == "again" and events:
            events.append(draw(st.sampled_from(events)))
        elif kind == "state":
            events.append(draw(st.sampled_from(STATES)))
    return events


def padded(event: Wire, number: int) -> Wire:
    """The same event with fields that mean nothing and that keep it from being recognized as one with more text."""
    data = {**event["data"], "padding": number}
    if event["event"] == "delta":
        data["delta"] = {**data["delta"], "padding": number}
    return {**event, "data": data}


def snapshots_of(lines: list[bytes], data: st.DataObject) -> list[object]:
    """All that a turn's caller sees of a stream of these lines, which arrive in chunks of any size."""
    caller = new_chat()
    decoder = NDJSONDecoder()
    stream = b"".join(each + b"\n" for each in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    events = iter([event for chunk in chunks for event in decoder.feed(chunk)])
    most = data.draw(st.integers(1, 30))
    seen: list[Message] = []
    for event in events:
        batch: list[Message] = []
        rest: Any = itertools.chain([event], events)
        assert caller.turn.receive_all(rest, caller.now, batch, most) == []
        seen += batch
        events = rest
        caller.turn.calls.take()
    assert decoder.problems == []
    return [shown(snapshot) for snapshot in seen] + [end_of(caller.turn)]


def shown(snapshot: Message) -> object:
    """All that a snapshot says."""
    raw = {name: value for name, value in snapshot.raw.items() if name != "padding"}
    return snapshot, snapshot.text, snapshot.delta, snapshot.tool_calls, raw


def end_of(turn: Turn) -> object:
    """How a turn stands."""
    return turn.outcome, turn.chat_id == CHAT, turn.progress


@settings(FIXED, max_examples=600)
@given(st.data(), replies(), st.booleans(), st.booleans())
def test_snapshots_are_the_same_without_the_short_cuts(
    data: st.DataObject,
    events: list[Wire],
    ascii_only: bool,
    spaces: bool,
) -> None:
    """For any reply in any chunks; a stream in which each line has fields of its own is decoded line by line."""
    separators = (", ", ": ") if spaces else (",", ":")

    def written(value: Wire) -> bytes:
        return json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")

    short = [written(event) for event in events]
    long = [written(padded(event, number)) for number, event in enumerate(events)]
    assert snapshots_of(short, data) == snapshots_of(long, data)
