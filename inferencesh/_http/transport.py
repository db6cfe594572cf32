"""What a client asks of servers: requests, streams and uploads, repeated as is safe.

One transport serves any number of event loops, one after another or at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import anyio

from inferencesh._loops.invoke import start_in_thread
from inferencesh._loops.threads import OpenConnection
from inferencesh._types.codec import dump_json
from inferencesh.errors import APIConnectionError, APIError, APITimeoutError, InferenceError

from .requests import Address, ServiceRequest, StorageRequest, TransportOptions, read_response, storage_address
from .retry import Safety
from .session import HTTPClient

if TYPE_CHECKING:
    from .sources import Tell, UploadSource
    from .stream import ByteStream

__all__ = ["Address", "Transport", "TransportOptions"]

T = TypeVar("T")
logger = logging.getLogger("inferencesh")


class Transport:
    """Makes requests for one client.

    Args:
        get_address: Says where to; awaited before each request, so that an address can come into being on first use.
        options: How.
    """

    def __init__(self, get_address: Callable[[], Awaitable[Address]], options: TransportOptions) -> None:
        self.options = options
        self._open: weakref.WeakSet[OpenConnection] = weakref.WeakSet()
        self._http = HTTPClient(get_address, options, self._open)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._http.closed

    async def request(
        self, method: str, path: str, *, safety: Safety, json: object = None, params: Mapping[str, str] | None = None
    ) -> object:
        """Make a request and return the data of its answer.

        Args:
            method: GET, POST or the like.
            path: The path below the base URL.
            safety: What sending it twice would mean.
            json: The body, or None.
            params: The query, or None.

        Returns:
            The data, without its envelope; None when the answer has none.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """
        body = dump_json(json) if json is not None else None

        async def once() -> object:
            response = await self._http.send(ServiceRequest(method, path, body, params))
            try:
                data = await self._http.read_body(response)
            finally:
                response.release()
            return read_response(response.status, response.headers, data)

        return await self._repeat(f"{method} {path}", once, safety, self.options.timeout.total)

    async def open_stream(self, path: str, *, repeat: bool = True) -> ByteStream:
        """Open a stream and return it once its headers have arrived.

        Args:
            path: The path below the base URL.
            repeat: Whether to repeat the request as is safe; a caller with a plan of its own says no.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """

        async def once() -> ByteStream:
            limits = self.options.timeout
            # Its idle time is counted by ByteStream, only while somebody waits; up to the headers it is counted here.
            patience = None if limits.idle is None else limits.idle + (limits.connect or 0.0)
            try:
                async with asyncio.timeout(patience):
                    response = await self._http.send(ServiceRequest("GET", path, streams=True))
            except TimeoutError:
                raise APITimeoutError(f"GET {path}: no answer within {patience:g} seconds") from None
            from .stream import ByteStream

            stream = ByteStream(response, self.masked(response.headers.get("Content-Type", "")), limits.idle)
            self._open.add(stream)
            return stream

        if not repeat:
            return await once()
        return await self._repeat(f"GET {path}", once, Safety.REPEATABLE, self.options.timeout.total)

    async def upload(self, upload_url: str, source: UploadSource, tell: Tell) -> None:
        """Send a file to where the service wants it; as often as is sensible, since it can be read again.

        There is no limit to the whole, only to the time in which not a byte can be sent or the answer does not come.

        Args:
            upload_url: The address that the service answered.
            source: The file, opened.
            tell: Told how many bytes are on their way.

        Raises:
            FileError: The file changed or cannot be read.
            APIError: The storage server refused it.
            APIConnectionError: That server could not be reached or did not answer.
            UnreadableError: The address is not to be trusted.
            Exception: What ``tell`` raised.
        """
        target = storage_address(upload_url, await self._http.base_url())
        limits = self.options.timeout

        async def once() -> BaseException | None:
            from .stream import UploadBody

            body = UploadBody(source, tell, limits.idle)
            self._open.add(body.connection)
            request = StorageRequest(target, source.content_type, source.size, body)
            await start_in_thread(source.check)
            try:
                async with body.under_way(limits.connect):
                    response = await self._http.send(request)
                    try:
                        await body.over.wait()
                    finally:
                        response.release()
                    if not body.complete and body.failure is None:
                        raise APIConnectionError(f"{request.name}: it was taken before it was complete, and then broke")
            except TimeoutError:
                if body.failure is None:
                    raise APITimeoutError(f"{request.name}: no progress within {limits.idle or 0:g} seconds") from None
            except InferenceError:
                if body.failure is None:
                    raise
            return body.failure  # what the file or the caller's function raised is nothing that a repetition mends

        failure = await self._repeat("an upload", once, Safety.REPEATABLE, None)
        if failure is not None:
            raise failure

    def masked(self, text: str) -> str:
        """Text from the server without the API key, should the server have echoed it."""
        return self._http.masked(text)

    async def aclose(self) -> None:
        """Close all streams, uploads and connections; later requests fail."""
        for connection in list(self._open):
            connection.close()
        await self._http.aclose()

    async def _repeat(self, what: str, once: Callable[[], Awaitable[T]], safety: Safety, total: float | None) -> T:
        """Make a request as often as is safe and sensible, within the total time."""
        deadline = float("inf") if total is None else time.monotonic() + total
        attempt = 0
        while True:
            failure: InferenceError
            try:
                async with asyncio.timeout(None if total is None else deadline - time.monotonic()):
                    return await once()
            except InferenceError as error:
                failure = error
            except TimeoutError:
                failure = APITimeoutError(f"{what} was not answered within {total:g} seconds")
            wait = self.options.retry.wait(failure, sent=_was_sent(failure), safety=safety, attempt=attempt)
            if wait is None or time.monotonic() + wait >= deadline:
                if isinstance(failure, APIError):
                    failure.repetitions = attempt
                raise failure
            attempt += 1
            logger.info("%s failed (%s); repetition %d in %.2f s", what, type(failure).__name__, attempt, wait)
            await anyio.sleep(wait)


def _was_sent(error: InferenceError) -> bool:
    return not isinstance(error, APIConnectionError) or error.sent
