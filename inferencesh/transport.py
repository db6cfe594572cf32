"""Requests and streams over aiohttp, which is imported when the first request is made.

One transport serves any number of event loops, one after another or at once. Nothing is left to aiohttp's own rules:
redirects are refused, repetitions are decided by ``retry``, proxies from the environment by ``proxies``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
import attrs

from ._version import __version__
from .config import Secret, Timeout
from .converter import dump_json
from .errors import APIConnectionError, APIError, APITimeoutError, InferenceError
from .failures import received, translated
from .proxies import proxy_for
from .responses import error_from_response, read_response
from .retry import RetryPolicy, Safety
from .sessions import Sessions
from .wire import MAX_LINE_BYTES

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from .byte_stream import ByteStream

__all__ = ["Address", "Transport", "TransportOptions"]

T = TypeVar("T")
logger = logging.getLogger("inferencesh")

_KEEP_ALIVE = (
    4.0  # seconds; below the 5 after which common servers hang up, lest a message be sent into a closing socket
)
_MOST_BODY = 64 * 1024 * 1024  # bytes of an answer that is read whole


@attrs.frozen
class Address:
    """Where requests go and what opens the door.

    Attributes:
        base_url: The service's address, without a slash at its end.
        api_key: The key.
    """

    base_url: str
    api_key: Secret


@attrs.frozen
class TransportOptions:
    """How requests are made.

    Attributes:
        timeout: The time limits.
        retry: When failed requests are repeated.
        proxy: A proxy's URL, or None for that of the environment.
        trust_env: Whether the environment's proxies count.
        ssl: The TLS context, or None for the system's certificates.
        max_line_bytes: The longest line of a stream.
    """

    timeout: Timeout = attrs.Factory(Timeout)
    retry: RetryPolicy = attrs.Factory(RetryPolicy)
    proxy: str | None = None
    trust_env: bool = True
    ssl: ssl.SSLContext | None = None
    max_line_bytes: int = MAX_LINE_BYTES


class _Header(str):
    """A header's value that tracebacks with local variables do not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


_COMMON_HEADERS = {"User-Agent": f"inferencesh-python/{__version__}"}
_REQUEST_HEADERS = {**_COMMON_HEADERS, "Accept": "application/json", "Content-Type": "application/json"}
_STREAM_HEADERS = {
    **_COMMON_HEADERS,
    "Accept": "application/x-ndjson",
    "Accept-Encoding": "identity",  # compression would hold updates back
    "Cache-Control": "no-cache",
}


@attrs.frozen
class _Request:
    """One request, ready to be sent any number of times."""

    method: str
    path: str
    body: bytes | None = None
    params: Mapping[str, str] | None = None
    streams: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        return _STREAM_HEADERS if self.streams else _REQUEST_HEADERS


