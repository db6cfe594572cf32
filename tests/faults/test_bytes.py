"""Whatever happens to the bytes of a stream, the whole text arrives, or a typed error with the last snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from inferencesh import APIError, AuthenticationError, NotFoundError, PermissionDeniedError, RateLimitError, StreamError
from inferencesh.config import Backoff
from tests.support import Kind, warnings_of

from .forms import CHAT, Json, chat, event, message
from .script import (
    CUT,
    EOF,
    HALF_CLOSE,
    RST,
    STALL,
    Reply,
    Scenario,
    Script,
    after,
    bytewise,
    delay,
    encode,
    half,
    head,
    heartbeats,
    page,
    raw,
    redirect,
    refuse,
    together,
)
from .server import FaultServer
from .turns import TEXT, Case, RunTurn, advance, call

BUSY = chat("working")
HEL = message("Hel")
HELLO = message("Hello")
READY = message(TEXT, "ready")
DONE = chat("completed")
WHOLE: Script = (BUSY, HEL, HELLO, READY, DONE)
ODD = "Grüße\u2028\u0085\u2029 \U0001f600\r\n\t world"
OOPS = b"{oops\n"


def long_text(size: int) -> str:
    """The text whose line is so many bytes long, newline included."""
    return "x" * (size - len(encode(message("-", "ready"))) + 1)


def in_one(*lines: Json | bytes) -> bytes:
    """Several lines in one segment, some of them as the bytes they are."""
    return b"".join(line if isinstance(line, bytes) else encode(line) for line in lines)


def in_seconds(seconds: float) -> str:
    """An HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


WHOLE_TEXT = [
    Case("a plain turn", [WHOLE], TEXT, connects=1),
    Case("several lines in one segment", [(together(BUSY, HEL, READY, DONE),)], TEXT, connects=1),
    Case(
        "every byte in a segment of its own",
        [(bytewise(BUSY), bytewise(message(ODD)), bytewise(message(ODD + "!", "ready")), DONE)],
        ODD + "!",
        connects=1,
    ),
    Case(
        "line separators of text inside lines",
        [(message(ODD), message(ODD + "!", "ready"), DONE)],
        ODD + "!",
        connects=1,
    ),
    Case("no newline behind the last line", [(BUSY, HEL, READY, encode(DONE)[:-1], EOF)], TEXT),
    Case("CRLF and empty lines", [(b"\r\n\n", encode(READY)[:-1] + b"\r\n", DONE)], TEXT, connects=1),
    Case("half a line, then EOF", [(BUSY, HEL, half(HELLO), EOF), WHOLE], TEXT, connects=2, warns=None),
    Case("half a line, then FIN", [(BUSY, HEL, half(HELLO), CUT), WHOLE], TEXT, connects=2),
    Case("half a line, then RST", [(BUSY, HEL, half(HELLO), RST), WHOLE], TEXT, connects=2),
    Case("half a character, then RST", [(BUSY, HEL, '{"event":"ü'.encode()[:-1], RST), WHOLE], TEXT, connects=2),
    Case("a half-close", [(BUSY, HEL, HALF_CLOSE), WHOLE], TEXT, connects=2),
    Case("EOF before anything", [(EOF,), WHOLE], TEXT, connects=2),
    Case("RST before anything", [(RST,), WHOLE], TEXT, connects=2),
    Case("RST within the head", [(raw(head()[:20]), RST), WHOLE], TEXT, connects=2),
    Case("no HTTP at all", [(raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), CUT), WHOLE], TEXT, connects=2),
    Case("a bad chunk size", [(BUSY, HEL, raw(b"zz\r\n"), CUT), WHOLE], TEXT, connects=2),
    Case("a stall", [(BUSY, HEL, STALL), WHOLE], TEXT, connects=2),
    Case("a stall before the head", [(STALL,), WHOLE], TEXT, connects=2),
    Case("a slow head", [(delay(0.2), *WHOLE)], TEXT, connects=1),
    Case("heartbeats while nothing happens", [(BUSY, HEL, heartbeats(5, 0.2), *WHOLE)], TEXT, connects=1),
    Case("heartbeats before anything", [(heartbeats(5, 0.2), *WHOLE)], TEXT, connects=1),
    Case(
        "more drops than attempts, each after progress",
        [*((BUSY, message(TEXT[: 2 * n]), RST) for n in range(1, 7)), WHOLE],
        TEXT,
        connects=7,
        options={"max_reconnects": 2},
    ),
    Case("a malformed line", [(BUSY, HEL, b'{"event": "chat_mess\n', *WHOLE), WHOLE], TEXT, warns=True),
    Case("ten malformed lines in one read", [(in_one(BUSY, HEL, *[OOPS] * 10, HELLO), *WHOLE)], TEXT, warns=True),
    Case(
        "ten lines in one read that are no messages",
        [(in_one(BUSY, HEL, *[event("chat_messages", {"role": "assistant"})] * 10, HELLO), *WHOLE)],
        TEXT,
        warns=True,
    ),
    Case("a line that is no object", [(BUSY, HEL, b"[1, 2]\n", *WHOLE), WHOLE], TEXT, warns=True),
    Case("a line that is not UTF-8", [(BUSY, b'{"event": "\xff\xfe"}\n', *WHOLE), WHOLE], TEXT, warns=True),
    Case("an HTML page", [page(), WHOLE], TEXT, warns=True),
    Case("an HTML page on reconnect", [(BUSY, HEL, RST), page(), WHOLE], TEXT, warns=True),
    Case("an HTML error page", [page(status=502), WHOLE], TEXT),
    Case("500 once", [refuse(500, "internal_error"), WHOLE], TEXT),
    Case("429, seconds", [refuse(429, "rate_limited", Retry_After="1"), WHOLE], TEXT, pause=1.0),
    Case("429, milliseconds", [refuse(429, "rate_limited", Retry_After_Ms="150"), WHOLE], TEXT, pause=0.15),
    Case("503 on reconnect", [(BUSY, HEL, CUT), refuse(503, "app_maintenance", Retry_After="0"), WHOLE], TEXT),
    Case("JSON Lines by name", [WHOLE], TEXT, head=head(content_type="application/jsonl; charset=utf-8")),
    Case(
        "a body without chunks",
        [
            (
                raw(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"),
                raw(b"".join(map(encode, (BUSY, HEL, READY, DONE)))),
                CUT,
            )
        ],
        TEXT,
    ),
]

