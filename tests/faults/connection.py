"""One connection to the fault server, byte by byte: requests are read, and a script is played for each."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, cast

import attrs

from tests.socket_server import reset_on_close

from .script import Reply, Script, Step, encode

if TYPE_CHECKING:
    from .forms import Json
    from .server import FaultServer


@attrs.frozen
class Request:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    at: float = attrs.field(factory=time.monotonic)

    @property
    def line(self) -> str:
        """Method and path, which is how tests and scripts name a request."""
        return f"{self.method} {self.path}"

    @property
    def json(self) -> Json:
        """The decoded body."""
        return cast("Json", json.loads(self.body))


class Connection(asyncio.Protocol):
    """One connection: reads requests one after the other and plays the script of each."""

    transport: asyncio.Transport

    def __init__(self, server: FaultServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._data = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=1, low=0)  # TLS would take 0 for «always full»
        self._server.connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._served)

    def data_received(self, data: bytes) -> None:
        """Take in bytes of a request."""
        self._buffer += data
        self._data.set()

    def pause_writing(self) -> None:
        """The peer or the kernel takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Everything written so far is in the kernel's hands."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop whatever is being played."""
        self._task.cancel()
        self._server.connections.discard(self)
        self._server.notify()

    async def _serve(self) -> None:
        while True:  # until connection_lost cancels
            request = await self._read()
            exchange = Exchange(self._server, self, request)
            await exchange.play(self._server.arrived(request))

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._server.failed(error)
            self.transport.abort()

    async def _read(self) -> Request:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        first, *fields = self._buffer[:end].decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers = {name.lower(): value.strip() for name, value in (f.split(":", 1) for f in fields)}
        size = end + 4 + int(headers.get("content-length", "0"))
        while len(self._buffer) < size:
            await self._more()
        body = bytes(self._buffer[end + 4 : size])
        del self._buffer[:size]
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, body)

    async def _more(self) -> None:
        self._data.clear()
        await self._data.wait()

    async def write(self, data: bytes) -> None:
        """Send bytes as one segment and wait until the kernel has taken all of them."""
        self.transport.write(data)
        await self._writable.wait()

    async def gone(self) -> None:
        """Wait for the peer to close; never returns, being cancelled then."""
        await asyncio.get_running_loop().create_future()

    async def die(self, *, reset: bool) -> None:
        """Close now: with a RST that drops what was not delivered, or with a FIN behind it."""
        if reset:
            peer = self.transport.get_extra_info("socket")
            reset_on_close(peer)
            self.transport.abort()
        else:
            self.transport.close()
        await self.gone()


class Exchange:
    """A request that is being answered; what the steps of a script act on."""

    def __init__(self, server: FaultServer, connection: Connection, request: Request) -> None:
        self.server = server
        self.connection = connection
        self.request = request
        self.open = False  # whether the head of a streamed answer was sent
        self.ended = False  # whether a streamed answer came to its proper end

    async def play(self, script: Script) -> None:
        """Play the steps one after the other."""
        streaming = self.request.path.endswith("/stream")
        self.server.streams += streaming
        try:
            for step in script:
                await self._step(step)
            if streaming and self.open and not self.ended:
                await self.connection.gone()
        finally:
            self.server.streams -= streaming
            self.server.notify()

    async def _step(self, step: Step) -> None:
        if isinstance(step, Reply):
            await self.connection.write(step.render(self.server.scenario.envelope))
        elif isinstance(step, dict):
            await self.send(encode(step))
            self.server.remember(step)
        elif isinstance(step, bytes):
            await self.send(step)
        else:
            await step(self)

    async def send(self, data: bytes) -> None:
        """Send bytes of a streamed body as one chunk, after the head if that was not sent yet."""
        if not self.open:
            self.open = True
            await self.connection.write(self.server.scenario.head)
        await self.connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.server.pushed += len(data)
