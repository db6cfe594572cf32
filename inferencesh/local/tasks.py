"""Tasks and sessions as the runtime keeps them, their wire forms, and the store that finds them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Literal

import attrs
import orjson

from inferencesh._text import whole_characters

from .errors import ProblemError, not_found
from .feed import Feed
from .files import CONTENT_PATH
from .records import Published, Record, Recorder, Wire, now, timestamp

__all__ = ["DEFAULT_IDLE", "StoredSession", "StoredTask", "TaskState", "TaskStore"]

DEFAULT_IDLE = 60
"""Seconds without use after which a session expires, unless it was created with another number."""

_TASK_LOG = 4  # the number of the phase in which an app's own function logs


class TaskState(IntEnum):
    """The status of a task, as a number on the wire."""

    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12


_FINAL = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})


@attrs.define(eq=False, kw_only=True)
class StoredTask(Published):
    """One run of an app. ``input`` and ``output`` are JSON text; ``origin`` is the base URL in its files' URIs."""

    app: str
    function: str
    input: str
    feed: Feed
    origin: str = ""
    output: str | None = None
    error: str | None = None
    status: TaskState = TaskState.RECEIVED
    progress: float | None = None
    log: str = ""
    log_started: str = ""
    events: list[dict[str, object]] = attrs.field(factory=list)
    session_id: str | None = None
    session_timeout: int | None = None
    run_at: str | None = None
    input_files: list[str] = attrs.field(factory=list)
    output_files: list[str] = attrs.field(factory=list)
    queue_position: int | None = None
    deleted: bool = False

    @property
    def settled(self) -> bool:
        """Whether the status is final."""
        return self.status in _FINAL

    def advance(self, state: TaskState) -> None:
        """Change the status, unless it is final or not behind the new one, and note when."""
        if self.settled or state <= self.status:
            return
        self.status = state
        self.touch()
        self.note_event()

    def note_event(self) -> None:
        """Add the present status to the events."""
        self.events.append({"status": int(self.status), "event_time": self.updated_at, "created_at": self.updated_at})

    def add_log(self, line: str) -> None:
        """Add a line to the log."""
        self.log_started = self.log_started or now()
        self.log += whole_characters(line).rstrip("\n") + "\n"
        self.touch()

    def move_files(self, origin: str) -> None:
        """Put another base URL into the URIs of files."""
        old, new = f'"{self.origin}{CONTENT_PATH}', f'"{origin}{CONTENT_PATH}'
        self.origin = origin
        self.input = self.input.replace(old, new)
        if self.output is not None:
            self.output = self.output.replace(old, new)

    def result_wire(self) -> Wire:
        """Return the task in the short form of the response that creates it."""
        return {
            "id": self.id,
            "short_id": self.id[:8],
            "status": self.status,
            "status_text": self.status.name.lower(),
            "output": _fragment(self.output),
            "error": self.error,
            "session_id": self.session_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "run_at": self.run_at,
        }

    def wire(self) -> Wire:
        """Return the task in wire form."""
        namespace, _, name = self.app.partition("/")
        log: Wire = {
            "id": self.id,
            "created_at": self.log_started,
            "updated_at": self.updated_at,
            "task_id": self.id,
            "log_type": _TASK_LOG,
            "content": self.log,
        }
        return {
            **self.base(),
            "graph_id": None,
            "is_featured": False,
            "status": self.status,
            "status_text": self.status.name.lower(),
            "app_id": self.app,
            "app": {"id": self.app, "namespace": namespace, "name": name},
            "app_version_id": "",
            "function": self.function,
            "infra": "private",
            "workers": [],
            "chat_id": None,
            "agent_id": None,
            "worker_id": None,
            "run_at": self.run_at,
            "webhook": None,
            "setup": None,
            "input": _fragment(self.input),
            "output": _fragment(self.output),
            "error": self.error,
            "progress": self.progress,
            "queue_position": self.queue_position,
            "events": self.events,
            "logs": [log] if self.log else [],
            "usage_events": [],
            "session_id": self.session_id,
            "session_timeout": self.session_timeout,
        }


