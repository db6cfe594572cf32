"""One message while it grows: whole forms and token deltas in, snapshots that only go forward out."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh._protocol.message import LiveMessage
from inferencesh._types.codec import structure
from inferencesh.models import Message, MessageStatus

from .forms import REPLY, Wire, invocation, message

TEXT = {"type": "text", "text": "Hello"}
REASONING = {"type": "reasoning", "text": "think"}
IMAGE = {"type": "image", "image": "https://x/y.png"}


class Feed:
    """A message being fed, and what came of it."""

    def __init__(self) -> None:
        self.live = LiveMessage()
        self.snapshots: list[Message] = []

    def whole(self, text: str = "", status: str = "pending", **more: Any) -> Message | None:
        """A whole form on the stream."""
        return self._note(self.live.take_whole(structure(message(text, status, **more), Message), in_stream=True))

    def read(self, text: str = "", status: str = "pending", **more: Any) -> Message | None:
        """A whole form from a separate request."""
        return self._note(self.live.take_whole(structure(message(text, status, **more), Message), in_stream=False))

    def delta(self, text: str | None = None, seq: int | None = None, **more: Any) -> Message | None:
        """A token delta."""
        return self._note(self.live.take_delta({"response": text, **more}, seq))

    def waits(self) -> bool:
        """Whether deltas wait for a whole form."""
        return self.live.needs_whole

    def _note(self, snapshot: Message | None) -> Message | None:
        if snapshot is not None:
            self.snapshots.append(snapshot)
        return snapshot

    @property
    def texts(self) -> list[str]:
        """The texts of all snapshots."""
        return [snapshot.text for snapshot in self.snapshots]

    @property
    def deltas(self) -> list[str | None]:
        """The deltas of all snapshots."""
        return [snapshot.delta for snapshot in self.snapshots]

    @property
    def last(self) -> Message:
        """The newest snapshot."""
        return self.snapshots[-1]


@pytest.fixture
def feed() -> Feed:
    """A message of which nothing is known."""
    return Feed()


# -- whole forms alone


def test_each_whole_form_is_a_snapshot_with_what_it_adds(feed: Feed) -> None:
    """And the last one says that it is final."""
    for text in ("Hel", "Hello", "Hello, world"):
        feed.whole(text)
    feed.whole("Hello, world", "ready")
    assert feed.texts == ["Hel", "Hello", "Hello, world", "Hello, world"]
    assert feed.deltas == ["Hel", "lo", ", world", ""]
    assert [snapshot.done for snapshot in feed.snapshots] == [False, False, False, True]
    assert feed.live.done


@pytest.mark.parametrize("content", [[], None, [{"type": "text", "text": ""}], [{"type": "reasoning", "text": None}]])
def test_the_empty_placeholder_is_no_snapshot(feed: Feed, content: object) -> None:
    """It stands for a reply that has not begun."""
    assert feed.whole(content=content) is None
    assert feed.live.latest is not None


@pytest.mark.parametrize("content", [[IMAGE], [REASONING]])
def test_a_form_without_text_is_a_snapshot_when_it_has_something_else(feed: Feed, content: list[Wire]) -> None:
    """An image, or reasoning."""
    feed.whole(content=content)
    assert (feed.texts, feed.deltas) == ([""], [""])


def test_an_empty_final_form_is_a_snapshot(feed: Feed) -> None:
    """A reply may be empty, and its end must be seen."""
    feed.whole(status="cancelled")
    assert (feed.last.text, feed.last.delta, feed.last.status) == ("", "", "cancelled")


def test_the_same_form_twice_is_one_snapshot(feed: Feed) -> None:
    """Identical snapshots are not delivered, not even with other fields in ``raw``."""
    feed.whole("Hel")
    assert feed.whole("Hel") is None
    assert feed.whole("Hel", updated_at="2026-11-22T10:00:01Z") is None


def test_a_pending_form_that_is_behind_is_dropped(feed: Feed) -> None:
    """Its text is a proper prefix of what was delivered."""
    feed.whole("Hello")
    assert feed.whole("Hel") is None
    assert feed.whole("") is None
    assert feed.read("H") is None
    feed.whole("Hello!")
    assert feed.texts == ["Hello", "Hello!"]


def test_a_form_with_the_same_text_and_less_reasoning_is_behind(feed: Feed) -> None:
    """Reasoning only goes forward as well."""
    feed.whole(content=[{"type": "reasoning", "text": "think more"}])
    assert feed.whole(content=[{"type": "reasoning", "text": "think"}]) is None
    feed.whole(content=[{"type": "reasoning", "text": "think more!"}])
    assert [snapshot.reasoning for snapshot in feed.snapshots] == ["think more", "think more!"]


def test_a_text_that_was_rewritten_is_delivered_without_a_delta(feed: Feed) -> None:
    """No delta leads from the one to the other."""
    feed.whole("Hello")
    feed.whole("Help")
    assert (feed.texts, feed.deltas) == (["Hello", "Help"], ["Hello", None])
    feed.whole("Help!")
    assert feed.last.delta == "!"


@pytest.mark.parametrize("status", ["ready", "failed", "cancelled"])
def test_nothing_follows_a_final_form(feed: Feed, status: str) -> None:
    """Neither older nor newer ones, whole or delta."""
    feed.whole("Hello", status)
    assert feed.whole("Hel") is None
    assert feed.whole("Hello, world") is None
    assert feed.whole("Hello", "ready") is None
    assert feed.whole("Hello!", "failed") is None
    assert feed.delta("!", 1) is None
    assert not feed.waits()
    assert len(feed.snapshots) == 1


def test_a_final_form_counts_even_when_it_is_shorter(feed: Feed) -> None:
    """The server has the last word; a filter may have cut the text."""
    feed.whole("Hello, world")
    feed.whole("Hello", "ready")
    assert (feed.last.text, feed.last.delta) == ("Hello", None)


def test_a_change_of_status_alone_has_an_empty_delta(feed: Feed) -> None:
    """Something did change, and it was not the text."""
    feed.whole("Hello", "queued")
    feed.whole("Hello", "pending")
    assert (feed.last.status, feed.last.delta) == ("pending", "")


def test_a_snapshot_stays_as_it_was(feed: Feed) -> None:
    """Whatever comes later."""
    feed.whole("Hel")
    feed.delta("lo", 1)
    feed.delta(", world", 2)
    first, second, third = feed.snapshots
    feed.whole("Goodbye", "ready")
    assert (first.text, second.text, third.text) == ("Hel", "Hello", "Hello, world")


# -- deltas alone


@pytest.mark.parametrize("start", [0, 1])
def test_each_delta_is_a_snapshot_of_the_whole_text_so_far(feed: Feed, start: int) -> None:
    """Numbering may begin at 0 or 1."""
    feed.whole()
    for seq, text in enumerate(["Hel", "lo", ", world"], start):
        feed.delta(text, seq)
    assert feed.texts == ["Hel", "Hello", "Hello, world"]
    assert feed.deltas == ["Hel", "lo", ", world"]
    assert feed.last.status is MessageStatus.PENDING
    assert feed.last.id == REPLY


def test_deltas_without_numbers_are_taken_as_they_come(feed: Feed) -> None:
    """A server may not number them."""
    feed.whole()
    feed.delta("Hel")
    feed.delta("lo")
    assert feed.texts == ["Hel", "Hello"]


def test_a_delta_at_or_before_the_last_number_is_dropped(feed: Feed) -> None:
    """It was there already."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    assert feed.delta("lo", 2) is None
    assert feed.delta("Hel", 1) is None
    feed.delta("!", 3)
    assert feed.last.text == "Hello!"


