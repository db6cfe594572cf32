"""Who may use the playground: the session cookie, and the checks that keep pages of other sites out."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from inferencesh.local._api.hosts import host_of
from inferencesh.local.errors import ProblemError

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

__all__ = ["HEADER", "Access", "PlaygroundAccess"]

PlaygroundAccess: TypeAlias = Literal["off", "loopback", "everywhere"]
"""Where the playground can be opened: nowhere, on this machine, or wherever the runtime can be reached."""

HEADER = "X-Inferencesh-Playground"
"""The header of the page's requests. A page of another origin cannot send it without permission of this server."""

_DEFAULT_KEY = "inf_local"  # it is documented, so that it protects nothing


class Access:
    """The session of the page: a random token in a cookie that scripts cannot read, valid until the runtime stops.

    The key of the runtime is not in the cookie. The page of this machine is signed in by itself if the runtime accepts
    the documented default key; otherwise a person enters the key once.

    Args:
        api_keys: The keys that the runtime accepts.
        allowed: Where the page can be opened.
    """

    def __init__(self, api_keys: Collection[str], allowed: PlaygroundAccess) -> None:
        self._keys = tuple(api_keys)
        self._allowed = allowed
        self._token = secrets.token_urlsafe(32)

    @property
    def api_key(self) -> str:
        """The key with which requests of the page are answered."""
        return self._keys[0]

    def check_reachable(self, request: web.Request) -> None:
        """Refuse a request from elsewhere, or one whose host name may have been pointed at this machine by its owner.

        Raises:
            ProblemError: 403 if the page may not be used from there, or 400 if the host is malformed.
        """
        host = host_of(request)
        if self._allowed == "loopback" and not (_is_loopback(host) and _comes_from_loopback(request)):
            detail = (
                "The playground can only be opened on the machine that runs it, as http://127.0.0.1 or "
                "http://localhost. Start the runtime with --playground everywhere to open it from elsewhere."
            )
            raise ProblemError(403, detail)

    def check_same_origin(self, request: web.Request) -> None:
        """Refuse a request that a page of another origin has caused.

        Raises:
            ProblemError: 403 with the reason.
        """
        self.check_reachable(request)
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        origin = request.headers.get("Origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != host_of(request).lower()
        if site != "same-origin" or foreign or HEADER not in request.headers:
            raise ProblemError(403, "Only the playground's own page may send this request.")

    def is_signed_in(self, request: web.Request) -> bool:
        """Whether a request has the session's cookie."""
        given = request.cookies.get(_cookie_name(request), "")
        return hmac.compare_digest(given.encode(errors="surrogateescape"), self._token.encode())

    def signs_in_by_itself(self, request: web.Request) -> bool:
        """Whether the page gets a session without a key: on this machine, if the key is the documented one."""
        own = _is_loopback(host_of(request)) and _comes_from_loopback(request)
        return own and _DEFAULT_KEY in self._keys

    def accepts(self, key: str) -> bool:
        """Whether a key that a person has entered is one of the runtime's."""
        given = key.strip().encode(errors="surrogateescape")
        return any(hmac.compare_digest(given, each.encode()) for each in self._keys)

    def begin_session(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the session's cookie to a response."""
        response.set_cookie(_cookie_name(request), self._token, httponly=True, samesite="Strict", path="/")


def _cookie_name(request: web.Request) -> str:
    """Return a name with the port, since browsers send the cookies of all ports of a host."""
    return f"inferencesh_playground_{urlsplit(f'//{host_of(request)}').port or 80}"


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    return name == "localhost" or _is_loopback_address(name)


def _comes_from_loopback(request: web.Request) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return isinstance(peer, tuple) and _is_loopback_address(str(peer[0]))


def _is_loopback_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
