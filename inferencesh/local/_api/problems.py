"""Authentication and responses: the middleware around all handlers, and the generations of response bodies."""

from __future__ import annotations

import hmac
import logging
from http.client import responses
from typing import TYPE_CHECKING, Literal, TypeAlias

from aiohttp import web

from inferencesh._text import encode_json
from inferencesh.local.errors import ProblemError
from inferencesh.local.files import CONTENT_PATH, UPLOAD_PATH
from inferencesh.local.records import new_id

from .hosts import host_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware

    from inferencesh.local.records import Wire

__all__ = ["KEYLESS_READ", "KEYLESS_UPLOAD", "Envelope", "add_request_id", "answer", "guard", "refuse"]

Envelope: TypeAlias = Literal["v1", "v2", "v3"]
"""The generation of response bodies."""

KEYLESS_UPLOAD, KEYLESS_READ = "upload", "content"
"""The names of the routes that need no API key, since their URLs contain a secret token."""

_SHOWN = 200
"""The maximum number of characters of a path that an error quotes."""

_logger = logging.getLogger("inferencesh.local")


def guard(api_keys: Collection[str], envelope: Envelope) -> Middleware:
    """Return the middleware that checks host and API key, and turns exceptions of handlers into error responses."""
    keys = [key.encode() for key in api_keys]

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            host_of(request)
            _authorize(request, keys)
            return await handler(request)
        except ProblemError as problem:
            return refuse(envelope, problem)
        except web.HTTPException as error:
            return refuse(envelope, _from_http(request, error))
        except web.RequestPayloadError as error:
            return refuse(envelope, ProblemError(400, f"The body could not be read: {error}."))
        except Exception:
            _logger.exception("A request could not be answered.")
            if request.writer.output_size and request.transport is not None:
                request.transport.abort()  # otherwise the error would be taken for a part of the response
            detail = "Internal error; the log of the runtime has the traceback."
            return refuse(envelope, ProblemError(500, detail))

    return middleware


def _authorize(request: web.Request, keys: list[bytes]) -> None:
    if request.match_info.route.name in {KEYLESS_UPLOAD, KEYLESS_READ}:
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    given = key.strip().encode(errors="surrogateescape")
    known = [hmac.compare_digest(given, each) for each in keys]
    if scheme.lower() != "bearer" or not any(known):
        detail = "The API key is missing or unknown; send it as Authorization: Bearer <key>."
        raise ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})


def answer(envelope: Envelope, data: object, status: int = 200) -> web.Response:
    """Return the successful response with ``data`` in an envelope of the given generation."""
    body: object = data
    if envelope == "v1":
        body = {"success": True, "status": status, "data": data}
    elif envelope == "v3":
        # The official Python SDK treats a response without ``success`` as a failure, although v3 does not name it.
        body = {"success": True, "data": data, "messages": []}
    return web.Response(body=encode_json(body), status=status, content_type="application/json")


def refuse(envelope: Envelope, problem: ProblemError) -> web.Response:
    """Return the error response of the given generation; that of v2 and v3 is RFC 9457 problem details."""
    body: Wire
    if envelope == "v1":
        error: Wire = {"code": problem.code, "message": problem.detail}
        if problem.field:
            error["meta"] = {"field": problem.field}
        body = {"success": False, "status": problem.status, "error": error}
        content_type = "application/json"
    else:
        body = {
            "type": f"https://api.inference.sh/errors/{problem.code}",
            "title": responses.get(problem.status, "Error"),
            "status": problem.status,
            "detail": problem.detail,
        }
        if problem.field:
            body["field"] = problem.field
        if envelope == "v3":  # where the official Python SDK looks for the reason
            body |= {"success": False, "error": {"code": problem.code, "message": problem.detail}}
        content_type = "application/problem+json"
    body.update(problem.extra)
    return web.Response(
        body=encode_json(body),
        status=problem.status,
        content_type=content_type,
        headers=problem.headers,
    )


def _from_http(request: web.Request, error: web.HTTPException) -> ProblemError:
    """Return an error of aiohttp, such as an unknown path, as a ``ProblemError``."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    detail = {
        404: _missing(request),
        405: "This endpoint does not allow that method.",
        413: "The body is larger than this runtime takes.",
    }.get(error.status, error.reason)
    return ProblemError(error.status, detail, headers=headers)


def _missing(request: web.Request) -> str:
    """Return which part of the service, or which endpoint of a part, this runtime does not have."""
    path = request.rel_url.raw_path  # percent-encoded, so that it cannot contain control characters
    part = f"/{path.lstrip('/').partition('/')[0]}"
    parts = {f"/{resource.canonical.split('/')[1]}" for resource in request.app.router.resources()}
    if part in parts:
        return f"The embedded runtime has no {path[:_SHOWN]} for {request.method}."
    listed = ", ".join(sorted(parts - {"/", UPLOAD_PATH.rstrip("/"), CONTENT_PATH.rstrip("/")}))
    return f"The embedded runtime has no {part[:_SHOWN]}; of the service's parts it has {listed}."


async def add_request_id(_request: web.Request, response: web.StreamResponse) -> None:
    """Add an ``X-Request-Id`` header to a response."""
    response.headers["X-Request-Id"] = new_id()