@pytest.mark.parametrize(
    "nothing", [{}, {"response": None}, {"response": ""}, {"response": 5}, {"usage": {"total": 1}}]
)
def test_a_delta_of_nothing_is_no_snapshot(feed: Feed, nothing: Wire) -> None:
    """Nulls and kinds that this version does not know say nothing, and usage comes with the next snapshot."""
    feed.whole("Hel")
    assert feed.live.take_delta(nothing, 1) is None
    feed.delta("lo", 2)
    assert feed.last.text == "Hello"


@pytest.mark.parametrize("ending", ["delta", "whole"])
def test_the_usage_of_a_delta_comes_with_the_next_snapshot(feed: Feed, ending: str) -> None:
    """Also where the whole form that ends the message lacks it."""
    feed.whole("Hel")
    used = {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 3, "stop_reason": "stop"}
    assert feed.live.take_delta({"usage": used}, 1) is None
    if ending == "delta":
        feed.delta("lo", 2)
    else:
        feed.whole("Hello", status="ready")
    usage = feed.last.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 5, 15)
    assert (usage.cached_tokens, usage.stop_reason, usage.cost) == (3, "stop", None)
    assert usage.raw == used


def test_deltas_before_their_message_are_kept_until_it_comes(feed: Feed) -> None:
    """Then their text is delivered at once."""
    assert feed.delta("Hel", 1) is None
    assert feed.delta("lo", 2) is None
    assert feed.waits()
    feed.whole()
    assert (feed.texts, feed.deltas) == (["Hello"], ["Hello"])
    assert not feed.waits()
    feed.delta("!", 3)
    assert feed.last.text == "Hello!"


