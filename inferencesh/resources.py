"""What an account has beside agents: ``client.chats`` and ``client.files``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import overload

from ._http.api import ChatAPI, Items, Page
from ._http.downloads import RemoteFile, Wanted, download, make_directory, unused_name
from ._http.sources import FileSource, OnProgress, check_source
from ._http.transport import Transport
from ._http.uploads import upload
from ._loops.invoke import ThreadInvoker, check_callback, invoke, start_in_thread
from ._loops.threads import Uncopied
from ._types.codec import read_whole, structure
from .config import check_count
from .errors import ConfigurationError, short_tracebacks
from .models import Chat, ChatStatus, ChatTrace, FileRef, Message
from .task_models import TaskFile

__all__ = ["AsyncChats", "AsyncFiles"]


@short_tracebacks
class AsyncChats(Uncopied):
    """The chats of the account; ``client.chats``.

    Example:
        ```python
        await agent.send_message("Hello")
        async for chat in client.chats.list():
            print(chat.id, chat.name, chat.status)
        ```
    """

    def __init__(self, api: ChatAPI) -> None:
        self._api = api

    def list(self, *, search: str | None = None, page_size: int = 50) -> AsyncIterator[Chat]:
        """List chats, the newest first; pages are read as they are needed.

        Args:
            search: A part of the names of the chats to list; None lists all.
            page_size: How many chats are read with one request.

        Returns:
            An async iterator. It raises when a page cannot be read, and tries that page again when it is asked again.

        Raises:
            ConfigurationError: ``page_size`` is not a positive whole number.
            APIError, APIConnectionError: From the iterator, when the server refuses or cannot be reached.

        Example:
            ```python
            async for chat in client.chats.list(search="invoice", page_size=100):
                print(chat.created_at, chat.name)
            ```
        """
        return Items(self._api.chat_pages(search, check_count("page_size", page_size, 1)), _chats)

    async def get(self, chat_id: str) -> Chat:
        """Read a chat.

        Args:
            chat_id: The chat's id.

        Raises:
            NotFoundError: There is no such chat.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            message = await agent.send_message("Hello")
            chat = await client.chats.get(message.chat_id)
            print(chat.status)
            ```
        """
        return structure(await self._api.read_chat(chat_id), Chat)

    def messages(self, chat_id: str, *, page_size: int = 50) -> AsyncIterator[Message]:
        """Read a chat's messages, the newest first; pages are read as they are needed.

        Args:
            chat_id: The chat's id.
            page_size: How many messages are read with one request.

        Returns:
            An async iterator. It raises when a page cannot be read, and tries that page again when it is asked again.

        Raises:
            ConfigurationError: ``page_size`` is not a positive whole number.
            NotFoundError: From the iterator, when there is no such chat.
            APIError, APIConnectionError: From the iterator, when the server refuses or cannot be reached.

        Example:
            ```python
            await agent.send_message("Hello")
            async for message in client.chats.messages(agent.chat_id):
                print(message.role, message.text)
            ```

            ```text
            assistant You said: "Hello". ...
            user Hello
            ```
        """
        return Items(self._api.message_pages(chat_id, check_count("page_size", page_size, 1)), _newest_first)

    async def delete(self, chat_id: str) -> None:
        """Delete a chat with its messages; a run in it is stopped.

        Args:
            chat_id: The chat's id.

        Raises:
            NotFoundError: There is no such chat.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            message = await agent.send_message("Hello")
            await client.chats.delete(message.chat_id)
            ```
        """
        await self._api.delete_chat(chat_id)

    async def update(self, chat_id: str, *, name: str | None = None, visibility: str | None = None) -> Chat:
        """Change a chat; what is None stays as it is.

        Args:
            chat_id: The chat's id.
            name: Its new title.
            visibility: Who can open it, such as ``"private"``, ``"team"`` or ``"public"``.

        Returns:
            The chat after the change.

        Raises:
            ConfigurationError: Nothing is to be changed.
            NotFoundError: There is no such chat.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            message = await agent.send_message("Hello")
            chat = await client.chats.update(message.chat_id, name="First steps")
            print(chat.name)
            ```

            ```text
            First steps
            ```
        """
        fields = {name: value for name, value in (("name", name), ("visibility", visibility)) if value is not None}
        if not fields:
            raise ConfigurationError("nothing of the chat is to be changed: pass name= or visibility=")
        return structure(await self._api.update_chat(chat_id, fields), Chat)

    async def status(self, chat_id: str) -> ChatStatus:
        """Read only the status of a chat, which costs the server less than reading the chat.

        Args:
            chat_id: The chat's id.

        Raises:
            NotFoundError: There is no such chat.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            message = await agent.send_message("Hello")
            if await client.chats.status(message.chat_id) == ChatStatus.BUSY:
                print("The agent is still at work.")
            ```
        """
        return structure(await self._api.read_status(chat_id), Chat).status

    async def trace(self, chat_id: str) -> ChatTrace:
        """Read what has happened in a chat, step by step.

        Args:
            chat_id: The chat's id.

        Raises:
            NotFoundError: There is no such chat.
            APIError, APIConnectionError: The server refused or could not be reached.
        """
        return structure(await self._api.read_trace(chat_id), ChatTrace)

    async def cancel_message(self, message_id: str) -> None:
        """Withdraw a message that is queued behind a run; a ``send_message`` that waits for its reply raises an error.

        Args:
            message_id: The message's id.

        Raises:
            ConflictError: The message is no longer queued.
            NotFoundError: There is no such message.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            reply = await agent.send_message("Hello")
            async for message in client.chats.messages(reply.chat_id):
                if message.status == MessageStatus.QUEUED:
                    await client.chats.cancel_message(message.id)
            ```
        """
        await self._api.cancel_message(message_id)


def _chats(page: Page) -> Iterator[Chat]:
    return map(partial(structure, cls=Chat), page)


def _newest_first(page: Page) -> Iterator[Message]:
    """Return the messages of a page, the newest first; servers differ in the order within a page."""
    ordered = sorted(page, key=lambda item: read_whole(item.get("order")), reverse=True)
    return map(partial(structure, cls=Message), ordered)


@short_tracebacks
class AsyncFiles(Uncopied):
    """The account's files; ``client.files``.

    Example:
        ```python
        photo = await client.files.upload(b"GIF89a...", filename="photo.gif")
        message = await agent.send_message("What is this?", files=[photo])
        ```
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: FileSource,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileRef:
        """Upload a file, which can then be sent with any number of messages and tool results.

        A file on disk is read while it is sent, in constant memory whatever its size. The bytes go to the storage
        address that the service names, without the API key, and are sent again when the connection or the storage
        server fails. There is no time limit for the whole upload, only for each wait (``Timeout.idle``).

        Args:
            source: A ``pathlib.Path``; bytes; a binary file object, which is read from its current position, and first
                copied to a temporary file if it is not seekable; a ``data:`` URI; or a FileRef, for which nothing is
                sent. Any other str is refused.
            filename: The file's name; that of the source when None.
            content_type: Its MIME type; guessed from its name and first bytes when None.
            on_progress: Called as ``on_progress(sent, total)`` in bytes: with 0 before anything is sent, then every 256
                KiB, and with ``total`` when the storage has acknowledged the file. ``sent`` never decreases, not even
                when a failed attempt is repeated. Sync or async; an exception that it raises ends the upload and is
                raised here.

        Returns:
            The file at the service. For a FileRef, the same object, unless ``filename`` or ``content_type`` differ.

        Raises:
            FileError: The file does not exist, cannot be read, or its size changed meanwhile.
            TypeError: The source is none of these.
            ConfigurationError: The data: URI or the content type is malformed.
            APIError: The service or its storage refused the file.
            APIConnectionError: One of them could not be reached or did not answer.

        Example:
            ```python
            def on_progress(sent, total):
                print(f"{sent} of {total} bytes")


            notes = await client.files.upload(b"Buy milk.", filename="notes.txt", on_progress=on_progress)
            print(notes.filename, notes.content_type, notes.size)
            ```

            ```text
            0 of 9 bytes
            9 of 9 bytes
            notes.txt text/plain 9
            ```
        """
        check_source(source)
        return await upload(self._transport, source, filename, content_type, on_progress)

    @overload
    async def download(self, file: RemoteFile, to: None = None, *, on_progress: OnProgress | None = None) -> bytes: ...

    @overload
    async def download(
        self, file: RemoteFile, to: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> Path: ...

    async def download(
        self, file: RemoteFile, to: str | os.PathLike[str] | None = None, *, on_progress: OnProgress | None = None
    ) -> bytes | Path:
        """Download a file: one that was uploaded, or one that an agent or a task has made.

        It is requested without the API key, and again from its beginning when the connection fails. A file on disk
        appears under its name only when it is complete; an existing one is replaced.

        Args:
            file: A FileRef or TaskFile, a URI, or an object with a ``uri``, as in a task's output.
            to: The path to write to, or an existing directory; None returns the content.
            on_progress: Called as ``on_progress(received, total)`` in bytes; ``total`` is None if it is not known. Sync
                or async; an exception that it raises ends the download and is raised here.

        Returns:
            The content, or the path that it was written to.

        Raises:
            FileError: It cannot be written.
            ConfigurationError: It has no URI, or is an id: ``get`` finds a file by its id.
            NotFoundError: There is no such file any more.
            UnreadableError: Its address is no URL, or is not encrypted.
            APIError, APIConnectionError: The storage refused it, could not be reached, or sent less than the whole.

        Example:
            ```python
            notes = await client.files.upload(b"Buy milk.", filename="notes.txt")
            print(await client.files.download(notes))
            path = await client.files.download(notes, "copy.txt")
            print(path.name, path.stat().st_size)
            ```

            ```text
            b'Buy milk.'
            copy.txt 9
            ```
        """
        check_callback("on_progress", on_progress)
        return await self._download(file, to, on_progress)

    async def _download(
        self, file: RemoteFile, to: str | os.PathLike[str] | None, on_progress: OnProgress | None
    ) -> bytes | Path:
        return await download(self._transport, Wanted.of(file), to, on_progress)

    async def _download_all(
        self, files: Sequence[TaskFile], to: str | os.PathLike[str], on_progress: OnProgress | None
    ) -> list[Path]:
        """Download files to a directory, one after the other; those of one name get a number each."""
        check_callback("on_progress", on_progress)
        directory = Path(to)
        wanted = [Wanted.of(file) for file in files]
        await start_in_thread(lambda: make_directory(directory))
        before, total, report = 0, sum(each.size for each in wanted) or None, ThreadInvoker(1)
        paths: list[Path] = []
        taken: set[str] = set()

        async def tell(received: int, _: int | None) -> None:
            if on_progress is not None:
                await invoke(report, on_progress, lambda: on_progress(before + received, total))

        for each in wanted:
            path = directory / unused_name(each.safe_name, taken)
            await download(self._transport, each, path, tell)
            paths.append(path)
            before += each.size
        return paths

    def list(self, *, page_size: int = 50) -> AsyncIterator[FileRef]:
        """List the account's files, the newest first; pages are read as they are needed.

        Args:
            page_size: How many files are read with one request.

        Returns:
            An async iterator. It raises when a page cannot be read, and tries that page again when it is asked again.

        Raises:
            ConfigurationError: ``page_size`` is not a positive whole number.
            APIError, APIConnectionError: From the iterator, when the server refuses or cannot be reached.

        Example:
            ```python
            await client.files.upload(b"Buy milk.", filename="notes.txt")
            async for file in client.files.list():
                print(file.filename, file.size)
                break
            ```

            ```text
            notes.txt 9
            ```
        """
        return Items(ChatAPI(self._transport).file_pages(check_count("page_size", page_size, 1)), _files)

    async def get(self, file_id: str | FileRef) -> FileRef:
        """Read what the service knows of a file: its name, type, size and present URI.

        Args:
            file_id: The file, or its id.

        Raises:
            NotFoundError: There is no such file.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            notes = await client.files.upload(b"Buy milk.", filename="notes.txt")
            print((await client.files.get(notes.id)).filename)
            ```

            ```text
            notes.txt
            ```
        """
        return structure(await ChatAPI(self._transport).read_file(_file_id(file_id)), FileRef)

    async def delete(self, file_id: str | FileRef) -> None:
        """Delete a file; messages that it was sent with keep their text, and its URI ceases to work.

        Args:
            file_id: The file, or its id.

        Raises:
            NotFoundError: There is no such file.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            notes = await client.files.upload(b"Buy milk.", filename="notes.txt")
            await client.files.delete(notes)
            ```
        """
        await ChatAPI(self._transport).delete_file(_file_id(file_id))


def _files(page: Page) -> Iterator[FileRef]:
    return map(partial(structure, cls=FileRef), page)


def _file_id(file: str | FileRef) -> str:
    return file.id if isinstance(file, FileRef) else file
