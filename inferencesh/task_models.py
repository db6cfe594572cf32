"""Tasks and sessions of apps, as immutable classes.

As in ``models``: null and absent fields take their defaults, what this version does not know remains in ``raw``, and
JSON values are copied each time they are read. Times are aware datetimes, None where the server gave none.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Self

import attrs

from .models import MappingView, OpenEnum, copied_when_read

__all__ = [
    "AppSession",
    "DeletedFiles",
    "SessionStatus",
    "Task",
    "TaskEvent",
    "TaskFile",
    "TaskLog",
    "TaskStatus",
    "TaskUsage",
]


class TaskStatus(IntEnum):
    """The status of a task, in the order in which a task passes through them; printed as its name on the wire.

    A number or a name that this version does not know becomes a member of its own.
    """

    UNKNOWN = 0
    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    SERVING = 5
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12
    REJECTED = 13

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if isinstance(value, str):
            known = cls.__members__.get(value.upper())
            return known if known is not None else cls._other(0, value.upper())
        if isinstance(value, int) and not isinstance(value, bool):
            return cls._other(value, f"STATUS_{value}")
        return None

    @classmethod
    def _other(cls, value: int, name: str) -> Self:
        member = int.__new__(cls, value)
        member._name_ = name
        member._value_ = value
        return member

    @property
    def done(self) -> bool:
        """Whether it is final: completed, failed, cancelled or rejected."""
        return self in _FINAL

    def __str__(self) -> str:
        return self._name_.lower()

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._name_}: {self._value_}>"


_FINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.REJECTED})


class SessionStatus(OpenEnum):
    """The status of a session; only an active one takes calls."""

    ACTIVE = "active"
    ENDED = "ended"
    EXPIRED = "expired"


@copied_when_read("raw")
@attrs.frozen
class TaskLog:
    """What a task has logged in one of its phases.

    Attributes:
        content: The text so far.
        type: The number of the phase: 0 build, 1 run, 2 serve, 3 setup, 4 task.
        created_at: When it began, or None.
        raw: The entry as the server sent it.
    """

    content: str = ""
    type: int = 4
    created_at: datetime.datetime | None = None
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    def __str__(self) -> str:
        return self.content


@attrs.frozen
class TaskEvent:
    """A change of a task's status.

    Attributes:
        status: The new status.
        time: When it changed, or None.
    """

    status: TaskStatus = TaskStatus.UNKNOWN
    time: datetime.datetime | None = None


@copied_when_read("raw")
@attrs.frozen
class TaskUsage:
    """One item that a task is billed for.

    Attributes:
        type: What was used.
        quantity: How much of it, in ``unit``.
        unit: The unit, or "".
        model: The model that was used, or "".
        raw: The item as the server sent it.
    """

    type: str = ""
    quantity: int = 0
    unit: str = ""
    model: str = ""
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen
class TaskFile(MappingView):
    """A file that a task was given, or that it has made.

    Attributes:
        id: Its id, or "".
        uri: Its URI, which ``client.files.download`` takes.
        role: ``input`` or ``output``, or "".
        filename: Its name, or "".
        content_type: Its MIME type, or "".
        size: Its size in bytes, or 0 if unknown.
    """

    id: str = ""
    uri: str = ""
    role: str = ""
    filename: str = ""
    content_type: str = ""
    size: int = 0

    def _wire(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen
class DeletedFiles:
    """What became of the files of a task that were to be deleted.

    Attributes:
        deleted: The ids of those that were deleted.
        skipped: The ids of those that were kept, each with the reason.
    """

    deleted: tuple[str, ...] = ()
    skipped: Mapping[str, str] = attrs.field(factory=dict, hash=False)


@copied_when_read("input", "output", "raw")
@attrs.frozen
class Task(MappingView):
    """A snapshot of a task, which is one run of an app. It never changes.

    Attributes:
        id: The task's id.
        status: Its status.
        app: The app as ``namespace/name``, or "" if the server does not say.
        function: The app's function, or "".
        input: The input, decoded.
        output: The output, decoded; None before there is any. While ``done`` is false it may be a part of it.
        error: Why it failed, or "".
        progress: How far it is, from 0.0 to 1.0; None if that is not known.
        queue_position: How many tasks are before it in the queue, 0 for the next; None if it is not queued, or if that
            is not known.
        logs: What it has logged, by phase.
        events: The changes of its status so far, oldest first.
        usage: What it is billed for.
        created_at: When it was created, or None.
        updated_at: When it last changed, or None.
        run_at: When it is to run, or None for at once.
        session_id: The session it runs in, or None.
        raw: The task as the server sent it.

    Example:
        ```python
        task = client.tasks.run("demo/text", {"template": "Hello {name}!", "values": {"name": "Ada"}})
        print(task.status, task.done, task.output)
        ```

        ```text
        completed True {'text': 'Hello Ada!'}
        ```
    """

    id: str
    status: TaskStatus = TaskStatus.UNKNOWN
    app: str = ""
    function: str = ""
    input: Any = attrs.field(default=None, repr=False, hash=False)
    output: Any = attrs.field(default=None, hash=False)
    error: str = ""
    progress: float | None = None
    queue_position: int | None = None
    logs: tuple[TaskLog, ...] = attrs.field(default=(), repr=False)
    events: tuple[TaskEvent, ...] = attrs.field(default=(), repr=False)
    usage: tuple[TaskUsage, ...] = attrs.field(default=(), repr=False)
    created_at: datetime.datetime | None = attrs.field(default=None, repr=False)
    updated_at: datetime.datetime | None = attrs.field(default=None, repr=False)
    run_at: datetime.datetime | None = attrs.field(default=None, repr=False)
    session_id: str | None = None
    raw: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def done(self) -> bool:
        """Whether it has ended: completed, failed, cancelled or rejected."""
        return self.status.done

    @property
    def log(self) -> str:
        """All that it has logged."""
        return "\n".join(log.content.rstrip("\n") for log in self.logs)

    @property
    def duration(self) -> datetime.timedelta | None:
        """The time from its creation to its last change; None if one of them is not known."""
        if self.created_at is None or self.updated_at is None:
            return None
        return self.updated_at - self.created_at

    def _wire(self) -> dict[str, Any]:
        known = {"id": self.id, "status": int(self.status), "output": self.output, "error": self.error or None}
        return {"app": self.app, "function": self.function, "session_id": self.session_id, **self.raw, **known}


@copied_when_read("raw")
@attrs.frozen
class AppSession(MappingView):
    """A session: a worker that keeps an app's state between runs.

    Attributes:
        id: The session's id.
        status: Its status.
        created_at: When it was created, or None.
        expires_at: When it expires if it is not used, or None.
        ended_at: When it ended, or None.
        last_call_at: When it was last used, or None.
        call_count: How often it was used.
        idle_timeout: Seconds without use after which it expires, or None if unknown.
        raw: The session as the server sent it.

    Example:
        ```python
        for session in client.sessions.list():
            print(session.id, session.status, session.expires_at)
        ```
    """

    id: str
    status: SessionStatus = SessionStatus.ACTIVE
    created_at: datetime.datetime | None = None
    expires_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None
    last_call_at: datetime.datetime | None = None
    call_count: int = 0
    idle_timeout: int | None = None
    raw: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    def _wire(self) -> dict[str, Any]:
        return {"id": self.id, "status": self.status.value, **self.raw}
