"""What the server says of the run behind a turn, and whether it means this turn's run at all."""

from __future__ import annotations

import pytest

from inferencesh._protocol.run import Phase, RunTracker
from inferencesh.errors import UnreadableError

from .forms import CHAT, RUN, USER, chat, old_run, run

ENDED_RUNS = ["completed", "failed", "canceled", "rejected"]


def follow_up(run_id: str = RUN) -> RunTracker:
    """The run of a later turn of a chat, posted."""
    tracker = RunTracker(settled=False)
    tracker.begin(USER, run_id, queued=False)
    return tracker


def waiting() -> RunTracker:
    """The run of a turn whose message waits behind another."""
    tracker = RunTracker(settled=False)
    tracker.begin(USER, "", queued=True)
    return tracker


def new_chat() -> RunTracker:
    """The run of a turn that began its chat."""
    tracker = RunTracker(settled=True)
    tracker.begin(USER, RUN, queued=False)
    return tracker


def phase_of(tracker: RunTracker) -> Phase:
    """What the run is doing now."""
    return tracker.phase


# -- states


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("submitted", Phase.BUSY),
        ("working", Phase.BUSY),
        ("input_required", Phase.PAUSED),
        ("auth_required", Phase.PAUSED),
        *((state, Phase.ENDED) for state in ENDED_RUNS),
    ],
)
@pytest.mark.parametrize("way", ["chats", "agent_runs"])
def test_the_state_of_the_turns_run_counts_either_way(state: str, phase: Phase, way: str) -> None:
    """Whether the chat says it or the run itself."""
    tracker = follow_up()
    if way == "chats":
        tracker.take_chat(chat("idle", run(state)))
    else:
        tracker.take_run(run(state))
    assert (tracker.phase, tracker.counts) == (phase, True)
    assert (tracker.run.id, tracker.run.state) == (RUN, state)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("busy", Phase.BUSY),
        ("waiting", Phase.BUSY),
        ("awaiting_input", Phase.PAUSED),
        ("idle", Phase.ENDED),
        ("completed", Phase.ENDED),
        ("dreaming", Phase.UNKNOWN),
        (None, Phase.UNKNOWN),
    ],
)
def test_without_a_run_the_chats_status_counts(status: str, phase: Phase) -> None:
    """An unknown one says nothing."""
    tracker = new_chat()
    tracker.take_chat(chat(status))
    assert tracker.phase is phase


@pytest.mark.parametrize("state", ["", "levitating", None, "unknown"])
def test_a_run_in_an_unknown_state_says_nothing(state: str) -> None:
    """The chat's status is there for that."""
    tracker = new_chat()
    tracker.take_run(run(state))
    assert phase_of(tracker) is Phase.UNKNOWN
    tracker.take_chat(chat("busy", run(state)))
    assert phase_of(tracker) is Phase.BUSY


@pytest.mark.parametrize("state", ["working", "input_required"])
def test_a_chat_that_waits_by_itself_is_not_finished_and_needs_nobody(state: str) -> None:
    """``waiting``: the agent's own wait call; nothing that a caller could answer."""
    tracker = follow_up()
    tracker.take_chat(chat("waiting", run(state)))
    assert tracker.phase is Phase.BUSY


def test_the_reason_of_a_failure_is_kept() -> None:
    """With the run."""
    tracker = follow_up()
    tracker.take_run(run("failed", error="out of tokens"))
    assert tracker.run.error == "out of tokens"


# -- whose run


@pytest.mark.parametrize("state", ENDED_RUNS)
def test_the_run_of_another_message_says_nothing(state: str) -> None:
    """It is named by the message that it answers."""
    tracker = follow_up()
    tracker.take_chat(chat("idle", old_run(state)))
    tracker.take_run(old_run(state))
    assert not tracker.counts


def test_the_run_of_another_message_need_not_have_an_id() -> None:
    """That it names its message is enough."""
    tracker = follow_up()
    tracker.take_run(old_run("working", id=None))
    assert tracker.phase is Phase.UNKNOWN
    assert not tracker.is_foreign("")


def test_that_the_chat_is_busy_is_news_even_with_another_messages_run() -> None:
    """The run that is shown is the one before; the chat has moved on."""
    tracker = follow_up()
    tracker.take_chat(chat("busy", old_run()))
    assert (tracker.phase, tracker.counts) == (Phase.BUSY, True)


@pytest.mark.parametrize("phase", ["idle", "completed"])
def test_an_idle_chat_is_no_evidence_before_the_turn_was_seen(phase: str) -> None:
    """A stream begins with the state of the turn before."""
    tracker = follow_up()
    tracker.take_chat(chat(phase))
    assert (tracker.phase, tracker.counts) == (Phase.ENDED, False)


def test_an_idle_chat_counts_after_it_was_busy() -> None:
    """It has become so."""
    tracker = follow_up()
    tracker.take_chat(chat("busy"))
    tracker.take_chat(chat("idle"))
    assert (tracker.phase, tracker.counts) == (Phase.ENDED, True)


def test_an_idle_chat_counts_in_a_new_chat() -> None:
    """There was no turn before."""
    tracker = new_chat()
    tracker.take_chat(chat("idle"))
    assert (tracker.phase, tracker.counts) == (Phase.ENDED, True)


