"""Make requests, open streams and upload files, with the retries that ``retry.py`` decides on.

One transport can be used by several event loops, one after another or at the same time.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import attrs

from inferencesh._loops.invoke import start_in_thread
from inferencesh._loops.threads import OpenConnection, WeakRegistry, import_in_thread
from inferencesh._types.encoding import dump_json
from inferencesh.errors import APIConnectionError, APIError, APITimeoutError, InferenceError, UnreadableError

from .requests import (
    Address,
    DownloadRequest,
    RedirectError,
    ServiceRequest,
    StorageRequest,
    TransportOptions,
    file_address,
    read_response,
    storage_address,
)
from .retry import Safety
from .session import HTTPClient

if TYPE_CHECKING:
    import aiohttp

    from .sources import ReportSent, UploadSource
    from .stream import ByteStream

__all__ = ["Address", "Transport", "TransportOptions", "service_request"]

_LARGE_BODY = 64 * 1024  # bytes; larger bodies are written in parts
_MOST_REDIRECTS = 5  # of a download

T = TypeVar("T")
logger = logging.getLogger("inferencesh")
# Without a handler Python prints warnings on stderr: where logs go is for the program to decide.
logger.addHandler(logging.NullHandler())


class Transport:
    """Makes requests for one client.

    Args:
        get_address: Returns the base URL and API key; awaited before each request.
        options: The options of all requests.
    """

    def __init__(self, get_address: Callable[[], Awaitable[Address]], options: TransportOptions) -> None:
        self.options = options
        self._open: WeakRegistry[OpenConnection] = WeakRegistry()
        self._http = HTTPClient(get_address, options, self._open)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._http.closed

    async def request(
        self,
        method: str,
        path: str,
        *,
        safety: Safety,
        json: object = None,
        params: Mapping[str, str] | None = None,
        guard: Callable[[], bool] | None = None,
        needed: bool = True,
    ) -> object:
        """Make a request and return the data of its response.

        Args:
            method: GET, POST or the like.
            path: The path below the base URL.
            safety: Whether it may be sent again.
            json: The body, or None.
            params: The query, or None.
            guard: Asked at the moment at which the body would be written whether it still may be, or None.
            needed: Whether the data are needed, so that a part of them is an error; those of requests that must not be
                made twice are taken as far as they can be read.

        Returns:
            The data, without its envelope; None if the response has none.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """
        request = service_request(method, path, json=json, params=params, guard=guard)
        read = functools.partial(read_response, needed=needed and safety is Safety.REPEATABLE)
        return await self.exchange(request, safety, read)

    async def exchange(
        self, request: ServiceRequest, safety: Safety, read: Callable[[int, Mapping[str, str], bytes], T]
    ) -> T:
        """Make a request and return what ``read`` makes of its response.

        Args:
            request: The request.
            safety: Whether it may be sent again.
            read: Reads a response: its status, headers and body.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
            UnreadableError: Raised by ``read``.
        """

        async def once() -> T:
            response = await self._send(request)
            try:
                data = await self._http.read_body(response)
            finally:
                response.release()
            try:
                return read(response.status, response.headers, data)
            except InferenceError:
                # Read again and raised below, where neither the error nor a frame has a key that the server echoed.
                status, (headers, masked) = response.status, self._http.masked_response(response, data)
                del response, data
            read(status, headers, masked)
            raise UnreadableError("the response is not UTF-8")

        return await self._repeat(request.name, once, safety, self.options.timeout.total)

    async def _send(self, request: ServiceRequest) -> aiohttp.ClientResponse:
        body, guard = request.body, request.guard
        if not isinstance(body, bytes) or (len(body) <= _LARGE_BODY and guard is None):
            return await self._http.send(request)
        await import_in_thread("aiohttp")
        from .stream import GuardedBody, LargeBody

        if guard is not None and len(body) <= _LARGE_BODY:
            return await self._http.send(attrs.evolve(request, body=GuardedBody(body, guard)))
        large = LargeBody(body, guard)
        self._open.add(large.connection)
        with large.under_way():
            return await self._http.send(attrs.evolve(request, body=large))

    async def open_stream(self, path: str, *, repeat: bool = True) -> ByteStream:
        """Open a stream and return it once its headers have arrived.

        Args:
            path: The path below the base URL.
            repeat: Whether to retry; False for callers that reconnect themselves.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """
        request = ServiceRequest("GET", path, streams=True)
        return await self.begin_stream(request, Safety.REPEATABLE if repeat else None)

    async def begin_stream(self, request: ServiceRequest, safety: Safety | None) -> ByteStream:
        """Send a request whose response is a stream, and return it once its headers have arrived.

        Args:
            request: The request.
            safety: Whether it may be sent again; None to send it once whatever happens.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """

        if safety is None:
            return await self._begin(request)
        return await self._repeat(request.name, lambda: self._begin(request), safety, self.options.timeout.total)

    async def _begin(self, request: ServiceRequest | DownloadRequest) -> ByteStream:
        limits = self.options.timeout
        # ByteStream applies the idle timeout to the body; here it applies to the headers.
        patience = None if limits.idle is None else limits.idle + (limits.connect or 0.0)
        try:
            async with asyncio.timeout(patience):
                response = await (
                    self._send(request) if isinstance(request, ServiceRequest) else self._http.send(request)
                )
        except TimeoutError:
            raise APITimeoutError(f"{request.name}: no response within {patience:g} seconds") from None
        from .stream import ByteStream

        stream = ByteStream(response, self.masked(response.headers.get("Content-Type", "")), limits.idle)
        self._open.add(stream)
        return stream

    async def upload(self, upload_url: str, source: UploadSource, tell: ReportSent) -> None:
        """Send a file to its upload URL, with retries.

        There is no total timeout. The idle timeout applies to sending each piece and to the response.

        Args:
            upload_url: The URL from the response to the announcement of the file.
            source: The file, opened.
            tell: Called with the number of bytes sent so far.

        Raises:
            FileError: The file changed or cannot be read.
            APIError: The storage server refused it.
            APIConnectionError: That server could not be reached or did not answer.
            UnreadableError: The URL is invalid or not encrypted.
            Exception: Raised by ``tell``.
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
                        raise APIConnectionError(f"{request.name}: the server responded before the file was complete")
            except TimeoutError:
                if body.failure is None:
                    raise APITimeoutError(f"{request.name}: no progress within {limits.idle or 0:g} seconds") from None
            except InferenceError:
                if body.failure is None:
                    raise
            return body.failure  # an error of the file or of the caller's callback, which a retry would not cure

        failure = await self._repeat("an upload", once, Safety.REPEATABLE, None)
        if failure is not None:
            raise failure

    async def download(self, uri: str, receive: Callable[[ByteStream, int | None], Awaitable[T]]) -> T:
        """Request a file, follow redirects, and pass its bytes to a function, again after each failure.

        There is no total timeout. The idle timeout applies to the response and to each read.

        Args:
            uri: The file's URI.
            receive: Reads the file; called with its bytes from the beginning and with its size, if the server tells it.

        Returns:
            What ``receive`` returns.

        Raises:
            APIError: The storage server refused it.
            APIConnectionError: That server could not be reached or did not answer.
            UnreadableError: The URI is invalid or not encrypted.
            Exception: Raised by ``receive``.
        """
        first = file_address(uri, f"{await self._http.base_url()}/files")

        async def once() -> T:
            target = first
            for attempt in range(_MOST_REDIRECTS + 1):
                try:
                    stream = await self._begin(DownloadRequest(target))
                    break
                except RedirectError as redirect:
                    if attempt == _MOST_REDIRECTS:
                        raise
                    target = file_address(redirect.location, target)
            try:
                return await receive(stream, stream.length)
            finally:
                stream.close()

        return await self._repeat("a download", once, Safety.REPEATABLE, None)

    def masked(self, text: str) -> str:
        """Return a text from the server with the API key masked, in case the server echoed it."""
        return self._http.masked(text)

    async def aclose(self) -> None:
        """Close all streams, uploads and sessions; later requests raise an InferenceError."""
        for connection in self._open:
            connection.close()
        await self._http.aclose()

    async def _repeat(self, what: str, once: Callable[[], Awaitable[T]], safety: Safety, total: float | None) -> T:
        """Call ``once`` until it succeeds or the retry policy or the total timeout ends the attempts."""
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
                failure = APITimeoutError(f"{what} had no response within {total:g} seconds")
            wait = self.options.retry.wait(failure, sent=_was_sent(failure), safety=safety, attempt=attempt)
            if wait is None or time.monotonic() + wait >= deadline:
                if isinstance(failure, APIError):
                    failure.repetitions = attempt
                raise failure
            attempt += 1
            logger.info("%s failed (%s); retry %d in %.2f s", what, type(failure).__name__, attempt, wait)
            await asyncio.sleep(wait)


def service_request(
    method: str,
    path: str,
    *,
    json: object = None,
    params: Mapping[str, str] | None = None,
    streams: bool = False,
    accept: str | None = None,
    guard: Callable[[], bool] | None = None,
) -> ServiceRequest:
    """Return a request to the service with a JSON body; the arguments are those of ``ServiceRequest``."""
    body = dump_json(json) if json is not None else None
    return ServiceRequest(method, path, body, params, streams, accept, guard)


def _was_sent(error: InferenceError) -> bool:
    return not isinstance(error, APIConnectionError) or error.sent
