"""What a client has beside conversations, for programs without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar

from .agents import AsyncAgents
from .calling_thread import call_with_callbacks
from .chats import AsyncChats
from .file_sources import FileSource, OnProgress
from .files import AsyncFiles
from .loop_thread import LoopThread
from .models import Chat, FileRef, Message
from .sync_agent import Agent

__all__ = ["Agents", "Chats", "Files"]

T = TypeVar("T")


class Chats:
    """The chats of the account; ``client.chats``."""

    def __init__(self, thread: LoopThread, chats: AsyncChats) -> None:
        self._thread = thread
        self._chats = chats

    def list(self, *, search: str | None = None, page_size: int = 50) -> Iterator[Chat]:
        """List chats, the newest first; as ``AsyncChats.list``, blocking."""
        return _Each(self._thread, self._chats.list(search=search, page_size=page_size))

    def get(self, chat_id: str) -> Chat:
        """Read a chat; as ``AsyncChats.get``, blocking."""
        return self._thread.call(self._chats.get(chat_id))

    def messages(self, chat_id: str, *, page_size: int = 50) -> Iterator[Message]:
        """Read a chat's messages, the newest first; as ``AsyncChats.messages``, blocking."""
        return _Each(self._thread, self._chats.messages(chat_id, page_size=page_size))

    def delete(self, chat_id: str) -> None:
        """Delete a chat; as ``AsyncChats.delete``, blocking."""
        self._thread.call(self._chats.delete(chat_id))

    def cancel_message(self, message_id: str) -> None:
        """Withdraw a queued message; as ``AsyncChats.cancel_message``, blocking."""
        self._thread.call(self._chats.cancel_message(message_id))


class Agents:
    """The other way to make agents; ``client.agents``."""

    def __init__(self, thread: LoopThread, agents: AsyncAgents) -> None:
        self._thread = thread
        self._agents = agents

    def create(
        self,
        config: str | Mapping[str, Any],
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Agent:
        """Make an agent; as ``Inference.agent``."""
        return Agent(self._thread, self._agents.create(config, chat_id=chat_id, context=context))


class Files:
    """The account's files; ``client.files``."""

    def __init__(self, thread: LoopThread, files: AsyncFiles) -> None:
        self._thread = thread
        self._files = files

    def upload(
        self,
        source: FileSource,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileRef:
        """Upload a file; as ``AsyncFiles.upload``, blocking. A sync ``on_progress`` runs on the calling thread."""
        return call_with_callbacks(
            self._thread,
            lambda relay: self._files.upload(
                source, filename=filename, content_type=content_type, on_progress=relay(on_progress)
            ),
        )


class _Each(Generic[T]):
    """What an async iterator has, one by one; a page is read when it is needed, and nothing is held in between."""

    def __init__(self, thread: LoopThread, items: AsyncIterator[T]) -> None:
        self._thread = thread
        self._items = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self._thread.call(self._following())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _following(self) -> T:
        return await anext(self._items)
