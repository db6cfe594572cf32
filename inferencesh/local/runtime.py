"""The embedded runtime: a server for agents in this process, which speaks the service's wire."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self, get_args

from aiohttp import web

from ._api.approvals import ApprovalApi
from ._api.files import FileApi
from ._api.problems import Envelope, add_request_id, guard
from ._api.routes import Api, Settings
from ._demo.model import DemoModel
from .approvals import Approvals, ApprovedBy
from .engine import Engine
from .feed import Updates
from .files import Files, move_addresses
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from ._store.storage import Storage
    from .model import Model
    from .observer import Observer

__all__ = ["LocalRuntime"]

MAX_BODY = 16 * 1024 * 1024
# How long requests that are being answered may take to end when the runtime closes; streams are told to end before.
_GRACE = 0.1


class LocalRuntime:
    """A server that answers like inference.sh does, without network, account or cost.

    It is for trying, developing and testing. Chats and files live in memory and end with it, unless it is given a file
    to keep them in. It listens on the loopback interface unless told otherwise; anybody who can reach it and knows a
    key can use it.

    Use it as an async context manager, or call `start` and `aclose`; it belongs to the event loop it was started on.

    Args:
        model: Who answers; the default is `DemoModel`, a stand-in that is no language model.
        api_keys: The keys it accepts, one or more.
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        envelope: The generation of response bodies: `v1`, `v2` or `v3`, the present one.
        updates: What chat streams carry while a message grows: whole messages, token deltas, or both.
        pace: Seconds between the pieces of an answer, with ten times that before the first; 0 sends them as fast as
            the model has them.
        heartbeat: Seconds of silence on a stream after which a heartbeat is sent.
        replay: Whether a chat stream begins with the messages the chat has already.
        db: The SQLite file that keeps chats and files, made when it is not there; one runtime at a time may use it. A
            run that was under way when its process ended is found failed, one that waits can go on. None keeps them in
            memory.
        max_file_bytes: Bytes that an uploaded file may have.
        approvals: Who may allow or deny tool calls: `api_key`, whoever has a key, or `sign_in`, nobody but people who
            have signed in, so that keys are refused with 403 `requires_sign_in` as at the service.
        observer: Told what clients send, message by message and result by result; for tests.

    Raises:
        TypeError, ValueError: An option is not one of those above.

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
        pace: float = 0.02,
        heartbeat: float = 10.0,
        replay: bool = True,
        db: str | os.PathLike[str] | None = None,
        max_file_bytes: int = 100 * 1024 * 1024,
        approvals: ApprovedBy = "api_key",
        observer: Observer | None = None,
    ) -> None:
        if isinstance(api_keys, str) or not api_keys or not all(api_keys):
            raise ValueError("api_keys must be a list or tuple with one key or more, none empty.")
        if envelope not in get_args(Envelope):
            raise ValueError(f"envelope must be v1, v2 or v3, not {envelope!r}.")
        if updates not in get_args(Updates):
            raise ValueError(f"updates must be snapshots, deltas or both, not {updates!r}.")
        if approvals not in get_args(ApprovedBy):
            raise ValueError(f"approvals must be api_key or sign_in, not {approvals!r}.")
        if not pace >= 0:
            raise ValueError(f"pace must be 0 seconds or more, not {pace!r}.")
        if not heartbeat > 0:
            raise ValueError(f"heartbeat must be more than 0 seconds, not {heartbeat!r}.")
        if max_file_bytes < 1:
            raise ValueError(f"max_file_bytes must be 1 byte or more, not {max_file_bytes!r}.")
        self._api_keys = tuple(api_keys)
        self._host, self._port = host, port
        self._store = Store()
        self._engine = Engine(self._store, model or DemoModel(), pace)
        self._files = Files()
        self._db = None if db is None else _path(db)
        self._storage: Storage | None = None
        settings = Settings(envelope, updates, heartbeat, replay, observer)
        self._api = Api(self._store, self._engine, settings, self._files)
        self._file_api = FileApi(self._files, envelope, max_file_bytes)
        self._approval_api = ApprovalApi(self._store, Approvals(self._engine), envelope, approvals)
        self._envelope: Envelope = envelope
        self._runner: web.AppRunner | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = self.base_url if self._runner else "closed" if self._closed else "not started"
        return f"<LocalRuntime {state}>"

    @property
    def api_key(self) -> str:
        """The first of the keys it accepts."""
        return self._api_keys[0]

    @property
    def base_url(self) -> str:
        """Where it listens, to be given to clients.

        Raises:
            RuntimeError: It is not running.
        """
        if self._runner is None:
            raise RuntimeError("The runtime is not running: start it first.")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - read, not bound
        port = self._runner.addresses[0][1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def open_streams(self) -> int:
        """How many streams are being followed at present."""
        return self._api.open_streams

    def cut_streams(self) -> None:
        """End all streams that are being followed as a broken connection would; for tests of what happens then."""
        for chat in self._store.chats.values():
            chat.feed.close(cut=True)

    async def start(self) -> None:
        """Begin to listen; a runtime that listens already is left alone.

        Raises:
            DatabaseError: The file of `db` cannot be used: it is something else, or another runtime has it.
            OSError: The address cannot be used, for instance because another server has it.
            RuntimeError: The runtime was closed.
        """
        if self._closed:
            raise RuntimeError("The runtime was closed; make a new one.")
        if self._runner is not None:
            return
        storage = await self._open_storage()
        try:
            self._runner = await self._listen(storage)
        except BaseException:
            if storage is not None:
                await storage.aclose()
            raise
        self._storage = storage
        move_addresses(self._store.chats.values(), self._files, self.base_url)
        for chat in list(self._store.chats.values()):
            self._engine.recover(chat)

    async def aclose(self) -> None:
        """Stop all runs, end all streams and stop listening; may be called more than once."""
        self._closed = True
        runner, self._runner = self._runner, None
        storage, self._storage = self._storage, None
        try:
            if storage is not None:
                await storage.freeze()
            await self._engine.aclose()  # ends the streams, for the end of which listening would wait
            if runner is not None:
                await _stop_listening(runner)
            await self._engine.aclose()  # ends the runs of messages that came meanwhile
        finally:
            if storage is not None:
                await storage.aclose()

    async def _open_storage(self) -> Storage | None:
        if self._db is None:
            return None
        from ._store.storage import Storage  # SQLite and the reflection of records are for those who use them

        return await Storage.open(self._db, self._store, self._files)

    async def _listen(self, storage: Storage | None) -> web.AppRunner:
        middlewares = [guard(self._api_keys, self._envelope)]
        if storage is not None:
            middlewares.append(storage.middleware())
        app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
        app.add_routes([*self._api.routes(), *self._approval_api.routes(), *self._file_api.routes()])
        app.on_response_prepare.append(add_request_id)
        # Streams end the moment their reader leaves, and not at the next write.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)
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


async def _stop_listening(runner: web.AppRunner) -> None:
    assert runner.server is not None
    transports = [connection.transport for connection in runner.server.connections]
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()  # else a reader that does not read keeps its socket open with what is unsent
    await asyncio.sleep(0)  # the sockets of what was aborted are closed in the loop's next turn


def _path(db: str | os.PathLike[str]) -> Path:
    name = os.fspath(db)
    if not isinstance(name, str):
        raise TypeError("db must be a str or a path of one, not bytes.")
    if not name or name == ":memory:":
        raise ValueError(f"db must be the name of a file, not {name!r}; leave it out to keep chats in memory.")
    return Path(name).absolute()  # the directory may be another one when it starts
