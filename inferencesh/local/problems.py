"""Errors the runtime answers with, and the three generations of bodies the service has used."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeAlias

from aiohttp import web

from inferencesh.json_text import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .records import Wire

__all__ = ("Envelope", "ProblemError", "answer", "from_http", "invalid", "not_found", "refuse")

Envelope: TypeAlias = Literal["v1", "v2", "v3"]

_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    422: "validation_error",
    429: "rate_limited",
}


class ProblemError(Exception):
    """A request the runtime refuses; the middleware turns it into the answer.

    Args:
        status: The HTTP status.
        detail: What went wrong and what to do, for a person to read.
        code: The machine's name for it; the usual one of the status when absent.
        field: Where in the request the trouble is, as `input.text`.
        headers: Response headers that belong to the refusal.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code or _CODES.get(status, "internal_error" if status >= 500 else "invalid_request")
        self.field = field
        self.headers = headers or {}


def invalid(field: str, complaint: str) -> ProblemError:
    """Return the refusal of a body or query whose `field` is not as it should be."""
    return ProblemError(422, f"{field}: {complaint}", field=field)


def not_found(kind: str, identifier: str) -> ProblemError:
    """Return the refusal of an identifier nothing has; the identifier is the client's own text."""
    return ProblemError(404, f"There is no {kind} {identifier[:64]!r} in this runtime.")


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
