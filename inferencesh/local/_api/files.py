"""The HTTP endpoints of files: announce, upload, read, list and delete them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs
from aiohttp import web

from inferencesh.local.errors import ProblemError, invalid
from inferencesh.local.files import CONTENT_PATH, PART, UPLOAD_PATH, StoredFile, is_media_type
from inferencesh.local.records import new_id

from .fields import read_body
from .filters import passes, read_filters
from .hosts import origin_of
from .paging import newest_page, page_wire, read_page_limit
from .problems import KEYLESS_READ, KEYLESS_UPLOAD, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferencesh.local.files import FileStore

    from .fields import Fields
    from .problems import Envelope

__all__ = ["FileApi"]

_logger = logging.getLogger("inferencesh.local")

_UNKNOWN_TYPE = "application/octet-stream"
_LONGEST_NAME = 255  # characters of a name in a header; clients refuse headers that are too long


@attrs.define
class FileApi:
    """The request handlers.

    Args:
        files: The runtime's files.
        envelope: The generation of response bodies.
        limit: The maximum size of a file in bytes.
    """

    _files: FileStore
    _envelope: Envelope
    _limit: int

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of all endpoints."""
        return [
            web.post("/files", self.announce),
            web.post("/files/list", self.list_files),
            web.get("/files/{id}", self.get_file, allow_head=False),
            web.delete("/files/{id}", self.delete_file),
            web.put(f"{UPLOAD_PATH}{{token}}", self.upload, name=KEYLESS_UPLOAD),
            web.get(f"{CONTENT_PATH}{{token}}", self.read, name=KEYLESS_READ, allow_head=False),
        ]

    async def announce(self, request: web.Request) -> web.StreamResponse:
        """Create a file, with a URL for its upload, for each file that a client is going to send."""
        files = _read_announcement(await read_body(request), self._limit)
        for file in files:
            self._files.add(file)
        return answer(self._envelope, [file.wire(origin_of(request)) for file in files])

    async def list_files(self, request: web.Request) -> web.StreamResponse:
        """List the files, newest first: those for which all filters hold."""
        wanted, origin = await read_body(request), origin_of(request)
        filters = read_filters(wanted)
        files, cursor = newest_page(
            (file for file in self._files.all() if passes(partial(file.wire, origin), filters)),
            read_page_limit(wanted.count("limit")),
            wanted.text("cursor"),
        )
        return answer(self._envelope, page_wire([file.wire(origin) for file in files], cursor))

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """Return the details of a file."""
        file = self._files.get(request.match_info["id"])
        return answer(self._envelope, file.wire(origin_of(request)))

    async def delete_file(self, request: web.Request) -> web.StreamResponse:
        """Delete a file; messages that refer to it are not changed."""
        self._files.delete(self._files.get(request.match_info["id"]))
        return web.Response(status=204)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Receive the bytes of a file. A repeated upload replaces the first."""
        file = self._files.by_upload_token(request.match_info["token"])
        self._check_head(file, request)
        content = new_id()
        unused: str | None = content
        try:
            size = await self._receive(request, content)
            _check_size(file, size)
            unused = self._files.set_content(file, content, size)
        finally:
            if unused is not None:  # the new content if the upload failed, else the content that it replaced
                self._files.contents.drop(unused)
        return web.Response(status=200)

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Send a file's bytes."""
        file = self._files.by_content_token(request.match_info["token"])
        response = web.StreamResponse(headers=_headers(file))
        response.content_length = file.size
        try:
            await response.prepare(request)
            async for part in self._parts(file):
                await response.write(part)
            await response.write_eof()
        except ConnectionError:
            _logger.debug("The reader of a file disconnected, or the file was deleted.")
            if request.transport is not None:
                request.transport.abort()  # otherwise the reader would wait for the rest
        return response

    def _check_head(self, file: StoredFile, request: web.Request) -> None:
        """Check the headers of an upload before its body is read.

        Raises:
            ProblemError: 413, 415 or 422 if size or type are wrong.
        """
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise ProblemError(415, "A file is uploaded as it is, without a Content-Encoding.")
        wanted = _media_type(file.content_type)
        # The JavaScript SDK guesses a type from the file's name for the announcement, but not for the upload.
        if request.content_type.lower() not in {wanted, _UNKNOWN_TYPE}:
            raise ProblemError(415, f"The file was announced as {wanted}; send that as Content-Type.")
        if request.content_length is not None:
            if request.content_length > self._limit:
                raise _too_large(self._limit)
            _check_size(file, request.content_length)

    async def _receive(self, request: web.Request, content: str) -> int:
        """Store the body part by part, and return its size in bytes."""
        size = number = 0
        buffer = bytearray()
        async for chunk in request.content.iter_chunked(PART):
            size += len(chunk)
            if size > self._limit:
                raise _too_large(self._limit)
            buffer += chunk
            if len(buffer) >= PART:
                await self._files.contents.add_part(content, number, bytes(buffer[:PART]))
                number += 1
                del buffer[:PART]
        if buffer:
            await self._files.contents.add_part(content, number, bytes(buffer))
        return size

    async def _parts(self, file: StoredFile) -> AsyncIterator[bytes]:
        """Yield the bytes of a file.

        Raises:
            ConnectionResetError: The file was deleted or replaced meanwhile; the response cannot be completed.
        """
        content, left, number = file.content or "", file.size, 0
        while left > 0:
            part = await self._files.contents.read_part(content, number)
            if part is None:
                raise ConnectionResetError("The file was deleted or replaced.")
            yield part
            left -= len(part)
            number += 1