def test_deltas_before_a_message_that_holds_some_of_them(feed: Feed) -> None:
    """Nothing stands there twice."""
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    feed.whole("Hel")
    assert feed.texts == ["Hello"]


def test_deltas_before_a_message_that_is_ahead_of_them(feed: Feed) -> None:
    """The ones under way are in it already."""
    feed.delta("Hel", 1)
    feed.whole("Hello, world")
    feed.delta("lo", 2)
    feed.delta(", world", 3)
    feed.delta("!", 4)
    assert feed.texts == ["Hello, world", "Hello, world!"]


def test_deltas_before_a_message_that_is_final(feed: Feed) -> None:
    """They are worth nothing any more."""
    feed.delta("Hel", 1)
    feed.whole("Hello", "ready")
    assert feed.texts == ["Hello"]


def test_after_a_gap_deltas_wait_for_the_next_whole_form(feed: Feed) -> None:
    """What is missing is not guessed."""
    feed.whole()
    feed.delta("Hel", 1)
    assert feed.delta("world", 3) is None
    assert feed.waits()
    assert feed.delta("!", 4) is None
    feed.whole("Hello, world!")
    assert not feed.waits()
    feed.delta(" Bye", 5)
    assert feed.texts == ["Hel", "Hello, world!", "Hello, world! Bye"]
    assert feed.deltas == ["Hel", "lo, world!", " Bye"]


def test_a_gap_between_words_that_came_one_by_one_is_a_gap(feed: Feed) -> None:
    """However smoothly it went before: what comes behind the gap is not put where the missing words belong."""
    feed.whole()
    for seq, word in enumerate(("one ", "two ", "three ")):
        feed.delta(word, seq)
    for seq, word in ((4, "five "), (5, "six "), (6, "seven ")):
        assert feed.delta(word, seq) is None
        assert feed.waits()
    feed.whole("one two three four five six seven ")
    feed.delta("eight", 7)
    assert feed.texts[2:] == [
        "one two three ",
        "one two three four five six seven ",
        "one two three four five six seven eight",
    ]


