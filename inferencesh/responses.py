"""Answers to requests: envelopes to data, error bodies to exceptions, without any I/O.

The service has answered in three generations of envelopes (``{"success", "data"}``, the bare object, and ``{"data",
"messages"}``) and two of errors (``{"error": {...}}`` and RFC 9457 problem details); all of them are read.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Mapping

from .converter import UnreadableError, decode_json
from .errors import APIError, error_class

__all__ = ["error_from_response", "read_response", "refused_upload", "retry_after"]

_BODY_CUT = 500  # characters of a body that is not JSON
# How S3 and those who speak its language explain themselves; two fields are no reason to have XML of strangers parsed.
_XML_FIELD = re.compile(r"<(Code|Message)>([^<]{1,500})</\1>")


def read_response(status: int, headers: Mapping[str, str], body: bytes) -> object:
    """The data of a successful answer.

    Args:
        status: The HTTP status, 2xx.
        headers: The answer's headers.
        body: Its body.

    Returns:
        The object or list that was answered, without its envelope; None for an empty body and for anything else, such
        as plain text or a plain ``true``.

    Raises:
        APIError: The envelope says that the request failed, whatever the status.
    """
    try:
        value = decode_json(body) if body.strip() else None
    except UnreadableError:
        return None  # the official Python SDK takes these as «done, no data» too; some endpoints answer in plain text
    if not isinstance(value, dict):
        return value if isinstance(value, list) else None
    if isinstance(value.get("success"), bool):
        if not value["success"]:
            raise error_from_response(status, headers, body)
        return value.get("data")
    # A tool invocation has a field called data as well: only an object that is nothing but an envelope is one.
    if "data" in value and value.keys() <= {"data", "messages", "status", "error"}:
        return value["data"]
    return value


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime.datetime | None = None
) -> APIError:
    """The exception for an error answer.

    Args:
        status: The HTTP status.
        headers: The answer's headers.
        body: Its body: problem details, a legacy error, or anything else.
        now: The current time, for a ``Retry-After`` that is a date.

    Returns:
        An exception of the class that belongs to the status.
    """
    try:
        value = decode_json(body) if body.strip() else None
    except UnreadableError:
        value = body.decode("utf-8", "replace")[:_BODY_CUT]
    code, detail = _code_and_detail(value)
    detail = detail or _line(body.decode("utf-8", "replace"))
    if isinstance(value, dict) and status < 400 and isinstance(value.get("status"), int):
        status = value["status"]  # a failure in an envelope that was sent with HTTP 200
    location = headers.get("Location")
    if 300 <= status < 400 and location:
        detail = f"the server redirects to {location.partition('?')[0]}; redirects are not followed, set base_url"
    return error_class(status)(
        detail or f"the server answered with HTTP {status} and no explanation",
        status_code=status,
        code=code,
        request_id=headers.get("X-Request-Id") or headers.get("Request-Id"),
        body=value,
        retry_after=retry_after(headers, now),
    )


def refused_upload(host: str, status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """The exception for a file that a storage server did not take.

    Args:
        host: The server.
        status: The HTTP status.
        headers: The answer's headers.
        body: Its body: JSON as the service's own, the XML of S3 and its like, or anything else.

    Returns:
        An exception of the class that belongs to the status.
    """
    error = error_from_response(status, {**headers, "Location": ""}, body)
    found = dict(_XML_FIELD.findall(body[:4096].decode("utf-8", "replace")))
    error.code = error.code or found.get("Code")
    explained = _line(found["Message"]) if "Message" in found else error.detail
    error.detail = f"{host} did not take the file: {explained}"
    if 300 <= status < 400:
        error.detail = f"{host} did not take the file and redirects; files are sent nowhere but where the service says"
    error.request_id = error.request_id or headers.get("X-Amz-Request-Id")
    return error


def _code_and_detail(value: object) -> tuple[str | None, str]:
    """The machine-readable code and the explanation in an error body."""
    if isinstance(value, str):
        page = "<html" in value[:200].lower() or "<!doctype" in value[:200].lower()
        return None, "the answer is an HTML page, most likely from a proxy in between" if page else _line(value)
    if not isinstance(value, dict):
        return None, ""
    error = value.get("error")
    legacy = error if isinstance(error, dict) else {}
    kind = value.get("type")
    code = kind.rpartition("/errors/")[2] if isinstance(kind, str) and "/errors/" in kind else None
    code = code or _string(legacy.get("code")) or _string(value.get("code")) or None
    candidates = (value.get("detail"), value.get("title"), legacy.get("message"), value.get("message"), error)
    detail = next((text for text in map(_string, candidates) if text), "")
    return code, _line(detail)


def _string(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _line(text: str) -> str:
    return " ".join(text[:_BODY_CUT].split())


def retry_after(headers: Mapping[str, str], now: datetime.datetime | None = None) -> float | None:
    """How long the server asks to wait.

    Args:
        headers: The answer's headers; ``Retry-After-Ms`` (milliseconds) and ``Retry-After`` (seconds or an HTTP date)
            are read.
        now: The current time; the clock's when None.

    Returns:
        Seconds, not negative; None when it says nothing that can be read.
    """
    for name, scale in (("Retry-After-Ms", 0.001), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _seconds_until(value, now or datetime.datetime.now(datetime.UTC))
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _seconds_until(date: str, now: datetime.datetime) -> float:
    """Seconds until an HTTP date, 0 when it has passed, NaN when it is none."""
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - now).total_seconds())
