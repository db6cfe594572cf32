"""Files from the page: which ones are accepted, and that no more of one is read than is allowed."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Header, HTTPException, Query, Request

__all__ = ["MAX_FILES", "ContentType", "FileName", "read_upload"]

MAX_FILES: Final = 5  # of one message
MAX_BYTES: Final = 5_000_000
TYPES: Final = {
    *("application/json", "application/pdf", "text/csv", "text/markdown", "text/plain"),
    *("image/gif", "image/jpeg", "image/png", "image/webp"),
}

FileName = Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]
ContentType = Annotated[str, Header()]


async def read_upload(request: Request, content_type: str) -> bytes:
    """Return the body of a request that uploads a file."""
    if content_type.partition(";")[0].strip().lower() not in TYPES:
        raise HTTPException(415, "Only images, PDFs and texts can be attached.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BYTES:
            raise HTTPException(413, f"A file may have at most {MAX_BYTES // 1_000_000} MB.")
    if not data:
        raise HTTPException(422, "The file is empty.")
    return bytes(data)