def test_a_form_from_a_separate_request_does_not_heal_a_gap(feed: Feed) -> None:
    """It may hold any number of the deltas that are under way, so it is shown, and no delta is added to it."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.delta("world", 3)
    feed.read("Hello, world!")
    assert feed.delta("!", 4) is None
    feed.whole("Hello, world!!")
    feed.delta("?", 6)
    assert feed.texts == ["Hel", "Hello, world!", "Hello, world!!"], "another gap, another wait"


def test_deltas_that_begin_in_the_middle_wait_for_a_whole_form(feed: Feed) -> None:
    """As when a stream is joined late."""
    assert feed.delta("world", 7) is None
    feed.whole("Hello, world")
    feed.delta("!", 8)
    assert feed.texts == ["Hello, world", "Hello, world!"]


def test_text_that_begins_in_the_middle_does_not_continue_a_form_from_a_separate_request(feed: Feed) -> None:
    """That may hold any number of the deltas under way: a whole form on the stream has to say where it stands."""
    feed.read("Hello, ")
    assert feed.delta("world", 1) is None
    assert feed.waits()
    feed.whole("Hello, world")
    feed.delta("!", 2)
    assert feed.texts == ["Hello, ", "Hello, world", "Hello, world!"]


def test_after_a_gap_before_the_first_word_the_next_whole_form_may_be_empty(feed: Feed) -> None:
    """It says where the text stands all the same."""
    assert feed.delta(seq=3, reasoning="lost") is None
    feed.whole()
    feed.delta(seq=4, reasoning="hm")
    feed.delta("Hello", 5)
    assert (feed.last.text, feed.last.reasoning) == ("Hello", "hm")


def test_deltas_after_a_whole_form_continue_it(feed: Feed) -> None:
    """A stream is in order: the form holds what was missed before its first delta."""
    feed.whole("Hello, ")
    feed.delta("world", 7)
    assert feed.texts == ["Hello, ", "Hello, world"]


# -- both


def test_a_whole_form_behind_the_deltas_is_no_step_back(feed: Feed) -> None:
    """Deltas run ahead of whole forms."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    assert feed.whole("Hel") is None
    assert feed.whole("Hello") is None
    feed.delta("!", 3)
    assert (feed.texts, feed.deltas) == (["Hel", "Hello", "Hello!"], ["Hel", "lo", "!"])


def test_a_whole_form_ahead_of_the_deltas_is_delivered_and_they_catch_up(feed: Feed) -> None:
    """Without anything twice."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.whole("Hello, world")
    feed.delta("lo", 2)
    feed.delta(", wor", 3)
    feed.delta("ld!", 4)
    assert (feed.texts, feed.deltas) == (["Hel", "Hello, world", "Hello, world!"], ["Hel", "lo, world", "!"])


def test_whole_forms_first_and_the_first_delta_repeats_their_beginning(feed: Feed) -> None:
    """A stream whose deltas are late starts over from the first of them."""
    feed.whole("Hello")
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    feed.delta("!", 3)
    assert feed.texts == ["Hello", "Hello!"]


@pytest.mark.parametrize("way", ["stream", "reading"])
def test_text_after_reasoning_that_a_whole_form_has_overtaken_is_not_doubled(feed: Feed, way: str) -> None:
    """The first piece of text is not always the first delta."""
    feed.whole()
    feed.delta(seq=1, reasoning="think")
    overtaking = [{"type": "reasoning", "text": "think"}, {"type": "text", "text": "Hel"}]
    _ = feed.whole(content=overtaking) if way == "stream" else feed.read(content=overtaking)
    feed.delta("Hel", 2)
    feed.delta("lo", 3)
    assert feed.texts == ["", "Hel", "Hello"]


def test_whole_forms_win_over_deltas_that_contradict_them(feed: Feed) -> None:
    """Snapshots are authoritative."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.whole("Goodbye")
    assert (feed.last.text, feed.last.delta) == ("Goodbye", None)
    feed.delta("!", 2)
    assert (feed.last.text, feed.last.delta) == ("Goodbye!", "!")


def test_deltas_that_turn_out_to_contradict_a_form_ahead_of_them_are_dropped(feed: Feed) -> None:
    """They are held against it when they have caught up."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.whole("Hello")
    assert feed.delta("p, I need", 2) is None
    assert feed.delta(" somebody", 3) is None
    feed.whole("Hello, you")
    assert feed.texts == ["Hel", "Hello", "Hello, you"]


def test_where_they_go_on_contradicting_each_other_whole_forms_suffice(feed: Feed) -> None:
    """Then the deltas are not what they should be, and are not waited for either."""
    feed.whole()
    feed.delta("\n\nHel", 1)
    feed.whole("Hello")
    feed.delta("\n\nlo", 2)
    feed.whole("Hello, world")
    assert feed.delta("nonsense", 3) is None
    feed.whole("Hello, world!")
    assert feed.delta("nonsense", 4) is None
    assert not feed.waits(), "nothing is missing: each whole form comes by itself"
    feed.whole("Hello, world!!", "ready")
    assert feed.texts[-3:] == ["Hello, world", "Hello, world!", "Hello, world!!"]


def test_the_final_form_wins_over_all_deltas(feed: Feed) -> None:
    """Whether it is behind, ahead or different."""
    for final in ("Hel", "Hello!", "Bye"):
        feed = Feed()
        feed.whole()
        feed.delta("Hello", 1)
        feed.whole(final, "ready")
        assert feed.last.text == final
        assert feed.last.delta == ("!" if final == "Hello!" else None)


def test_content_that_is_not_written_stays_while_deltas_come(feed: Feed) -> None:
    """An image in the whole form is in the snapshots of the deltas too."""
    feed.whole(content=[IMAGE])
    feed.delta("Hello", 1)
    assert [block.type for block in feed.last.content] == ["text", "image"]


# -- reconnecting


def test_a_new_connection_that_replays_everything_repeats_nothing(feed: Feed) -> None:
    """Wholes and deltas from the start."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    feed.live.reconnected()
    feed.whole()
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    feed.delta("!", 3)
    assert feed.texts == ["Hel", "Hello", "Hello!"]


