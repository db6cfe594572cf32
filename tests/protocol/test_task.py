"""The state machine of a task: states that repeat, overtake, contradict and miss each other."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from inferencesh import Task, TaskCancelledError, TaskFailedError, TaskStatus
from inferencesh._protocol.task import TASK_EVENT, TaskEnd, TaskRun
from inferencesh._protocol.wire import event_decoder
from inferencesh._types.tasks import read_status, read_task, read_time
from inferencesh.errors import UnreadableError

ID = "task1"


def state(status: int | str, **fields: Any) -> dict[str, Any]:
    """A task as the service writes it."""
    return {"id": ID, "status": status, **fields}


def feed(run: TaskRun, *lines: Any, now: float = 0.0) -> list[Task]:
    """Pass lines of a stream, and return the snapshots."""
    decoder = event_decoder("application/x-ndjson", default=TASK_EVENT)
    snapshots: list[Task] = []
    for line in lines:
        events = iter(decoder.feed(json.dumps(line).encode() + b"\n"))
        assert run.receive_all(events, now, snapshots, 256) == []
    return snapshots


def statuses(snapshots: list[Task]) -> list[str]:
    """The statuses as text."""
    return [str(task.status) for task in snapshots]


def test_a_task_goes_through_its_states_to_its_output() -> None:
    """Each state is one snapshot, whichever of the forms of the stream it comes in."""
    run = TaskRun(ID)
    assert run.begin(state(1), 0.0) == Task(ID, TaskStatus.RECEIVED)
    snapshots = feed(
        run,
        state(2, queue_position=3),
        {"data": state(7)},
        {"event": "tasks", "data": state(7, progress=0.5)},
        {"data": {"logs": [{"content": "half\n", "log_type": 4}]}, "fields": ["logs"]},
        {"type": "heartbeat"},
        state(10, output={"answer": 42}),
    )
    assert statuses(snapshots) == ["queued", "running", "running", "running", "completed"]
    assert [task.queue_position for task in snapshots] == [3, None, None, None, None]
    assert [task.progress for task in snapshots] == [None, None, 0.5, 0.5, 1.0]
    assert [task.log for task in snapshots] == ["", "", "", "half", "half"]
    assert snapshots[-1].output == {"answer": 42}
    assert run.end is TaskEnd.COMPLETED
    assert run.error() is None


def test_a_partial_state_keeps_the_other_fields() -> None:
    """Only the fields that the line names count."""
    run = TaskRun(ID)
    run.begin(state(7, session_id="s1", input={"a": 1}), 0.0)
    partial = {"data": {"id": ID, "status": 0, "output": {"b": 2}}, "fields": ["output"]}
    (task,) = feed(run, partial)
    assert (task.status, task.session_id, task.input, task.output) == (TaskStatus.RUNNING, "s1", {"a": 1}, {"b": 2})


def test_null_does_not_take_back_what_was_known() -> None:
    """Short responses have null where the stream has values."""
    run = TaskRun(ID)
    run.begin(state(7, logs=[{"content": "a"}], output={"part": 1}), 0.0)
    (task,) = feed(run, state(9, logs=None, output=None, session_id=None))
    assert (task.log, task.output) == ("a", {"part": 1})


@pytest.mark.parametrize(
    "stale",
    [
        state(2),
        state(7, progress=0.2, updated_at="2026-01-01T00:00:01Z"),
        state(6, progress=0.9, updated_at="2026-01-01T00:00:09Z"),
        state(7, progress=0.5, updated_at="2026-01-01T00:00:05Z"),
    ],
    ids=["lower status", "older time", "lower status, later", "the same again"],
)
def test_stale_states_are_dropped(stale: dict[str, Any]) -> None:
    """Nothing that is behind the last snapshot is delivered."""
    run = TaskRun(ID)
    run.begin(state(7, progress=0.5, updated_at="2026-01-01T00:00:05Z"), 0.0)
    assert feed(run, stale) == []
    assert run.task is not None
    assert run.task.progress == 0.5


def test_progress_and_logs_never_shrink() -> None:
    """Even if a state with a later time says less."""
    run = TaskRun(ID)
    run.begin(state(7, progress=0.5, logs=[{"content": "one\ntwo\n"}], updated_at="2026-01-01T00:00:05Z"), 0.0)
    (task,) = feed(run, state(8, progress=0.1, logs=[{"content": "one\n"}], updated_at="2026-01-01T00:00:06Z"))
    assert (task.progress, task.log) == (0.5, "one\ntwo")


def test_nothing_follows_the_end() -> None:
    """Neither another state, nor a delta, nor a read."""
    run = TaskRun(ID)
    run.begin(state(10, output=1), 0.0)
    assert feed(run, state(7), state(11, error="no"), {"event": "delta", "data": {"delta": {"a": "b"}, "seq": 1}}) == []
    assert run.reread(state(11), 0.0) is None
    assert run.end is TaskEnd.COMPLETED


def test_a_state_of_another_task_is_left_out() -> None:
    """Such as one that the task has started."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    assert feed(run, {"id": "other", "status": 10, "output": 1}) == []


