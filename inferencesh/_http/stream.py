"""Read the body of a streamed response and send the body of an upload.

This module imports aiohttp at import time, so it is imported when the first stream or upload begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol

import aiohttp
import aiohttp.abc

from inferencesh._loops.invoke import start_in_thread
from inferencesh._loops.threads import OpenConnection, wait_for_end
from inferencesh.errors import APIConnectionError, APIError, APITimeoutError

from .session import connection_error
from .sources import ReportSent, UploadSource

__all__ = ["ByteStream", "GuardedBody", "LargeBody", "UploadBody"]

_READ = 64 * 1024  # bytes of a stream read at a time
_FILE_READ = 256 * 1024  # bytes read at a time: a switch to another thread takes as long as reading some 100 KB
_PIECE = 64 * 1024  # bytes written at a time; each restarts the idle timeout
_COMPRESSIONS = frozenset({"gzip", "deflate", "br", "zstd"})  # which aiohttp takes off
_UNSENT = 128 * 1024  # bytes that the kernel may buffer before sending


class ByteStream(OpenConnection):
    """A streamed response.

    Args:
        response: The response; its headers have arrived.
        content_type: Its ``Content-Type``, "" when it has none.
        idle: The idle timeout in seconds, or None; it applies while a caller is waiting for data.

    Attributes:
        content_type: The same.
    """

    def __init__(self, response: aiohttp.ClientResponse, content_type: str, idle: float | None) -> None:
        super().__init__()
        self._response = response
        self._idle = idle
        self._waiting: asyncio.Timeout | None = None
        self._closed = False
        self.content_type = content_type

    @property
    def status(self) -> int:
        """The HTTP status of the response."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response."""
        return self._response.headers

    @property
    def decompressed(self) -> bool:
        """Whether the server has compressed it, so that no size that is named is that of the bytes that are read."""
        return self.headers.get("Content-Encoding", "").strip().lower() in _COMPRESSIONS

    @property
    def length(self) -> int | None:
        """The number of bytes that the server has announced, if it has."""
        return None if self.decompressed else self._response.content_length

    async def read(self, until: float = math.inf) -> bytes | None:
        """Return the next bytes.

        Args:
            until: The time of the loop's clock at which to stop waiting.

        Returns:
            The bytes; b"" at the end of the stream; None if ``until`` was reached or ``wake`` was called.

        Raises:
            APITimeoutError: Nothing arrived within the idle timeout.
            APIConnectionError: The connection was lost.
        """
        content = self._response.content
        failure: APIConnectionError
        try:
            data = self.read_now()
            if data or (content.at_eof() and content.exception() is None):
                return data
            return await self._wait(content, until)
        except APITimeoutError:
            raise
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: lost before the read began
            failure = connection_error(error, "the stream", None)
        raise failure

    def read_now(self) -> bytes:
        """Return the bytes received so far without waiting; b"" if there are none."""
        content = self._response.content
        if content.exception() is None:
            return content.read_nowait(_READ)
        # What had arrived before the connection was lost is still there, but no public method returns it.
        return b"" if self._closed else content._read_nowait(_READ)

    async def _wait(self, content: aiohttp.StreamReader, until: float) -> bytes | None:
        now = self.loop.time()
        idle_end = math.inf if self._idle is None else now + self._idle
        try:
            async with asyncio.timeout_at(min(until, idle_end)) as self._waiting:
                return await content.read(_READ)
        except TimeoutError:
            if self.loop.time() < idle_end:
                return None
        finally:
            self._waiting = None
        raise APITimeoutError(f"the stream was silent for {self._idle:g} seconds, without even a heartbeat")

    def wake(self) -> None:
        """Make a waiting ``read`` return at once."""
        if self._waiting is not None and not self._waiting.expired():  # an expired one is returning already
            self._waiting.reschedule(self.loop.time())

    def _held(self) -> object:
        return self._response

    def _close(self) -> None:
        self._closed = True
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # closing would wait for the peer's TLS close_notify
        self._response.close()


