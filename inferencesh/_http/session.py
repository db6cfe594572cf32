"""Send single HTTP requests with aiohttp, using one session for each event loop.

Retries are decided in ``retry.py`` and made in ``transport.py``; here every request is sent once. aiohttp follows no
redirects, retries nothing and reads no proxies from the environment (``proxy_for`` does). It is imported when the first
request is sent, because its import takes some tenths of a second.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inferencesh._loops.pool import LoopPool
from inferencesh._loops.threads import OpenConnection, import_in_thread
from inferencesh.config import Secret, is_loopback
from inferencesh.errors import APIConnectionError, APIError, APITimeoutError, ConfigurationError, InferenceError

from .requests import Address, AnyRequest, TransportOptions

if TYPE_CHECKING:
    import aiohttp

__all__ = [
    "HTTPClient",
    "connection_error",
    "proxy_for",
    "without_url",
]

logger = logging.getLogger("inferencesh")

_KEEP_ALIVE = 4.0  # seconds; common servers close idle connections after 5, and a message must not go to a closing one
_MOST_BODY = 64 * 1024 * 1024  # bytes of a response body
_MOST_EXPLANATION = 64 * 1024  # bytes of the error response of a storage server


class HTTPClient:
    """Sends the HTTP requests of one client, without retries.

    Args:
        get_address: Returns the base URL and API key. It is awaited before each request, so that an embedded server can
            be started by the first one.
        options: The options of all requests.
        in_use: The streams and uploads in progress; they are closed together with the session of their loop.
    """

    def __init__(
        self,
        get_address: Callable[[], Awaitable[Address]],
        options: TransportOptions,
        in_use: Iterable[OpenConnection],
    ) -> None:
        self._options = options
        self._get_address = get_address
        self._proxies: dict[str, str | None] = {}
        self._secret: Secret | None = None
        self._sessions: LoopPool[aiohttp.ClientSession] = LoopPool(
            self._make_session,
            functools.partial(_close_session, in_use),
            discard=lambda session: session.detach(),
            is_open=lambda session: not session.closed,
        )

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._sessions.closed

    async def base_url(self) -> str:
        """Return the base URL of the service."""
        return (await self._get_address()).base_url

    async def send(self, request: AnyRequest) -> aiohttp.ClientResponse:
        """Send a request once.

        Returns:
            The response, which has a 2xx status; its body has not been read.

        Raises:
            APIError: The response has an error status.
            APIConnectionError: The server could not be reached or did not answer.
        """
        await import_in_thread("aiohttp")
        import aiohttp
        import yarl

        address = await self._get_address()
        self._secret = address.api_key
        session = await self._sessions.get()
        started = time.monotonic()
        limits = self._options.timeout
        url = request.url(address)
        failure: InferenceError
        try:
            response = await session.request(
                request.method,
                yarl.URL(url, encoded=True) if request.signed else url,
                data=request.body,
                params=request.params,
                headers=request.headers(address),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect, sock_read=None if request.streams else limits.idle
                ),
                allow_redirects=False,
                proxy=self._proxy(url),
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = connection_error(error, request.name, limits.idle, url)
            failure.args = (self.masked(str(failure)),)  # it quotes what is no HTTP
        else:
            self._log_response(request, response, started)
            if 200 <= response.status < 300:
                return response
            failure = await self._status_error(request, response)
            del response
        # Raised outside the except block: the traceback must not hold frames whose variables show the API key.
        raise failure

    async def read_body(self, response: aiohttp.ClientResponse, most: int = _MOST_BODY) -> bytes:
        """Read the body of a response.

        Args:
            response: The response.
            most: The maximum size in bytes.

        Raises:
            APIConnectionError: The connection was lost, or the body is larger than ``most``.
            APITimeoutError: No data arrived within the idle timeout.
        """
        import aiohttp

        idle = self._options.timeout.idle
        chunks: list[bytes] = []
        size = 0
        failure: InferenceError
        try:
            while True:
                async with asyncio.timeout(idle):
                    chunk = await response.content.readany()
                if not chunk:
                    return b"".join(chunks)
                size += len(chunk)
                if size > most:
                    failure = APIConnectionError(f"the response is larger than {most} bytes")
                    break
                chunks.append(chunk)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: lost before the read began
            failure = connection_error(error, "reading the response", idle)
        raise failure

    def masked(self, text: str) -> str:
        """Return a text from the server with the API key masked, in case the server echoed it."""
        return text if self._secret is None else self._secret.masked(text)

    def masked_response(self, response: aiohttp.ClientResponse, body: bytes) -> tuple[Mapping[str, str], bytes]:
        """Return the headers and the body of a response with the API key masked, in case the server echoed it."""
        from multidict import CIMultiDict

        headers = CIMultiDict((name, self.masked(value)) for name, value in response.headers.items())
        return headers, self.masked(body.decode("utf-8", "replace")).encode()

    async def aclose(self) -> None:
        """Close all sessions; later requests raise an InferenceError."""
        await self._sessions.aclose()

    async def _status_error(self, request: AnyRequest, response: aiohttp.ClientResponse) -> APIError:
        """Return the exception for a response with an error status, with the API key masked."""
        if request.signed:
            body = await self._read_storage_error(response)
        else:
            try:
                body = await self.read_body(response)
            finally:
                response.release()
        return request.error(response.status, *self.masked_response(response, body))

    async def _read_storage_error(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the error body of a storage server, or b"" if it closed the connection in the middle of the upload."""
        try:
            return await self.read_body(response, _MOST_EXPLANATION)
        except APIConnectionError as error:
            logger.debug("the error body of a failed upload could not be read: %s", error)
            return b""  # the status alone is enough for an exception
        finally:
            response.close()  # otherwise aiohttp would send the rest of the file

    def _make_session(self) -> aiohttp.ClientSession:
        import aiohttp

        connector = _connector_class()(
            limit=0,  # as many streams at once as the operating system allows
            keepalive_timeout=_KEEP_ALIVE,
            ssl=self._options.ssl or True,
        )
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        # aiohttp would retry GET requests itself if a kept-alive connection was closed. There is no public option to
        # disable that; aiohttp's own test client sets this attribute too.
        session._retry_connection = False
        return session

    def _proxy(self, url: str) -> str | None:
        """Return the proxy for a URL; cached by origin, since reading the environment is slow."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(origin, self._options.proxy, trust_env=self._options.trust_env)
        return self._proxies[origin]

    def _log_response(
        self,
        request: AnyRequest,
        response: aiohttp.ClientResponse,
        started: float,
    ) -> None:
        logger.debug(
            "%s answered %d in %.0f ms, request id %s",
            request.name,
            response.status,
            (time.monotonic() - started) * 1000,
            self.masked(response.headers.get("X-Request-Id", "-")),
        )


async def _close_session(in_use: Iterable[OpenConnection], session: aiohttp.ClientSession) -> None:
    """Close a session, and the streams and uploads of its loop."""
    for connection in in_use:
        if connection.loop is asyncio.get_running_loop():
            connection.close()
    await session.close()


@functools.cache
def _connector_class() -> type[aiohttp.TCPConnector]:
    """Return aiohttp's TCPConnector without its ``__del__``, which warns and closes sockets of a parent process.

    ``LoopPool`` closes connectors. Where it cannot (in a forked child, or if a loop was never closed), the operating
    system closes the sockets when the process ends.
    """
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        def __del__(self, *_: object) -> None:
            """Do nothing."""

    return Connector


def proxy_for(base_url: str, explicit: str | None, *, trust_env: bool) -> str | None:
    """Return the proxy for requests to a base URL.

    Requests over https are tunnelled, so that the proxy cannot read them. Plain http is allowed for loopback addresses
    only; for these a proxy from the environment is used only if it has a loopback address too.

    Args:
        base_url: The base URL.
        explicit: The proxy given by the caller, or None.
        trust_env: Whether to read ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

    Returns:
        The proxy's URL, or None to connect directly.

    Raises:
        ConfigurationError: It is not an http proxy, or it could read the API key.
    """
    import urllib.request  # slow to import; aiohttp, imported by now, needs it too

    target = urlsplit(base_url)
    proxy = explicit
    if proxy is None:
        if not trust_env or urllib.request.proxy_bypass(target.netloc):
            return None
        found = urllib.request.getproxies()
        proxy = found.get(target.scheme) or found.get("all")
        if not proxy:
            return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"the proxy's address is not a URL: {error}") from None
    usable = parts.scheme in {"http", "https"} and bool(host)
    if target.scheme == "http" and explicit is None and not (usable and is_loopback(host)):
        return None  # the loopback address is reachable without a proxy
    if not usable:
        raise ConfigurationError(
            f"only http proxies are supported, not {parts.scheme}:// ones; pass proxy= or trust_env=False"
        )
    if target.scheme == "http" and not is_loopback(host):
        raise ConfigurationError("a proxy on another machine would see the API key of a plain http base_url; use https")
    return parts.geturl()


def connection_error(error: Exception, what: str, idle: float | None, url: str | None = None) -> APIConnectionError:
    """Return the exception to raise for an error of aiohttp or the operating system.

    Args:
        error: An aiohttp.ClientError or OSError, or the RuntimeError that aiohttp raises for a read from a connection
            that was lost before.
        what: What was being done, for the error's text.
        idle: The idle timeout in seconds, for the text of a TimeoutError.
        url: The URL of the request, which must not be told; None if ``error`` cannot have it.

    Returns:
        The exception; its cause is ``error`` without its traceback, whose frames hold the request's headers.
    """
    import aiohttp

    response = isinstance(error, aiohttp.ClientResponseError)  # which is not told whole
    told = error if url is None or response else without_url(error, url)
    failure: APIConnectionError
    if isinstance(error, TimeoutError):
        limit = "the connect timeout" if isinstance(error, aiohttp.ConnectionTimeoutError) else f"{idle or 0:g} seconds"
        failure = APITimeoutError(f"{what}: no response within {limit}")
    elif isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        failure = APIConnectionError(f"{what}: no connection could be made ({_reason(told)})")
    else:
        failure = APIConnectionError(
            f"{what}: the connection was lost before the response was complete ({_reason(told)})"
        )
    unsent = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
    failure.sent = not isinstance(error, unsent)
    if not response:  # it has the request's headers as an attribute
        told.__context__ = told.__cause__ = None
        failure.__cause__ = told.with_traceback(None)
    return failure


def without_url(error: Exception, url: str) -> Exception:
    """Return the error, or a replacement if its text has the whole URL, whose query may hold a signature.

    Args:
        error: An aiohttp.ClientError or OSError.
        url: The URL of the request.
    """
    if url not in str(error):
        return error
    code = getattr(error, "errno", None)
    return OSError(code, os.strerror(code)) if isinstance(code, int) else OSError(type(error).__name__)


def _reason(error: Exception) -> str:
    import aiohttp

    text = str(error)
    if isinstance(error, aiohttp.ClientResponseError):  # its text has the URL, that of a proxy with its password
        text = f"{error.status} {error.message}"
    text = " ".join(text.split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