def test_every_order_of_states_is_delivered_going_forward() -> None:
    """Whatever order and repetition: the statuses never go back, and the end is reached."""
    states = [state(2), state(7, progress=0.3), state(7, progress=0.6), state(10, output="done")]
    for order in itertools.permutations([*states, state(7, progress=0.3)]):
        run = TaskRun(ID)
        run.begin(state(1), 0.0)
        snapshots = feed(run, *order)
        assert sorted(snapshots, key=lambda task: (task.status, task.progress or 0.0)) == snapshots
        assert snapshots[-1].output == "done"


@pytest.mark.parametrize(
    ("status", "error", "end"),
    [
        (11, TaskFailedError, TaskEnd.FAILED),
        (12, TaskCancelledError, TaskEnd.CANCELLED),
        (13, TaskFailedError, TaskEnd.FAILED),
    ],
)
def test_a_task_that_does_not_complete_has_an_error(status: int, error: type[TaskFailedError], end: TaskEnd) -> None:
    """With its last snapshot and the server's reason."""
    run = TaskRun(ID)
    run.begin(state(7, logs=["so far"]), 0.0)
    feed(run, state(status, error="because"))
    failure = run.error()
    assert type(failure) is error
    assert (failure.detail, failure.task, run.end) == ("because", run.task, end)
    assert failure.task is not None
    assert failure.task.log == "so far"


def test_an_end_without_output_is_read_before_it_is_delivered() -> None:
    """A short final state may leave the output out; the read of the task has it."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    assert feed(run, {"data": {"status": 10}, "fields": ["status"]}) == []
    assert run.wants_reread
    task = run.reread(state(10, output={"late": True}), 0.0)
    assert task is not None
    assert task.output == {"late": True}
    assert not run.wants_reread


@pytest.mark.parametrize("behind", [state(7), None], ids=["the read is behind", "it cannot be read"])
def test_an_end_counts_even_if_the_read_does_not_confirm_it(behind: dict[str, Any] | None) -> None:
    """The stream may be ahead of what is stored."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    feed(run, {"data": {"status": 10}, "fields": ["status"]})
    task = run.reread(behind, 0.0) if behind is not None else run.reread_failed()
    assert task is not None
    assert (task.status, task.output, run.end) == (TaskStatus.COMPLETED, None, TaskEnd.COMPLETED)


def delta(text: str, seq: int | None) -> dict[str, Any]:
    """A line that adds to the output."""
    return {"event": "delta", "data": {"delta": {"response": text}, "seq": seq}}


def test_deltas_add_to_the_output() -> None:
    """Texts grow, objects merge, the rest is replaced; the final state has the last word."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    more = {"event": "delta", "data": {"delta": {"response": "!", "usage": {"in": 1}, "n": 2}, "seq": 3}}
    snapshots = feed(
        run, delta("Hel", 1), delta("lo", 2), more, delta("lo", 2), state(10, output={"response": "Hello!"})
    )
    assert [task.output["response"] for task in snapshots] == ["Hel", "Hello", "Hello!", "Hello!"]
    assert snapshots[2].output == {"response": "Hello!", "usage": {"in": 1}, "n": 2}


def test_deltas_may_be_counted_from_zero() -> None:
    """The first one is not taken for a repetition."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    assert [task.output["response"] for task in feed(run, delta("Hel", 0), delta("lo", 1))] == ["Hel", "Hello"]


def test_a_read_that_is_ahead_of_the_stream_doubles_no_text() -> None:
    """Deltas that it holds already are not added to it: neither behind it nor while the task is taken up."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    feed(run, delta("Hel", 1))
    run.reread(state(7, output={"response": "Hello wo"}), 1.0)
    snapshots = feed(run, delta("lo", 2), delta(" wo", 3), delta("rld", 4))
    assert [task.output["response"] for task in snapshots] == ["Hello", "Hello wo", "Hello world"]

    taken_up = TaskRun(ID)
    taken_up.begin(state(7, output={"response": "Hello wo"}), 0.0)
    assert feed(taken_up, delta(" wo", 3)) == []
    taken_up.tick(taken_up.deadline)
    assert taken_up.wants_reread
    taken_up.reread(state(7, output={"response": "Hello wo"}), 1.0)
    snapshots = feed(taken_up, state(7, output={"response": "Hello wor"}), delta("ld", 5))
    assert [task.output["response"] for task in snapshots] == ["Hello wor", "Hello world"]


def test_deltas_without_numbers_are_not_used_after_a_loss() -> None:
    """Nothing tells whether some are missing; the task is read instead."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    feed(run, delta("Hel", None))
    run.lost()
    task = run.reread(state(7, output={"response": "Hello"}), 1.0)
    assert task is not None
    assert task.output == {"response": "Hello"}
    assert feed(run, delta("ld", None)) == []


