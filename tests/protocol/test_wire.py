"""Bytes to events: NDJSON and server-sent events, however they are chunked, and whatever is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._protocol.wire import (
    Event,
    EventDecoder,
    LineSplitter,
    NDJSONDecoder,
    SSEDecoder,
    event_decoder,
    read_event,
)
from inferencesh.config import MAX_LINE_BYTES
from inferencesh.errors import StreamError, UnreadableError
from tests.fuzz.fuzz_wire import inputs, one_input

from .forms import CHAT, FIXED, REPLY, chat, chats, event, message, plain, run, runs, said

LINE_ENDS_TO_OTHERS = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r"
KNOWN = ["chats", "chat_messages", "agent_runs", "delta"]

texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(LINE_ENDS_TO_OTHERS), st.just("\U0001f600")))


def decoded(decoder: EventDecoder, *chunks: bytes) -> list[Event]:
    """All events of a stream that came in these chunks and then ended."""
    return [plain(each) for chunk in chunks for each in decoder.feed(chunk)] + [plain(each) for each in decoder.close()]


def line(name: str | None = None, data: Any = None, **more: Any) -> bytes:
    """An NDJSON line that leaves every character raw that JSON allows raw."""
    value = {"event": name, "data": data, **more} if name is not None else data
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def sse(name: str | None, data: Any, end: bytes = b"\n") -> bytes:
    """A server-sent event."""
    named = [b"event: " + name.encode()] if name is not None else []
    return end.join([*named, b"data: " + json.dumps(data, ensure_ascii=False).encode(), b"", b""])


@st.composite
def chunked(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in any chunks, empty ones included."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# -- lines


@FIXED
@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"\r"))), st.data())
def test_lines_end_at_line_feeds_alone_in_any_chunking(lines: list[bytes], data: st.DataObject) -> None:
    """What was written as lines is read as these lines, each with its end."""
    splitter = LineSplitter()
    got = [line for chunk in data.draw(chunked(b"\n".join(lines))) for line in splitter.feed(chunk)]
    rest = splitter.close()
    assert got == [line + b"\n" for line in lines[:-1]]
    assert rest == (lines[-1] if lines else b"")
    assert splitter.close() == b"", "nothing is handed out twice"


@FIXED
@given(st.integers(0, 12), st.data())
def test_a_line_over_the_limit_is_an_error_in_any_chunking(length: int, data: st.DataObject) -> None:
    """A line of exactly the limit is read; one byte more is an error, whether it comes at once or in bits."""
    splitter = LineSplitter(limit=8)
    written = b"ok\n" + b"x" * length + b"\nafter\n"
    chunks = data.draw(chunked(written))
    if length <= 8:
        assert [line for chunk in chunks for line in splitter.feed(chunk)] == [
            b"ok\n",
            b"x" * length + b"\n",
            b"after\n",
        ]
    else:
        with pytest.raises(UnreadableError, match="more than 8 bytes"):
            [splitter.feed(chunk) for chunk in chunks]


def test_an_endless_line_is_an_error_as_soon_as_it_is_too_long() -> None:
    """Memory is bounded without waiting for the line's end."""
    splitter = LineSplitter(limit=100)
    assert splitter.feed(b"x" * 100) == []
    with pytest.raises(UnreadableError):
        splitter.feed(b"x")


def test_a_line_may_be_64_mebibytes_long() -> None:
    """The limit that clients have by default."""
    assert MAX_LINE_BYTES == 64 * 1024 * 1024
    (event,) = decoded(NDJSONDecoder(), line("chats", {"id": "x" * 1024 * 1024}))
    assert len(event["data"]["id"]) == 1024 * 1024


# -- NDJSON


@FIXED
@given(st.lists(texts, min_size=1, max_size=4), st.data())
def test_ndjson_events_are_the_same_in_any_chunking(written: list[str], data: st.DataObject) -> None:
    """Any text arrives unharmed, with raw U+2028, U+2029, U+0085 and astral characters, split at any byte."""
    stream = b"".join(line("chat_messages", message(text)) for text in written)
    decoder = NDJSONDecoder()
    events = decoded(decoder, *data.draw(chunked(stream)))
    assert events == [said(message(text)) for text in written]
    assert decoder.problems == []


