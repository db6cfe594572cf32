"""The exceptions of the embedded runtime: an unusable database, and requests that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DatabaseError", "ProblemError", "invalid", "not_found"]


class DatabaseError(ConfigurationError):
    """The database file cannot be used: it is something else, in use, or cannot be read or written.

    Example:
        ```python
        try:
            with Inference.local(db="/no/such/directory/chats.db") as client:
                client.agent({"name": "greeter"}).send_message("Hello")
        except DatabaseError as error:
            print("chats cannot be kept there")
        ```

        ```text
        chats cannot be kept there
        ```
    """


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
    """A request that is refused; the server's middleware turns it into an error response.

    Args:
        status: The HTTP status.
        detail: What went wrong and what to do about it, for people.
        code: The error code; the usual one of the status by default.
        field: The invalid field of the request, such as ``input.text``.
        headers: Additional response headers.
        extra: Additional members of the response's body.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str | None = None,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code or _CODES.get(status, "internal_error" if status >= 500 else "invalid_request")
        self.field = field
        self.headers = headers or {}
        self.extra = extra or {}


def not_found(kind: str, identifier: str) -> ProblemError:
    """Return the 404 error for an identifier, which may be any text a client sent."""
    return ProblemError(404, f"There is no {kind} {identifier[:64]!r} in this runtime.")


def invalid(field: str, complaint: str) -> ProblemError:
    """Return the 422 error for an invalid field of a body or query."""
    return ProblemError(422, f"{field}: {complaint}", field=field)
