"""The short way for text that has only grown gives what the long way gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._protocol.message import LiveMessage, grown_by_whole
from inferencesh._types.codec import structure
from inferencesh.models import Message

from .forms import FIXED, Wire, invocation, message

TEXT = {"type": "text", "text": "Hel"}

blocks = st.one_of(
    st.builds(
        lambda kind, text: {"type": kind, "text": text},
        st.sampled_from(["text", "reasoning", None]),
        st.text("ab", max_size=3),
    ),
    st.sampled_from([None, 5, {"type": "image", "image": "u"}, {"type": "text"}, {"type": "text", "text": None}]),
    st.builds(lambda text: {"type": "text", "text": text, "error": None}, st.text("ab", max_size=3)),
)
forms = st.builds(
    lambda content, more: {**message(), **more, "content": content},
    st.lists(blocks, max_size=2) | st.sampled_from([None, "ab", {}]),
    st.fixed_dictionaries(
        {},
        optional={
            "updated_at": st.sampled_from(["1", "2"]),
            "status": st.sampled_from(["pending", "queued", "ready"]),
            "tool_invocations": st.sampled_from([None, [], [invocation("pending")], [invocation()]]),
        },
    ),
)


def seen(form: Wire) -> Message:
    """A form as it was delivered."""
    return structure(form, Message)


@FIXED
@given(st.lists(forms, max_size=6))
def test_the_short_way_gives_what_the_long_way_gives(sent: list[Wire]) -> None:
    """Snapshot by snapshot, whatever forms follow each other."""
    long, short = LiveMessage(), LiveMessage()
    for form in sent:
        expected = long.take_whole(structure(form, Message), in_stream=True)
        got = short.take_growth(form) or short.take_whole(structure(form, Message), in_stream=True)
        assert got == expected
        if got is not None and expected is not None:
            assert (got.delta, got.raw, got.text) == (expected.delta, expected.raw, expected.text)


def test_more_text_goes_the_short_way_and_shares_all_else() -> None:
    """The time of the update may change with it."""
    before = seen(message(updated_at="1", tool_invocations=[invocation()], content=[TEXT]))
    grown = grown_by_whole(before, message("Hello", updated_at="2", tool_invocations=[invocation()]))
    assert grown is not None
    assert (grown.text, grown.delta) == ("Hello", "lo")
    assert grown.tool_calls is before.tool_calls
    assert grown.raw["updated_at"] == "2"


@pytest.mark.parametrize(
    "change",
    [
        {"content": None},
        {"content": "Hello"},
        {"content": [TEXT, TEXT]},
        {"content": ["Hello"]},
        {"content": [TEXT]},
        {"content": [{"type": "text", "text": "He"}]},
        {"content": [{"type": "text", "text": "Help"}], "status": "ready"},
        {"content": [{"type": "text", "text": "Yes, Hello"}]},
        {"content": [{"type": "text", "text": "Hello", "error": "x"}]},
        {"content": [{"type": "reasoning", "text": "Hello"}]},
        {"content": [{"type": "text", "text": None}]},
        {"content": [{"type": "text", "text": "Hello"}], "tool_invocations": [invocation()]},
    ],
)
def test_everything_else_goes_the_long_way(change: dict[str, Any]) -> None:
    """Where more has changed, or less."""
    assert grown_by_whole(seen(message(content=[TEXT])), {**message(), **change}) is None


@pytest.mark.parametrize("content", [[], None, "Hel", [{"type": "reasoning", "text": "Hel"}], ["Hel"], [TEXT, TEXT]])
def test_what_was_not_text_alone_goes_the_long_way(content: object) -> None:
    """There is nothing that could have grown."""
    assert grown_by_whole(seen(message(content=content)), message("Hello")) is None