def test_ndjson_split_into_single_bytes_gives_the_same_events() -> None:
    """The finest chunking there is."""
    stream = line("chats", chat()) + line("chat_messages", message("né \U0001f600 \u2028"))
    assert decoded(NDJSONDecoder(), *(bytes([byte]) for byte in stream)) == decoded(NDJSONDecoder(), stream)


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"\ud83d\ude00", "\U0001f600"),
        (r"a\ud83d", "a\ufffd"),
        (r"\ude00b", "\ufffdb"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\u0041\u2028", "\ufffdA\u2028"),
    ],
)
def test_half_an_emoji_at_a_tokens_end_does_not_spoil_the_line(escaped: str, text: str) -> None:
    """Lone surrogates, escaped, are read as U+FFFD; whole pairs as their character."""
    decoder = NDJSONDecoder()
    written = b'{"event": "delta", "data": {"delta": {"response": "%s"}}}\n' % escaped.encode()
    (event,) = decoded(decoder, written)
    assert event["data"] == {"delta": {"response": text}}
    assert decoder.problems == []


def test_a_last_line_without_a_line_end_counts() -> None:
    """A server may end its last line with the stream."""
    decoder = NDJSONDecoder()
    assert list(decoder.feed(line("chats", chat()).rstrip())) == []
    assert [plain(each) for each in decoder.close()] == [chats(chat())]
    assert list(decoder.close()) == []


def test_half_a_line_at_the_end_is_reported_and_not_an_event() -> None:
    """What was cut off with the connection does not vanish without a trace."""
    decoder = NDJSONDecoder()
    whole, half = line("chats", chat()), line("chat_messages", message("Hello"))[:30]
    assert decoded(decoder, whole + half) == [chats(chat())]
    (problem,) = decoder.problems
    assert f"byte {len(whole)}" in str(problem)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"  \n", b"\t\r\n"])
def test_blank_lines_are_passed_over(blank: bytes) -> None:
    """Some servers keep connections alive with them."""
    decoder = NDJSONDecoder()
    assert decoded(decoder, blank + line("chats", chat()) + blank) == [chats(chat())]
    assert decoder.problems == []


def test_lines_may_end_in_carriage_return_and_line_feed() -> None:
    """As they do behind some proxies."""
    assert decoded(NDJSONDecoder(), line("chats", chat())[:-1] + b"\r\n") == [chats(chat())]


@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b'{"event": "chats", "data"',
        b"[1, 2]",
        b'"text"',
        b"17",
        b"null",
        b"NaN",
        b'{"event": "chats", "data": NaN}',
        b'{"event": "chats", "data": [1]}',
        b'{"event": "chat_messages", "data": "text"}',
        b'{"event": "agent_runs", "data": 5}',
        b'{"event": "delta", "data": true}',
        b"\xff\xfe\xfd",
        b'{"event": "chats", "data": {"id": "\xc3"}}',
        b"[" * 100_000,
    ],
)
def test_an_unreadable_line_is_reported_with_its_place_and_the_rest_is_read(bad: bytes) -> None:
    """Never a silent skip: the offset and a cut of the line are told, and the events around it arrive."""
    decoder = NDJSONDecoder()
    first = line("chats", chat())
    assert decoded(decoder, first + bad + b"\n" + line("agent_runs", run("working"))) == [
        chats(chat()),
        runs(run("working")),
    ]
    (problem,) = decoder.problems
    assert isinstance(problem, StreamError)
    assert f"byte {len(first)} of the stream" in str(problem)
    assert repr(bad[:20])[2:-1] in str(problem)
    assert len(str(problem)) < 400, "a report shows only the beginning of a line"


# -- what a line may be


