"""Apps and tasks: ``client.tasks`` of the async client, and the stream of one task's snapshots."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from ._http.api import Items, Page
from ._http.events import Reconnects
from ._http.sources import OnProgress
from ._http.tasks import TaskAPI
from ._http.transport import Transport
from ._loops.invoke import Callback, Invoker, ThreadInvoker
from ._loops.threads import Uncopied
from ._tasks.driver import TaskDriver
from ._tasks.request import OnUpdate, RunOptions, TaskRequest
from ._types.tasks import read_deleted, read_file, read_task
from .config import check_count
from .errors import ConfigurationError, InferenceError, StreamError
from .resources import AsyncFiles
from .stream import AsyncStream
from .task_models import DeletedFiles, Task, TaskFile

__all__ = ["AsyncTaskStream", "AsyncTasks", "following"]

T = TypeVar("T")


class AsyncTaskStream(AsyncStream[Task]):
    """The snapshots of one task, each its whole state so far.

    Iterate over it with ``async for``, get the result with ``get_final_task``, or both. The task is created when the
    stream is iterated, awaited or entered. Leaving the loop early, dropping the stream or cancelling the asyncio task
    closes the connection at once; the task goes on at the server, and iterating again continues where the loop was
    left. A stream has one reader.

    A task that fails or is cancelled raises after its last snapshot was delivered.

    Example:
        ```python
        async with client.tasks.run("demo/slow", {"steps": 3}, stream=True) as stream:
            async for task in stream:
                print(task.status, task.progress)
            print((await stream.get_final_task()).output)
        ```

        ```text
        ...
        completed 1.0
        {'steps': 3}
        ```
    """

    _instead = "keep its tasks, which can be copied, and their id, which tasks.stream() takes"

    def __init__(self, driver: TaskDriver) -> None:
        on_update = driver.request.on_update
        self._callback = Callback(on_update) if on_update is not None else None
        super().__init__(driver, reports=on_update is not None)
        self._driver = driver

    @property
    def task(self) -> Task | None:
        """The latest snapshot, or None."""
        return self._last

    @property
    def task_id(self) -> str | None:
        """The task's id, known once the stream was opened."""
        return self._driver.task_id or None

    async def get_final_task(self) -> Task:
        """Consume the rest of the stream and return the completed task.

        Returns:
            The last snapshot.

        Raises:
            TaskFailedError: The task failed; a TaskCancelledError if it was cancelled.
            TaskTimeoutError: It did not end within the ``timeout`` of ``run``.
            StreamError: The stream was lost, or was closed before its end.
            APIError, APIConnectionError: A request failed.

        Example:
            ```python
            stream = client.tasks.run("demo/slow", {"steps": 2}, stream=True)
            task = await stream.get_final_task()
            print(task.status)
            ```

            ```text
            completed
            ```
        """
        async for _ in self:
            continue
        return await self._final_task(self._last)

    async def _final_task(self, final: Task | None) -> Task:
        """Return the last snapshot that was delivered, unless the stream has failed; for the blocking client too."""
        if self._error is not None:
            raise self._error
        if final is None or not final.done:
            error = StreamError("the stream was closed before the task had ended")
            error.task = final
            raise error
        return final

    def _read_output(self, task: Task) -> Any:
        return self._driver.request.read_output(task)

    async def get_output(self) -> Any:
        """Consume the rest of the stream and return the task's output, as the ``output_type`` given to ``run``.

        Raises:
            OutputError: There is no output, or one that does not match the type.
            TaskFailedError, TaskTimeoutError, StreamError, APIError, APIConnectionError: As for ``get_final_task``.

        Example:
            ```python
            stream = client.tasks.run("demo/slow", {"steps": 2}, stream=True, output_type=dict[str, int])
            print(await stream.get_output())
            ```

            ```text
            {'steps': 2}
            ```
        """
        return self._read_output(await self.get_final_task())

    async def cancel(self) -> None:
        """Cancel the task on the server; a stream that is still read then raises TaskCancelledError.

        Example:
            ```python
            stream = client.tasks.run("demo/slow", {"seconds": 60}, stream=True)
            try:
                async for task in stream:
                    await stream.cancel()
            except TaskCancelledError as error:
                print(error.task.status)
            ```

            ```text
            cancelled
            ```
        """
        await self._driver.cancel()

    async def _open(self) -> Self:
        await self._driver.open()
        return self

    async def _created(self) -> Task:
        """Create the task, and return its first snapshot without following it."""
        try:
            async for task in self:
                return task
            return await self._final_task(self._last)  # raises why there is none
        finally:
            await self.aclose()

    async def _report(self, snapshot: Task, *, done: bool) -> None:
        if self._callback is not None and not done:
            calls = [(self._callback, (snapshot,))]
            await self._call_back(self._driver.invoker, calls, self._reporting(snapshot))

    def _reporting(self, snapshot: Task) -> AbstractContextManager[None]:
        """Return the context in which ``on_update`` is called, for the blocking client too."""
        return _Reporting(snapshot)


