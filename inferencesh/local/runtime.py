"""``LocalRuntime``: an HTTP server in this process that behaves like the service."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ._api.approvals import ApprovalApi
from ._api.chats import ChatApi, Settings
from ._api.cors import Cors
from ._api.files import FileApi
from ._api.problems import Envelope, add_request_id, guard
from ._api.tasks import TaskApi
from ._playground.access import PlaygroundAccess
from .approvals import Approvals, ApprovedBy
from .apps import AppRegistry
from .chats import ChatStore
from .engine import Engine
from .feed import Updates
from .files import FileStore, update_file_urls
from .task_engine import TaskEngine
from .tasks import TaskStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType

    from ._store.storage import Storage
    from .model import Model
    from .observer import Observer

__all__ = ["LocalRuntime"]

F = TypeVar("F", bound="Callable[..., Any]")

_http_logger = logging.getLogger("inferencesh.local.http")
# What is no HTTP, or has too long a header, is answered and is no failure of this program.
_http_logger.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

MAX_BODY = 16 * 1024 * 1024
_SHUTDOWN_TIMEOUT = 0.1  # seconds that open requests have to end when the runtime closes; streams have ended before


class LocalRuntime:
    """A server that behaves like inference.sh, without network access, account or cost.

    It is meant for trying, developing and testing agents and apps. Chats, tasks and files are kept in memory, or in a
    database file. By default it listens on the loopback interface; anyone who can reach it and knows a key can use it.

    Use it as an async context manager, or call ``start`` and ``aclose``. It belongs to the event loop it is started on.

    Args:
        model: The model that answers; by default ``DemoModel``, which is not a language model.
        api_keys: The accepted keys, at least one.
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        envelope: The generation of response bodies: ``v1``, ``v2`` or the current ``v3``.
        updates: What chat streams contain while a message grows: whole messages, token deltas, or both.
        pace: Seconds between the pieces of an answer, and ten times that before the first; 0 for no delays. By default
            0.02, or 0 for language models, which take their own time.
        heartbeat: Seconds without an event after which a stream sends a heartbeat.
        replay: Whether a chat stream begins with all existing messages of the chat. Otherwise it begins with what the
            agent has said so far in a run that is under way; the rest is to be read from the list of messages.
        cors_origins: The origins of web pages that may use the runtime from a browser, such as
            ``http://localhost:3000``, or ``*`` for all.
        db: The SQLite file for chats and files, which is created if it does not exist; only one runtime at a time can
            use it. After a restart, a run or task that was active has failed, a run that was paused can continue, and
            a task that was put off is run. None keeps everything in memory.
        max_file_bytes: The maximum size of an uploaded file in bytes.
        approvals: What decisions on tool calls require: ``api_key``, any key, or ``sign_in``, a signed-in person. With
            ``sign_in``, keys are refused with 403 ``requires_sign_in``, as on the service.
        observer: Called with each message, tool result and task that clients send; for tests.
        apps: Python functions that run as apps, by ``namespace/name`` or ``namespace/name:function``; ``app`` adds
            others. The name ``*`` stands for every app that is not known otherwise. The demo apps ``demo/text``,
            ``demo/image`` and ``demo/slow`` are there too, unless ``*`` is.
        max_tasks: How many tasks run at once; the others are queued.
        playground: Whether ``/`` is a page for trying agents: ``off``, ``loopback``, on this machine only, or
            ``everywhere``. Unless the page is opened on this machine and the key is the default one, it asks for a key.

    Raises:
        TypeError, ValueError: An option is invalid.

    Example:
        ```python
        async with LocalRuntime(pace=0) as runtime:
            async with AsyncInference(runtime.api_key, base_url=runtime.base_url) as client:
                message = await client.agent({"name": "greeter"}).send_message("Hello")
                print(message.text)
        ```

        ```text
        You said: "Hello". ...
        ```
    """

    def __init__(
        self,
        *,
        model: Model | None = None,
        api_keys: Collection[str] = ("inf_local",),
        host: str = "127.0.0.1",
        port: int = 0,
        envelope: Envelope = "v3",
        updates: Updates = "both",
        pace: float | None = None,
        heartbeat: float = 10.0,
        replay: bool = False,
        cors_origins: Collection[str] = (),
        db: str | os.PathLike[str] | None = None,
        max_file_bytes: int = 100 * 1024 * 1024,
        approvals: ApprovedBy = "api_key",
        observer: Observer | None = None,
        playground: PlaygroundAccess = "off",
        apps: Mapping[str, Callable[..., Any]] | None = None,
        max_tasks: int = 4,
    ) -> None:
        _check_keys(api_keys)
        _check_choice("envelope", envelope, Envelope)
        _check_choice("updates", updates, Updates)
        _check_choice("approvals", approvals, ApprovedBy)
        _check_choice("playground", playground, PlaygroundAccess)
        if pace is not None and not pace >= 0:
            raise ValueError(f"pace must be 0 seconds or more, not {pace!r}.")
        if not heartbeat > 0:
            raise ValueError(f"heartbeat must be more than 0 seconds, not {heartbeat!r}.")
        if max_file_bytes < 1:
            raise ValueError(f"max_file_bytes must be 1 byte or more, not {max_file_bytes!r}.")
        self._api_keys = tuple(api_keys)
        self._host, self._port = host, port
        self._store = ChatStore()
        self._playground: PlaygroundAccess = playground
        self._files = FileStore()
        self._model = _demo_model() if model is None else _checked_model(model)
        self._engine = Engine(self._store, self._model, _pace(pace, self._model), self._files)
        self._db = None if db is None else _path(db)
        self._storage: Storage | None = None
        self._cors = Cors.allowing(cors_origins, envelope)
        settings = Settings(envelope, updates, heartbeat, replay, observer)
        self._chat_api = ChatApi(self._store, self._engine, settings, self._files)
        self._file_api = FileApi(self._files, envelope, max_file_bytes)
        self._approval_api = ApprovalApi(self._store, Approvals(self._engine), envelope, approvals)
        self._apps = AppRegistry.of(apps or {}, _demo_apps)
        self._tasks = TaskStore()
        self._task_engine = TaskEngine(self._tasks, self._files, _pace(pace, self._model), max_tasks)
        self._task_api = TaskApi(self._tasks, self._task_engine, self._apps, self._files, settings)
        self._envelope: Envelope = envelope
        self._runner: web.AppRunner | None = None
        self._changing = asyncio.Lock()  # held while it starts or closes
        self._closed = False

    def __repr__(self) -> str:
        state = self.base_url if self._runner else "closed" if self._closed else "not started"
        return f"<LocalRuntime {state}>"

    @property
    def api_key(self) -> str:
        """The first of the accepted keys."""
        return self._api_keys[0]

    @property
    def base_url(self) -> str:
        """The base URL for clients.

        Raises:
            RuntimeError: The runtime is not running.
        """
        if self._runner is None:
            raise RuntimeError("The runtime is not running: start it first.")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - read, not bound
        port = self._runner.addresses[0][1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def open_streams(self) -> int:
        """The number of open streams."""
        return self._chat_api.open_streams + self._task_api.open_streams

    def app(self, name: str) -> Callable[[F], F]:
        """Return a decorator that makes a function an app, or one of the functions of an app.

        The function may be sync (it then runs in a thread), async, or a generator of either kind, which yields its
        progress: numbers from 0.0 to 1.0, lines for the log, ``Progress``, or the output so far. Its type hints say
        what the input must hold; an input that does not match is refused with 412. A single parameter that is a class
        or a dict takes the whole input. A parameter with the hint ``TaskContext`` receives one.

        Args:
            name: ``namespace/name``, or ``namespace/name:function`` for one of several functions.

        Raises:
            ValueError, TypeError: It is no name, or the function cannot be an app.

        Example:
            ```python
            runtime = LocalRuntime(pace=0)


            @runtime.app("me/shout")
            def shout(text: str, times: int = 1) -> dict[str, str]:
                return {"text": text.upper() * times}


            async with runtime, AsyncInference(runtime.api_key, base_url=runtime.base_url) as client:
                task = await client.tasks.run("me/shout", {"text": "hey"})
                print(task.output)
            ```

            ```text
            {'text': 'HEY'}
            ```
        """

        def register(function: F) -> F:
            self._apps.add(name, function, 2)
            return function

        return register

    def cut_streams(self) -> None:
        """End all open streams like broken connections; for tests."""
        feeds = [chat.feed for chat in self._store.chats.values()]
        for feed in feeds + [task.feed for task in self._tasks.tasks.values()]:
            feed.close(cut=True)

    async def start(self) -> None:
        """Start to listen; does nothing if the runtime is already running.

        Raises:
            DatabaseError: The file ``db`` cannot be used, for example because another runtime uses it.
            OSError: The address cannot be used, for example because another server uses it.
            RuntimeError: The runtime was closed.
        """
        async with self._changing:
            if self._closed:
                raise RuntimeError("The runtime was closed; make a new one.")
            if self._runner is None:
                await self._start()

    def _forget_start(self) -> None:
        """Forget that the parent process was starting this when the present process was forked from it."""
        self._changing = asyncio.Lock()

    async def _start(self) -> None:
        storage = await self._open_storage()
        try:
            self._runner = await self._listen(storage)
        except BaseException:
            if storage is not None:
                await storage.aclose()
            raise
        self._storage = storage
        update_file_urls(self._store.chats.values(), self._files, self.base_url)
        for chat in list(self._store.chats.values()):
            self._engine.recover(chat)
        for task in list(self._tasks.tasks.values()):
            self._task_engine.recover(task, self.base_url, self._task_api.requested)

    async def aclose(self) -> None:
        """Stop all runs, end all streams and stop listening. It may be called more than once."""
        async with self._changing, AsyncExitStack() as closing:  # each step is made even if an earlier one is cancelled
            self._closed = True
            runner, self._runner = self._runner, None
            storage, self._storage = self._storage, None
            # The last step first.
            if (close := getattr(self._model, "aclose", None)) is not None:
                closing.push_async_callback(close)
            if storage is not None:
                closing.push_async_callback(storage.aclose)
            closing.push_async_callback(self._end_work)  # that of messages which came meanwhile
            if runner is not None:
                closing.push_async_callback(_stop_listening, runner)
            closing.push_async_callback(self._end_work)  # ends the streams, for the end of which listening would wait
            if storage is not None:
                closing.push_async_callback(storage.freeze)

    async def _end_work(self) -> None:
        try:
            await self._engine.aclose()
        finally:
            await self._task_engine.aclose()

    async def _open_storage(self) -> Storage | None:
        if self._db is None:
            return None
        from ._store.storage import Storage  # loads SQLite and prepares the serialization of records

        return await Storage.open(self._db, self._store, self._files, self._tasks)

    async def _listen(self, storage: Storage | None) -> web.AppRunner:
        middlewares = [self._cors.middleware(), guard(self._api_keys, self._envelope)]
        if storage is not None:
            middlewares.append(storage.middleware())
        if self._playground != "off":
            from ._playground.server import Playground  # reads the page's files

            page = Playground(self._api_keys, self._playground, self._store, self._model)
            middlewares.insert(0, page.middleware())
        app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
        for api in (self._chat_api, self._approval_api, self._file_api, self._task_api):
            app.add_routes(api.routes())
        app.on_response_prepare.extend([add_request_id, self._cors.add_headers])
        # Handlers are cancelled as soon as the client disconnects, so that streams do not end only at the next write.
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_logger,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        return runner

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _check_keys(keys: Collection[str]) -> None:
    if isinstance(keys, str) or not keys or any(str(key).split() != [key] for key in keys):
        raise ValueError(
            "api_keys must be a list or tuple with one key or more, each a str without spaces and line breaks; strip "
            "what is read from a file."
        )


def _check_choice(name: str, value: object, choices: object) -> None:
    if value not in (known := get_args(choices)):
        raise ValueError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not {value!r}.")


def _demo_apps() -> Mapping[str, Callable[..., Any]]:
    from ._demo.apps import DEMO_APPS

    return DEMO_APPS


def _demo_model() -> Model:
    from ._demo.model import DemoModel  # only needed without another model

    return DemoModel()


def _checked_model(model: Model) -> Model:
    if isinstance(model, type):
        raise TypeError(f"model must be an instance of {model.__name__}, not the class: {model.__name__}(...)")
    if not callable(getattr(model, "respond", None)):
        raise TypeError(
            "model must have a method respond(conversation), as LlamaModel() and OpenAIChatModel(...) of "
            f"inferencesh.local.models have, not {model!r}"
        )
    return model


def _pace(pace: float | None, model: Model) -> float:
    if pace is not None:
        return pace
    return 0.0 if getattr(model, "paces_itself", False) else 0.02


async def _stop_listening(runner: web.AppRunner) -> None:
    assert runner.server is not None
    transports = [connection.transport for connection in runner.server.connections]
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()  # otherwise a client that does not read keeps its connection open with unsent data
    await asyncio.sleep(0)  # aborted transports close their sockets in the next iteration of the loop


def _path(db: str | os.PathLike[str]) -> Path:
    name = os.fspath(db) if isinstance(db, os.PathLike) else db
    if not isinstance(name, str):
        raise TypeError(f"db must be a str or a pathlib.Path, not {type(name).__name__}.")
    if not name or name == ":memory:":
        raise ValueError(f"db must be the name of a file, not {name!r}; leave it out to keep chats in memory.")
    return Path(name).absolute()  # the working directory may change before the start