def test_heartbeats_in_every_form_are_no_events() -> None:
    """They only show that the connection lives."""
    lines = [
        line(data={"type": "heartbeat"}),
        line(data={"type": "heartbeat", "ts": 17}),
        line(data={"type": "heartbeat", "data": None}),
        line(data={"type": "heartbeat", "data": {}}),
        line("heartbeat", {}),
        line("heartbeat", None),
        line("heartbeat", "beat"),
        line(data={"event": "heartbeat"}),
    ]
    decoder = NDJSONDecoder()
    assert decoded(decoder, *lines) == []
    assert decoder.problems == []


@pytest.mark.parametrize("name", [*KNOWN, "something_new"])
def test_null_data_says_nothing(name: str) -> None:
    """Neither an event nor a problem."""
    decoder = NDJSONDecoder()
    assert decoded(decoder, line(name, None), line(data={"event": name})) == []
    assert decoder.problems == []


def test_an_unknown_event_with_an_object_is_passed_on_under_its_name() -> None:
    """Later servers have more kinds of events; who reads them decides."""
    assert decoded(NDJSONDecoder(), line("usage_updated", {"total": 1})) == [event("usage_updated", {"total": 1})]


@pytest.mark.parametrize("data", ["hello", 17, [1, 2], True])
def test_an_unknown_event_may_carry_anything(data: object) -> None:
    """Only the known kinds are known to be about objects, so this is not a fault of the stream."""
    decoder = NDJSONDecoder()
    assert decoded(decoder, line("notice", data), line("chats", chat())) == [chats(chat())]
    assert decoder.problems == []


@pytest.mark.parametrize("data", ["ping", "2026-11-22T10:00:00Z", "[DONE]", "17"])
def test_an_unknown_server_sent_event_need_not_be_json(data: str) -> None:
    """Servers have pings of their own."""
    assert both(f"event: ping\ndata: {data}\n\n".encode() + sse("chats", chat())) == [chats(chat())]


def test_fields_name_what_an_event_updates() -> None:
    """``fields`` makes an event a partial update; without names it is whole."""
    partial = {"id": CHAT, "status": "busy"}
    got = decoded(
        NDJSONDecoder(),
        line("chats", partial, fields=["status"]),
        line("chats", partial, fields=[]),
        line("chats", partial, fields=None),
        line("chats", partial, fields="status"),
        line("chats", partial, fields=["status", 5, None]),
    )
    assert [event["fields"] for event in got] == [("status",), (), (), (), ("status",)]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (message("Hello"), "chat_messages"),
        (chat(), "chats"),
        ({"id": CHAT, "agent_data": None}, "chats"),
        (run("working"), "agent_runs"),
        ({"delta": {"response": "a"}, "seq": 1, "resource_id": REPLY}, "delta"),
    ],
)
def test_a_bare_object_is_told_by_its_fields(data: dict[str, Any], name: str) -> None:
    """The answer of a streamed POST has one message on each line, without an event's name."""
    assert decoded(NDJSONDecoder(), line(data=data)) == [event(name, data)]


def test_a_message_is_a_message_whatever_its_own_event_field_says() -> None:
    """A bare message may have a field of that name."""
    data = message("Hello", event="chats")
    assert decoded(NDJSONDecoder(), line(data=data)) == [said(data)]


def test_an_unnamed_line_with_data_is_told_by_its_data() -> None:
    """A line may lack ``event``."""
    assert decoded(NDJSONDecoder(), line(data={"data": chat()})) == [chats(chat())]
    update = {"id": CHAT, "active_run": None}
    partial = line(data={"data": update, "fields": ["active_run"]})
    assert decoded(NDJSONDecoder(), partial) == [chats(update, ("active_run",))]


def test_a_bare_object_of_an_unknown_kind_is_passed_over() -> None:
    """There is nothing that it could be."""
    decoder = NDJSONDecoder()
    unknown = [{"id": "x"}, {}, {"state": "working"}, {"id": "x", "chat_id": CHAT}]
    assert decoded(decoder, *(line(data=data) for data in unknown)) == []
    assert decoder.problems == []


