"""The bodies of requests about files, read into what they ask for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .files import StoredFile
from .problems import ProblemError, invalid

if TYPE_CHECKING:
    from .fields import Fields

__all__ = ("read_announcement", "too_large")

_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *;[ -~]*)?", re.ASCII)


def read_announcement(body: Fields, limit: int) -> list[StoredFile]:
    """Read the body of `POST /files`: the files a client is going to upload.

    Args:
        body: The request's body.
        limit: Bytes that a file may have.

    Raises:
        ProblemError: 422 when something in it is wrong; 413 when a file is larger than the limit.
    """
    body.require("files")
    category = body.text("category") or ""
    files = [_read_file(each, category, limit) for each in body.objects("files")]
    if not files:
        raise invalid("files", "must name one file or more.")
    return files


def too_large(limit: int, field: str | None = None) -> ProblemError:
    """Return the refusal of a file that is larger than the runtime takes."""
    detail = f"A file may have {limit} bytes at most; this one is larger."
    return ProblemError(413, f"{field}: {detail}" if field else detail, code="file_too_large", field=field)


def _read_file(fields: Fields, category: str, limit: int) -> StoredFile:
    if fields.text("uri"):
        raise invalid(fields.path("uri"), "must be empty or left out: the runtime gives a file its address.")
    fields.require("content_type")
    content_type = fields.text("content_type") or ""
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise invalid(fields.path("content_type"), "must be a MIME type, such as image/png.")
    size = fields.count("size") or 0
    if size < 0:
        raise invalid(fields.path("size"), "must be 0 bytes or more.")
    if size > limit:
        raise too_large(limit, fields.path("size"))
    return StoredFile(
        filename=fields.text("filename") or "",
        content_type=content_type,
        path=fields.text("path") or "",
        category=category,
        declared_size=size,
    )
