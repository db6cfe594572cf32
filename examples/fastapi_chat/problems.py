"""Errors as responses: all have the form ``{"type", "detail", "status"}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from inferencesh import InferenceError, Message, web

__all__ = ["PausedError", "add_handlers"]

TYPES: Final = {404: "not_found", 409: "conflict", 413: "too_large", 415: "wrong_type"}


class PausedError(Exception):
    """The chat waits for a person: for answers, or for decisions on what needs an approval."""

    def __init__(self, message: Message) -> None:
        super().__init__("the chat is paused")
        self.pending = [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in (*message.pending_tool_calls, *message.pending_approvals)
        ]


def add_handlers(app: FastAPI) -> None:
    """Have the app respond to errors in this form."""
    app.exception_handler(InferenceError)(inference_failed)
    app.exception_handler(PausedError)(chat_is_paused)
    app.exception_handler(HTTPException)(refused)
    app.exception_handler(RequestValidationError)(invalid)


def problem(
    type_: str, detail: str, status: int, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Return the response for an error."""
    return JSONResponse({"type": type_, "detail": detail, "status": status, **more}, status, headers)


async def inference_failed(_request: Request, error: InferenceError) -> JSONResponse:
    """Respond to an error of the SDK: 404 and 409 are passed on, all others are failures of the agent service."""
    told = web.describe_error(error)
    return problem(told.type, told.detail, told.status, told.headers)


async def chat_is_paused(_request: Request, error: PausedError) -> JSONResponse:
    """Respond to a message to a chat that waits for a person."""
    detail = "The agent waits for an answer to its question; give that first."
    return problem("input_required", detail, 409, pending_tool_calls=error.pending)


async def refused(_request: Request, error: HTTPException) -> JSONResponse:
    """Respond to a request that this service refuses itself."""
    return problem(TYPES.get(error.status_code, "refused"), str(error.detail), error.status_code)


async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Respond to an invalid request: name the fields and problems without repeating the input."""
    fields = [{"field": field_of(each), "detail": each["msg"]} for each in error.errors()]
    detail = "; ".join(f"{each['field']}: {each['detail']}" for each in fields)
    return problem("invalid_request", detail, 422, errors=fields)


def field_of(error: Mapping[str, Any]) -> str:
    """Return the field that an error is about; ``body`` if the body as a whole cannot be parsed."""
    path = error["loc"][1:] if error["type"] != "json_invalid" else ()
    return ".".join(str(part) for part in path) or str(error["loc"][0])
