"""One request, sent once over aiohttp, which is imported with the first of them.

Nothing is left to aiohttp's own rules: redirects are refused, nothing is repeated here, and proxies from the
environment are looked up by ``proxies``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio.to_thread
import attrs

from inferencesh._loops.threads import OpenConnection, hand_over
from inferencesh.config import Secret, is_loopback
from inferencesh.errors import APIConnectionError, APIError, APITimeoutError, ConfigurationError, InferenceError

from .requests import Address, ServiceRequest, StorageRequest, TransportOptions

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Sender", "Sessions", "import_aiohttp", "proxy_for", "received", "translated", "without_address"]


def translated(error: Exception, what: str, idle: float | None) -> APIConnectionError:
    """This package's exception for another library's.

    Args:
        error: An aiohttp.ClientError or OSError.
        what: What was being done.
        idle: The limit that ran out, in seconds, if it is a TimeoutError.

    Returns:
        The exception to raise; its cause is ``error``, stripped of the frames that hold the request's headers.
    """
    import aiohttp

    failure: APIConnectionError
    if isinstance(error, TimeoutError):
        limit = "the connect timeout" if isinstance(error, aiohttp.ConnectionTimeoutError) else f"{idle or 0:g} seconds"
        failure = APITimeoutError(f"{what}: no answer within {limit}")
    elif isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        failure = APIConnectionError(f"{what}: no connection could be made ({_reason(error)})")
    else:
        failure = APIConnectionError(
            f"{what}: the connection was lost before the answer was complete ({_reason(error)})"
        )
    unsent = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
    failure.sent = not isinstance(error, unsent)
    if not isinstance(error, aiohttp.ClientResponseError):  # that one holds the request's headers
        error.__context__ = error.__cause__ = None
        failure.__cause__ = error.with_traceback(None)
    return failure


async def received(reading: Coroutine[Any, Any, bytes]) -> bytes:
    """What reading from an answer gives, with aiohttp's one failure that is of no class of its own made one.

    A connection that went before its reader was told is a RuntimeError there.

    Raises:
        aiohttp.ClientError, OSError: The connection was lost.
    """
    import aiohttp

    try:
        return await reading
    except RuntimeError as error:
        raise aiohttp.ClientConnectionError(str(error)) from None


def without_address(error: Exception, url: str) -> Exception:
    """The error, or another in its place if it tells the whole address of a request, whose query may be a secret.

    Args:
        error: An aiohttp.ClientError or OSError.
        url: The address.
    """
    if url not in str(error):
        return error
    code = getattr(error, "errno", None)
    return OSError(code, os.strerror(code)) if isinstance(code, int) else OSError(type(error).__name__)


def _reason(error: Exception) -> str:
    return type(error).__name__ if not str(error) else f"{type(error).__name__}: {str(error)[:200]}"


def proxy_for(base_url: str, explicit: str | None, *, trust_env: bool) -> str | None:
    """The proxy for the requests to one address.

    An https address is tunnelled through a proxy, which sees nothing of it. Plain http is used with loopback addresses
    alone; there a proxy of the environment is used only when it is on this machine too.

    Args:
        base_url: The address that requests go to.
        explicit: The proxy the caller asked for, or None.
        trust_env: Whether ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` count.

    Returns:
        The proxy's URL, or None for none.

    Raises:
        ConfigurationError: It is no http proxy, or it would see the API key.
    """
    import urllib.request  # here, for its own imports take as long as the rest of this package's; aiohttp has made them

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
        return None  # this machine can be reached without it
    if not usable:
        raise ConfigurationError(
            f"only http proxies are supported, not {parts.scheme}:// ones; pass proxy= or trust_env=False"
        )
    if target.scheme == "http" and not is_loopback(host):
        raise ConfigurationError("a proxy on another machine would see the API key of a plain http base_url; use https")
    return parts.geturl()


@attrs.frozen
class _Slot:
    """A session with what closes it."""

    session: aiohttp.ClientSession
    closer: AsyncGenerator[None, None]
    pid: int


# What a forked child must leave alone: its sockets and epoll are the parent's, and closing them disturbs the parent.
_inherited: list[_Slot] = []


class Sessions:
    """The sessions of one client.

    Args:
        make: Makes a session for the running loop.
        in_use: The connections in use; they are closed with the session of their loop.
    """

    def __init__(self, make: Callable[[], aiohttp.ClientSession], in_use: Collection[OpenConnection]) -> None:
        self._make = make
        self._in_use = in_use
        self._slots: dict[asyncio.AbstractEventLoop, _Slot] = {}
        self._lock = threading.Lock()
        self.closed = False
        weakref.finalize(self, _let_go, self._slots)

    async def get(self) -> aiohttp.ClientSession:
        """The running loop's session.

        Raises:
            InferenceError: The client was closed.
        """
        if self.closed:
            raise InferenceError("this client has been closed; make a new one")
        loop = asyncio.get_running_loop()
        slot = self._slots.get(loop)
        if slot is not None and slot.pid == os.getpid() and not slot.session.closed:
            return slot.session
        with self._lock:
            for other in [other for other, slot in self._slots.items() if other.is_closed() or slot.pid != os.getpid()]:
                _let_go({other: self._slots.pop(other)})
            session = self._make()
            slot = self._slots[loop] = _Slot(session, _closer(session, self._in_use), os.getpid())
        await anext(slot.closer)  # from here on the loop closes it at its end
        return session

    async def aclose(self) -> None:
        """Close the sessions; those of other loops are closed there."""
        self.closed = True
        with self._lock:
            slots = dict(self._slots)
            self._slots.clear()
        here = asyncio.get_running_loop()
        for loop, slot in slots.items():
            if slot.pid != os.getpid() or loop.is_closed():
                _let_go({loop: slot})
            elif loop is here:
                await slot.closer.aclose()
            elif not loop.is_running() or not hand_over(loop, _begin_closing, slot.closer):
                _let_go({loop: slot})


async def _closer(session: aiohttp.ClientSession, in_use: Collection[OpenConnection]) -> AsyncGenerator[None, None]:
    """Suspended while the session is open; closing it closes the session and what is in use of it."""
    try:
        yield
    finally:
        for connection in list(in_use):
            if connection.loop is asyncio.get_running_loop():
                connection.close()
        await session.close()


_closing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def _begin_closing(closer: AsyncGenerator[None, None]) -> None:
    task = asyncio.ensure_future(closer.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _let_go(slots: dict[asyncio.AbstractEventLoop, _Slot]) -> None:
    """Part with sessions whose loop can no longer close them, or is not ours to use, without a warning from aiohttp."""
    for loop, slot in slots.items():
        if slot.pid != os.getpid():
            _inherited.append(slot)
        if slot.pid != os.getpid() or not loop.is_running():
            slot.session.detach()  # a loop that runs closes it, once the closer is dropped
    slots.clear()


logger = logging.getLogger("inferencesh")

_KEEP_ALIVE = (
    4.0  # seconds; below the 5 after which common servers hang up, lest a message be sent into a closing socket
)
_MOST_BODY = 64 * 1024 * 1024  # bytes of an answer that is read whole
_MOST_EXPLANATION = 64 * 1024  # bytes of a storage server's refusal


async def import_aiohttp() -> None:
    """Import aiohttp in a thread: it takes some tenths of a second, for which the loop must not wait."""
    if "aiohttp" not in sys.modules:
        await anyio.to_thread.run_sync(importlib.import_module, "aiohttp")


class Sender:
    """Sends the requests of one client.

    Args:
        get_address: Says where to; awaited before each request, so that an address can come into being on first use.
        options: How requests are made.
        in_use: The connections in use; they are closed with the others of their loop.
    """

    def __init__(
        self,
        get_address: Callable[[], Awaitable[Address]],
        options: TransportOptions,
        in_use: Collection[OpenConnection],
    ) -> None:
        self._options = options
        self._get_address = get_address
        self._proxies: dict[str, str | None] = {}
        self._secret: Secret | None = None
        self._sessions = Sessions(self._make_session, in_use)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._sessions.closed

    async def base_url(self) -> str:
        """The service's address."""
        return (await self._get_address()).base_url

    async def send(self, request: ServiceRequest | StorageRequest) -> aiohttp.ClientResponse:
        """Send a request once.

        Returns:
            A successful answer, of which the body is still to be read.

        Raises:
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
        """
        await import_aiohttp()
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
                yarl.URL(url, encoded=True) if isinstance(request, StorageRequest) else url,  # signed as it stands
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
