"""The errors that a runtime itself raises, apart from those it answers requests with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DatabaseError", "ProblemError", "invalid", "not_found"]

_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    422: "validation_error",
    429: "rate_limited",
}


def not_found(kind: str, identifier: str) -> ProblemError:
    """Return the refusal of an identifier nothing has; the identifier is the client's own text."""
    return ProblemError(404, f"There is no {kind} {identifier[:64]!r} in this runtime.")


def invalid(field: str, complaint: str) -> ProblemError:
    """Return the refusal of a body or query whose `field` is not as it should be."""
    return ProblemError(422, f"{field}: {complaint}", field=field)


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


class DatabaseError(ConfigurationError):
    """The file cannot be used to keep chats: it is none, is in use, or cannot be read or written.

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