class _Reporting(contextlib.AbstractContextManager[None]):
    """The context in which ``on_update`` is called: this package's errors that it raises get the task."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, InferenceError):
            error.task = error.task or self._task


class AsyncTasks(Uncopied):
    """The tasks of the account, and the way to run apps; ``client.tasks``.

    Example:
        ```python
        task = await client.tasks.run("demo/text", {"template": "Hello {name}!", "values": {"name": "Ada"}})
        print(task.output)
        ```

        ```text
        {'text': 'Hello Ada!'}
        ```
    """

    def __init__(self, transport: Transport, reconnects: Reconnects) -> None:
        self._transport = transport
        self._reconnects = reconnects
        self._api = TaskAPI(transport)

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[True],
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[RunOptions],
    ) -> AsyncTaskStream: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: type[T],
        **options: Unpack[RunOptions],
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: None = None,
        **options: Unpack[RunOptions],
    ) -> Coroutine[Any, Any, Task]: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: bool,
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[RunOptions],
    ) -> AsyncTaskStream | Coroutine[Any, Any, Any]: ...

    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,  # noqa: A002
        *,
        stream: bool = False,
        wait: bool = True,
        output_type: Any = None,
        function: str | None = None,
        session: str | None = None,
        session_timeout: int | None = None,
        setup: object = None,
        infra: str | None = None,
        workers: Sequence[str] | None = None,
        webhook: str | None = None,
        run_at: Any = None,
        on_update: OnUpdate | None = None,
        on_upload: OnProgress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run an app: create a task, and wait for its end.

        Files anywhere in the input (``pathlib.Path``, bytes, binary file objects) are uploaded first, and their URIs
        are sent in their places. A str is never taken for a file.

        Args:
            app: The app, as ``namespace/name[@version][:function]``. Or a mapping with ``app``, ``input`` and the rest
                of the request, as the official SDK takes it.
            input: The app's input: a mapping, an attrs class, a dataclass, or a model of pydantic or msgspec.
            stream: Whether to return a stream of snapshots instead of waiting.
            wait: Whether to wait for the end; False returns the task as soon as it was created.
            output_type: The type of the output: as for ``agent.run``. The output is returned instead of the task.
            function: The function of the app, if it has several.
            session: ``"new"``, or the id of a session whose state the app is to use.
            session_timeout: Seconds without use after which a new session expires, 1 to 3600.
            setup: The parameters with which the app is set up.
            infra: ``cloud``, ``private`` or ``private_first``.
            workers: The ids of the workers that may run it.
            webhook: The URL to which the server posts the task when it has ended.
            run_at: When to run it: an aware datetime, or RFC 3339 text.
            on_update: Called with each snapshot, the final one included. Sync or async.
            on_upload: Called as ``on_upload(sent, total)`` with the bytes of all files in the input. Sync or async.
            timeout: Seconds to wait at most, uploads included. The task goes on at the server.

        Returns:
            With ``stream=True`` an AsyncTaskStream, which needs no ``await``; otherwise a coroutine that returns the
            completed Task, with ``output_type`` its output, and with ``wait=False`` the Task as it was created.

        Raises:
            TaskFailedError: The task failed; a TaskCancelledError if it was cancelled. ``task`` is its last snapshot.
            TaskTimeoutError: It did not end within ``timeout``.
            RequirementsNotMetError: The input does not match the app's schema, or the app needs what is missing.
            SessionExpiredError, WorkerLostError: The session is gone.
            OutputError: The output does not match ``output_type``.
            FileError: A file cannot be read; no task was created.
            StreamError: The task's stream was lost for good; ``wait`` takes it up again.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            def on_update(task):
                print(task.status, task.progress)


            task = await client.tasks.run("demo/slow", {"steps": 4}, on_update=on_update)
            print(task.output, task.log.splitlines()[-1])
            ```

            ```text
            ...
            {'steps': 4} step 4 of 4
            ```
        """
        request = TaskRequest.of_run(
            app,
            input,
            function=function,
            session=session,
            session_timeout=session_timeout,
            setup=setup,
            infra=infra,
            workers=workers,
            webhook=webhook,
            run_at=run_at,
            on_update=on_update,
            on_upload=on_upload,
            timeout=timeout,
            output_type=output_type,
        )
        return self._start(request, stream=stream, wait=wait)

    async def get(self, task_id: str) -> Task:
        """Read a task, whatever its state.

        Args:
            task_id: The task's id.

        Raises:
            NotFoundError: There is no such task.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            created = await client.tasks.run("demo/slow", {"steps": 2}, wait=False)
            task = await client.tasks.get(created.id)
            print(task.status, task.queue_position)
            ```
        """
        return read_task(await self._api.read(task_id))

    def stream(
        self, task_id: str, *, on_update: OnUpdate | None = None, timeout: float | None = None
    ) -> AsyncTaskStream:
        """Follow a task that exists.

        Args:
            task_id: The task's id.
            on_update: As for ``run``.
            timeout: As for ``run``.

        Returns:
            A stream of its snapshots, which begins with its present state.

        Example:
            ```python
            created = await client.tasks.run("demo/slow", {"steps": 2}, wait=False)
            async for task in client.tasks.stream(created.id):
                print(task.status, task.progress)
            ```

            ```text
            ...completed 1.0
            ```
        """
        return self._open_stream(following(task_id, on_update, timeout))

    async def wait(self, task_id: str, *, on_update: OnUpdate | None = None, timeout: float | None = None) -> Task:
        """Wait until a task has completed.

        Args:
            task_id: The task's id.
            on_update: As for ``run``.
            timeout: As for ``run``.

        Returns:
            The completed task.

        Raises:
            TaskFailedError, TaskTimeoutError, StreamError, APIError, APIConnectionError: As for ``run``.

        Example:
            ```python
            created = await client.tasks.run("demo/slow", {"steps": 2}, wait=False)
            task = await client.tasks.wait(created.id, timeout=30)  # seconds
            print(task.output)
            ```

            ```text
            {'steps': 2}
            ```
        """
        return await self._open_stream(following(task_id, on_update, timeout)).get_final_task()

    async def cancel(self, task_id: str) -> None:
        """Cancel a task; does nothing if it has ended.

        Args:
            task_id: The task's id.

        Raises:
            NotFoundError: There is no such task.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            created = await client.tasks.run("demo/slow", {"seconds": 60}, wait=False)
            await client.tasks.cancel(created.id)
            ```
        """
        await self._api.cancel(task_id)

    async def delete(self, task_id: str, *, files: bool = False) -> None:
        """Delete a task.

        Args:
            task_id: The task's id.
            files: Whether to delete its files too, even if something else uses them.

        Raises:
            NotFoundError: There is no such task.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("demo/image", {"width": 8, "height": 8})
            await client.tasks.delete(task.id, files=True)
            ```
        """
        await self._api.delete(task_id, files=files)

    def list(self, *, page_size: int = 50) -> AsyncIterator[Task]:
        """List tasks, the newest first; pages are read as they are needed.

        Args:
            page_size: How many tasks are read with one request.

        Returns:
            An async iterator. It raises when a page cannot be read, and tries that page again when it is asked again.

        Raises:
            ConfigurationError: ``page_size`` is not a positive whole number.
            APIError, APIConnectionError: From the iterator, when the server refuses or cannot be reached.

        Example:
            ```python
            async for task in client.tasks.list():
                print(task.created_at, task.app, task.status)
            ```
        """
        return Items(self._api.pages(check_count("page_size", page_size, 1)), _tasks)

    async def files(self, task_id: str, *, role: Literal["input", "output"] | None = None) -> Sequence[TaskFile]:
        """Read which files a task has.

        Args:
            task_id: The task's id.
            role: ``input`` for those that it was given, ``output`` for those that it has made, None for both.

        Raises:
            ConfigurationError: ``role`` has another value.
            NotFoundError: There is no such task.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("demo/image", {"width": 8, "height": 8})
            for file in await client.tasks.files(task.id, role="output"):
                print(file.filename, file.content_type)
                content = await client.files.download(file)
            ```

            ```text
            image.png image/png
            ```
        """
        return [read_file(data) for data in await self._api.files(task_id, _check_role(role))]

    async def download(
        self, task_id: str, to: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> Sequence[Path]:
        """Download the files that a task has made.

        Args:
            task_id: The task's id.
            to: The directory to write them to; it is created if it does not exist.
            on_progress: Called as ``on_progress(received, total)`` with the bytes of all files. Sync or async.

        Returns:
            The paths, in the order of ``files``.

        Raises:
            FileError: A file cannot be written.
            NotFoundError: There is no such task, or a file has been deleted.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("demo/image", {"width": 8, "height": 8})
            for path in await client.tasks.download(task.id, "pictures"):
                print(path.name)
            ```

            ```text
            image.png
            ```
        """
        files = await self.files(task_id, role="output")
        return await AsyncFiles(self._transport)._download_all(files, to, on_progress)

    async def delete_files(self, task_id: str, *, role: Literal["input", "output"] | None = None) -> DeletedFiles:
        """Delete the files of a task, even if something else uses them.

        Args:
            task_id: The task's id.
            role: As for ``files``.

        Returns:
            Which were deleted, and which were not and why.

        Raises:
            ConfigurationError: ``role`` has another value.
            NotFoundError: There is no such task.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("demo/image", {"width": 8, "height": 8})
            done = await client.tasks.delete_files(task.id, role="output")
            print(len(done.deleted), len(done.skipped))
            ```

            ```text
            1 0
            ```
        """
        return read_deleted(await self._api.delete_files(task_id, _check_role(role)))

    def _start(self, request: TaskRequest, *, stream: bool, wait: bool) -> Any:
        opened = self._open_stream(request)
        if stream:
            return opened
        if not wait:
            return opened._created()
        return opened.get_output() if request.output is not None else opened.get_final_task()

    def _open_stream(self, request: TaskRequest, invoker: Invoker | None = None) -> AsyncTaskStream:
        """Return the stream of a request; ``invoker`` is that of the blocking client."""
        return AsyncTaskStream(TaskDriver(self._transport, request, self._reconnects, invoker or ThreadInvoker(1)))


def following(task_id: object, on_update: OnUpdate | None, timeout: float | None) -> TaskRequest:
    """Return the request of ``AsyncTasks.stream``, from its arguments."""
    if not isinstance(task_id, str):
        raise TypeError(f"the task id must be a str, not {type(task_id).__name__}")
    return TaskRequest(task_id=task_id, on_update=on_update, timeout=timeout)


def _check_role(role: object) -> Any:
    if role not in (None, "input", "output"):
        raise ConfigurationError(f"role must be 'input', 'output' or None, not {role!r}")
    return role


def _tasks(page: Page) -> Iterator[Task]:
    return map(read_task, page)