class _Connection(OpenConnection):
    """The connection of an upload, known once its body is being sent."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: asyncio.WriteTransport | None = None
        self._socket: socket.socket | None = None

    def use(self, transport: asyncio.WriteTransport | None) -> None:
        """Set the transport, and limit how much unsent data the kernel buffers.

        Otherwise it would buffer megabytes, and while it sends them over a slow line the idle timeout could not
        distinguish progress from a server that does not respond.
        """
        self._transport = transport
        self._socket = transport.get_extra_info("socket") if transport is not None else None
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # not on every platform
        if self._socket is not None and option is not None:
            with contextlib.suppress(OSError):  # it has just been closed; the next write raises that
                self._socket.setsockopt(socket.IPPROTO_TCP, option, _UNSENT)

    def _held(self) -> object:
        return self._transport

    def _close(self) -> None:
        # close() would wait for buffered data to be sent, and asyncio cannot abort a transport whose socket is closed.
        if self._transport is not None and self._socket is not None and self._socket.fileno() >= 0:
            self._transport.abort()


class _Body(Protocol):
    """A request body that is being written.

    Attributes:
        complete: Whether the whole body was written.
        connection: Its connection.
    """

    complete: bool
    connection: _Connection


async def _write_or_abort(write: Coroutine[Any, Any, None], body: _Body) -> None:
    """Await a write of a body; abort its connection if this is cancelled before the body is complete."""
    # A separate task retrieves the exception that ends the connection: if aiohttp's task is cancelled during a
    # write, nothing does, and aiohttp before 3.14 makes asyncio log that.
    writing = asyncio.create_task(write)
    writing.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        if body.complete:  # aiohttp cancels this when the response arrives before the end of the task was noticed
            return
        body.connection.close()
        await asyncio.wait([writing])
        raise


class WithheldError(Exception):
    """What is raised to aiohttp so that it sends nothing of a body, nor of the headers before it."""


class GuardedBody(aiohttp.BytesPayload):
    """A JSON body that is sent only if that is still right when it is written, after the connection was made.

    Args:
        body: The bytes.
        guard: Returns whether it may be sent.
    """

    def __init__(self, body: bytes, guard: Callable[[], bool]) -> None:
        super().__init__(body)
        self._guard = guard

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        """Write the whole body, or nothing; called by aiohttp."""
        if not self._guard():
            raise WithheldError
        await super().write_with_length(writer, content_length)


class LargeBody(aiohttp.BytesIOPayload):
    """A JSON body that may not fit into the buffers of the system.

    Closing a connection waits until all written data is sent, which takes forever if the server does not read. So the
    connection is aborted if the request fails before the body is complete.

    Args:
        body: The bytes.
        guard: As for ``GuardedBody``, or None.

    Attributes:
        complete: Whether the whole body was written.
        connection: Its connection.
    """

    def __init__(self, body: bytes, guard: Callable[[], bool] | None = None) -> None:
        super().__init__(io.BytesIO(body))
        self.connection = _Connection()
        self.complete = False
        self._guard = guard

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        """Write the whole body; called by aiohttp."""
        self.connection.use(writer.transport)
        if self._guard is not None and not self._guard():
            raise WithheldError
        write = super().write_with_length

        async def whole() -> None:
            await write(writer, content_length)
            self.complete = True

        await _write_or_abort(whole(), self)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Abort the connection if anything is raised, except for an error response after the whole body was written."""
        try:
            yield
        except BaseException as error:
            if not (self.complete and isinstance(error, APIError)):
                self.connection.close()
            raise


class UploadBody(aiohttp.Payload):
    """The request body of one attempt to send a file.

    Errors of the file are kept in ``failure``, because aiohttp would replace them by a connection error.

    Args:
        source: The file, opened.
        tell: Called with the number of bytes sent so far.
        idle: The idle timeout in seconds, for each write and for the response; or None.

    Attributes:
        failure: The exception raised by reading the file or by ``tell``, or None.
        over: Set when the whole body was written, or writing it has failed.
        complete: Whether the whole body was written.
        connection: Its connection.
    """

    _autoclose = True  # prevents a warning: the file is closed by its opener

    def __init__(self, source: UploadSource, tell: ReportSent, idle: float | None) -> None:
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
        """Apply the idle timeout to the attempt, and abort the connection if anything is raised.

        The timeout is suspended while the file is read and ``tell`` is running.

        Raises:
            TimeoutError: No data could be sent, or no response arrived, within the idle timeout.

        Args:
            connect: Additional seconds for connecting, or None.
        """
        try:
            async with asyncio.timeout(None if self._idle is None else self._idle + (connect or 0.0)) as self._clock:
                yield
        except BaseException as error:
            self.connection.close()
            # The caller's callback may be running in aiohttp's task, which nothing else waits for.
            if self._writing is not None and not isinstance(error, GeneratorExit):
                self._writing.cancel()
                await wait_for_end([self._writing])
            raise

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        """Write the whole file; called by aiohttp."""
        self._writing = asyncio.current_task()
        self.connection.use(writer.transport)
        try:
            self.complete = self._source.size == 0
            for start in range(0, self._source.size, _FILE_READ):
                await self._hand_over(writer, start, await self._read(start))
        finally:
            self._set_clock(self._idle)  # now for the response
            self.over.set()

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        """Write the whole file, whose size is the Content-Length; called by aiohttp."""
        assert content_length in {None, self._source.size}
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's names
        """Raise TypeError, since the file is never in memory as a whole."""
        raise TypeError("the body of an upload cannot be shown as text")

    async def _hand_over(self, writer: aiohttp.abc.AbstractStreamWriter, start: int, chunk: memoryview) -> None:
        async def pieces() -> None:
            for at in range(0, len(chunk), _PIECE):
                self._set_clock(self._idle)
                await writer.write(chunk[at : at + _PIECE])
            self.complete = start + len(chunk) >= self._source.size

        await _write_or_abort(pieces(), self)

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
        raise ConnectionAbortedError  # makes aiohttp drop the connection

    def _set_clock(self, seconds: float | None) -> None:
        if self._clock is not None and self._idle is not None:
            with contextlib.suppress(RuntimeError):  # it has expired, or the attempt has ended
                self._clock.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
