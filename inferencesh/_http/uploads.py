"""Upload files: open them all, announce each to the service, and send its content to the URL from the response."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from inferencesh._loops.invoke import start_in_thread
from inferencesh._types.codec import structure
from inferencesh.errors import ConfigurationError, UnreadableError
from inferencesh.models import FileRef

from .retry import Safety
from .sources import FileSource, OnProgress, Progress, UploadSource, check_sources, upload_source
from .transport import Transport

__all__ = ["attachments", "check_result_files", "upload", "upload_all"]

_AT_ONCE = 8  # concurrent uploads of one message
_MOST_WITH_A_RESULT = 20  # the service's limit


async def upload(
    transport: Transport,
    source: FileSource,
    filename: str | None = None,
    content_type: str | None = None,
    on_progress: OnProgress | None = None,
) -> FileRef:
    """Upload a file; ``AsyncFiles.upload`` documents the arguments."""
    if isinstance(source, FileRef):
        return _renamed(_known(source), filename, content_type)
    opened = upload_source(source, filename, content_type)
    async with _open([opened]):
        return await _send(transport, opened, Progress(on_progress))


async def upload_all(
    transport: Transport, sources: Sequence[FileSource], on_progress: OnProgress | None = None
) -> list[FileRef]:
    """Upload the files that go with a message, several at once; duplicates are uploaded once.

    Nothing is sent before all files are open. If one upload fails, the others are cancelled.

    Args:
        transport: The transport for the requests.
        sources: The files, from ``check_sources``.
        on_progress: Called with the bytes sent of all files, and with the sum of their sizes.

    Returns:
        References to the uploaded files, in the same order.
    """
    known = {id(source): _known(source) for source in sources if isinstance(source, FileRef)}
    opened = {id(source): upload_source(source, None, None) for source in sources if id(source) not in known}
    slots = asyncio.Semaphore(_AT_ONCE)
    report = _total_of(opened.values(), on_progress)

    async def send(source: UploadSource) -> FileRef:
        async with slots:
            return await _send(transport, source, Progress(report(source)))

    failure: BaseException
    async with _open(opened.values()):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(send(source)) for key, source in opened.items()}
            sent = {key: task.result() for key, task in tasks.items()}
            return [{**known, **sent}[id(source)] for source in sources]
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]  # the first is why the others were given up
    raise failure


def attachments(refs: Sequence[FileRef]) -> list[Mapping[str, Any]]:
    """Return the JSON form of the files attached to a message or to a tool's result."""
    names = ("id", "uri", "filename", "content_type", "size")
    return [{name: value for name in names if (value := getattr(ref, name))} for ref in refs]


def check_result_files(files: object) -> tuple[FileSource, ...]:
    """Return the files to attach to a tool's result as a tuple, after checking them.

    Raises:
        TypeError: It is not a list of files.
        ConfigurationError: There are too many.
    """
    sources = check_sources(files)
    if len(sources) > _MOST_WITH_A_RESULT:
        raise ConfigurationError(f"at most {_MOST_WITH_A_RESULT} files go with a tool's result, not {len(sources)}")
    return sources


def _renamed(ref: FileRef, filename: str | None, content_type: str | None) -> FileRef:
    if filename is None and content_type is None:
        return ref
    return attrs.evolve(ref, filename=filename or ref.filename, content_type=content_type or ref.content_type)


def _known(ref: FileRef) -> FileRef:
    if not ref.uri and not ref.id:
        raise ConfigurationError("a FileRef without uri and id is no uploaded file")
    return ref


def _total_of(
    sources: Collection[UploadSource], on_progress: OnProgress | None
) -> Callable[[UploadSource], OnProgress | None]:
    """Return a function that makes, for each of several files, the callback that reports the progress of all."""
    sent: dict[UploadSource, int] = {}
    whole, turn = Progress(on_progress), asyncio.Lock()

    def report(source: UploadSource) -> OnProgress | None:
        if on_progress is None:
            return None

        async def tell(so_far: int, _size: int | None) -> None:
            sent[source] = so_far
            async with turn:  # one call at a time
                await whole.tell(sum(sent.values()), sum(each.size for each in sources))

        return tell

    return report


@contextlib.asynccontextmanager
async def _open(sources: Collection[UploadSource]) -> AsyncIterator[None]:
    try:
        for source in sources:
            await start_in_thread(source.open)
        yield
    finally:
        for source in sources:
            source.close()


async def _send(transport: Transport, source: UploadSource, progress: Progress) -> FileRef:
    await progress.tell(0, source.size)
    record: dict[str, Any] = {"uri": "", "content_type": source.content_type, "size": source.size}
    if source.filename:
        record["filename"] = source.filename
    # A retry may create a second record, which remains unused.
    answer = await transport.request("POST", "/files", json={"files": [record]}, safety=Safety.REPEATABLE)
    made = _record(answer)
    upload_url = made.get("upload_url")
    if not isinstance(upload_url, str) or not upload_url:
        raise UnreadableError("the response to the announcement of a file has no address (upload_url); it was not sent")
    ref = structure(made, FileRef)
    if not ref.uri and not ref.id:
        raise UnreadableError(
            "the response to the announcement of a file has neither uri nor id; the file was not sent"
        )
    ref = attrs.evolve(
        ref,
        filename=ref.filename or source.filename,
        content_type=ref.content_type or source.content_type,
        size=source.size,
    )
    await transport.upload(upload_url, source, lambda sent: progress.tell(sent, source.size))
    source.uploaded = True
    await progress.tell(source.size, source.size, over=True)
    return ref


def _record(answer: object) -> Mapping[str, Any]:
    """Return the file's record: the only item of a list, of a list in an object, or the object itself."""
    listed = answer
    if isinstance(answer, Mapping) and "upload_url" not in answer:
        listed = answer.get("files", answer.get("items"))
    item = listed[0] if isinstance(listed, list) and len(listed) == 1 else listed
    if not isinstance(item, Mapping):
        raise UnreadableError(
            "the response to the announcement of a file has no single record of the file; it was not sent"
        )
    return item