def _check_size(file: StoredFile, size: int) -> None:
    if file.declared_size and size != file.declared_size:
        detail = f"The file was announced with {file.declared_size} bytes; {size} were sent."
        raise ProblemError(422, f"size: {detail}", field="size")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _headers(file: StoredFile) -> dict[str, str]:
    """Return the headers for a file's bytes, which prevent browsers from running scripts of the file."""
    headers = {
        "Content-Type": file.content_type,
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    if file.filename:
        name = quote(file.filename[:_LONGEST_NAME], safe="")
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{name}"
    return headers


def _read_announcement(body: Fields, limit: int) -> list[StoredFile]:
    """Parse the body of ``POST /files`` into the files that a client is going to upload.

    Args:
        body: The request's body.
        limit: The maximum size of a file in bytes.

    Raises:
        ProblemError: 422 if a field is invalid; 413 if a file is larger than the limit.
    """
    body.require("files")
    category = body.text("category") or ""
    files = [_read_file(each, category, limit) for each in body.objects("files")]
    if not files:
        raise invalid("files", "must name one file or more.")
    return files


def _too_large(limit: int, field: str | None = None) -> ProblemError:
    """Return the error for a file that is larger than the limit."""
    detail = f"A file may have {limit} bytes at most; this one is larger."
    return ProblemError(413, f"{field}: {detail}" if field else detail, code="file_too_large", field=field)


def _read_file(fields: Fields, category: str, limit: int) -> StoredFile:
    if fields.text("uri"):
        raise invalid(fields.path("uri"), "must be empty or left out: the runtime gives a file its address.")
    fields.require("content_type")
    content_type = fields.text("content_type") or ""
    if not is_media_type(content_type):
        raise invalid(fields.path("content_type"), "must be a MIME type, such as image/png.")
    size = fields.count("size") or 0
    if size < 0:
        raise invalid(fields.path("size"), "must be 0 bytes or more.")
    if size > limit:
        raise _too_large(limit, fields.path("size"))
    return StoredFile(
        filename=fields.text("filename") or "",
        content_type=content_type,
        path=fields.text("path") or "",
        category=category,
        declared_size=size,
    )