def test_a_tool_invocation_with_a_field_data_is_not_taken_apart() -> None:
    """Only an object that is nothing but an envelope is one."""
    invocation = {"id": "call-1", "status": "completed", "data": {"role": "assistant", "id": "inner"}}
    assert decoded(NDJSONDecoder(), line(data=invocation)) == []


# -- server-sent events


@FIXED
@given(st.lists(texts, min_size=1, max_size=3), st.sampled_from([b"\n", b"\r\n"]), st.data())
def test_server_sent_events_are_the_same_in_any_chunking(written: list[str], end: bytes, data: st.DataObject) -> None:
    """Any text that has no raw carriage return, which JSON escapes, arrives unharmed."""
    stream = b"".join(sse("chat_messages", message(text), end) for text in written)
    decoder = SSEDecoder()
    events = decoded(decoder, *data.draw(chunked(stream)))
    assert events == [said(message(text)) for text in written]
    assert decoder.problems == []


def both(stream: bytes) -> list[Event]:
    """The events of a stream of server-sent events, which must all be readable."""
    decoder = SSEDecoder()
    events = decoded(decoder, stream)
    assert decoder.problems == []
    return events


def test_a_byte_order_mark_at_the_beginning_hides_no_event() -> None:
    """The format of server-sent events allows one, and other readers of JSON pass over it as well."""
    assert both(b"\xef\xbb\xbfdata: " + line("chats", chat()) + b"\n") == [chats(chat())]
    assert decoded(NDJSONDecoder(), b"\xef\xbb\xbf" + line("chats", chat())) == [chats(chat())]


def test_a_server_sent_event_may_hold_the_object_or_data_and_fields() -> None:
    """Both forms are in use."""
    partial = {"data": {"id": CHAT, "status": "busy"}, "fields": ["status"]}
    assert both(sse("chats", chat()) + sse("chats", partial)) == [
        chats(chat()),
        chats(partial["data"], ("status",)),  # type: ignore[arg-type]  # a dict of mixed values
    ]


def test_a_server_sent_event_may_hold_a_whole_line_of_the_other_framing() -> None:
    """Unnamed, or under the name that events have by default."""
    inner = {"event": "chats", "data": chat()}
    assert both(sse(None, inner) + sse("message", inner)) == [chats(chat())] * 2
    assert both(sse(None, message("Hi"))) == [said(message("Hi"))]


def test_comments_and_other_fields_say_nothing() -> None:
    """Comment lines keep a connection alive; ids and retry times are not used."""
    stream = b": keep-alive\n\n:\n\nid: 7\nretry: 1000\n\nevent: heartbeat\ndata: {}\n\nevent: chats\n\nnonsense\n\n"
    assert both(stream + sse("chats", chat())) == [chats(chat())]


def test_a_name_without_data_does_not_stick_to_the_next_event() -> None:
    """Each blank line ends an event, and with it its name."""
    assert both(b"event: delta\n\n" + sse(None, chat())) == [chats(chat())]


def test_data_over_several_lines_is_one_event() -> None:
    """The lines are joined by line feeds, which JSON takes as white space."""
    stream = b'event:chats\ndata:{"id":\ndata: "a"}\n\n'
    assert both(stream) == [chats({"id": "a"})]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r\n"])
def test_fields_may_end_in_any_line_end(end: bytes) -> None:
    """Line feed, both, or a bare carriage return before the pair."""
    assert both(sse("chats", chat(), end)) == [chats(chat())]


@pytest.mark.parametrize("end", [b"\n\n", b"\n", b""])
def test_a_last_event_counts_when_it_is_whole(end: bytes) -> None:
    """The blank line may be missing at the end of the stream, and even the line's end."""
    assert both(b'event: chats\ndata: {"id": "a"}' + end) == [chats({"id": "a"})]


def test_half_an_event_at_the_end_is_reported() -> None:
    """What was cut off with the connection does not vanish without a trace."""
    decoder = SSEDecoder()
    assert decoded(decoder, b'event: chats\ndata: {"id": ') == []
    assert len(decoder.problems) == 1


