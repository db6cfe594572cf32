"""What a client is told once: the key, the address and the time limits."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "API_KEY_VARIABLE",
    "BASE_URL_VARIABLE",
    "DEFAULT_BASE_URL",
    "Secret",
    "Timeout",
]

API_KEY_VARIABLE = "INFERENCE_API_KEY"
BASE_URL_VARIABLE = "INFERENCE_BASE_URL"
DEFAULT_BASE_URL = "https://api.inference.sh"


def _positive(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
        raise ConfigurationError(
            f"timeout: {attribute.name} must be a positive number of seconds or None, not {value!r}"
        )


@attrs.frozen
class Timeout:
    """Time limits in seconds; None means no limit.

    Attributes:
        connect: For a connection to be made, TLS included.
        idle: Without a single byte while one is awaited. The service sends a heartbeat every 10 seconds, so the default
            stands for three missed ones. On a stream it leads to a reconnect, on a request to an APITimeoutError.
        total: For one request with all its retries. Streams and uploads of files have no total limit; put
            ``asyncio.timeout`` around one if you need it.

    Example:
        ```python
        client = Inference("inf_...", timeout=Timeout(connect=5, idle=60, total=None))
        ```
    """

    connect: float | None = attrs.field(default=10.0, validator=_positive)
    idle: float | None = attrs.field(default=30.0, validator=_positive)
    total: float | None = attrs.field(default=120.0, validator=_positive)

    @classmethod
    def of(cls, value: float | Timeout | None) -> Timeout:
        """Read what a caller gave as ``timeout``.

        Args:
            value: A Timeout; or seconds, which bound each of connect, idle and total; or None for no limit at all.

        Returns:
            The time limits.

        Raises:
            ConfigurationError: A limit is not a positive number.
        """
        if isinstance(value, Timeout):
            return value
        return cls(connect=value, idle=value, total=value)


class Secret:
    """A string that shows itself only when asked: its repr, its str and a traceback's locals have no trace of it."""

    __slots__ = ("_keep",)

    def __init__(self, value: str) -> None:
        self._keep: Callable[[], str] = lambda: value  # in a closure, where no printer of attributes comes to it

    def reveal(self) -> str:
        """The string itself."""
        return self._keep()

    def masked(self, text: str) -> str:
        """``text`` with every occurrence of the secret blotted out, for what a server may have echoed."""
        return text.replace(self.reveal(), "***")

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


def read_api_key(given: str | None, environ: Mapping[str, str] = os.environ) -> Secret:
    """The API key from the argument or the environment.

    Raises:
        ConfigurationError: There is none, or it holds characters that no header can carry.
    """
    key = given if given is not None else environ.get(API_KEY_VARIABLE, "")
    key = key.strip()
    if not key:
        raise ConfigurationError(
            f"no API key: pass api_key= or set {API_KEY_VARIABLE} (and {BASE_URL_VARIABLE} for another address); "
            f"AsyncInference.local() and Inference.local() need none"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key has characters that cannot be sent in a header; check for pasted quotes or line breaks"
        )
    return Secret(key)


def read_base_url(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """The service's address from the argument, the environment or the default, without a slash at its end.

    Raises:
        ConfigurationError: It is no http(s) URL, or it would send the API key over plain http to another machine.
    """
    url = (given if given is not None else environ.get(BASE_URL_VARIABLE, "") or DEFAULT_BASE_URL).strip()
    shown = re.sub("//[^/]*@", "//***@", url)
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url {shown!r} is not a URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"base_url must look like {DEFAULT_BASE_URL}, not {shown!r}")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url must not hold a user name or password; the API key goes into api_key=")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"base_url must have no query or fragment: {url!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"base_url {url!r} would send the API key unencrypted to another machine; use https "
            f"(plain http is for loopback addresses only)"
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False