def test_a_new_connection_that_goes_on_where_the_old_one_broke(feed: Feed) -> None:
    """The numbers tell that nothing is missing."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.live.reconnected()
    feed.delta("lo", 2)
    assert feed.texts == ["Hel", "Hello"]


def test_a_new_connection_that_missed_something_and_begins_with_deltas(feed: Feed) -> None:
    """The whole form of the connection before says nothing about what was missed since."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.live.reconnected()
    assert feed.delta("world", 5) is None
    assert feed.waits()
    feed.whole("Hello, world")
    assert feed.texts == ["Hel", "Hello, world"]


def test_a_new_connection_that_begins_with_the_whole_form(feed: Feed) -> None:
    """It holds what was missed, and the next delta continues it."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.live.reconnected()
    feed.whole("Hello, ")
    feed.delta("world", 5)
    feed.delta("!", 6)
    assert feed.texts == ["Hel", "Hello, ", "Hello, world", "Hello, world!"]


def test_a_new_connection_whose_whole_form_is_old_does_not_hide_what_was_missed(feed: Feed) -> None:
    """A form that is behind says nothing about the deltas after it."""
    feed.whole()
    feed.delta("Hel", 1)
    feed.delta("lo", 2)
    feed.live.reconnected()
    feed.whole("Hel")
    assert feed.delta("!", 5) is None
    assert feed.waits()
    feed.whole("Hello, world!")
    assert feed.texts == ["Hel", "Hello", "Hello, world!"]


def test_a_gap_later_in_a_connection_is_a_gap(feed: Feed) -> None:
    """Only the first delta of a connection may be taken to follow its whole form."""
    feed.whole("Hel")
    feed.delta("lo", 5)
    assert feed.delta("!", 7) is None
    assert feed.waits()


# -- reasoning and tool calls in deltas


def test_the_golden_fixture_of_the_official_sdks(feed: Feed) -> None:
    """Text and reasoning concatenate; calls merge by index, names replace, arguments concatenate, nulls say nothing."""
    feed.whole()
    first = {"index": 0, "id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": '{"ci'}}
    second = {"index": 1, "id": "call_1", "type": "function", "function": {"name": "noop", "arguments": ""}}
    deltas: list[Wire] = [
        {"reasoning": "think ", "response": None},
        {"reasoning": "more"},
        {"response": "Hel", "usage": {"total_tokens": 3}},
        {"response": "lo", "tool_calls": [second]},
        {"tool_calls": [first]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ty":"Paris"}'}}], "usage": {"total_tokens": 17}},
        {"tool_calls": [{"index": 1, "id": None, "function": {"name": None, "arguments": None}}]},
        {"tool_calls": None, "reasoning": None},
        {"tool_calls": "nonsense", "reasoning": 5},
        {"tool_calls": [None, {"index": 1, "function": None}]},
    ]
    for seq, delta in enumerate(deltas, 1):
        snapshot = feed.live.take_delta(delta, seq)
        feed.snapshots += [snapshot] if snapshot is not None else []
    assert (feed.last.text, feed.last.reasoning) == ("Hello", "think more")
    assert [(call.id, call.name, call.arguments) for call in feed.last.tool_calls] == [
        ("call_0", "get_weather", {"city": "Paris"}),
        ("call_1", "noop", {}),
    ]
    assert [snapshot.reasoning for snapshot in feed.snapshots[:2]] == ["think ", "think more"]
    assert feed.last.pending_tool_calls == (), "their ids are the model's, which cannot be answered"


def test_arguments_that_are_not_complete_are_shown_undecoded(feed: Feed) -> None:
    """So that nobody takes them for no arguments."""
    feed.whole()
    feed.delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"ci'}}])
    (call,) = feed.last.tool_calls
    assert (call.arguments, call.undecoded_arguments) == ({}, '{"ci')


def test_calls_of_the_whole_form_replace_those_of_the_deltas(feed: Feed) -> None:
    """They have the ids that can be answered."""
    feed.whole()
    feed.delta(tool_calls=[{"index": 0, "id": "call_0", "function": {"name": "calculator", "arguments": "{}"}}])
    feed.whole(tool_invocations=[invocation()])
    assert [call.id for call in feed.last.tool_calls] == ["call-1"]
    feed.delta("Hello", 5)
    assert [call.id for call in feed.last.tool_calls] == ["call-1"]


def test_calls_that_deltas_have_brought_do_not_vanish_with_a_form_without_calls(feed: Feed) -> None:
    """The form is behind."""
    feed.whole()
    feed.delta(tool_calls=[{"index": 0, "id": "call_0", "function": {"name": "calculator", "arguments": "{}"}}])
    assert feed.whole() is None
    feed.whole("Hello")
    assert [call.name for call in feed.last.tool_calls] == ["calculator"]


def test_reasoning_of_deltas_stands_before_the_text(feed: Feed) -> None:
    """And that of the whole form is used where it is longer."""
    feed.whole(content=[{"type": "reasoning", "text": "think more"}, {"type": "text", "text": "Hel"}])
    feed.delta("lo", 1, reasoning="think")
    assert [block.type for block in feed.last.content] == ["reasoning", "text"]
    assert (feed.last.reasoning, feed.last.text) == ("think more", "Hello")


def test_reasoning_in_the_middle_of_the_text_stays(feed: Feed) -> None:
    """The words that follow on it do not take it away."""
    feed.whole()
    for seq, word in enumerate(("one ", "two ", "three ")):
        feed.delta(word, seq)
    feed.delta(None, 3, reasoning="Now what?")
    for seq, word in ((4, "four "), (5, "five")):
        feed.delta(word, seq)
        assert feed.last.reasoning == "Now what?"
    assert feed.last.text == "one two three four five"


def test_reasoning_alone_keeps_the_text_of_the_whole_form(feed: Feed) -> None:
    """Deltas may bring one and not the other."""
    feed.whole("Hello")
    feed.delta(reasoning="hm")
    assert (feed.last.text, feed.last.reasoning, feed.last.delta) == ("Hello", "hm", "")


# -- tool calls in whole forms


def calls(feed: Feed) -> list[tuple[str, str]]:
    """The calls of the newest snapshot, with their statuses."""
    return [(call.id, call.status.value) for call in feed.last.tool_calls]


def test_each_change_of_a_call_is_a_snapshot_with_an_empty_delta(feed: Feed) -> None:
    """From beginning to end."""
    statuses = ["pending", "awaiting_approval", "in_progress", "awaiting_input", "completed"]
    for status in statuses:
        feed.whole("Hm.", tool_invocations=[invocation(status)])
    assert [snapshot.tool_calls[0].status for snapshot in feed.snapshots] == statuses
    assert feed.deltas == ["Hm.", "", "", "", ""]


@pytest.mark.parametrize("more", [{}, {"tool_invocations": None}, {"tool_invocations": []}])
def test_calls_are_kept_where_a_form_with_the_same_text_leaves_them_out(feed: Feed, more: Wire) -> None:
    """It is older, or only about something else."""
    feed.whole("Hm.", tool_invocations=[invocation()])
    assert feed.whole("Hm.", **more) is None


@pytest.mark.parametrize("more", [{}, {"tool_invocations": None}])
def test_calls_are_kept_where_a_newer_form_says_nothing_of_them(feed: Feed, more: Wire) -> None:
    """Absent and null are not the same as none."""
    feed.whole("Hm.", tool_invocations=[invocation("completed")])
    feed.whole("Hm. Yes", **more)
    feed.whole("Hm. Yes.", "ready", **more)
    assert calls(feed) == [("call-1", "completed")]


def test_a_newer_form_may_say_that_there_are_no_calls(feed: Feed) -> None:
    """Then there are none."""
    feed.whole("Hm.", tool_invocations=[invocation("pending")])
    feed.whole("Hm. No.", tool_invocations=[])
    assert calls(feed) == []


@pytest.mark.parametrize("over", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("back", ["pending", "in_progress", "awaiting_input"])
def test_a_call_that_is_over_does_not_begin_again(feed: Feed, over: str, back: str) -> None:
    """A replayed form must not have it run again."""
    feed.whole("Hm.", tool_invocations=[invocation(over)])
    assert feed.whole("Hm.", tool_invocations=[invocation(back)]) is None
    feed.whole("Hm. Yes.", tool_invocations=[invocation(back), invocation("pending", "call-2")])
    assert calls(feed) == [("call-1", over), ("call-2", "pending")]


@pytest.mark.parametrize("status", ["awaiting_approval", "in_progress", "awaiting_input"])
def test_a_call_that_has_begun_does_not_go_back_to_pending(feed: Feed, status: str) -> None:
    """A replayed form is older than what was delivered."""
    feed.whole("Hm.", tool_invocations=[invocation(status)])
    assert feed.whole("Hm.", tool_invocations=[invocation("pending")]) is None
    feed.whole("Hm. Yes.", tool_invocations=[invocation("pending")])
    assert calls(feed) == [("call-1", status)]


def test_a_replay_with_fewer_calls_takes_none_away(feed: Feed) -> None:
    """It is from before the others began."""
    both = [invocation("completed"), invocation("in_progress", "call-2")]
    feed.whole("Hm.", tool_invocations=both)
    assert feed.whole("Hm.", tool_invocations=both[:1]) is None


def test_a_call_moves_on_in_a_form_whose_text_is_behind_the_deltas(feed: Feed) -> None:
    """Deltas run ahead; a server may also trim the text that it stores. The call must not wait for the text."""
    feed.whole()
    feed.delta("Let me see.\n", 1)
    for status in ("pending", "awaiting_input", "completed"):
        feed.whole("Let me see.", tool_invocations=[invocation(status)])
        assert calls(feed) == [("call-1", status)]
        assert feed.live.latest is not None
        assert feed.live.latest.tool_calls[0].status == status, "what is looked at for calls to be run"
    assert feed.texts == ["Let me see.\n"] * 4
    assert feed.deltas == ["Let me see.\n", "", "", ""]


def test_a_call_in_a_form_whose_text_is_behind_does_not_go_back(feed: Feed) -> None:
    """Nor do the others vanish with it."""
    both = [invocation("completed"), invocation("in_progress", "call-2")]
    feed.whole("Let me see.", tool_invocations=both)
    assert feed.whole("Let me", tool_invocations=[invocation("pending")]) is None
    assert feed.whole("Let me", tool_invocations=[invocation("completed")]) is None
    assert feed.whole("Let me", tool_invocations=both) is None
    feed.whole("Let me", tool_invocations=[invocation("completed"), invocation("failed", "call-2")])
    assert calls(feed) == [("call-1", "completed"), ("call-2", "failed")]


def test_a_call_can_be_corrected_from_this_side(feed: Feed) -> None:
    """Where it is known better than the server has said yet; snapshots that are out stay as they were."""
    feed.whole("Hm.", tool_invocations=[invocation()])
    before = feed.last
    feed.live.amend(lambda known: structure({**known.raw, "tool_invocations": [invocation("completed")]}, Message))
    assert before.pending_tool_calls
    assert feed.live.current is not None
    assert not feed.live.current.pending_tool_calls
    assert feed.whole("Hm.", tool_invocations=[invocation()]) is None


def test_a_message_of_which_nothing_is_known_can_be_corrected_too() -> None:
    """Then there is nothing to correct."""
    live = LiveMessage()
    live.amend(lambda known: known)
    assert live.current is None
