"""The address at which a client reaches the runtime, as its requests tell it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferencesh.local.errors import ProblemError

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["host_of", "origin_of"]

_HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?", re.ASCII)
_MAX_PORT = 65535


def host_of(request: web.Request) -> str:
    """Return the host and the port that a request is sent to; without a ``Host`` header, those of its connection.

    Raises:
        ProblemError: 400 if the header is malformed.
    """
    host = request.headers.get("Host")
    if host is None and request.transport is not None:
        name, port = request.transport.get_extra_info("sockname")[:2]
        host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    found = _HOST.fullmatch(host or "")
    if found is None or int(found["port"] or 0) > _MAX_PORT:
        raise ProblemError(400, "The Host header is malformed; send the address of the runtime.")
    return found[0]


def origin_of(request: web.Request) -> str:
    """Return the base URL with which a client reaches the runtime, for the addresses of files.

    Raises:
        ProblemError: 400 if the ``Host`` header is malformed.
    """
    return f"{request.scheme}://{host_of(request)}"
