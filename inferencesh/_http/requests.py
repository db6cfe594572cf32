"""Build requests and read responses, without sending anything.

A ServiceRequest goes to the service and has the API key; a StorageRequest uploads a file to a storage server and does
not have the key.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, unquote, urljoin, urlsplit

import attrs

from inferencesh import __version__
from inferencesh._text import decode_json
from inferencesh._types.encoding import dump_json
from inferencesh.config import MAX_LINE_BYTES, Secret, Timeout, is_loopback
from inferencesh.errors import APIError, ConfigurationError, UnreadableError, error_class

from .retry import RetryPolicy

if TYPE_CHECKING:
    import ssl

    import aiohttp

__all__ = [
    "Address",
    "AnyRequest",
    "DownloadRequest",
    "RedirectError",
    "ServiceRequest",
    "StorageRequest",
    "TransportOptions",
    "check_method",
    "check_path",
    "error_from_response",
    "file_address",
    "query_of",
    "read_response",
    "refused_upload",
    "retry_after",
    "storage_address",
]

_BODY_CUT = 500  # characters of a body that is not JSON
_HTML_PAGE = "the response is an HTML page, most likely from a proxy in between"
_UNQUOTED = "%/:?#[]@!$&'()*+,;=~"  # characters of a URL that are not percent-encoded
# The error fields of S3-compatible storage; a regular expression avoids parsing untrusted XML.
_XML_FIELD = re.compile(r"<(Code|Message)>([^<]{1,500})</\1>")


def read_response(status: int, headers: Mapping[str, str], body: bytes, *, needed: bool = True) -> object:
    """Return the data of a successful response.

    Args:
        status: The HTTP status, 2xx.
        headers: The response's headers.
        body: Its body.
        needed: Whether the data are needed, rather than the acknowledgement that any 2xx response is.

    Returns:
        The object or list in the body, without its envelope; None for an empty body and anything else, such as plain
        text or ``true``.

    Raises:
        APIError: The envelope says that the request failed, whatever the status.
        UnreadableError: It is an HTML page: a proxy or login page answered, and the service has not seen the request.
            Or the data are needed and incomplete.
    """
    try:
        value = decode_json(body) if body.strip() else None
    except UnreadableError as error:
        if _is_page(body.decode("utf-8", "replace")):
            raise UnreadableError(_HTML_PAGE) from None
        if needed and body.lstrip().startswith((b"{", b"[")):
            raise UnreadableError(f"the response cannot be read, or was cut off: {error}") from None
        return None  # some endpoints respond in plain text; the official Python SDK treats this as no data too
    if not isinstance(value, dict):
        return value if isinstance(value, list) else None
    if isinstance(value.get("success"), bool):
        if not value["success"]:
            raise error_from_response(status, headers, body)
        return value.get("data")
    # A tool invocation has a field "data" as well, so an envelope must have no other fields.
    if "data" in value and value.keys() <= {"data", "messages", "status", "error"}:
        return value["data"]
    return value


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime.datetime | None = None
) -> APIError:
    """Return the exception for an error response.

    Args:
        status: The HTTP status.
        headers: The response's headers.
        body: Its body: problem details, a legacy error, or anything else.
        now: The current time, for a ``Retry-After`` that is a date.

    Returns:
        An exception of the class for the status.
    """
    try:
        value = decode_json(body) if body.strip() else None
    except UnreadableError:
        value = body.decode("utf-8", "replace")[:_BODY_CUT]
    code, detail = _code_and_detail(value)
    detail = detail or _line(body.decode("utf-8", "replace"))
    if isinstance(value, dict) and status < 400 and isinstance(value.get("status"), int):
        status = value["status"]  # a failure in an envelope that was sent with HTTP 200
    location = headers.get("Location")
    if 300 <= status < 400 and location:
        detail = f"the server redirects to {location.partition('?')[0]}; redirects are not followed, set base_url"
    return error_class(status, code)(
        detail or f"the server answered with HTTP {status} and no explanation",
        status_code=status,
        code=code,
        request_id=headers.get("X-Request-Id") or headers.get("Request-Id"),
        body=value,
        retry_after=retry_after(headers, now),
    )


def refused_upload(host: str, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """Return the exception for an upload that a storage server refused.

    Args:
        host: The server.
        status: The HTTP status.
        headers: The response's headers.
        body: Its body: JSON in the service's form, XML in the form of S3, or anything else.

    Returns:
        An exception of the class for the status.
    """
    error = _storage_error(host, "did not take the file", status, headers, body)
    if 300 <= status < 400:
        error.detail = f"{host} did not take the file and redirects; redirects of uploads are not followed"
    return error


def _storage_error(host: str, failure: str, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    from multidict import CIMultiDict

    placeless = CIMultiDict(headers)  # names of headers are in any case
    placeless.pop("Location", None)
    error = error_from_response(status, placeless, body)
    found = dict(_XML_FIELD.findall(body[:4096].decode("utf-8", "replace")))
    error.code = error.code or found.get("Code")
    explained = _line(found["Message"]) if "Message" in found else error.detail
    error.detail = f"{host} {failure}: {explained}"
    error.request_id = error.request_id or headers.get("X-Amz-Request-Id")
    return error


def _code_and_detail(value: object) -> tuple[str | None, str]:
    """Return the machine-readable code and the detail of an error body."""
    if isinstance(value, str):
        return None, _HTML_PAGE if _is_page(value) else _line(value)
    if not isinstance(value, dict):
        return None, ""
    error = value.get("error")
    legacy = error if isinstance(error, dict) else {}
    kind = value.get("type")
    code = kind.rpartition("/errors/")[2] if isinstance(kind, str) and "/errors/" in kind else None
    code = code or _string(legacy.get("code")) or _string(value.get("code")) or None
    candidates = (value.get("detail"), value.get("title"), legacy.get("message"), value.get("message"), error)
    detail = next((text for text in map(_string, candidates) if text), "")
    return code, _line(detail)


def _is_page(text: str) -> bool:
    return "<html" in text[:200].lower() or "<!doctype" in text[:200].lower()


def _string(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _line(text: str) -> str:
    return " ".join(text[:_BODY_CUT].split())


def retry_after(headers: Mapping[str, str], now: datetime.datetime | None = None) -> float | None:
    """Return how long the server asks to wait.

    Args:
        headers: The response's headers; ``Retry-After-Ms`` (milliseconds) and ``Retry-After`` (seconds or an HTTP date)
            are read.
        now: The current time; None for that of the system clock.

    Returns:
        Seconds, not negative; None if there is no valid header.
    """
    for name, scale in (("Retry-After-Ms", 0.001), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _seconds_until(value, now or datetime.datetime.now(datetime.UTC))
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _seconds_until(date: str, now: datetime.datetime) -> float:
    """Return the seconds until an HTTP date; 0 if it is in the past, NaN if it is invalid."""
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - now).total_seconds())


@attrs.frozen
class Address:
    """The address and the credentials of the service.

    Attributes:
        base_url: The base URL, without a trailing slash.
        api_key: The API key.
    """

    base_url: str
    api_key: Secret


@attrs.frozen
class TransportOptions:
    """The options of all requests of a client.

    Attributes:
        timeout: The time limits.
        retry: The rules for retries.
        proxy: A proxy's URL, or None for the one from the environment.
        trust_env: Whether proxies are read from the environment.
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
    """A header value that tracebacks with local variables do not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


_COMMON_HEADERS = {"User-Agent": f"inferencesh-python/{__version__}"}
_REQUEST_HEADERS = {**_COMMON_HEADERS, "Accept": "application/json", "Content-Type": "application/json"}
_STREAM_HEADERS = {
    **_COMMON_HEADERS,
    "Accept": "application/x-ndjson",
    "Accept-Encoding": "identity",  # compression would delay updates
    "Cache-Control": "no-cache",
}


_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_REFUSED_IN_PATHS = re.compile(r"[\x00-\x20\x7f\\?#]")


def check_method(method: object) -> str:
    """Return an HTTP method that a caller gave, in capitals.

    Raises:
        TypeError: It is not a str.
        ConfigurationError: It is no method that a service would have.
    """
    if not isinstance(method, str):
        raise TypeError(f"the method must be a str, not {type(method).__name__}")
    if method.upper() not in _METHODS:
        raise ConfigurationError(f"the method must be one of {', '.join(_METHODS)}, not {method!r}")
    return method.upper()


def check_path(path: object) -> str:
    """Return a path that a caller gave, which must lead below the base URL.

    Raises:
        TypeError: It is not a str.
        ConfigurationError: It is an address of its own, leads out of the base URL, or is malformed.
    """
    if not isinstance(path, str):
        raise TypeError(f"the path must be a str, not {type(path).__name__}")
    if not path.startswith("/") or path.startswith("//"):
        raise ConfigurationError(
            f"{path!r} is no path below the base URL: it must begin with a single slash, as in '/chats/list'. "
            "Requests, and the API key with them, go to the client's own base URL only"
        )
    if found := _REFUSED_IN_PATHS.search(path):
        hint = (
            "; the query goes into params=" if found[0] == "?" else "; quote it with urllib.parse.quote(part, safe='')"
        )
        raise ConfigurationError(f"{path!r} is no path: it has the character {found[0]!r}{hint}")
    try:
        path.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ConfigurationError(f"{path!r} is no path: it cannot be encoded") from None
    if {".", ".."} & set(unquote(path).split("/")):
        raise ConfigurationError(f"{path!r} is no path below the base URL: '.' and '..' would lead elsewhere")
    return path


def query_of(params: Mapping[str, object] | None) -> Mapping[str, str] | None:
    """Return the query of a request as texts, such as that of a date; None is left out, lists and mappings are JSON.

    Raises:
        TypeError: It is not a mapping of names to values that have a JSON form.
    """
    if params is None:
        return None
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping, not {type(params).__name__}")
    return {
        str(name): value if type(value) is str else _query_text(value)
        for name, value in params.items()
        if value is not None
    }


def _query_text(value: object) -> str:
    form = dump_json(value)
    return decode_json(form) if form.startswith(b'"') else form.decode()


@attrs.frozen
class ServiceRequest:
    """A request to the service; it can be sent any number of times.

    Attributes:
        method: GET, POST or the like.
        path: The path below the base URL.
        body: The body, or None.
        params: The query, or None.
        streams: Whether the response is a stream, to which no read timeout applies.
        accept: The content types to ask for; None for JSON, or of a stream NDJSON.
        guard: Asked at the moment at which the body would be written whether it still may be, or None.
    """

    method: str
    path: str
    body: bytes | aiohttp.Payload | None = None
    params: Mapping[str, str] | None = None
    streams: bool = False
    accept: str | None = None
    guard: Callable[[], bool] | None = None

    @property
    def name(self) -> str:
        """Return the name of the request for logs and errors."""
        return f"{self.method} {self.path}"

    signed = False

    def url(self, address: Address) -> str:
        """Return the URL."""
        return address.base_url + self.path

    def headers(self, address: Address) -> Mapping[str, str]:
        """Return the headers, with the API key."""
        common = _STREAM_HEADERS if self.streams else _REQUEST_HEADERS
        if self.accept is not None:
            common = {**common, "Accept": self.accept}
        if self.body is not None:
            common = {**common, "Content-Type": "application/json"}
        return {**common, "Authorization": _Header(f"Bearer {address.api_key.reveal()}")}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
        """Return the exception for a response with an error status."""
        return error_from_response(status, headers, body)


@attrs.frozen
class _ForeignRequest:
    """A request to a storage server, which may be a third party's and does not receive the API key.

    Attributes:
        target: The URL. Its query may hold a signature, so it must not be logged.
    """

    target: str = attrs.field(repr=False)

    params = None
    streams = True  # no read timeout while a file is on its way
    signed = True  # the URL may be, so it is sent as it is

    @property
    def host(self) -> str:
        """The host of the server, which may be logged."""
        return urlsplit(self.target).hostname or ""

    def url(self, _address: Address) -> str:
        """Return the URL."""
        return self.target


@attrs.frozen
class StorageRequest(_ForeignRequest):
    """The upload of a file, to a URL from ``storage_address``.

    Attributes:
        content_type: The MIME type announced to the service.
        size: The size in bytes.
        body: The content.
    """

    content_type: str
    size: int
    body: aiohttp.Payload = attrs.field(repr=False)

    method = "PUT"

    @property
    def name(self) -> str:
        """Return the name of the request for logs and errors."""
        return f"the upload to {self.host}"

    def headers(self, _address: Address) -> Mapping[str, str]:
        """Return the headers; the content type is the announced one, because the URL's signature may cover it."""
        return {**_COMMON_HEADERS, "Content-Type": self.content_type, "Content-Length": str(self.size)}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
        """Return the exception for a response with an error status."""
        return refused_upload(self.host, status, headers, body)