def test_an_unreadable_event_is_reported_and_the_rest_is_read() -> None:
    """As for lines; its place is where it ends."""
    decoder = SSEDecoder()
    before, bad = sse("chats", chat()), b"event: chats\ndata: oops\n"
    stream = before + bad + b"\n" + sse("agent_runs", run("working"))
    assert [event["event"] for event in decoded(decoder, stream)] == ["chats", "agent_runs"]
    (problem,) = decoder.problems
    assert "oops" in str(problem)
    assert f"byte {len(before + bad)} of the stream" in str(problem)


@pytest.mark.parametrize("piece", [b"data: 123456\n", b"data:\n", b"data\n"])
def test_an_event_over_the_limit_is_an_error_whatever_its_lines(piece: bytes) -> None:
    """Short lines, even empty ones, must not add up without bounds."""
    decoder = SSEDecoder(limit=50)
    with pytest.raises(UnreadableError, match="more than 50 bytes"):
        [list(decoder.feed(piece)) for _ in range(1000)]


def test_an_event_of_exactly_the_limit_is_read() -> None:
    """The limit counts the event's data."""
    data = json.dumps({"id": "x" * 50}).encode()
    halves = b"data: " + data[:6] + b"\ndata: " + data[6:] + b"\n\n"
    assert decoded(SSEDecoder(limit=len(data) + 1), b"event: chats\n" + halves) == [chats({"id": "x" * 50})]
    decoder = SSEDecoder(limit=len(data))
    with pytest.raises(UnreadableError, match="an event of more than"):
        decoded(decoder, b"event: chats\n" + halves)


# -- which framing


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/x-ndjson", NDJSONDecoder),
        ("application/jsonl; charset=utf-8", NDJSONDecoder),
        ("application/json", NDJSONDecoder),
        ("text/plain", NDJSONDecoder),
        ("", NDJSONDecoder),
        ("text/event-stream", SSEDecoder),
        ("Text/Event-Stream ; charset=utf-8", SSEDecoder),
    ],
)
def test_the_content_type_chooses_the_framing(content_type: str, kind: type[EventDecoder]) -> None:
    """Everything that is not server-sent events is read as lines of JSON."""
    assert type(event_decoder(content_type)) is kind


@pytest.mark.parametrize("content_type", ["text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml"])
def test_an_html_page_is_no_stream(content_type: str) -> None:
    """A proxy's error page is named as what it is, and not read line by line."""
    with pytest.raises(UnreadableError, match="proxy"):
        event_decoder(content_type)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "text/event-stream"])
def test_the_limit_holds_for_both_framings(content_type: str) -> None:
    """It is passed on to whichever is chosen."""
    with pytest.raises(UnreadableError, match="more than 10 bytes"):
        list(event_decoder(content_type, limit=10).feed(b"x" * 11))


# -- events


@pytest.mark.parametrize("value", [None, [], "text", 5, True])
def test_an_event_is_an_object(value: object) -> None:
    """Anything else is unreadable."""
    with pytest.raises(UnreadableError):
        read_event(value)


@FIXED
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["heartbeat", *KNOWN]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["event", "data", "fields", "type", "role", "delta", "id", "state", "chat_id"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from(["", *KNOWN, "heartbeat", "other"]),
)
def test_whatever_is_decoded_is_an_event_nothing_or_unreadable(value: object, name: str) -> None:
    """No other exception than the one that says so."""
    try:
        event = read_event(value, name)
    except UnreadableError:
        return
    assert event is None or (event["event"] and type(event["data"]) is dict and type(event["fields"]) is tuple)


def test_events_around_a_problem_are_not_lost_with_it() -> None:
    """One call returns what came before the problem and behind it."""
    decoder = NDJSONDecoder()
    assert decoded(decoder, line("chats", chat()) + b"oops\n" + line("chats", chat())) == [chats(chat())] * 2
    assert len(decoder.problems) == 1


@FIXED
@given(inputs)
def test_no_bytes_lead_to_another_exception(data: bytes) -> None:
    """A short run of the fuzz target, which lists the exceptions there are."""
    one_input(data)
