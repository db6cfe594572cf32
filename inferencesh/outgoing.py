"""What is sent: requests to the service, which carry the API key, and files for storage, which must not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

import attrs

from ._version import __version__
from .config import Secret, Timeout, is_loopback
from .converter import UnreadableError
from .errors import APIError
from .responses import error_from_response, refused_upload
from .retry import RetryPolicy
from .wire import MAX_LINE_BYTES

if TYPE_CHECKING:
    import ssl

    import aiohttp

__all__ = ["Address", "ServiceRequest", "StorageRequest", "TransportOptions", "storage_address"]


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


_AS_IT_STANDS = "%/:?#[]@!$&'()*+,;=~"  # in an address; everything else is percent-encoded if it is not yet


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
class ServiceRequest:
    """A request to the service, ready to be sent any number of times.

    Attributes:
        method: GET, POST or the like.
        path: The path below the base URL.
        body: The body, or None.
        params: The query, or None.
        streams: Whether the answer is a stream, which may be silent for long.
    """

    method: str
    path: str
    body: bytes | None = None
    params: Mapping[str, str] | None = None
    streams: bool = False

    @property
    def name(self) -> str:
        """What logs and errors call it."""
        return f"{self.method} {self.path}"

    def url(self, address: Address) -> str:
        """Where it goes."""
        return address.base_url + self.path

    def headers(self, address: Address) -> Mapping[str, str]:
        """Its headers, with the API key."""
        common = _STREAM_HEADERS if self.streams else _REQUEST_HEADERS
        return {**common, "Authorization": _Header(f"Bearer {address.api_key.reveal()}")}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
        """The exception for an answer with an error status."""
        return error_from_response(status, headers, body)


@attrs.frozen
class StorageRequest:
    """A file on its way to where the service wants it, which may be anybody's server: it gets no key of ours.

    Attributes:
        target: The address, from ``storage_address``. Its query opens the door there, so that nothing shows it.
        content_type: The MIME type that the service was told.
        size: Bytes.
        body: The bytes.
    """

    target: str = attrs.field(repr=False)
    content_type: str
    size: int
    body: aiohttp.Payload = attrs.field(repr=False)
    method: str = "PUT"
    params: None = None
    streams: bool = True  # while a file is sent there is nothing to be read

    @property
    def name(self) -> str:
        """What logs and errors call it."""
        return f"the upload to {urlsplit(self.target).hostname}"

    def url(self, _address: Address) -> str:
        """Where it goes."""
        return self.target

    def headers(self, _address: Address) -> Mapping[str, str]:
        """Its headers; the type has to be the very one that the service was told, for it may be part of a signature."""
        return {**_COMMON_HEADERS, "Content-Type": self.content_type, "Content-Length": str(self.size)}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
        """The exception for an answer with an error status."""
        return refused_upload(urlsplit(self.target).hostname or "", status, headers, body)


def storage_address(upload_url: str, base_url: str) -> str:
    """Where a file is to be sent, if that can be trusted.

    Args:
        upload_url: What the service answered; a relative one is taken as below the service's own host.
        base_url: The service's address.

    Returns:
        The whole address.

    Raises:
        UnreadableError: It is no https address. Plain http, which everybody in between can read, is for this machine
            alone, and only when the service is there itself.
    """
    try:
        whole = quote(urljoin(f"{base_url}/files", upload_url), safe=_AS_IT_STANDS)
        parts, base = urlsplit(whole), urlsplit(base_url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise UnreadableError("the address that the service wants the file at is not a URL; it was not sent") from None
    near = is_loopback(host) and is_loopback(base.hostname or "")
    if not (parts.scheme == "https" and host) and not (parts.scheme == "http" and near):
        raise UnreadableError(
            f"the service wants the file sent to {parts.scheme}://{host}, which is not encrypted; it was not sent"
        )
    if "@" in parts.netloc:
        raise UnreadableError(
            f"the address at {host} that the service wants the file at has a user name; it was not sent"
        )
    return whole
