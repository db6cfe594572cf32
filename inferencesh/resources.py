"""``client.files``: uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from ._http.api import ChatAPI, Items, Page
from ._http.sources import FileSource, OnProgress, check_source
from ._http.transport import Transport
from ._http.uploads import upload
from ._loops.threads import Uncopied
from ._types.codec import structure
from .errors import ConfigurationError
from .models import Chat, FileRef, Message

__all__ = ["AsyncChats", "AsyncFiles"]


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
            search: Only chats with this in their name; all when None.
            page_size: How many chats are read at a time.

        Returns:
            An async iterator; when a page cannot be read it raises, and goes on with that page if it is asked again.

        Raises:
            ConfigurationError: ``page_size`` is no positive whole number.
            APIError, APIConnectionError: From the iterator, when the server refuses or cannot be reached.

        Example:
            ```python
            async for chat in client.chats.list(search="invoice", page_size=100):
                print(chat.created_at, chat.name)
            ```
        """
        return Items(self._api.chat_pages(search, _positive(page_size)), _chats)

    async def get(self, chat_id: str) -> Chat:
        """Read a chat.

        Args:
            chat_id: Its id.

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
            page_size: How many messages are read at a time.

        Returns:
            An async iterator; when a page cannot be read it raises, and goes on with that page if it is asked again.

        Raises:
            ConfigurationError: ``page_size`` is no positive whole number.
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
        return Items(self._api.message_pages(chat_id, _positive(page_size)), _newest_first)

    async def delete(self, chat_id: str) -> None:
        """Delete a chat with its messages; what runs in it is stopped.

        Args:
            chat_id: Its id.

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

    async def cancel_message(self, message_id: str) -> None:
        """Withdraw a message that is queued behind a run; a ``send_message`` that waits for its reply raises then.

        Args:
            message_id: Its id.

        Raises:
            ConflictError: It is not queued any more.
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
    return (structure(item, Chat) for item in page)


def _newest_first(page: Page) -> Sequence[Message]:
    """The messages of a page; servers differ in the order within one."""
    return sorted((structure(item, Message) for item in page), key=lambda message: message.order, reverse=True)


def _positive(page_size: object) -> int:
    if not isinstance(page_size, int) or isinstance(page_size, bool) or page_size < 1:
        raise ConfigurationError(f"page_size must be a whole number of at least 1, not {page_size!r}")
    return page_size


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
        """Upload a file, to be sent with a message, with a tool's result, or as often as you like.

        A file on disk is read while it is sent, whatever its size in constant memory. The bytes go to the address that
        the service names, without the API key, and again when the connection or the storage server fails. No limit of
        time applies to the whole, only to the waits in between (``Timeout.idle``).

        Args:
            source: A ``pathlib.Path``; bytes; a binary file object, which is read from where it stands, and first
                copied to a temporary file if it can be read only once; a ``data:`` URI; or a FileRef, for which nothing
                is sent. A str that is no data: URI is refused.
            filename: The name to give it; that of the source when None.
            content_type: Its MIME type; guessed from name and bytes when None.
            on_progress: Called as ``on_progress(sent, total)`` in bytes: with 0 before anything is sent, then every 256
                KiB, and with ``total`` when the storage has taken all. It never goes back, also when a failed attempt
                is repeated. Sync or async; what it raises ends the upload and reaches you.

        Returns:
            What it is at the service; the very FileRef that was given, unless it is to be named or typed otherwise.

        Raises:
            FileError: The file is not there, cannot be read, or its size changed meanwhile.
            TypeError: The source is none of these.
            ConfigurationError: The data: URI or the content type cannot be read.
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
