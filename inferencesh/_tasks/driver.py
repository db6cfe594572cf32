"""Drives one task: creates it, reads its stream, reconnects, and reads the task where the stream does not tell.

As with turns, nothing is read from the connection between two pulls of a caller, so that a slow reader slows the server
down instead of filling memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from inferencesh._http.events import EventDriver, Reconnects
from inferencesh._http.tasks import TaskAPI, task_path, upload_input
from inferencesh._http.transport import Transport
from inferencesh._loops.invoke import Invoker, invoke
from inferencesh._protocol.task import TASK_EVENT, TaskRun
from inferencesh.errors import (
    APIConnectionError,
    APIError,
    InferenceError,
    NotFoundError,
    StreamError,
    TaskTimeoutError,
    UnreadableError,
)
from inferencesh.task_models import Task

from .request import TaskRequest

__all__ = ["TaskDriver"]

logger = logging.getLogger("inferencesh")


class TaskDriver(EventDriver[Task]):
    """One task, as one caller follows it.

    Args:
        transport: Makes the requests.
        request: What the caller asks of the task.
        reconnects: The limits of reconnecting.
        invoker: Calls functions of the user that may block.

    Attributes:
        run: The task's state; None until the task is known.
        closed: Whether the task is over for this driver: it ended, failed or was closed.
    """

    _advice = "the task may still be going on, tasks.wait() takes it up again"

    def __init__(self, transport: Transport, request: TaskRequest, reconnects: Reconnects, invoker: Invoker) -> None:
        super().__init__(transport, reconnects, TASK_EVENT)
        self.run: TaskRun | None = None
        self.request = request
        self.invoker = invoker
        self._api = TaskAPI(transport)
        self._task_id = request.task_id or ""
        self._deadline: float | None = None
        self._input: object = None  # with the URIs of its files; kept for a caller who left before it was sent
        self._posted = False  # whether the task may have been created

    @property
    def task_id(self) -> str:
        """The task's id, or "" until it was created."""
        return self._task_id

    # -- what the stream calls -------------------------------------------------------------------------------------

    async def advance(self) -> list[Task]:
        """Wait for the next snapshots.

        Returns:
            At least one snapshot, or an empty list when the task has completed.

        Raises:
            TaskFailedError: The task failed or was cancelled.
            TaskTimeoutError: The time is over.
            StreamError, APIError, APIConnectionError: As ``EventDriver.advance``.
        """
        snapshots = await super().advance()
        if self.request.slot is not None and snapshots:
            self.request.slot.note(snapshots[-1].session_id)
        return snapshots

    async def cancel(self) -> None:
        """Cancel the task on the server; does nothing before it was created."""
        if self._task_id:
            await self._api.cancel(self._task_id)

    def _annotate(self, error: Exception) -> None:
        if isinstance(error, InferenceError) and error.task is None and self.run is not None:
            error.task = self.run.task

    async def _in_time(self, work: Coroutine[Any, Any, object]) -> None:
        """Await something within the caller's time limit."""
        self._use_running_loop()
        if self._deadline is None and self.request.timeout is not None:
            self._deadline = self._now() + self.request.timeout
        limit = asyncio.timeout_at(self._deadline)
        try:
            async with limit:
                await work
        except TimeoutError:
            if not limit.expired():
                raise
            which = f"task {self._task_id}" if self._task_id else "the task, which may not have been created,"
            raise TaskTimeoutError(
                f"{which} did not end within {self.request.timeout:g} seconds; it may go on at the server"
            ) from None

    # -- beginning -------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await self._in_time(self._take_up())

    async def _take_up(self) -> TaskRun:
        """Create the task, or read it, if that was not done yet."""
        if self.run is not None:
            return self.run
        data = await (self._create(self.request.body) if self.request.body is not None else self._read_first())
        task_id = data.get("id")
        if not isinstance(task_id, str) or not task_id:
            raise UnreadableError("the server's answer names no task, so what comes of it cannot be found out")
        self._task_id = task_id
        run = TaskRun(task_id)
        snapshot = run.begin(data, self._now())
        if snapshot is not None:
            self._snapshots.append(snapshot)
        self.run = run
        return run

    async def _create(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Upload the files in the input, and create the task."""
        if self._posted:
            raise StreamError(
                "creating this task was interrupted, and whether it was created is not known; look at tasks.list() "
                "before you run it again"
            )
        if self._input is None:
            self._input = await upload_input(self._transport, self.request.input, self._reporter())
            if self.closed:
                raise StreamError("the stream was closed while files were uploaded; no task was created")
        self._posted = True
        try:
            return await self._post({**body, "input": self._input})
        except InferenceError:
            self._posted = False  # the caller knows of the failure, and that it may have been created all the same
            raise

    async def _post(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        slot = self.request.slot
        if slot is None:
            answer = await self._api.run(request)
        else:
            answer = await slot.post(lambda session: self._api.run({**request, **session}))
        app = request.get("app")
        named = app.partition(":")[0].partition("@")[0] if isinstance(app, str) else ""
        return {"app": named, **answer}  # the response does not repeat it

    async def _read_first(self) -> Mapping[str, Any]:
        return await self._api.read(self._task_id)

    def _reporter(self) -> Callable[[int, int | None], Any] | None:
        callback = self.request.on_upload
        if callback is None:
            return None

        async def report(sent: int, total: int | None) -> None:
            await invoke(self.invoker, callback, lambda: callback(sent, total))

        return report

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        await self._in_time(self._drive())

    async def _drive(self) -> None:
        """Drive the task until there are snapshots, or until it is over."""
        run = await self._take_up()
        connection = self._connection
        while not self._snapshots:
            if self.closed:  # by another task, while this one was waiting
                connection.close()
                return
            if run.end is not None:
                await self._conclude(run)
                return
            if self._wait:
                wait, self._wait = self._wait, 0.0
                await asyncio.sleep(wait)
            elif run.wants_reread:
                await self._reread(run)
            elif not connection.is_open:
                await self._connect(run, f"{task_path(self._task_id)}/stream")
            elif connection.has_events:
                self._receive(run)
            elif connection.ended:
                self._lost(run, APIConnectionError("the server closed the stream before the task had ended"))
            else:
                await self._read(run)

    async def _reread(self, run: TaskRun) -> None:
        """Read the task."""
        try:
            data = await self._api.read(self._task_id)
            snapshot = run.reread(data, self._now())
        except NotFoundError as error:
            if not self._connection.is_open:
                raise
            logger.info("task %s: it streams but cannot be read (%s)", self._task_id, error.status_code)
            snapshot = run.reread_failed()
        except (APIConnectionError, APIError, UnreadableError) as error:
            self._read_failed(run, error)
            return
        if snapshot is not None:
            self._snapshots.append(snapshot)

    # -- the end ----------------------------------------------------------------------------------------------------

    async def _conclude(self, run: TaskRun) -> None:
        """Close the connection of a task that is over; raise its error if it has not completed."""
        error = run.error()
        if error is not None:
            error.detail = self._transport.masked(error.detail)
            error.args = (self._transport.masked(str(error)),)
            raise error
        await self.aclose()
