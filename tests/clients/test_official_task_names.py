"""Names of the official SDK about tasks and sessions, in both clients."""

from __future__ import annotations

from typing import Any

import pytest

import inferencesh
from inferencesh import (
    AsyncSession,
    AsyncSessions,
    AsyncTasks,
    Session,
    SessionExpiredError,
    Sessions,
    Task,
    Tasks,
    TaskStatus,
)
from inferencesh.types import is_terminal_status, parse_status

from .conftest import Connect, Serve

INPUT = {"template": "Hello {name}!", "values": {"name": "Ada"}}


def test_a_task_is_read_followed_and_waited_for(serve: Serve, connect: Connect) -> None:
    """By the names of the official clients; each returns what the method with the new name returns."""
    side = connect(serve(["Hello"]))
    task = side.result(side.client.run("demo/text", INPUT))
    assert side.result(side.client.get_task(task.id)) == task
    assert side.result(side.client.wait_for_completion(task.id, timeout=5)).output == task.output
    snapshots: list[Any] = list(side.snapshots(side.client.stream_task(task.id)))
    assert snapshots[-1].status is TaskStatus.COMPLETED


def test_a_task_is_cancelled(serve: Serve, connect: Connect) -> None:
    """As by client.tasks.cancel."""
    side = connect(serve(["Hello"]))
    task = side.result(side.client.run("demo/slow", {"seconds": 60}, wait=False))
    side.result(side.client.cancel(task.id))
    with pytest.raises(inferencesh.TaskCancelledError):
        side.result(side.client.wait_for_completion(task.id))


@pytest.mark.parametrize(
    ("given", "status", "over"),
    [
        (10, TaskStatus.COMPLETED, True),
        ("completed", TaskStatus.COMPLETED, True),
        ("FAILED", TaskStatus.FAILED, True),
        (13, TaskStatus.REJECTED, True),
        (7, TaskStatus.RUNNING, False),
        ("queued", TaskStatus.QUEUED, False),
        (None, None, False),
    ],
)
def test_statuses_are_read_from_numbers_and_names(given: Any, status: TaskStatus | None, over: bool) -> None:
    """And what is over is known of both."""
    assert parse_status(given) is status
    assert is_terminal_status(given) is over
    assert status is None or status.done is over


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        *(("TasksAPI", Tasks), ("AsyncTasksAPI", AsyncTasks), ("SessionsAPI", Sessions)),
        *(("AsyncSessionsAPI", AsyncSessions), ("SessionHandle", Session), ("AsyncSessionHandle", AsyncSession)),
        ("SessionEndedError", SessionExpiredError),
    ],
)
def test_classes_have_their_official_names(name: str, cls: type) -> None:
    """As aliases."""
    assert getattr(inferencesh, name) is cls


def test_a_task_reads_as_a_dict(serve: Serve, connect: Connect) -> None:
    """Once Task is a MappingView, see README.md beside this file."""
    side = connect(serve(["Hello"]))
    task: Any = side.result(side.client.run("demo/text", INPUT))
    assert isinstance(task, Task)
    assert (task["id"], task["status"], task["output"]) == (task.id, 10, task.output)
    assert "app" in task
    assert dict(task)["id"] == task.id
    wire: object = dict(task)
    assert task != wire
