"""Which lines need not be decoded, told from their bytes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._protocol.lines import without_superseded
from inferencesh._protocol.wire import NDJSONDecoder


def line(text: str, status: str = "pending", message_id: str = "m1", **more: Any) -> bytes:
    """A whole message as one line."""
    content = [{"type": "text", "text": text}]
    data = {"id": message_id, "role": "assistant", "status": status, "content": content, **more}
    return orjson.dumps({"event": "chat_messages", "data": data})


def kept(*lines: bytes) -> list[bytes]:
    """What is left to decode."""
    return [each for each in without_superseded(list(lines)) if each]


def test_of_forms_of_one_message_the_last_is_left() -> None:
    """However many came at once."""
    assert kept(line("a"), line("ab"), line("abc")) == [line("abc")]


def test_lines_of_other_messages_stay() -> None:
    """Only the very next line can replace one."""
    lines = [line("a"), line("x", message_id="m2"), line("ab")]
    assert kept(*lines) == lines


@pytest.mark.parametrize("status", ["ready", "failed", "cancelled", "half-baked"])
def test_a_form_that_is_final_or_of_an_unknown_kind_stays(status: str) -> None:
    """It may be the last word on its message."""
    assert kept(line("a", status), line("ab")) == [line("a", status), line("ab")]


@pytest.mark.parametrize("status", ["awaiting_input", "awaiting_approval", "in_progress", "completed"])
def test_a_form_in_which_a_call_matters_stays(status: str) -> None:
    """A call must not be missed between two forms."""
    calling = line("a", tool_invocations=[{"id": "t", "status": status}])
    assert kept(calling, line("ab")) == [calling, line("ab")]


def test_updates_of_single_fields_stay() -> None:
    """They carry what the next line need not carry."""
    update = orjson.dumps({"event": "chat_messages", "data": {"id": "m1", "status": "pending"}, "fields": ["status"]})
    assert kept(update, line("ab")) == [update, line("ab")]


def test_other_events_stay() -> None:
    """Whatever they look like."""
    lines = [b'{"event":"delta","data":{"delta":{},"seq":1,"resource_id":"m1"}}', b"", b"not JSON", line("a")]
    assert kept(*lines) == [each for each in lines if each]


def test_a_read_may_hold_no_whole_line() -> None:
    """Half of a long one, say."""
    assert kept() == []
    decoder = NDJSONDecoder(newest_only=True)
    assert list(decoder.feed(line("a")[:20])) == []
    assert [event.data["id"] for event in decoder.feed(line("a")[20:] + b"\n")] == ["m1"]


# As a whole text these look like the value of a field, so a line with one is decoded to be sure.
DECISIVE = {"ready", "failed", "cancelled", "completed", "in_progress", "fields"}


@given(
    st.lists(
        st.text(max_size=30).filter(lambda text: text not in DECISIVE and not text.startswith("awaiting_")),
        min_size=1,
        max_size=8,
    )
)
def test_a_text_cannot_pass_for_what_decides(texts: list[str]) -> None:
    """Quotes in a text are escaped: only the last of pending forms is decoded, and it is decoded rightly."""
    texts = [*texts, '"status":"ready" {"event":"chat_messages","data":{"id":"m2"']
    decoder = NDJSONDecoder(newest_only=True)
    events = list(decoder.feed(b"".join(line(text) + b"\n" for text in texts)))
    assert [event.data["content"][0]["text"] for event in events] == [texts[-1]]
    assert not decoder.problems
