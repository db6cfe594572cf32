"""Convert the service's JSON to tasks, their files and sessions; as lenient as ``codec``."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

from inferencesh import models
from inferencesh.errors import UnreadableError
from inferencesh.task_models import (
    AppSession,
    DeletedFiles,
    SessionStatus,
    Task,
    TaskEvent,
    TaskFile,
    TaskLog,
    TaskStatus,
    TaskUsage,
)

from .codec import read_items, read_text, read_whole

__all__ = [
    "as_objects",
    "read_deleted",
    "read_file",
    "read_session",
    "read_status",
    "read_task",
    "read_time",
]


def read_task(data: object) -> Task:
    """Return a task.

    Raises:
        UnreadableError: It is no object with an id.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("id"), str) or not data["id"]:
        raise UnreadableError("the server sent a task without an id")
    get = data.get
    status = read_status(get("status"), get("status_text"))
    position = get("queue_position")
    return Task(
        id=data["id"],
        status=status,
        app=_app(data),
        function=read_text(get("function")),
        input=get("input"),
        output=get("output"),
        error=read_text(get("error")),
        progress=1.0 if status == TaskStatus.COMPLETED else _progress(get("progress")),
        queue_position=read_whole(position) if position is not None and status <= TaskStatus.QUEUED else None,
        logs=tuple(map(_log, _listed(get("logs")))),
        events=tuple(map(_event, read_items(get("events")))),
        usage=tuple(map(_usage, read_items(get("usage_events")))),
        created_at=read_time(get("created_at")),
        updated_at=read_time(get("updated_at")),
        run_at=read_time(get("run_at")),
        session_id=read_text(get("session_id")) or None,
        raw=data,
    )


def read_status(value: object, text: object = None) -> TaskStatus:
    """Return a status, which comes as a number or as a name, in any case.

    Args:
        value: The status.
        text: Its name, which some responses have beside the number; it counts when there is no other.
    """
    for told in (value, text):
        whole = isinstance(told, float) and told.is_integer()
        digits = isinstance(told, str) and told.isdecimal() and len(told) < 10
        status: object = int(told) if whole or digits else told  # type: ignore[call-overload]  # a number or its text
        if isinstance(status, int | str) and not isinstance(status, bool) and status != "":
            return TaskStatus(status)  # type: ignore[arg-type]  # _missing_ finds members by name too
    return TaskStatus.UNKNOWN


def read_time(value: object) -> datetime.datetime | None:
    """Return a time as ``models.read_time`` does; one of a task may have no offset, and is in UTC then."""
    return models.read_time(value, datetime.UTC)


def read_session(data: object) -> AppSession:
    """Return a session.

    Raises:
        UnreadableError: It is no object with an id.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("id"), str) or not data["id"]:
        raise UnreadableError("the server sent a session without an id")
    get = data.get
    idle = get("idle_timeout")
    return AppSession(
        id=data["id"],
        status=SessionStatus(read_text(get("status")) or "active"),
        created_at=read_time(get("created_at")),
        expires_at=read_time(get("expires_at")),
        ended_at=read_time(get("ended_at")),
        last_call_at=read_time(get("last_call_at")),
        call_count=read_whole(get("call_count")),
        idle_timeout=read_whole(idle) if idle is not None else None,
        raw=data,
    )


def read_file(data: Mapping[str, Any]) -> TaskFile:
    """Return a file of a task."""
    texts = {name: read_text(data.get(name)) for name in ("id", "uri", "role", "filename", "content_type")}
    return TaskFile(**texts, size=read_whole(data.get("size")))


def read_deleted(data: object) -> DeletedFiles:
    """Return what became of files that were to be deleted."""
    if not isinstance(data, Mapping):
        return DeletedFiles()
    deleted = data.get("deleted")
    return DeletedFiles(
        tuple(map(read_text, deleted)) if isinstance(deleted, list) else (),
        {read_text(each.get("id")): read_text(each.get("reason")) for each in read_items(data.get("skipped"))},
    )


def as_objects(value: object) -> list[Mapping[str, object]]:
    """Return the objects of a list, which may be in an object as ``items`` or ``files``."""
    if isinstance(value, Mapping):
        value = value.get("items", value.get("files"))
    return read_items(value)


def _app(data: Mapping[str, Any]) -> str:
    """Return the name of a task's app, which comes as text or as an object."""
    app = data.get("app")
    if isinstance(app, Mapping):
        parts = (read_text(app.get("namespace")), read_text(app.get("name")))
        return "/".join(filter(None, parts))
    return read_text(app)


def _progress(value: object) -> float | None:
    """Return a progress as a fraction; above 1 it is taken for percent."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return min(1.0, float(value) / 100 if value > 1 else float(value))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) and value else []


def _log(value: object) -> TaskLog:
    if not isinstance(value, Mapping):
        return TaskLog(content=read_text(value))
    kind = value.get("log_type")
    return TaskLog(
        content=read_text(value.get("content")),
        type=read_whole(kind) if kind is not None else 4,
        created_at=read_time(value.get("created_at")),
        raw=value,
    )


def _event(value: Mapping[str, object]) -> TaskEvent:
    return TaskEvent(
        read_status(value.get("status")), read_time(value.get("event_time")) or read_time(value.get("created_at"))
    )


def _usage(value: Mapping[str, object]) -> TaskUsage:
    get = value.get
    return TaskUsage(
        read_text(get("type")), read_whole(get("quantity")), read_text(get("unit")), read_text(get("model")), value
    )
