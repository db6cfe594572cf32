"""What a client has beside conversations, for programs without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from .agents import AsyncAgents
from .calling_thread import call_with_callbacks
from .chats import AsyncChats
from .file_sources import FileSource, OnProgress
from .files import AsyncFiles
from .loop_thread import LoopThread
from .models import Chat, FileRef, Message
from .sync_agent import Agent
from .uncopied import Uncopied

if TYPE_CHECKING:
    from .config_names import AgentConfig

__all__ = ["Agents", "Chats", "Files"]

T = TypeVar("T")


class Chats(Uncopied):
    """The chats of the account; ``client.chats``.

    Example:
        ```python
        agent.send_message("Hello")
        for chat in client.chats.list():
            print(chat.id, chat.name, chat.status)
        ```
    """

    def __init__(self, thread: LoopThread, chats: AsyncChats) -> None:
        self._thread = thread
        self._chats = chats

    def list(self, *, search: str | None = None, page_size: int = 50) -> Iterator[Chat]:
        """List chats, the newest first; as ``AsyncChats.list``, blocking.

        Example:
            ```python
            for chat in client.chats.list(search="invoice", page_size=100):
                print(chat.created_at, chat.name)
            ```
        """
        return _Each(self._thread, self._chats.list(search=search, page_size=page_size))

    def get(self, chat_id: str) -> Chat:
        """Read a chat; as ``AsyncChats.get``, blocking.

        Example:
            ```python
            message = agent.send_message("Hello")
            chat = client.chats.get(message.chat_id)
            print(chat.status)
            ```
        """
        return self._thread.call(self._chats.get(chat_id))

    def messages(self, chat_id: str, *, page_size: int = 50) -> Iterator[Message]:
        """Read a chat's messages, the newest first; as ``AsyncChats.messages``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            for message in client.chats.messages(agent.chat_id):
                print(message.role, message.text)
            ```

            ```text
            assistant You said: "Hello". ...
            user Hello
            ```
        """
        return _Each(self._thread, self._chats.messages(chat_id, page_size=page_size))

    def delete(self, chat_id: str) -> None:
        """Delete a chat; as ``AsyncChats.delete``, blocking.

        Example:
            ```python
            message = agent.send_message("Hello")
            client.chats.delete(message.chat_id)
            ```
        """
        self._thread.call(self._chats.delete(chat_id))

    def cancel_message(self, message_id: str) -> None:
        """Withdraw a queued message; as ``AsyncChats.cancel_message``, blocking.

        Example:
            ```python
            reply = agent.send_message("Hello")
            for message in client.chats.messages(reply.chat_id):
                if message.status == MessageStatus.QUEUED:
                    client.chats.cancel_message(message.id)
            ```
        """
        self._thread.call(self._chats.cancel_message(message_id))


class Agents(Uncopied):
    """The other way to make agents; ``client.agents``.

    Example:
        ```python
        agent = client.agents.create({"name": "greeter"})
        message = agent.send_message("Hello")
        ```
    """

    def __init__(self, thread: LoopThread, agents: AsyncAgents) -> None:
        self._thread = thread
        self._agents = agents

    def create(
        self,
        config: str | AgentConfig | Mapping[str, Any],
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Agent:
        """Make an agent; as ``Inference.agent``.

        Example:
            ```python
            agent = client.agents.create("acme/support@v2", context={"language": "fr"})
            ```
        """
        return Agent(self._thread, self._agents.create(config, chat_id=chat_id, context=context))


class Files(Uncopied):
    """The account's files; ``client.files``.

    Example:
        ```python
        photo = client.files.upload(b"GIF89a...", filename="photo.gif")
        message = agent.send_message("What is this?", files=[photo])
        ```
    """

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
        """Upload a file; as ``AsyncFiles.upload``, blocking. A sync ``on_progress`` runs on the calling thread.

        Example:
            ```python
            def on_progress(sent, total):
                print(f"{sent} of {total} bytes")


            notes = client.files.upload(b"Buy milk.", filename="notes.txt", on_progress=on_progress)
            print(notes.filename, notes.content_type, notes.size)
            ```

            ```text
            0 of 9 bytes
            9 of 9 bytes
            notes.txt text/plain 9
            ```
        """
        return call_with_callbacks(
            self._thread,
            lambda relay: self._files.upload(
                source, filename=filename, content_type=content_type, on_progress=relay(on_progress)
            ),
        )


class _Each(Uncopied, Generic[T]):
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