class Transport:
    """Makes requests for one client.

    Args:
        locate: Says where to; awaited before each request, so that an address can come into being on first use.
        options: How.
    """

    def __init__(self, locate: Callable[[], Awaitable[Address]], options: TransportOptions) -> None:
        self.options = options
        self._locate = locate
        self._proxies: dict[str, str | None] = {}
        self._secret: Secret | None = None
        self._streams: weakref.WeakSet[ByteStream] = weakref.WeakSet()
        self._sessions = Sessions(self._make_session, self._streams)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._sessions.closed

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
            response = await self._send(_Request(method, path, body, params))
            try:
                data = await self._read_body(response)
            finally:
                response.release()
            return read_response(response.status, response.headers, data)

        return await self._repeat(f"{method} {path}", once, safety)

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
                    response = await self._send(_Request("GET", path, streams=True))
            except TimeoutError:
                raise APITimeoutError(f"GET {path}: no answer within {patience:g} seconds") from None
            from .byte_stream import ByteStream

            stream = ByteStream(response, self.masked(response.headers.get("Content-Type", "")), limits.idle)
            self._streams.add(stream)
            return stream

        return await (self._repeat(f"GET {path}", once, Safety.REPEATABLE) if repeat else once())

    async def aclose(self) -> None:
        """Close all streams and connections; later requests fail."""
        for stream in list(self._streams):
            stream.close()
        await self._sessions.aclose()

    async def _repeat(self, what: str, once: Callable[[], Awaitable[T]], safety: Safety) -> T:
        """Make a request as often as is safe and sensible, within the total time."""
        total = self.options.timeout.total
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

    async def _send(self, request: _Request) -> aiohttp.ClientResponse:
        """Send a request once; returns a successful answer of which the body is still to be read."""
        if "aiohttp" not in sys.modules:  # its import takes some tenths of a second, which the loop must not wait for
            await anyio.to_thread.run_sync(importlib.import_module, "aiohttp")
        import aiohttp

        address = await self._locate()
        self._secret = address.api_key
        session = await self._sessions.get()
        started = time.monotonic()
        limits = self.options.timeout
        failure: InferenceError
        try:
            response = await session.request(
                request.method,
                address.base_url + request.path,
                data=request.body,
                params=request.params,
                headers={**request.headers, "Authorization": _Header(f"Bearer {address.api_key.reveal()}")},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect, sock_read=None if request.streams else limits.idle
                ),
                allow_redirects=False,
                proxy=self._proxy(address.base_url),
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = translated(error, f"{request.method} {request.path}", limits.idle)
        else:
            self._log_answer(request, response, started)
            if 200 <= response.status < 300:
                return response
            failure = await self._refusal(response)
            del response
        # Raised here, where no variable of this frame or of a library's frames holds the key or its echo.
        raise failure

    async def _refusal(self, response: aiohttp.ClientResponse) -> APIError:
        """The exception for an answer with an error status, in which the server may have echoed the API key."""
        from multidict import CIMultiDict

        try:
            body = await self._read_body(response)
        finally:
            response.release()
        headers = CIMultiDict((name, self.masked(value)) for name, value in response.headers.items())
        return error_from_response(response.status, headers, self.masked(body.decode("utf-8", "replace")).encode())

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        import aiohttp

        idle = self.options.timeout.idle
        chunks: list[bytes] = []
        size = 0
        failure: InferenceError
        try:
            while True:
                async with asyncio.timeout(idle):
                    chunk = await received(response.content.readany())
                if not chunk:
                    return b"".join(chunks)
                size += len(chunk)
                if size > _MOST_BODY:
                    failure = APIConnectionError(f"the answer is longer than {_MOST_BODY} bytes")
                    break
                chunks.append(chunk)
        except (aiohttp.ClientError, OSError) as error:
            failure = translated(error, "the answer's body", idle)
        raise failure

    def _make_session(self) -> aiohttp.ClientSession:
        import aiohttp

        connector = _connector_class()(
            limit=0,  # as many streams at once as the operating system allows
            keepalive_timeout=_KEEP_ALIVE,
            ssl=self.options.ssl or True,
        )
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        # Without this aiohttp repeats reads on its own account when a kept connection has gone; its own test client
        # switches that off in the same way, there being no public one.
        session._retry_connection = False
        return session

    def _proxy(self, base_url: str) -> str | None:
        """The proxy, looked up once: reading the environment takes as long as the rest of a request."""
        if base_url not in self._proxies:
            self._proxies[base_url] = proxy_for(base_url, self.options.proxy, trust_env=self.options.trust_env)
        return self._proxies[base_url]

    def masked(self, text: str) -> str:
        """Text from the server without the API key, should the server have echoed it."""
        return text if self._secret is None else self._secret.masked(text)

    def _log_answer(self, request: _Request, response: aiohttp.ClientResponse, started: float) -> None:
        logger.debug(
            "%s %s answered %d in %.0f ms, request id %s",
            request.method,
            request.path,
            response.status,
            (time.monotonic() - started) * 1000,
            self.masked(response.headers.get("X-Request-Id", "-")),
        )


@functools.cache
def _connector_class() -> type[aiohttp.TCPConnector]:
    """aiohttp's connector without its last word: dropped unclosed, it complains, and touches inherited sockets.

    ``Sessions`` closes connectors; where that cannot be, in a forked child or after a loop that was never closed,
    the sockets go with the process.
    """
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        def __del__(self, *_: object) -> None:
            """Nothing."""

    return Connector


def _was_sent(error: InferenceError) -> bool:
    return not isinstance(error, APIConnectionError) or error.sent
