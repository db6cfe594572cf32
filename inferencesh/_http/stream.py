"""The bytes of a file on their way: read in worker threads, handed over in pieces, timed while the network works.

Imports aiohttp, and is itself imported only when the first file is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import aiohttp.abc

from inferencesh._loops.invoke import start_in_thread
from inferencesh._loops.threads import OpenConnection, wait_for_end
from inferencesh.errors import APIConnectionError, APITimeoutError

from .session import connection_error, read_response_data
from .sources import Tell, UploadSource

__all__ = ["ByteStream", "UploadBody"]

_READ = 64 * 1024  # bytes handled at a time; more would only wait in memory


class ByteStream(OpenConnection):
    """A streaming answer.

    Args:
        response: The answer, of which the headers have arrived.
        content_type: Its ``Content-Type``, "" when it has none.
        idle: Seconds without a byte that are borne while one is awaited, or None.
    """

    def __init__(self, response: aiohttp.ClientResponse, content_type: str, idle: float | None) -> None:
        super().__init__()
        self._response = response
        self._idle = idle
        self._waiting: asyncio.Timeout | None = None
        self.content_type = content_type

    async def read(self, until: float) -> bytes | None:
        """The next bytes.

        Args:
            until: The loop's time at which to stop waiting.

        Returns:
            The bytes; b"" at the end of the stream; None when the time has come or ``wake`` was called.

        Raises:
            APITimeoutError: Nothing arrived for the idle time, counted only while somebody was waiting here.
            APIConnectionError: The connection was lost.
        """
        content = self._response.content
        failure: APIConnectionError
        try:
            if content.exception() is None:
                data = content.read_nowait(_READ)
                if data or content.at_eof():
                    return data
            return await self._wait(content, until)
        except APITimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            failure = connection_error(error, "the stream", None)
        raise failure

    def read_now(self) -> bytes:
        """The bytes that have arrived already; b"" where there are none, or the connection is lost."""
        content = self._response.content
        return content.read_nowait(_READ) if content.exception() is None else b""

    async def _wait(self, content: aiohttp.StreamReader, until: float) -> bytes | None:
        now = self.loop.time()
        idle_end = float("inf") if self._idle is None else now + self._idle
        try:
            async with asyncio.timeout_at(min(until, idle_end)) as self._waiting:
                return await read_response_data(content.read(_READ))
        except TimeoutError:
            if self.loop.time() < idle_end:
                return None
        finally:
            self._waiting = None
        raise APITimeoutError(f"the stream was silent for {self._idle:g} seconds, heartbeats included")

    def wake(self) -> None:
        """Have a waiting ``read`` return at once."""
        if self._waiting is not None and not self._waiting.expired():  # else it is on its way back already
            self._waiting.reschedule(self.loop.time())

    def _held(self) -> object:
        return self._response

    def _close(self) -> None:
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # TLS would wait for the other side's goodbye
        self._response.close()


_FILE_READ = 256 * 1024  # bytes read at a time: a step into another thread costs as much as reading some 100 KB
_PIECE = 64 * 1024  # bytes handed over at a time; the idle clock begins anew with each
_UNSENT = 128 * 1024  # bytes that the system may take before it sends them


class _Connection(OpenConnection):
    """What a file goes over, once it is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: asyncio.WriteTransport | None = None
        self._socket: socket.socket | None = None

    def use(self, transport: asyncio.WriteTransport | None) -> None:
        """Note what it is, and have the system take no more than it is about to send.

        It would take megabytes at once, and on a slow line the time in which nothing seems to happen, while it sends
        them, could not be told from that of a server that does not answer.
        """
        self._transport = transport
        self._socket = transport.get_extra_info("socket") if transport is not None else None
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not on every platform
        if self._socket is not None and option is not None:
            with contextlib.suppress(OSError):  # closed at this moment, which the next write will tell
                self._socket.setsockopt(socket.IPPROTO_TCP, option, _UNSENT)

    def _held(self) -> object:
        return self._transport

    def _close(self) -> None:
        # A close would wait until all that was written is sent. asyncio cannot abort what has ended already.
        if self._transport is not None and self._socket is not None and self._socket.fileno() >= 0:
            self._transport.abort()


class UploadBody(aiohttp.Payload):
    """One attempt at sending a file.

    What goes wrong with the file is kept in ``failure``: aiohttp would turn it into an error of the connection.

    Args:
        source: The file, opened.
        tell: Told how many bytes the network has taken.
        idle: Seconds in which the network must take a piece, and the server answer in the end; or None.

    Attributes:
        failure: What reading the file, or ``tell``, has raised.
        over: Set when the network has taken everything, or never will.
        complete: Whether it has.
        connection: What it goes over.
    """

    _autoclose = True  # the file is closed by whoever opened it

    def __init__(self, source: UploadSource, tell: Tell, idle: float | None) -> None:
        super().__init__(source, content_type=source.content_type)
        self._size = source.size
        self.failure: BaseException | None = None
        self.over = asyncio.Event()
        self.complete = False
        self._source = source
        self._tell = tell
        self._idle = idle
        self._clock: asyncio.Timeout | None = None
        self._writing: asyncio.Task[Any] | None = None
        self.connection = _Connection()

    @contextlib.asynccontextmanager
    async def under_way(self, connect: float | None) -> AsyncIterator[None]:
        """Raise TimeoutError when the network does not get on, and cut the connection off whatever else is raised.

        Reading and telling take no time of the network's.

        Args:
            connect: Seconds that a connection may take besides, or None.
        """
        try:
            async with asyncio.timeout(None if self._idle is None else self._idle + (connect or 0.0)) as self._clock:
                yield
        except BaseException as error:
            self.connection.close()
            # The caller's function may be under way in aiohttp's task, which nobody else would wait for.
            if self._writing is not None and not isinstance(error, GeneratorExit):
                self._writing.cancel()
                await wait_for_end([self._writing])
            raise

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        """Send all of it; called by aiohttp."""
        self._writing = asyncio.current_task()
        self.connection.use(writer.transport)
        try:
            for start in range(0, self._source.size, _FILE_READ):
                await self._hand_over(writer, await self._read(start))
            self.complete = True
        finally:
            self._set_clock(self._idle)  # from here on the answer is waited for
            self.over.set()

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        """Send all of it, which is as much as was announced; called by aiohttp."""
        assert content_length in {None, self._source.size}
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's names
        """Not to be had: the file is never in memory as a whole."""
        raise TypeError("the body of an upload cannot be shown as text")

    async def _hand_over(self, writer: aiohttp.abc.AbstractStreamWriter, chunk: memoryview) -> None:
        async def pieces() -> None:
            for at in range(0, len(chunk), _PIECE):
                self._set_clock(self._idle)
                await writer.write(chunk[at : at + _PIECE])

        # In a task of its own, which hears how the connection ends. When aiohttp's own is cancelled in a write, the end
        # has no hearer, and versions before 3.14 have asyncio complain about that.
        writing = asyncio.create_task(pieces())
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            self.connection.close()
            await asyncio.wait([writing])
            raise

    async def _read(self, start: int) -> memoryview:
        self._set_clock(None)
        try:
            if start:
                await self._tell(start)
            return memoryview(await start_in_thread(lambda: self._source.read(start, _FILE_READ)))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self.failure = error
        raise ConnectionAbortedError  # for aiohttp, which lets go of the connection then

    def _set_clock(self, seconds: float | None) -> None:
        if self._clock is not None and self._idle is not None:
            with contextlib.suppress(RuntimeError):  # it has run out, or the attempt is over
                self._clock.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
