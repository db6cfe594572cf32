"""Cross-origin requests: which web pages may use the runtime from a browser (CORS)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import attrs
from aiohttp import web
from yarl import URL

from inferencesh._text import whole_characters
from inferencesh.local.errors import ProblemError

from .problems import Envelope, refuse

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware

__all__ = ["Cors"]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE | re.ASCII)
_METHODS = "GET, POST, PUT, DELETE"
_READABLE = "Content-Disposition, Retry-After, X-Request-Id"
_MAX_AGE = "600"  # seconds that a browser remembers a preflight


@attrs.frozen
class Cors:
    """The origins whose pages may use the runtime.

    A listed origin may send credentials such as cookies; ``*`` allows every origin, but without credentials, since
    otherwise any page could act in the name of a person who is signed in to this address.

    Args:
        origins: The origins as browsers send them, or ``*``.
        envelope: The generation of response bodies.
    """

    _origins: frozenset[str]
    _envelope: Envelope

    @classmethod
    def allowing(cls, origins: Collection[str], envelope: Envelope) -> Self:
        """Return the rules for a list of origins.

        Raises:
            TypeError: It is one text instead of a list.
            ValueError: One of them is not an origin.
        """
        if isinstance(origins, str):
            raise TypeError("cors_origins must be a list or tuple of origins.")
        return cls(frozenset(map(_normalized, origins)), envelope)

    def middleware(self) -> Middleware:
        """Return the middleware that answers the preflights of browsers, which never contain the API key."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            asked = request.headers.get("Access-Control-Request-Method")
            origin = request.headers.get("Origin")
            if request.method != "OPTIONS" or asked is None or origin is None:
                return await handler(request)
            if not self._allows(origin):
                page = whole_characters(origin[:200])
                detail = f"Pages of {page} may not use this runtime; start it with --cors-origin {page}."
                return refuse(self._envelope, ProblemError(403, detail))
            return web.Response(status=204, headers=_permissions(request))

        return middleware

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that let the page of an allowed origin read a response, whatever its status."""
        if not self._origins:
            return
        if "*" not in self._origins:
            response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is None or not self._allows(origin):
            return
        listed = origin in self._origins
        response.headers["Access-Control-Allow-Origin"] = origin if listed else "*"
        response.headers["Access-Control-Expose-Headers"] = _READABLE
        if listed:
            response.headers["Access-Control-Allow-Credentials"] = "true"
            if "*" in self._origins:
                response.headers.add("Vary", "Origin")

    def _allows(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins


def _permissions(request: web.Request) -> dict[str, str]:
    """Return the headers that permit what a preflight asks for."""
    headers = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": _MAX_AGE}
    if (asked := request.headers.get("Access-Control-Request-Headers")) is not None:
        headers["Access-Control-Allow-Headers"] = asked
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return headers


def _normalized(origin: str) -> str:
    """Return an origin as browsers send it: in lower case and without the scheme's default port."""
    if origin in {"*", "null"}:
        return origin
    complaint = f"{origin!r} is not an origin such as https://app.example or http://localhost:3000, or * for all."
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(complaint)
    try:
        return str(URL(origin.lower()).origin())
    except ValueError as error:
        raise ValueError(complaint) from error
