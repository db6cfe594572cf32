"""What surrounds every request: the key it must carry, the form of every refusal, and its identifier."""

from __future__ import annotations

import hmac
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias

from aiohttp import web

from inferencesh._text import encode_json
from inferencesh.local.errors import ProblemError
from inferencesh.local.records import new_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware

    from inferencesh.local.records import Wire

__all__ = ["KEYLESS_READ", "KEYLESS_UPLOAD", "Envelope", "add_request_id", "answer", "from_http", "guard", "refuse"]

Envelope: TypeAlias = Literal["v1", "v2", "v3"]


def from_http(error: web.HTTPException) -> ProblemError:
    """Return an exception of the HTTP library as the problem it stands for."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    detail = {
        404: "There is no such address in this runtime.",
        405: "This address does not take that method.",
        413: "The body is larger than this runtime takes.",
    }.get(error.status, error.reason)
    return ProblemError(error.status, detail, headers=headers)


def answer(envelope: Envelope, data: object, status: int = 200) -> web.Response:
    """Return a result in the form of the chosen generation."""
    body: object = data
    if envelope == "v1":
        body = {"success": True, "status": status, "data": data}
    elif envelope == "v3":
        body = {"data": data, "messages": []}
    return web.Response(body=encode_json(body), status=status, content_type="application/json")


def refuse(envelope: Envelope, problem: ProblemError) -> web.Response:
    """Return a refusal in the form of the chosen generation; v2 and v3 share RFC 9457."""
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
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "detail": problem.detail,
        }
        if problem.field:
            body["field"] = problem.field
        content_type = "application/problem+json"
    return web.Response(
        body=encode_json(body),
        status=problem.status,
        content_type=content_type,
        headers=problem.headers,
    )


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