class RedirectError(APIError):
    """A storage server answered a download with the address of another one.

    Attributes:
        location: The address, which may be relative.
    """

    location = ""


@attrs.frozen
class DownloadRequest(_ForeignRequest):
    """The download of a file, from a URL that ``file_address`` has returned."""

    method = "GET"
    body = None

    @property
    def name(self) -> str:
        """Return the name of the request for logs and errors."""
        return f"the download from {self.host}"

    def headers(self, _address: Address) -> Mapping[str, str]:
        """Return the headers; compression would hide the size."""
        return {**_COMMON_HEADERS, "Accept": "*/*", "Accept-Encoding": "identity"}

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
        """Return the exception for a response with an error status."""
        if 300 <= status < 400 and headers.get("Location"):
            redirect = RedirectError(f"{self.host} redirects too often", status_code=status)
            redirect.location = headers["Location"]
            return redirect
        return _storage_error(self.host, "did not give the file out", status, headers, body)


AnyRequest: TypeAlias = ServiceRequest | StorageRequest | DownloadRequest


def storage_address(upload_url: str, base_url: str) -> str:
    """Return the URL to upload a file to, after checking that it is safe.

    Args:
        upload_url: The URL from the service's response; a relative one is resolved against the service's host.
        base_url: The base URL of the service.

    Returns:
        The absolute URL.

    Raises:
        UnreadableError: It is not an https URL. Plain http is allowed only if both it and ``base_url`` have loopback
            addresses.
    """
    return _foreign_address(
        upload_url,
        f"{base_url}/files",
        "the address that the service wants the file at is not a URL; it was not sent",
        "the service wants the file sent to {where}, which is not encrypted; it was not sent",
        "the address at {where} that the service wants the file at has a user name; it was not sent",
    )


def file_address(uri: str, base: str) -> str:
    """Return the URL to download a file from, after checking that it is safe.

    Args:
        uri: The file's URI, or where a redirect leads.
        base: The URL against which a relative one is resolved.

    Raises:
        UnreadableError: As for ``storage_address``.
    """
    return _foreign_address(
        uri,
        base,
        "the file's address is not a URL",
        "the file is at {where}, which is not encrypted; it was not downloaded",
        "the file's address at {where} has a user name; it was not downloaded",
    )


def _foreign_address(given: str, base: str, no_url: str, unencrypted: str, named: str) -> str:
    try:
        whole = quote(urljoin(base, given), safe=_UNQUOTED)
        parts, origin = urlsplit(whole), urlsplit(base)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise UnreadableError(no_url) from None
    near = is_loopback(host) and is_loopback(origin.hostname or "")
    if not (parts.scheme == "https" and host) and not (parts.scheme == "http" and near):
        raise UnreadableError(unencrypted.format(where=f"{parts.scheme}://{host}"))
    if "@" in parts.netloc:
        raise UnreadableError(named.format(where=host))
    return whole