def test_a_state_from_before_the_turn_was_settled_is_forgotten() -> None:
    """What came before may have been about the turn before."""
    tracker = follow_up()
    tracker.take_chat(chat("idle"))
    tracker.settle()
    assert (tracker.phase, tracker.counts) == (Phase.UNKNOWN, True)
    tracker.take_chat(chat("idle"))
    tracker.settle()
    assert tracker.phase is Phase.ENDED, "now it is known to be this turn's"


def test_a_run_that_nothing_tells_apart_counts_once_it_goes_on() -> None:
    """No ids at all: what is busy now is this turn's."""
    tracker = follow_up("")
    tracker.take_run({"state": "completed"})
    assert not tracker.counts
    tracker.take_run({"state": "working"})
    assert (tracker.phase, tracker.counts) == (Phase.BUSY, True)
    tracker.take_chat(chat("idle", {"state": "completed"}))
    assert (tracker.phase, tracker.counts) == (Phase.ENDED, True)


@pytest.mark.parametrize("way", ["chats", "agent_runs"])
def test_the_late_end_of_the_run_before_does_not_end_this_one(way: str) -> None:
    """It may arrive after this turn's run was seen at work; only its id tells them apart."""
    tracker = follow_up()
    tracker.take_run(run("working", user_message_id=None))
    late = old_run("completed", user_message_id=None)
    if way == "chats":
        tracker.take_chat(chat("idle", late))
    else:
        tracker.take_run(late)
    assert not (tracker.phase is Phase.ENDED and tracker.counts)
    tracker.take_run(run("completed", user_message_id=None))
    assert (tracker.phase, tracker.counts) == (Phase.ENDED, True)


def test_the_answer_to_the_post_names_the_run() -> None:
    """Then its end counts, though it names no message."""
    tracker = follow_up()
    tracker.take_run(run("completed", user_message_id=None))
    assert (tracker.phase, tracker.counts) == (Phase.ENDED, True)


def test_a_message_names_the_run_it_is_of() -> None:
    """The first that is surely this turn's; later ones change nothing."""
    tracker = follow_up("")
    tracker.own("")
    tracker.own(RUN)
    tracker.own("other")
    tracker.take_run(run("completed", user_message_id=None))
    assert tracker.counts
    assert tracker.run.id == RUN


# -- queued


def test_while_the_message_is_queued_nothing_said_is_about_it() -> None:
    """It waits behind another run."""
    tracker = waiting()
    tracker.take_chat(chat("busy", old_run("working")))
    tracker.take_run(old_run("completed"))
    tracker.take_chat(chat("idle", old_run("completed")))
    tracker.take_chat(chat("idle"))
    assert (tracker.phase, tracker.counts, tracker.queued) == (Phase.UNKNOWN, False, True)


@pytest.mark.parametrize("named", ["user-1", None])
def test_the_run_it_waits_behind_is_known_to_be_anothers(named: str | None) -> None:
    """So what it still says is not this turn's, whether or not it names its message."""
    tracker = waiting()
    tracker.take_chat(chat("busy", old_run("working", user_message_id=named)))
    assert tracker.is_foreign("run-1")
    tracker.own("run-1")
    assert tracker.run.id == ""


def test_another_messages_run_stays_anothers() -> None:
    """Whatever else is said of a message that was never queued."""
    tracker = follow_up()
    tracker.take_run(old_run("working"))
    tracker.dequeued()
    assert tracker.is_foreign("run-1")


def test_a_run_that_names_the_message_ends_the_wait() -> None:
    """Its turn has come."""
    tracker = waiting()
    tracker.take_run(old_run("working"))
    tracker.take_run(run("working"))
    assert (tracker.phase, tracker.counts, tracker.queued) == (Phase.BUSY, True, False)
    assert not tracker.is_foreign(RUN)


# -- updates of single fields


def test_a_partial_chat_changes_only_the_fields_it_names() -> None:
    """A line without ``active_run`` does not mean that there is none."""
    tracker = follow_up()
    tracker.take_chat(chat("busy", run("working")))
    tracker.take_chat({"id": CHAT, "name": "A title", "status": "idle"}, ("name",))
    assert phase_of(tracker) is Phase.BUSY
    tracker.take_chat({"id": CHAT, "active_run": run("completed")}, ("active_run",))
    assert phase_of(tracker) is Phase.ENDED


def test_a_partial_chat_whose_names_fit_nothing_is_merged_as_it_is() -> None:
    """Better than dropping what it says."""
    tracker = new_chat()
    tracker.take_chat({"id": CHAT, "status": "busy"}, ("state",))
    assert tracker.phase is Phase.BUSY


def test_a_partial_chat_of_which_nothing_is_known_says_what_it_says() -> None:
    """And no more."""
    tracker = new_chat()
    tracker.take_chat({"id": CHAT, "name": "A title"}, ("name",))
    assert tracker.phase is Phase.UNKNOWN


def test_a_partial_run_changes_only_the_fields_it_names() -> None:
    """Of the run with the same id."""
    tracker = follow_up()
    tracker.take_run(run("working"))
    tracker.take_run({"id": RUN, "error": "hm"}, ("error",))
    assert (tracker.phase, tracker.run.error) == (Phase.BUSY, "hm")
    tracker.take_run({"id": "run-3", "error": "no"}, ("error",))
    assert (tracker.phase, tracker.run.error) == (Phase.BUSY, "hm")


@pytest.mark.parametrize("active", ["text", 5, [run("working")], True])
def test_a_run_that_is_no_object_is_unreadable(active: object) -> None:
    """No other exception."""
    with pytest.raises(UnreadableError):
        follow_up().take_chat({"id": CHAT, "status": "busy", "active_run": active})
