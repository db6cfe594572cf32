"""The engine that runs apps: a queue, a limit of tasks that run at once, and one asyncio task for each."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from inferencesh._loops.threads import call_on
from inferencesh._text import decode_json, encode_json, whole_characters
from inferencesh._types.encoding import dump_json
from inferencesh.errors import exception_text, typed_text

from .apps import OutputFile, Progress, TaskContext
from .errors import ProblemError
from .files import PART, StoredFile
from .records import new_id, now, timestamp
from .tasks import DEFAULT_IDLE, StoredSession, StoredTask, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .apps import AppFunction
    from .files import FileStore
    from .tasks import TaskStore

__all__ = ["INTERRUPTED_TASK", "NewTask", "TaskEngine"]

INTERRUPTED_TASK = "The runtime ended while this task was under way; run it again."
"""The error of a task that was still active when it was stored."""

_CLOSE_TIMEOUT = 2.0  # seconds to wait for cancelled tasks when the runtime closes
_BEFORE_START = 10  # the delay before a task runs, as a multiple of the pace; it gives clients time to connect

_logger = logging.getLogger("inferencesh.local")


@attrs.frozen
class NewTask:
    """A task that is to be created.

    Args:
        app: The app's name.
        function: The function's name.
        call: The function.
        arguments: Its arguments.
        input: The input as JSON text.
        files: The uploaded files in the input, by URI.
        origin: The base URL with which the client reaches the runtime.
        session: The session, or None.
        run_at: When to run it, or None for at once.
    """

    app: str
    function: str
    call: AppFunction
    arguments: Mapping[str, Any]
    input: str
    files: Mapping[str, StoredFile]
    origin: str
    session: StoredSession | None = None
    run_at: datetime | None = None


@attrs.define
class TaskEngine:
    """Runs the tasks of a runtime.

    Args:
        store: The tasks and sessions.
        files: The files.
        pace: Seconds before each step of a task that is not the app's own.
        at_once: How many tasks run at once.
    """

    _store: TaskStore
    _files: FileStore
    _pace: float
    _at_once: int
    _queue: deque[StoredTask] = attrs.field(factory=deque)
    _running: set[str] = attrs.field(factory=set)
    _jobs: dict[str, asyncio.Task[None]] = attrs.field(factory=dict)
    _turns: dict[str, asyncio.Event] = attrs.field(factory=dict)
    _contexts: dict[str, TaskContext] = attrs.field(factory=dict)
    _ended: dict[str, asyncio.Event] = attrs.field(factory=dict)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        if self._at_once < 1:
            raise ValueError(f"max_tasks must be 1 or more, not {self._at_once!r}.")

    def submit(self, new: NewTask) -> StoredTask:
        """Create a task and start it."""
        session = new.session
        task = StoredTask(
            app=new.app,
            function=new.function,
            input=new.input,
            feed=self._store.new_feed(),
            origin=new.origin,
            session_id=session.id if session is not None else None,
            session_timeout=session.idle_timeout if session is not None else None,
            run_at=timestamp(new.run_at) if new.run_at is not None else None,
            input_files=list(dict.fromkeys(file.id for file in new.files.values())),
        )
        task.note_event()
        if session is not None:
            session.call_count += 1
            session.last_call_at, session.task_id = now(), task.id
            session.use()
            self._store.note(session)
        self._store.add(task)
        self._start(task, new)
        return task

    def cancel(self, task: StoredTask) -> None:
        """Cancel a task; does nothing if it has ended. A sync function goes on, and its result is ignored."""
        if task.settled or task.id not in self._jobs:
            return
        task.advance(TaskState.CANCELLING)
        self._store.publish(task)
        self._interrupt(task)

    def discard(self, task: StoredTask) -> None:
        """Cancel and remove a task."""
        self._store.delete(task)
        self._interrupt(task)

    async def wait(self, task: StoredTask) -> None:
        """Wait until a task has ended."""
        ended = self._ended.get(task.id)
        if ended is not None:
            await ended.wait()

    def create_session(self, app: str, idle_timeout: int | None) -> StoredSession:
        """Create a session."""
        session = StoredSession(app=app, idle_timeout=idle_timeout or DEFAULT_IDLE)
        session.use()
        self._store.add_session(session)
        return session

    def recover(self, task: StoredTask, origin: str, requested: Callable[[StoredTask], NewTask]) -> None:
        """Take up a task that was read from the database: one that was under way has failed, one put off is run.

        Args:
            task: The task.
            origin: The runtime's current base URL.
            requested: Returns a task's request again, or raises a ProblemError if it cannot be carried out any more.
        """
        task.move_files(origin)
        error = INTERRUPTED_TASK
        if task.status is TaskState.RECEIVED and task.run_at is not None:
            try:
                self._start(task, requested(task))
            except ProblemError as problem:
                error = problem.detail
            else:
                return
        self._end(task, TaskState.FAILED, error)

    async def aclose(self) -> None:
        """Cancel all tasks, and end their streams."""
        self._closed = True
        jobs = set(self._jobs.values())
        for context in self._contexts.values():
            context.cancelled = True
        for job in jobs:
            job.cancel()
        for task in self._store.tasks.values():
            task.feed.close()
        if jobs:
            _, stuck = await asyncio.wait(jobs, timeout=_CLOSE_TIMEOUT)
            if stuck:
                _logger.error("An app did not stop when cancelled; %d tasks are left.", len(stuck))
                self._jobs = {key: job for key, job in self._jobs.items() if job not in stuck}

    def _start(self, task: StoredTask, new: NewTask) -> None:
        if new.session is not None:
            new.session.running += 1
        self._ended[task.id] = asyncio.Event()
        self._jobs[task.id] = asyncio.create_task(self._run(task, new), name="inferencesh.local task")

    def _interrupt(self, task: StoredTask) -> None:
        if (context := self._contexts.get(task.id)) is not None:
            context.cancelled = True
        if (job := self._jobs.get(task.id)) is not None:
            job.cancel()

    async def _run(self, task: StoredTask, new: NewTask) -> None:
        try:
            await self._wait_for_turn(task, new)
            output = await self._call(task, new)
            await self._finish(task, output, new.origin)
        except asyncio.CancelledError:
            self._end(task, TaskState.CANCELLED, "The task was cancelled.")
            if self._closed:
                raise
        except SystemExit as error:  # of a program that was made an app; the runtime goes on
            self._end(task, TaskState.FAILED, f"The app ended its program ({typed_text(error)}).")
        except Exception as error:
            _logger.info("The app %s failed.", task.app, exc_info=True)
            self._end(task, TaskState.FAILED, exception_text(error) or type(error).__name__)
        finally:
            self._release(task, new.session)

    async def _wait_for_turn(self, task: StoredTask, new: NewTask) -> None:
        """Wait until the task may run: it is time, its session is free, and fewer tasks run than may."""
        await asyncio.sleep(0)  # the response that creates the task has the status of a received one
        if new.run_at is not None:
            await asyncio.sleep(max(0.0, (new.run_at - datetime.now(UTC)).total_seconds()))
        turn = self._turns[task.id] = asyncio.Event()
        self._queue.append(task)
        task.advance(TaskState.QUEUED)
        self._admit()
        self._store.publish(task)
        await turn.wait()
        await self._step(task, TaskState.DISPATCHED)
        await asyncio.sleep(self._pace * _BEFORE_START)
        await self._step(task, TaskState.PREPARING)

    async def _step(self, task: StoredTask, state: TaskState) -> None:
        task.advance(state)
        self._store.publish(task)
        await asyncio.sleep(self._pace)

    def _admit(self) -> None:
        """Let those tasks of the queue run that may, and tell the others their places."""
        busy = {each.session_id for each in map(self._store.tasks.get, self._running) if each is not None}
        for task in list(self._queue):
            free = task.session_id is None or task.session_id not in busy
            if len(self._running) < self._at_once and free:
                self._queue.remove(task)
                self._running.add(task.id)
                busy.add(task.session_id)
                task.queue_position = None
                self._turns[task.id].set()
        for position, task in enumerate(self._queue):
            if task.queue_position != position:
                task.queue_position = position
                task.touch()
                self._store.publish(task)

    async def _call(self, task: StoredTask, new: NewTask) -> object:
        """Call the app's function and return its output."""
        loop = asyncio.get_running_loop()
        contents = {uri: await self._files.read(file) for uri, file in new.files.items()}
        state: dict[str, object] = new.session.state if new.session is not None else {}
        copied = decode_json(encode_json(state))
        tell = partial(self._tell, task)
        context = TaskContext(
            task.id, task.session_id, copied, contents, lambda progress: call_on(loop, lambda: tell(progress))
        )
        self._contexts[task.id] = context
        task.advance(TaskState.RUNNING)
        self._store.publish(task)
        output = await new.call.call(new.arguments, context, tell)
        if context.cancelled:  # which the function has caught
            raise asyncio.CancelledError
        if new.session is not None and new.session.status == "active":
            new.session.state = decode_json(encode_json(context.state))
        return output

    def _tell(self, task: StoredTask, progress: Progress) -> None:
        """Take in what an app tells of its progress."""
        if task.settled:
            return
        if progress.log:
            task.add_log(progress.log)
        if progress.fraction is not None:
            task.progress = max(progress.fraction, task.progress or 0.0)
        if progress.output is not None and not _holds_file(progress.output):
            task.output = _json(progress.output)
        task.touch()
        self._store.publish(task)

    async def _finish(self, task: StoredTask, output: object, origin: str) -> None:
        """Store the files in an output, and complete the task."""
        if _holds_file(output):
            await self._step(task, TaskState.UPLOADING)
            output = await self._stored(task, output, origin)
        task.output, task.progress = _json(output), 1.0
        self._end(task, TaskState.COMPLETED, None)

    def _end(self, task: StoredTask, state: TaskState, error: str | None) -> None:
        if task.settled:
            return
        task.error, task.queue_position = None if error is None else whole_characters(error), None
        task.advance(state)
        if not self._closed:
            self._store.publish(task)

    def _release(self, task: StoredTask, session: StoredSession | None) -> None:
        """Give the place of a task that has ended to the next one."""
        if task in self._queue:
            self._queue.remove(task)
        self._running.discard(task.id)
        self._jobs.pop(task.id, None)
        self._turns.pop(task.id, None)
        self._contexts.pop(task.id, None)
        ended = self._ended.pop(task.id, None)
        if ended is not None:
            ended.set()
        if session is not None:
            session.running -= 1
            if session.status == "active":
                session.use()
            self._store.note(session)
        self._admit()

    async def _stored(self, task: StoredTask, value: object, origin: str) -> object:
        """Return an output in which files are replaced by where they can be read."""
        if isinstance(value, bytes):
            value = OutputFile(value)
        if isinstance(value, OutputFile):
            file = StoredFile(filename=value.filename, content_type=value.content_type, category="output")
            content = new_id()
            for number, at in enumerate(range(0, len(value.content), PART)):
                await self._files.contents.add_part(content, number, value.content[at : at + PART])
            self._files.add(file)
            self._files.set_content(file, content, len(value.content))
            task.output_files.append(file.id)
            return {
                "uri": file.uri(origin),
                "filename": file.filename,
                "content_type": file.content_type,
                "size": file.size,
            }
        if (named := _named(value)) is not None:
            return {name: await self._stored(task, item, origin) for name, item in named.items()}
        if isinstance(value, list | tuple):
            return [await self._stored(task, item, origin) for item in value]
        return value


def _json(output: object) -> str:
    try:
        return dump_json(output).decode()
    except TypeError as error:
        raise TypeError(f"An app gives out JSON values, what has a JSON form, and files: {error}") from None


def _holds_file(value: object) -> bool:
    if isinstance(value, OutputFile | bytes):
        return True
    if (named := _named(value)) is not None:
        return any(map(_holds_file, named.values()))
    return isinstance(value, list | tuple) and any(map(_holds_file, value))


def _named(value: object) -> Mapping[str, object] | None:
    """Return what a value holds by name, where files may be; None if it is no mapping, dataclass or attrs class."""
    kind: Any = type(value)
    if isinstance(value, Mapping):
        return value
    if attrs.has(kind):
        return {field.name: getattr(value, field.name) for field in attrs.fields(kind)}
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    return None
