"""Lines that repeat the one before with more text: read without being decoded, and read as decoding would read them."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._protocol.lines import LineGrowth
from inferencesh._protocol.wire import Event, NDJSONDecoder
from inferencesh._text import LateForm

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


def read(lines: list[bytes]) -> list[Event]:
    """The events of a stream of these lines."""
    decoder = NDJSONDecoder()
    return list(decoder.feed(b"".join(each + b"\n" for each in lines)))


def found(events: list[Event]) -> list[str | None]:
    """What each event is known to add to the one before; None where it was decoded instead."""
    return [event.added if event.before is not None else None for event in events]


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
    assert [event.data for event in events] == forms
    assert found(events) == [None, None, "\\", "\n a \u2028 tïme", " 😀, 你好"]
    assert all(event.before is before.form for event, before in zip(events[2:], events[1:-1], strict=True))
    assert all(isinstance(event.form, LateForm) for event in events[2:])


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
    assert events[-1].data == orjson.loads(last)["data"]
    assert found(events)[:3] == [None, None, " a time"]
    added = found(events)[-1]
    assert added is None or events[-1].data == form("Once upon a time" + added)


def test_an_unescaped_quote_is_no_text() -> None:
    """What is no JSON is reported as ever, and the line after it is read as ever."""
    good = [line(form(text)) for text in ("a", "ab", "abc")]
    broken = line(form("abcd")).replace(b'abcd"', b'abcd"x"')
    decoder = NDJSONDecoder()
    events = list(decoder.feed(b"".join(each + b"\n" for each in [*good, broken, line(form("abcde"))])))
    assert [event.data for event in events] == [form("a"), form("ab"), form("abc"), form("abcde")]
    assert len(decoder.problems) == 1


def test_halves_of_characters_are_left_to_the_decoder() -> None:
    """An emoji cut in two by a token's end is whole again as soon as its other half has come."""
    cut = "well \ud83d"
    lines = [
        line(form(text), ascii_only=True) for text in ("w", "we", "well ", cut, "well 😀", "well 😀!", "well 😀!!")
    ]
    events = read(lines)
    texts = [event.data["content"][0]["text"] for event in events]
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


def test_a_late_form_survives_pickling() -> None:
    """Snapshots do, so what they hold has to, looked at or not."""
    fresh, looked_at = LateForm(line(form("a"))), LateForm(line(form("a")))
    assert looked_at.data == form("a")
    assert pickle.loads(pickle.dumps(fresh)).data == pickle.loads(pickle.dumps(looked_at)).data == form("a")  # noqa: S301


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
    assert [event.data for event in events] == [orjson.loads(each)["data"] for each in lines]
    for before, event in pairwise(events):
        if event.before is not None:
            assert event.before is before.form
            block = before.data["content"][0]
            grown = {**before.data, "content": [{**block, "text": block["text"] + event.added}]}
            assert event.data == {**grown, **({} if style == "no time" else {"updated_at": event.data["updated_at"]})}
