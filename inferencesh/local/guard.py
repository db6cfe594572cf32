"""What surrounds every request: the key it must carry, the form of every refusal, and its identifier."""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from .ids import new_id
from .problems import ProblemError, from_http, refuse

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware

    from .problems import Envelope

__all__ = ("KEYLESS_READ", "KEYLESS_UPLOAD", "add_request_id", "guard")

KEYLESS_UPLOAD, KEYLESS_READ = "upload", "content"
"""The names of the routes that take no key: each address there has a token that nobody can guess."""

_logger = logging.getLogger("inferencesh.local")


def guard(api_keys: Collection[str], envelope: Envelope) -> Middleware:
    """Return the middleware that checks the key and turns what handlers raise into answers."""
    keys = [key.encode() for key in api_keys]

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _authorize(request, keys)
            return await handler(request)
        except ProblemError as problem:
            return refuse(envelope, problem)
        except web.HTTPException as error:
            return refuse(envelope, from_http(error))
        except web.RequestPayloadError as error:
            return refuse(envelope, ProblemError(400, f"The body could not be read: {error}."))
        except Exception:
            _logger.exception("A request could not be answered.")
            detail = "The runtime made a mistake; its log has the traceback."
            return refuse(envelope, ProblemError(500, detail))

    return middleware


async def add_request_id(_request: web.Request, response: web.StreamResponse) -> None:
    """Give an answer the identifier that people quote when they ask about it."""
    response.headers["X-Request-Id"] = new_id()


def _authorize(request: web.Request, keys: list[bytes]) -> None:
    if request.match_info.route.name in {KEYLESS_UPLOAD, KEYLESS_READ}:
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    given = key.strip().encode(errors="surrogateescape")
    known = [hmac.compare_digest(given, each) for each in keys]
    if scheme.lower() != "bearer" or not any(known):
        detail = "The API key is missing or unknown; send it as Authorization: Bearer <key>."
        raise ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})
