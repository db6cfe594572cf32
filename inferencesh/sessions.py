"""Sessions of apps: ``client.sessions`` and ``client.session(app)`` of the async client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from ._http.sources import OnProgress
from ._http.tasks import SessionAPI
from ._http.transport import Transport
from ._loops.threads import Uncopied, running_loop, wait_for_end
from ._tasks.request import OnUpdate, SessionRunOptions, SessionSlot, TaskRequest
from ._types.tasks import read_session
from .errors import InferenceError, NotFoundError, SessionExpiredError, WorkerLostError
from .task_models import AppSession, Task
from .tasks import AsyncTasks, AsyncTaskStream

__all__ = ["AsyncSession", "AsyncSessions"]

T = TypeVar("T")

logger = logging.getLogger("inferencesh")

_FIRST_CALL = 15.0  # seconds after which a session whose idle timeout is not known is kept alive; 60 is the default
_SHORTEST, _LONGEST = 0.1, 60.0  # seconds between two calls that keep a session alive

_GONE = (SessionExpiredError, NotFoundError, WorkerLostError)


class AsyncSessions(Uncopied):
    """The sessions of the account; ``client.sessions``.

    Example:
        ```python
        for session in await client.sessions.list():
            print(session.id, session.status, session.call_count)
        ```
    """

    def __init__(self, transport: Transport) -> None:
        self._api = SessionAPI(transport)

    async def list(self) -> Sequence[AppSession]:
        """Read the sessions of the account.

        Raises:
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            active = [each for each in await client.sessions.list() if each.status == SessionStatus.ACTIVE]
            ```
        """
        return [read_session(data) for data in await self._api.list()]

    async def get(self, session_id: str) -> AppSession:
        """Read a session.

        Args:
            session_id: The session's id.

        Raises:
            NotFoundError: There is no such session.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("infsh/session-test:get_all", session="new")
            session = await client.sessions.get(task.session_id)
            print(session.status, session.call_count)
            ```

            ```text
            active 1
            ```
        """
        return read_session(await self._api.read(session_id))

    async def keepalive(self, session_id: str) -> AppSession:
        """Postpone a session's expiry, as if it had been used.

        Args:
            session_id: The session's id.

        Returns:
            Its new state.

        Raises:
            NotFoundError: There is no such session.
            SessionExpiredError: It has expired or was ended.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("infsh/session-test:get_all", session="new", session_timeout=120)
            session = await client.sessions.keepalive(task.session_id)
            print(session.idle_timeout)
            ```

            ```text
            120
            ```
        """
        return read_session(await self._api.keep_alive(session_id))

    async def end(self, session_id: str) -> None:
        """End a session; its state is lost.

        Args:
            session_id: The session's id.

        Raises:
            NotFoundError: There is no such session.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            task = await client.tasks.run("infsh/session-test:get_all", session="new")
            await client.sessions.end(task.session_id)
            ```
        """
        await self._api.end(session_id)


class AsyncSession(Uncopied):
    """One session of an app, which keeps the app's state between runs; made by ``client.session``.

    The first run creates it. Inside ``async with`` it is kept alive, and however the block is left, it is ended.

    Example:
        ```python
        async with client.session("infsh/session-test") as session:
            await session.run({"key": "name", "value": "Ada"}, function="set_value")
            task = await session.run({"key": "name"}, function="get_value")
            print(task.output["value"])
        ```

        ```text
        Ada
        ```
    """

    _instead = "keep its id, which tasks.run(session=...) takes"

    def __init__(self, tasks: AsyncTasks, transport: Transport, app: str, timeout: int | None) -> None:
        TaskRequest.of_run(app, None, session="new", session_timeout=timeout)  # checks the arguments
        self._tasks = tasks
        self._transport = transport
        self._api = SessionAPI(transport)
        self._app = app
        self._timeout = timeout
        self._slot = SessionSlot(timeout)
        self._keeper: asyncio.Task[None] | None = None
        self._entered = False

    @property
    def id(self) -> str | None:
        """The session's id, or None before the first run."""
        return self._slot.id

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: Literal[True],
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[SessionRunOptions],
    ) -> AsyncTaskStream: ...

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: type[T],
        **options: Unpack[SessionRunOptions],
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: None = None,
        **options: Unpack[SessionRunOptions],
    ) -> Coroutine[Any, Any, Task]: ...

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: bool,
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[SessionRunOptions],
    ) -> AsyncTaskStream | Coroutine[Any, Any, Any]: ...

    def run(
        self,
        input: object = None,  # noqa: A002 - the wire's own name
        *,
        function: str | None = None,
        stream: bool = False,
        wait: bool = True,
        output_type: Any = None,
        setup: object = None,
        on_update: OnUpdate | None = None,
        on_upload: OnProgress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run the app in this session; as ``AsyncTasks.run``.

        Args:
            input: As for ``AsyncTasks.run``.
            function: The function of the app, if it has several.
            stream: As for ``AsyncTasks.run``.
            wait: As for ``AsyncTasks.run``.
            output_type: As for ``AsyncTasks.run``.
            setup: As for ``AsyncTasks.run``.
            on_update: As for ``AsyncTasks.run``.
            on_upload: As for ``AsyncTasks.run``.
            timeout: As for ``AsyncTasks.run``.

        Returns:
            As ``AsyncTasks.run``.

        Raises:
            SessionExpiredError, WorkerLostError: The session is gone; make another one.
            TaskFailedError, TaskTimeoutError, StreamError, APIError, APIConnectionError: As for ``AsyncTasks.run``.

        Example:
            ```python
            async with client.session("infsh/session-test") as session:
                task = await session.run({"key": "visits", "amount": 2}, function="increment")
                print(task.output["current"])
            ```

            ```text
            2
            ```
        """
        request = self._request(
            input,
            function=function,
            output_type=output_type,
            setup=setup,
            on_update=on_update,
            on_upload=on_upload,
            timeout=timeout,
        )
        return self._tasks._start(request, stream=stream, wait=wait)

    async def get(self) -> AppSession:
        """Read the session.

        Raises:
            InferenceError: Nothing was run yet, so that there is no session.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            async with client.session("infsh/session-test") as session:
                await session.run(function="get_all")
                print((await session.get()).call_count)
            ```

            ```text
            1
            ```
        """
        return read_session(await self._api.read(self._slot.require_id()))

    async def keepalive(self) -> AppSession:
        """Postpone the session's expiry; inside ``async with`` this happens by itself.

        Raises:
            InferenceError: Nothing was run yet, so that there is no session.
            SessionExpiredError: It has expired or was ended.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            session = client.session("infsh/session-test")
            await session.run(function="get_all")
            print((await session.keepalive()).status)
            await session.end()
            ```

            ```text
            active
            ```
        """
        return read_session(await self._api.keep_alive(self._slot.require_id()))

    async def end(self) -> None:
        """End the session; its state is lost. Does nothing if there is none, or if it is gone already.

        Raises:
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            session = client.session("infsh/session-test")
            await session.run(function="get_all")
            await session.end()
            ```
        """
        self._slot.close()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await wait_for_end([keeper])
        session_id, self._slot.to_end = self._slot.to_end, None
        if session_id is None:
            return
        try:
            await self._api.end(session_id)
        except _GONE as error:
            logger.info("session %s was gone already: %s", session_id, type(error).__name__)
        except BaseException:
            self._slot.to_end = session_id
            raise

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InferenceError("this session was entered before; make another one with client.session(...)")
        self._entered = True
        self._slot.on_known = self._begin_to_keep
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if running_loop() is None:  # the coroutine is closed after its loop, by the garbage collector
            self._slot.close()
            logger.warning("session %s could not be ended, because its loop has ended; it will expire", self.id)
            return
        ending = asyncio.create_task(self.end(), name="inferencesh end of a session")
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await _ended(ending)
            raise
        except InferenceError as failure:
            # The error of the block says more; and the end of the client has closed all connections.
            if error is None and not self._transport.closed:
                raise
            logger.warning("session %s could not be ended (%s); it will expire", self.id, type(failure).__name__)

    def _request(self, value: object, **options: Any) -> TaskRequest:
        request = TaskRequest.of_run(self._app, value, **options)
        return request.in_session(self._slot)

    def _begin_to_keep(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep_alive(), name="inferencesh session")

    async def _keep_alive(self) -> None:
        """Postpone the expiry again and again, until the session is gone or was left."""
        idle: float | None = self._timeout
        while True:
            wait = _FIRST_CALL if idle is None else idle / 3
            await asyncio.sleep(min(max(wait, _SHORTEST), _LONGEST))
            try:
                state = read_session(await self._api.keep_alive(self._slot.require_id()))
            except _GONE as error:
                self._slot.lost = error
                return
            except InferenceError as error:
                if self._transport.closed:
                    return
                logger.warning("session %s could not be kept alive (%s); trying again", self.id, type(error).__name__)
            else:
                idle = state.idle_timeout or idle


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a task in spite of further cancellations, and log how it has failed."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # the caller raises the first one
            continue
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("a session could not be ended (%s); it will expire", type(error).__name__)