LINE_SIZES = (2**17 - 1, 2**17, 2**17 + 1, 2**19 - 1, 2**19, 2**19 + 1, 2**20, 2**24)

ERRORS = [
    Case("401 on reconnect", [(BUSY, HEL, RST), refuse(401, "unauthorized")], "Hel", raises=AuthenticationError),
    Case("403 at first", [refuse(403, "insufficient_scope")], raises=PermissionDeniedError, connects=1),
    Case("404 on reconnect", [(BUSY, HEL, EOF), refuse(404, "not_found")], "Hel", raises=NotFoundError, connects=2),
    Case("RST for ever", [(BUSY, HEL, RST), (RST,)], "Hel", raises=StreamError, connects=5),
    Case("EOF for ever", [(BUSY, HEL, EOF)], "Hel", raises=StreamError),
    Case("a stall for ever", [(BUSY, HEL, STALL)], "Hel", raises=StreamError, options={"max_reconnects": 1}),
    Case("500 for ever", [(BUSY, HEL, RST), refuse(500, "internal_error")], "Hel", raises=StreamError),
    Case("HTML for ever", [(BUSY, HEL, RST), page()], "Hel", raises=StreamError, warns=True),
    Case("malformed lines for ever", [(BUSY, HEL, RST), (b"{oops\n", STALL)], "Hel", raises=StreamError, warns=True),
    Case(
        "a line without end",
        [(BUSY, HEL, RST), (b"x" * 3000, STALL)],
        "Hel",
        raises=StreamError,
        warns=True,
        options={"max_line_bytes": 2048},
    ),
    Case("half a line for ever", [(BUSY, HEL, RST), (half(HELLO), RST)], "Hel", raises=StreamError),
    Case(
        "a longer wait than is sensible",
        [(BUSY, HEL, RST), refuse(429, "rate_limited", Retry_After="86400")],
        "Hel",
        raises=RateLimitError,
    ),
    Case("a redirect", [redirect("http://127.0.0.1:9/elsewhere")], raises=APIError),
    Case("a reply of another kind", [(Reply({"id": CHAT}),)], raises=StreamError),
]


