"""One request, sent once over aiohttp, which is imported with the first of them.

Nothing is left to aiohttp's own rules: redirects are refused, nothing is repeated here, and proxies from the
environment are looked up by ``proxies``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import io
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread

from .config import Secret
from .errors import APIConnectionError, APIError, InferenceError
from .failures import received, translated, without_address
from .open_connection import OpenConnection
from .outgoing import Address, ServiceRequest, StorageRequest, TransportOptions
from .proxies import proxy_for
from .sessions import Sessions

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Sender"]

logger = logging.getLogger("inferencesh")

_KEEP_ALIVE = (
    4.0  # seconds; below the 5 after which common servers hang up, lest a message be sent into a closing socket
)
_MOST_BODY = 64 * 1024 * 1024  # bytes of an answer that is read whole
_LARGE_BODY = 512 * 1024  # bytes that are sent at once at the most
_MOST_EXPLANATION = 64 * 1024  # bytes of a storage server's refusal


class Sender:
    """Sends the requests of one client.

    Args:
        locate: Says where to; awaited before each request, so that an address can come into being on first use.
        options: How requests are made.
        in_use: The connections in use; they are closed with the others of their loop.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Address]],
        options: TransportOptions,
        in_use: Collection[OpenConnection],
    ) -> None:
        self._options = options
        self._locate = locate
        self._proxies: dict[str, str | None] = {}
        self._secret: Secret | None = None
        self._sessions = Sessions(self._make_session, in_use)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._sessions.closed

    async def base_url(self) -> str:
        """The service's address."""
        return (await self._locate()).base_url

    async def send(self, request: ServiceRequest | StorageRequest) -> aiohttp.ClientResponse:
        """Send a request once.

        Returns:
            A successful answer, of which the body is still to be read.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """
        if "aiohttp" not in sys.modules:  # its import takes some tenths of a second, which the loop must not wait for
            await anyio.to_thread.run_sync(importlib.import_module, "aiohttp")
        import aiohttp
        import yarl

        address = await self._locate()
        self._secret = address.api_key
        session = await self._sessions.get()
        started = time.monotonic()
        limits = self._options.timeout
        url = request.url(address)
        failure: InferenceError
        try:
            response = await session.request(
                request.method,
                yarl.URL(url, encoded=True) if isinstance(request, StorageRequest) else url,  # signed as it stands
                data=_payload(request.body),
                params=request.params,
                headers=request.headers(address),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect, sock_read=None if request.streams else limits.idle
                ),
                allow_redirects=False,
                proxy=self._proxy(url),
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = translated(without_address(error, url), request.name, limits.idle)
        else:
            self._log_answer(request, response, started)
            if 200 <= response.status < 300:
                return response
            failure = await self._refusal(request, response)
            del response
        # Raised here, where no variable of this frame or of a library's frames holds the key or its echo.
        raise failure

    async def read_body(self, response: aiohttp.ClientResponse, most: int = _MOST_BODY) -> bytes:
        """Read the body of an answer.

        Args:
            response: The answer.
            most: The most bytes that are read.

        Raises:
            APIConnectionError: The connection was lost, nothing came for the idle time, or there is more of it.
        """
        import aiohttp

        idle = self._options.timeout.idle
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
                if size > most:
                    failure = APIConnectionError(f"the answer is longer than {most} bytes")
                    break
                chunks.append(chunk)
        except (aiohttp.ClientError, OSError) as error:
            failure = translated(error, "the answer's body", idle)
        raise failure

    def masked(self, text: str) -> str:
        """Text from the server without the API key, should the server have echoed it."""
        return text if self._secret is None else self._secret.masked(text)

    async def aclose(self) -> None:
        """Close all connections; later requests fail."""
        await self._sessions.aclose()

    async def _refusal(self, request: ServiceRequest | StorageRequest, response: aiohttp.ClientResponse) -> APIError:
        """The exception for an answer with an error status, in which the server may have echoed the API key."""
        from multidict import CIMultiDict

        if isinstance(request, StorageRequest):
            body = await self._read_explanation(response)
        else:
            try:
                body = await self.read_body(response)
            finally:
                response.release()
        headers = CIMultiDict((name, self.masked(value)) for name, value in response.headers.items())
        return request.error(response.status, headers, self.masked(body.decode("utf-8", "replace")).encode())

    async def _read_explanation(self, response: aiohttp.ClientResponse) -> bytes:
        """What a storage server says to its refusal, if that can be read: many hang up in the middle of the file."""
        try:
            return await self.read_body(response, _MOST_EXPLANATION)
        except APIConnectionError as error:
            logger.debug("the explanation of a refused upload could not be read: %s", error)
            return b""  # the status says enough
        finally:
            response.close()  # otherwise aiohttp would go on and send the rest of the file

    def _make_session(self) -> aiohttp.ClientSession:
        import aiohttp

        connector = _connector_class()(
            limit=0,  # as many streams at once as the operating system allows
            keepalive_timeout=_KEEP_ALIVE,
            ssl=self._options.ssl or True,
        )
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        # Without this aiohttp repeats reads on its own account when a kept connection has gone; its own test client
        # switches that off in the same way, there being no public one.
        session._retry_connection = False
        return session

    def _proxy(self, url: str) -> str | None:
        """The proxy, looked up once: reading the environment takes as long as the rest of a request."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(origin, self._options.proxy, trust_env=self._options.trust_env)
        return self._proxies[origin]

    def _log_answer(
        self, request: ServiceRequest | StorageRequest, response: aiohttp.ClientResponse, started: float
    ) -> None:
        logger.debug(
            "%s answered %d in %.0f ms, request id %s",
            request.name,
            response.status,
            (time.monotonic() - started) * 1000,
            self.masked(response.headers.get("X-Request-Id", "-")),
        )


def _payload(body: bytes | aiohttp.Payload | None) -> bytes | io.BytesIO | aiohttp.Payload | None:
    """A body as aiohttp wants it: it sends a file in parts, and warns of large bytes, which would block the loop."""
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > _LARGE_BODY else body


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
