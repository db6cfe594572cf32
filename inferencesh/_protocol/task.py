"""The state machine of one task: events in, snapshots out, until the task has ended.

Like ``turn.py`` it does no I/O and has no clock. A task's state comes from three sources: the response that created it,
the lines of its stream (whole states, states of some fields, deltas of the output) and reads of the task. They may
repeat, overtake and miss each other; the snapshots only ever go forward.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from inferencesh._types.tasks import read_status, read_task
from inferencesh.errors import TaskCancelledError, TaskFailedError, UnreadableError
from inferencesh.task_models import Task, TaskLog, TaskStatus

from .lines import GrownLine, TextPiece
from .outcome import MISSING_DELAY, POLL_INTERVAL, PollSchedule
from .wire import Event, whole_event

__all__ = ["TASK_EVENT", "TaskEnd", "TaskRun"]

TASK_EVENT = "tasks"
"""The name of events that hold a task, for lines that tell no name."""

_TASK_EVENTS = frozenset({TASK_EVENT, "task", "update", "done", "message"})


class TaskEnd(enum.Enum):
    """How a task has ended."""

    COMPLETED = "it has its output"
    FAILED = "it failed or was refused"
    CANCELLED = "it was cancelled"


_ENDS = {
    TaskStatus.COMPLETED: TaskEnd.COMPLETED,
    TaskStatus.FAILED: TaskEnd.FAILED,
    TaskStatus.REJECTED: TaskEnd.FAILED,
    TaskStatus.CANCELLED: TaskEnd.CANCELLED,
}
_LAST = max(TaskStatus)  # greater numbers are of a later version of the server


class TaskRun:
    """One task, as it is followed.

    Args:
        task_id: The task's id.

    Attributes:
        task: The last snapshot, or None.
        end: How the task has ended; None while it goes on.
        progress: A number that grows with each snapshot, which tells whether a new connection has helped.
    """

    def __init__(self, task_id: str) -> None:
        self.task: Task | None = None
        self.end: TaskEnd | None = None
        self.progress = 0
        self._id = task_id
        self._reached = TaskStatus.UNKNOWN  # the last status whose place in the order is known
        self._form: dict[str, Any] = {}  # what is known of the task, as the server writes it
        self._written: dict[str, Any] = {}  # the output so far, as deltas tell it
        self._seq: int | None = None  # that of the last delta; None if deltas are not numbered
        self._gap = False  # whether it is not known what the next delta continues
        self._told = False  # whether the stream has told the output since the last delta, with all deltas before
        self._missing_delay = MISSING_DELAY  # seconds until a task with a gap is read, unless a state comes before
        self._held: dict[str, Any] | None = None  # a final state that lacks the result, until the task was read
        self._schedule = PollSchedule()

    # -- events and reads

    def begin(self, data: Mapping[str, Any], now: float) -> Task | None:
        """Begin with the response that created the task, or with a task that was read.

        Raises:
            UnreadableError: It is no task.
        """
        self._schedule.restart_silence(now)
        return self._take(data, requested=True)

    def receive_all(
        self, events: Iterable[Event | GrownLine | TextPiece], now: float, snapshots: list[Task], most: int
    ) -> list[UnreadableError]:
        """Process events of the stream until the caller has to act.

        Args:
            events: An iterator of events. Those that are not processed remain in it.
            now: The current time, in seconds.
            snapshots: The list to which the snapshots to deliver are appended.
            most: The length of the list at which to stop.

        Returns:
            Errors for the events that could not be read.
        """
        problems: list[UnreadableError] = []
        for event in events:
            self._schedule.event_received(now)
            try:
                snapshot = self._receive(event, now)
            except UnreadableError as error:
                problems.append(error)
                continue
            if snapshot is not None:
                snapshots.append(snapshot)
            if self.wants_action or len(snapshots) >= most:
                break
        return problems

    def reread(self, data: Mapping[str, Any], now: float) -> Task | None:
        """Process the task as it was just read, and return the snapshot to deliver, if any.

        Raises:
            UnreadableError: It is no task.
        """
        self._schedule.chat_read()
        self._schedule.restart_silence(now)
        self._missing_delay = POLL_INTERVAL
        snapshot = self._take(data, requested=True, fresh=True)
        return self._take_held() or snapshot

    def reread_failed(self) -> Task | None:
        """Continue with the stream alone because the task cannot be read, and return the snapshot to deliver."""
        self._schedule.chat_read()
        return self._take_held()

    def tick(self, now: float) -> None:
        """Check what is due; to be called at ``deadline``, and harmless at any other time."""
        self._schedule.tick(now)
        if self.end is None:
            self._schedule.tick_silence(now)

    @property
    def subject(self) -> str:
        """What is streamed, for logs and errors."""
        return f"task {self._id}"

    def lost(self) -> None:
        """Note that the stream was lost: the task is most likely over, and needs no other connection."""
        self._gap = self._gap or (self._seq is None and bool(self._written))
        self._told = False
        self.wants_reread = True

    def reconnected(self) -> None:
        """Note that the stream was lost and opened again, so that something may be missing."""
        self.wants_reread = True

    def unreadable(self) -> None:
        """Note that the stream has brought something unreadable, so that the task has to be read."""
        self._gap = True
        self.wants_reread = True

    # -- state

    @property
    def deadline(self) -> float:
        """The time at which to call ``tick`` if no event arrives before."""
        return self._schedule.deadline(None)

    @property
    def wants_reread(self) -> bool:
        """Whether the caller should read the task now. The caller may set it as well."""
        return self._schedule.wanted

    @wants_reread.setter
    def wants_reread(self, wanted: bool) -> None:
        self._schedule.wanted = wanted

    @property
    def wants_action(self) -> bool:
        """Whether the caller has to act before it passes more events."""
        return self._schedule.wanted or self.end is not None

    def error(self) -> TaskFailedError | None:
        """Return the error with which the task has ended, or None."""
        if self.task is None or self.end in {None, TaskEnd.COMPLETED}:
            return None
        failure: TaskFailedError
        if self.end is TaskEnd.CANCELLED:
            failure = TaskCancelledError(self.task.error, "the task was cancelled")
        elif self.task.status == TaskStatus.REJECTED:
            failure = TaskFailedError(self.task.error, "the service refused to run the task")
        else:
            failure = TaskFailedError(self.task.error)
        failure.task = self.task
        return failure

    def _receive(self, event: Event | GrownLine | TextPiece, now: float) -> Task | None:
        whole = whole_event(event)
        data = whole["data"]
        if whole["event"] == "delta":
            return self._take_delta(data.get("delta"), data.get("seq"), now)
        if whole["event"] not in _TASK_EVENTS:
            return None
        return self._take(data, tuple(whole.get("fields", ())))

    def _take(
        self, data: Mapping[str, Any], fields: tuple[str, ...] = (), *, requested: bool = False, fresh: bool = False
    ) -> Task | None:
        """Process a state of the task, and return the snapshot to deliver, if any.

        Args:
            data: The state, or some of its fields.
            fields: The names of the fields that count; empty for all that are there.
            requested: Whether it is the response to a request, which may be ahead of the stream.
            fresh: Whether the task was read just now, so that nothing more about it can be found out.
        """
        if (data.get("id") or self._id) != self._id or self.end is not None:
            return None  # of another task, or after the end
        named = {name: data[name] for name in fields if name in data} or data
        # Some responses leave fields out, or send null for them, that were sent before.
        form = {**self._form, **{name: value for name, value in named.items() if value is not None}, "id": self._id}
        task = read_task(form)
        if self._is_stale(task, named):
            return None
        if task.done and not fresh and _lacks_result(task, form):
            self._held, self.wants_reread = form, True
            return None
        if named.get("output") is not None:
            self._note_output(empty=not named["output"], requested=requested)
        self._form = form
        return self._deliver(task)

    def _note_output(self, *, empty: bool, requested: bool) -> None:
        """Decide what the next delta continues, after a state that tells the output."""
        if not requested:
            self._written, self._gap, self._told, self._missing_delay = {}, False, True, MISSING_DELAY
        elif not empty and (self._gap or not self._written):
            self._written, self._gap = {}, True  # it may hold any number of the deltas to come

    def _take_held(self) -> Task | None:
        """Process a final state that was held back, if there is one; the stream may be ahead of what was read."""
        held, self._held = self._held, None
        return self._take(held, fresh=True) if held is not None else None

    def _is_stale(self, task: Task, data: Mapping[str, Any]) -> bool:
        """Whether a state is older than the last snapshot."""
        last = self.task
        if last is None:
            return False
        moments = (task.updated_at, last.updated_at) if "updated_at" in data else (None, None)
        if moments[0] is not None and moments[1] is not None and moments[0] < moments[1]:
            return True
        told = read_status(data.get("status"), data.get("status_text"))
        return told != TaskStatus.UNKNOWN and told < self._reached

    def _take_delta(self, delta: object, seq: object, now: float) -> Task | None:
        """Process an addition to the output. A delta that was used before is dropped, and none is used after a gap."""
        if not isinstance(delta, Mapping) or self.end is not None:
            return None
        if type(seq) is int:
            last = self._seq
            if last is not None and seq <= last:
                return None
            due = 1 if last is None else last + 1  # numbering starts at 0 or 1
            self._gap = self._gap or (seq > due and not self._told)
            self._seq = seq
        self._told = False
        if self._gap:
            self._schedule.plan(now + self._missing_delay)
            return None
        base = self._written or _mapping(self._form.get("output"))
        self._written = _extended(base, delta)
        known = self.task if self.task is not None else Task(self._id)
        return self._deliver(known)

    def _deliver(self, task: Task) -> Task | None:
        """Return a snapshot that goes on from the last one; None if it says nothing new."""
        last = self.task
        if self._written and not task.done:
            task = attrs.evolve(task, output=self._written)
        if last is not None:
            task = _forward(last, task)
        self.end = _ENDS.get(task.status)
        if last is not None and self.end is None and _same(last, task):
            return None
        self.task = task
        self.progress += 1
        if task.status <= _LAST:
            self._reached = task.status
        return task


def _lacks_result(task: Task, form: Mapping[str, Any]) -> bool:
    """Whether a final state does not say what came of the task."""
    return "output" not in form if task.status == TaskStatus.COMPLETED else not task.error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _extended(known: Mapping[str, Any], delta: Mapping[str, Any]) -> dict[str, Any]:
    """Return an output with an addition: texts are appended, objects merged, everything else replaced."""
    result = dict(known)
    for name, value in delta.items():
        before = result.get(name)
        if value is None:
            continue
        if isinstance(value, str) and isinstance(before, str):
            result[name] = before + value
        elif isinstance(value, Mapping):
            result[name] = _extended(_mapping(before), value)
        else:
            result[name] = value
    return result


def _forward(last: Task, task: Task) -> Task:
    """Return a snapshot whose status, progress and logs are not behind those of the last one."""
    progress = task.progress
    if last.progress is not None:
        progress = last.progress if progress is None else max(progress, last.progress)
    status = last.status if task.status == TaskStatus.UNKNOWN else task.status
    moment = task.updated_at
    if moment is None or (last.updated_at is not None and moment < last.updated_at):
        moment = last.updated_at
    return attrs.evolve(
        task,
        status=status,
        progress=progress,
        updated_at=moment,
        logs=_longer_logs(last.logs, task.logs),
        events=task.events if len(task.events) >= len(last.events) else last.events,
    )


def _longer_logs(last: tuple[TaskLog, ...], logs: tuple[TaskLog, ...]) -> tuple[TaskLog, ...]:
    """Return the newer logs, but of each entry the earlier text if the newer is only its beginning."""
    kept = [
        before if len(before.content) > len(log.content) and before.content.startswith(log.content) else log
        for before, log in zip(last, logs, strict=False)
    ]
    longer = logs if len(logs) >= len(last) else last
    return (*kept, *longer[len(kept) :])


def _same(last: Task, task: Task) -> bool:
    """Whether two snapshots differ in nothing but the time of the last change."""
    try:
        return attrs.evolve(last, updated_at=task.updated_at) == task
    except RecursionError:  # values that are nested too deeply to be compared
        return False