@pytest.mark.parametrize("case", WHOLE_TEXT, ids=lambda case: case.name)
def test_the_whole_text_arrives(case: Case, run_turn: RunTurn) -> None:
    """A fault that passes costs nothing: the caller gets the whole reply."""
    run_turn(case)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_a_fault_that_stays_is_an_error_with_the_last_snapshot(case: Case, run_turn: RunTurn) -> None:
    """The error says what happened and holds the chat's id and what was received."""
    error = run_turn(case).error
    assert error is not None
    assert error.chat_id == CHAT
    assert error.__cause__ is not None or isinstance(error, APIError)


@pytest.mark.parametrize("size", LINE_SIZES)
def test_lines_may_be_long(size: int, run_turn: RunTurn) -> None:
    """A line far over the limits of HTTP libraries arrives whole."""
    text = long_text(size)
    last = message(text, "ready")
    assert len(encode(last)) == size
    run_turn(Case("a long line", [(BUSY, last, DONE)], text, connects=1))


def test_a_wait_may_be_an_http_date(run_turn: RunTurn) -> None:
    """Retry-After as a date is waited for."""
    later = refuse(503, "app_maintenance", Retry_After=in_seconds(2))
    run_turn(Case("503, date", [later, WHOLE], TEXT, pause=1.0))


def test_what_is_unreadable_in_one_read_is_reported_once(run_turn: RunTurn, caplog: pytest.LogCaptureFixture) -> None:
    """However many lines it is: one warning that counts them, and one look at the chat."""
    script = (BUSY, in_one(HEL, *[OOPS] * 10, HELLO), after(f"GET /chats/{CHAT}"), READY, DONE)
    outcome = run_turn(Case("ten", [script], TEXT, connects=1, warns=True))
    (warning,) = [record.getMessage() for record in warnings_of(caplog)]
    assert "(and 9 more)" in warning
    assert [snapshot.text for snapshot in outcome.snapshots][:2] == ["Hel", "Hello"]
    assert len(outcome.seen(f"GET /chats/{CHAT}")) == 1


@pytest.mark.parametrize("conflate", [False, True], ids=["each", "newest"])
def test_an_error_does_not_overtake_the_snapshots_before_it(kind: Kind, conflate: bool) -> None:
    """What arrived together with the end of patience is handed out first, and the error carries the last of it."""
    lines = in_one(BUSY, HEL, HELLO, OOPS)

    def use(client: Any) -> Any:
        stream = client.agent("a/b").send_message("Hi", stream=True, conflate=conflate)
        texts = []
        try:
            while True:
                texts.append((yield advance(kind, stream)).text)
        except StreamError as error:
            return texts, error.message

    with FaultServer(Scenario(streams=[(lines, STALL)])) as server:
        texts, last = call(kind, server, use, max_reconnects=0)
    assert texts == (["Hello"] if conflate else ["Hel", "Hello"])
    assert last.text == "Hello"


def test_a_last_snapshot_does_not_wait_for_the_next_connection(kind: Kind) -> None:
    """It is handed out as soon as the stream has ended, however long the client waits before it connects again."""

    def use(client: Any) -> Any:
        stream = client.agent("a/b").send_message("Hi", stream=True)
        texts = [(yield advance(kind, stream)).text, (yield advance(kind, stream)).text]
        yield stream.close() if kind == "sync" else stream.aclose()
        return texts

    with FaultServer(Scenario(streams=[(BUSY, HEL, encode(HELLO)[:-1], EOF)])) as server:
        waits = Backoff(initial=60, factor=1.0, maximum=60)
        assert call(kind, server, use, backoff=waits) == ["Hel", "Hello"]


def test_every_snapshot_is_delivered(run_turn: RunTurn) -> None:
    """Nothing is skipped unless asked, however the lines are bundled."""
    texts = [TEXT[:n] for n in range(1, len(TEXT) + 1)]
    lines = [message(text) for text in texts]
    outcome = run_turn(Case("all", [(BUSY, together(*lines), READY, DONE)], TEXT))
    assert [snapshot.text for snapshot in outcome.snapshots] == [*texts, TEXT]