@attrs.define(eq=False, kw_only=True)
class StoredSession(Record):
    """The state that an app keeps between tasks; ``deadline`` is the Unix time at which it expires if not used."""

    app: str
    idle_timeout: int = DEFAULT_IDLE
    state: dict[str, object] = attrs.field(factory=dict)
    status: Literal["active", "ended", "expired"] = "active"
    deadline: float = 0.0
    ended_at: str | None = None
    call_count: int = 0
    last_call_at: str | None = None
    task_id: str | None = None
    running: int = 0

    def use(self) -> None:
        """Postpone the expiry."""
        self.deadline = time.time() + self.idle_timeout
        self.touch()

    def settle(self) -> None:
        """Let it expire if it is time; a session in which a task runs does not."""
        if self.status == "active" and not self.running and time.time() >= self.deadline:
            self.close("expired")

    def close(self, status: Literal["ended", "expired"]) -> None:
        """End it; the state is thrown away."""
        self.status, self.state = status, {}
        self.touch()
        self.ended_at = self.updated_at

    def require_active(self) -> None:
        """Check that it takes tasks.

        Raises:
            ProblemError: 410 if it has ended.
        """
        self.settle()
        if self.status == "ended":
            raise ProblemError(410, f"The session {self.id} was ended.", code="SESSION_ENDED")
        if self.status == "expired":
            raise ProblemError(410, f"The session {self.id} has expired.", code="SESSION_EXPIRED")

    def wire(self) -> Wire:
        """Return the session in wire form."""
        return {
            **self.base(),
            "worker_id": f"local-{self.id[:8]}",
            "app_id": self.app,
            "app_version_id": "",
            "status": self.status,
            "expires_at": timestamp(datetime.fromtimestamp(self.deadline, UTC)),
            "ended_at": self.ended_at,
            "task_id": self.task_id,
            "call_count": self.call_count,
            "last_call_at": self.last_call_at,
            "idle_timeout": self.idle_timeout,
        }


def _fragment(text: str | None) -> Any:
    """Return JSON text to be embedded in a larger object; it may be nested too deeply to be encoded again."""
    return None if text is None else orjson.Fragment(text)


@attrs.define
class TaskStore:
    """The tasks and sessions of one runtime in the order in which they were created."""

    tasks: dict[str, StoredTask] = attrs.field(factory=dict)
    sessions: dict[str, StoredSession] = attrs.field(factory=dict)
    recorder: Recorder | None = None

    def add(self, task: StoredTask) -> None:
        """Add a task."""
        self.tasks[task.id] = task
        self.note(task)

    def get(self, task_id: str) -> StoredTask:
        """Return a task.

        Raises:
            ProblemError: 404 if there is no such task.
        """
        if task_id not in self.tasks:
            raise not_found("task", task_id)
        return self.tasks[task_id]

    def delete(self, task: StoredTask) -> None:
        """Remove a task, and end its streams."""
        task.deleted = True
        self.tasks.pop(task.id, None)
        task.feed.close()
        if self.recorder is not None:
            self.recorder.forget(task)

    def add_session(self, session: StoredSession) -> None:
        """Add a session."""
        self.sessions[session.id] = session
        self.note(session)

    def session(self, session_id: str) -> StoredSession:
        """Return a session, whatever its status.

        Raises:
            ProblemError: 404 if there is no such session.
        """
        session = self.sessions.get(session_id)
        if session is None:
            detail = f"There is no session {session_id[:64]!r} in this runtime."
            raise ProblemError(404, detail, code="SESSION_NOT_FOUND")
        session.settle()
        return session

    def load(self, tasks: Iterable[StoredTask], sessions: Iterable[StoredSession], recorder: Recorder) -> None:
        """Add records read from the database, and record changes from now on."""
        self.recorder = recorder
        self.tasks.update((task.id, task) for task in tasks)
        self.sessions.update((session.id, session) for session in sessions)

    def new_feed(self) -> Feed:
        """Return the feed of a new task."""
        return Feed(self.recorder, "tasks")

    def publish(self, task: StoredTask) -> None:
        """Store a task's state and tell it the readers of its streams."""
        if not task.deleted:
            task.feed.publish_chat(task)

    def note(self, record: Record) -> None:
        """Store a record."""
        if self.recorder is not None:
            self.recorder.note(record)
