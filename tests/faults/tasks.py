"""One task of either client through a scenario, and what must hold whatever the scenario is."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from inferencesh import AsyncInference, Inference, InferenceError, Task
from tests.support import Kind, eventually

from .forms import KEY, TASK, task_of
from .script import Scenario, Script
from .turns import client_options, shown

if TYPE_CHECKING:
    from .connection import Request
    from .server import FaultServer

RUN = "POST /apps/run"
STREAM = f"GET /tasks/{TASK}/stream"
READ = f"GET /tasks/{TASK}"
CANCEL = f"POST /tasks/{TASK}/cancel"
OUTPUT = {"answer": 42}
QUEUED = task_of(2, queue_position=1)
RUNNING = task_of(7, progress=0.25)
HALF = task_of(7, progress=0.5, logs=[{"content": "half\n", "log_type": 4}])
DONE = task_of(10, output=OUTPUT)
WHOLE: tuple[dict[str, object], ...] = (QUEUED, RUNNING, HALF, DONE)


@attrs.frozen
class TaskCase(Scenario):
    """A scenario, and how it must end.

    Args:
        name: What happens.
        streams: What consecutive connections to the task's stream get.
        raises: The error it ends with, if it does.
        status: The status of the last snapshot.
        connects: How often the stream must have been opened, where that is certain.
        options: Arguments of the client that differ from the tests' own.
    """

    name: str
    streams: Sequence[Script] = ()
    raises: type[InferenceError] | None = attrs.field(default=None, kw_only=True)
    status: str = attrs.field(default="completed", kw_only=True)
    connects: int | None = attrs.field(default=None, kw_only=True)
    options: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)


@attrs.define
class TaskOutcome:
    """What a task came to."""

    snapshots: list[Task] = attrs.field(factory=list)
    final: Task | None = None
    error: InferenceError | None = None
    requests: list[Request] = attrs.field(factory=list)
    shown: list[str] = attrs.field(factory=list)

    def seen(self, line: str) -> list[Request]:
        """The requests named ``line``."""
        return [request for request in self.requests if request.line == line]


def play_task(kind: Kind, case: TaskCase, server: FaultServer) -> TaskOutcome:
    """One task of a new client; every connection must be closed within a second of its end."""
    outcome = TaskOutcome()
    options = client_options(server, **case.options)
    if kind == "async":
        asyncio.run(_play_async(server, options, outcome), debug=True)
    else:
        _play_sync(server, options, outcome)
    server.wait_until_no_connections()
    outcome.requests = list(server.requests)
    return outcome


async def _play_async(server: FaultServer, options: dict[str, Any], outcome: TaskOutcome) -> None:
    async with AsyncInference(**options) as client:
        stream = client.tasks.run("a/b", {"question": "all"}, stream=True)
        try:
            async for snapshot in stream:
                outcome.snapshots.append(snapshot)
            outcome.final = await stream.get_final_task()
        except InferenceError as error:
            outcome.error = error
        outcome.shown = [repr(client), repr(stream), *shown(outcome.error)]
        await eventually(lambda: server.streams == 0, "end of the stream")


def _play_sync(server: FaultServer, options: dict[str, Any], outcome: TaskOutcome) -> None:
    with Inference(**options) as client:
        stream = client.tasks.run("a/b", {"question": "all"}, stream=True)
        try:
            for snapshot in stream:
                outcome.snapshots.append(snapshot)
            outcome.final = stream.get_final_task()
        except InferenceError as error:
            outcome.error = error
        outcome.shown = [repr(client), repr(stream), *shown(outcome.error)]
        server.wait_until_no_streams()


def check_task(case: TaskCase, outcome: TaskOutcome) -> None:
    """Everything that holds for every scenario, and the end that this one names."""
    check_forward(outcome.snapshots)
    last = outcome.snapshots[-1] if outcome.snapshots else None
    if case.raises is None:
        if outcome.error is not None:
            raise AssertionError(f"{case.name}: raised") from outcome.error
        assert outcome.final == last
    else:
        assert outcome.error is not None, f"no {case.raises.__name__}, but {outcome.final!r:.200}"
        if not isinstance(outcome.error, case.raises):
            raise AssertionError(f"not {case.raises.__name__}") from outcome.error
        assert outcome.error.task == last, "the error has the last snapshot"
    assert str(last.status if last is not None else None) == case.status
    if case.status == "completed":
        assert last is not None
        assert last.output == OUTPUT
    assert len(outcome.seen(RUN)) == 1, "a task is created once"
    assert outcome.seen(CANCEL) == [], "and nobody has cancelled it"
    assert all(request.headers.get("authorization") == f"Bearer {KEY}" for request in outcome.requests)
    if case.connects is not None:
        assert len(outcome.seen(STREAM)) == case.connects
    assert not [text for text in outcome.shown if KEY in text], "the API key is shown"


def check_forward(snapshots: Sequence[Task]) -> None:
    """Status, progress and logs never go back, no snapshot comes twice, and nothing follows a final one."""
    for before, after in itertools.pairwise(snapshots):
        assert not before.done, f"{after!r} follows a final snapshot"
        assert after != before, f"{after!r} comes twice"
        assert after.status >= before.status
        assert (after.progress or 0.0) >= (before.progress or 0.0)
        assert after.log.startswith(before.log)
