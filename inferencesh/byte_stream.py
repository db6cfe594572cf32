"""The bytes of one streaming answer: read with a deadline, woken from elsewhere, closed at once.

Imports aiohttp, and is itself imported only when the first stream is opened.
"""

from __future__ import annotations

import asyncio

import aiohttp

from .errors import APIConnectionError, APITimeoutError
from .failures import received, translated
from .open_connection import OpenConnection

__all__ = ["ByteStream"]

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
            failure = translated(error, "the stream", None)
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
                return await received(content.read(_READ))
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
