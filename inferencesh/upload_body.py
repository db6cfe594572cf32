"""The bytes of a file on their way: read in worker threads, handed over in pieces, timed while the network works."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn, Self, TypeAlias

import anyio.to_thread

from .upload_source import UploadSource

__all__ = ["Tell", "UploadBody"]

_READ = 256 * 1024  # bytes read at a time: a step into another thread costs as much as reading some 100 KB
_PIECE = 64 * 1024  # bytes handed over at a time; the idle clock begins anew with each

Tell: TypeAlias = Callable[[int], Awaitable[None]]


class UploadBody:
    """One attempt at sending a file, as an async iterator for the HTTP library.

    What goes wrong in it is kept in ``failure``: the library would turn it into an error of the connection.

    Args:
        source: The file, opened.
        tell: Told how many bytes the network has taken.
        idle: Seconds in which the network must take a piece, and the server answer in the end; or None.

    Attributes:
        failure: What reading the file, or ``tell``, has raised.
        taken: Set when the network has taken everything, or never will.
    """

    def __init__(self, source: UploadSource, tell: Tell, idle: float | None) -> None:
        self.failure: BaseException | None = None
        self.taken = asyncio.Event()
        self._source = source
        self._tell = tell
        self._idle = idle
        self._clock: asyncio.Timeout | None = None
        self._chunk = memoryview(b"")
        self._at = 0

    @contextlib.asynccontextmanager
    async def patience(self, connect: float | None) -> AsyncIterator[None]:
        """Raise TimeoutError when the network does not get on; reading and telling do not count.

        Args:
            connect: Seconds that a connection may take besides, or None.
        """
        async with asyncio.timeout(None if self._idle is None else self._idle + (connect or 0.0)) as self._clock:
            yield

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        try:
            if not self._chunk:
                self._set_clock(None)
                await self._fill()
        except (asyncio.CancelledError, StopAsyncIteration):
            raise
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._fail(error)
        finally:
            self._set_clock(self._idle)
        piece, self._chunk = self._chunk[:_PIECE], self._chunk[_PIECE:]
        return piece

    async def _fill(self) -> None:
        size = self._source.size
        if self._at >= size:
            self.taken.set()
            raise StopAsyncIteration
        if self._at:
            await self._tell(self._at)
        data = await anyio.to_thread.run_sync(self._source.read, self._at, _READ)
        self._chunk = memoryview(data)
        self._at += len(data)

    def _fail(self, error: BaseException) -> NoReturn:
        self.failure = error
        self.taken.set()
        raise ConnectionAbortedError from None

    def _set_clock(self, seconds: float | None) -> None:
        if self._clock is not None and self._idle is not None:
            with contextlib.suppress(RuntimeError):  # it has run out, or the attempt is over
                self._clock.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
