"""The embedded runtime: a server for agents in this process, which speaks the service's wire."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, get_args

from aiohttp import web

from .api import Api, Settings
from .approval_api import ApprovalApi
from .approvals import Approvals, ApprovedBy
from .demo import DemoModel
from .engine import Engine
from .feed import Updates
from .guard import add_request_id, guard
from .problems import Envelope
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from .model import Model
    from .observer import Observer

__all__ = ("LocalRuntime",)

MAX_BODY = 16 * 1024 * 1024
# How long requests that are being answered may take to end when the runtime closes; streams are told to end before.
_GRACE = 0.1


class LocalRuntime:
    """A server that answers like inference.sh does, without network, account or cost.

    It is for trying, developing and testing. Chats live in memory and end with it. It listens on the loopback interface
    unless told otherwise; anybody who can reach it and knows a key can use it.

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
        approvals: Who may allow or deny tool calls: `api_key`, whoever has a key, or `sign_in`, nobody but people who
            have signed in, so that keys are refused with 403 `requires_sign_in` as at the service.
        observer: Told what clients send, message by message and result by result; for tests.

    Raises:
        ValueError: An option is not one of those above.
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
        self._api_keys = tuple(api_keys)
        self._host, self._port = host, port
        self._store = Store()
        self._engine = Engine(self._store, model or DemoModel(), pace)
        self._api = Api(self._store, self._engine, Settings(envelope, updates, heartbeat, replay, observer))
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
            OSError: The address cannot be used, for instance because another server has it.
            RuntimeError: The runtime was closed.
        """
        if self._closed:
            raise RuntimeError("The runtime was closed; make a new one.")
        if self._runner is not None:
            return
        app = web.Application(middlewares=[guard(self._api_keys, self._envelope)], client_max_size=MAX_BODY)
        app.add_routes([*self._api.routes(), *self._approval_api.routes()])
        app.on_response_prepare.append(add_request_id)
        # Streams end the moment their reader leaves, and not at the next write.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def aclose(self) -> None:
        """Stop all runs, end all streams and stop listening; may be called more than once."""
        self._closed = True
        runner, self._runner = self._runner, None
        await self._engine.aclose()
        if runner is None or runner.server is None:
            return
        transports = [connection.transport for connection in runner.server.connections]
        await runner.cleanup()
        for transport in transports:
            if transport is not None:
                transport.abort()  # else a reader that does not read keeps its socket open with what is unsent
        await asyncio.sleep(0)  # the sockets of what was aborted are closed in the loop's next turn

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
