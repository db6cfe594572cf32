"""``client.chats``: the chats of the account, listed and read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from .chat_api import ChatAPI
from .converter import structure
from .errors import ConfigurationError
from .models import Chat, Message
from .paging import Items, Page
from .uncopied import Uncopied

__all__ = ["AsyncChats"]


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