def test_after_a_gap_the_task_is_read() -> None:
    """What comes after a missing delta is not used until the stream tells the output; the task is read meanwhile."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    assert [task.output for task in feed(run, delta("A", 1), delta("C", 3))] == [{"response": "A"}]
    run.tick(run.deadline)
    assert run.wants_reread
    task = run.reread(state(7, output={"response": "ABC"}), 1.0)
    assert task is not None
    assert task.output == {"response": "ABC"}
    assert feed(run, delta("D", 4), now=1.0) == []
    assert run.deadline == 2.0
    snapshots = feed(run, state(7, output={"response": "ABCD"}), delta("E", 5))
    assert [task.output for task in snapshots] == [{"response": "ABCD"}, {"response": "ABCDE"}]


def test_a_silent_stream_has_the_task_read_again_and_again() -> None:
    """At first after two seconds, then less and less often; heartbeats do not count as events."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    now, waits = 0.0, []
    for _ in range(7):
        feed(run, {"type": "heartbeat"}, now=now + 0.1)
        waits.append(run.deadline - now)
        now = run.deadline
        run.tick(now)
        assert run.wants_reread
        run.reread(state(7), now)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_unreadable_states_are_told() -> None:
    """And do not stop those behind them."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    snapshots: list[Task] = []
    with pytest.raises(UnreadableError):
        read_task({"status": 7})
    events: list[Any] = [{"event": TASK_EVENT, "data": state(9)}, {"event": "somethingelse", "data": {}}]
    assert run.receive_all(iter(events), 0.0, snapshots, 256) == []
    assert statuses(snapshots) == ["uploading"]


def test_server_sent_events_are_tasks_too() -> None:
    """Unnamed, or with the names that older pages of the documentation have."""
    decoder = event_decoder("text/event-stream", default=TASK_EVENT)
    run = TaskRun(ID)
    run.begin(state(1), 0.0)
    text = "".join(
        f"{name}data: {json.dumps(each)}\n\n"
        for name, each in [("", state(2)), ("event: update\n", state(7)), ("event: done\n", state(10, output=1))]
    )
    snapshots: list[Task] = []
    run.receive_all(iter(decoder.feed(text.encode())), 0.0, snapshots, 256)
    assert statuses(snapshots) == ["queued", "running", "completed"]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (10, TaskStatus.COMPLETED),
        ("completed", TaskStatus.COMPLETED),
        ("COMPLETED", TaskStatus.COMPLETED),
        ("10", TaskStatus.COMPLETED),
        (10.0, TaskStatus.COMPLETED),
        (None, TaskStatus.UNKNOWN),
        ("", TaskStatus.UNKNOWN),
        ([], TaskStatus.UNKNOWN),
        (True, TaskStatus.UNKNOWN),
    ],
)
def test_statuses_are_read_in_every_form(value: object, status: TaskStatus) -> None:
    """Numbers and names, in any case."""
    assert read_status(value) is status


def test_unknown_statuses_are_kept() -> None:
    """Those that a later version of the server may send, by number or by name."""
    later, named = read_status(99), read_status("hibernating")
    assert (later, str(later), later.done) == (99, "status_99", False)
    assert (str(named), f"{named}", named.done) == ("hibernating", "hibernating", False)
    assert read_status(None, "queued") is TaskStatus.QUEUED


def test_an_unknown_status_is_no_later_than_those_that_follow() -> None:
    """A number of a later version of the server says nothing about the order; a task ends after it as after any."""
    run = TaskRun(ID)
    run.begin(state(7), 0.0)
    assert statuses(feed(run, state(14), state(2), state(7), state(10, output=1))) == [
        "status_14",
        "running",
        "completed",
    ]
    assert run.end is TaskEnd.COMPLETED


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.678901234Z", "2026-01-02T03:04:05"]
)
def test_times_are_aware(text: str) -> None:
    """In UTC where the server names no zone."""
    moment = read_time(text)
    assert moment is not None
    assert moment.utcoffset() is not None
    assert moment.isoformat().startswith("2026-01-02T03:04:05")


@pytest.mark.parametrize("value", [None, "", "yesterday", 5, "0001-01-01T00:00:00Z"])
def test_what_is_no_time_is_none(value: object) -> None:
    """The zero time of Go stands for none."""
    assert read_time(value) is None


@pytest.mark.parametrize("junk", [[], {}, "x", 5, True, None, {"a": {}}, [[]], -1, 1e300, float("inf")])
@pytest.mark.parametrize(
    "field",
    [
        "status",
        "app",
        "function",
        "input",
        "output",
        "error",
        "progress",
        "queue_position",
        "logs",
        "events",
        "usage_events",
        "created_at",
        "session_id",
    ],
)
def test_any_value_of_any_field_is_read(field: str, junk: object) -> None:
    """A task is a task, whatever else the server sends."""
    task = read_task({"id": ID, field: junk})
    assert task.id == ID
    assert 0 <= (task.progress or 0) <= 1
