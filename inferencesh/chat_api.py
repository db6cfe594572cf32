"""The service's calls that a conversation needs, each in one place: paths, bodies, and what comes back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .converter import UnreadableError, result_text
from .errors import APIError, ConflictError, NotFoundError
from .models import FileRef
from .retry import Safety
from .transport import Transport
from .uploads import attachments

__all__ = ["ChatAPI"]

logger = logging.getLogger("inferencesh")

_PAGE = 50  # messages or chats read at a time


class ChatAPI:
    """Calls to the service.

    Args:
        transport: Makes the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def run(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Post a message; it is sent again only when the server cannot have taken it."""
        return _object(await self._transport.request("POST", "/agents/run", json=body, safety=Safety.ONCE))

    async def read_chat(self, chat_id: str) -> Mapping[str, Any]:
        """Read a chat, without its messages."""
        chat = await self._transport.request("GET", chat_path(chat_id), safety=Safety.REPEATABLE)
        if chat is None:  # such as a proxy's page with status 200
            raise UnreadableError("the server answered without the chat that was asked for")
        return _object(chat)

    async def read_messages(
        self, chat: Mapping[str, Any], chat_id: str, enough: Callable[[Mapping[str, Any]], bool]
    ) -> list[Mapping[str, Any]]:
        """Read a chat's messages, newest page first.

        Args:
            chat: The chat as it was read; older servers put the messages into it.
            chat_id: Its id.
            enough: Whether a message lies so far back that no further page is needed.

        Returns:
            The messages, in no particular order.
        """
        messages: list[Mapping[str, Any]] = []
        try:
            async with contextlib.aclosing(self.message_pages(chat_id)) as pages:
                async for items in pages:
                    messages += items
                    if any(map(enough, items)):
                        break
        except NotFoundError:
            return _objects(chat.get("chat_messages"))
        return messages or _objects(chat.get("chat_messages"))

    def message_pages(self, chat_id: str, size: int = _PAGE) -> AsyncGenerator[list[Mapping[str, Any]]]:
        """Read a chat's messages a page at a time, the newest page first."""

        async def read(cursor: Mapping[str, str]) -> object:
            params = {"limit": str(size), **cursor}
            path = f"{chat_path(chat_id)}/messages"
            return await self._transport.request("GET", path, params=params, safety=Safety.REPEATABLE)

        return _pages(read)

    def chat_pages(self, search: str | None, size: int = _PAGE) -> AsyncGenerator[list[Mapping[str, Any]]]:
        """Read the account's chats a page at a time, the newest page first."""

        async def read(cursor: Mapping[str, str]) -> object:
            body = {"limit": size, **({"search": search} if search else {}), **cursor}
            return await self._transport.request("POST", "/chats/list", json=body, safety=Safety.REPEATABLE)

        return _pages(read)

    async def delete_chat(self, chat_id: str) -> None:
        """Delete a chat."""
        try:
            await self._transport.request("DELETE", chat_path(chat_id), safety=Safety.UNTIL_ACKNOWLEDGED)
        except NotFoundError as error:
            if not error.repetitions:  # else an earlier attempt has deleted it, its answer being lost
                raise

    async def cancel_message(self, message_id: str) -> None:
        """Withdraw a queued message."""
        path = f"/chats/messages/{quote(message_id, safe='')}/cancel"
        await self._transport.request("POST", path, safety=Safety.ONCE)

    async def submit(
        self, call_id: str, result: object, *, anybodys: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result until the server has acknowledged it.

        Args:
            call_id: The call's id.
            result: A string, or anything with a JSON form.
            anybodys: Whether it is as good when somebody else has answered the call.
            files: What goes with it.

        Raises:
            APIError: The server refused it; a ConflictError when the call does not wait for a result.
        """
        body: dict[str, Any] = {"result": result_text(result)}
        if files:
            body["attachments"] = attachments(files)
        path = f"/tools/{quote(call_id, safe='')}"
        try:
            await self._transport.request("POST", path, json=body, safety=Safety.UNTIL_ACKNOWLEDGED)
        except APIError as error:
            taken = isinstance(error, ConflictError) or error.code in {"already_processed", "already_submitted"}
            # After a repetition it is most likely this very result that the server has taken, its answer being lost.
            if not taken or not (anybodys or error.repetitions):
                raise
            logger.info("the result of tool call %s was there already", call_id)

    async def approve(self, call_id: str) -> None:
        """Approve a tool call."""
        path = f"/tools/{quote(call_id, safe='')}/invoke"
        await self._transport.request("POST", path, safety=Safety.ONCE)

    async def reject(self, call_id: str, reason: str) -> None:
        """Reject a tool call, with a reason for the agent."""
        path = f"/tools/{quote(call_id, safe='')}/reject"
        await self._transport.request("POST", path, json={"reason": reason}, safety=Safety.ONCE)

    async def resolve_interrupt(self, interrupt_id: str, decision: str) -> Mapping[str, Any]:
        """Decide about an interrupt; returns it as it stands then."""
        path = f"/interrupts/{quote(interrupt_id, safe='')}/resolve"
        return _object(await self._transport.request("POST", path, json={"decision": decision}, safety=Safety.ONCE))

    async def stop(self, chat_id: str) -> None:
        """End the chat's run on the server."""
        await self._transport.request("POST", f"{chat_path(chat_id)}/stop", safety=Safety.REPEATABLE)


def chat_path(chat_id: str) -> str:
    """The path of a chat; its id may come from anywhere."""
    return f"/chats/{quote(chat_id, safe='')}"


async def _pages(
    read: Callable[[Mapping[str, str]], Awaitable[object]],
) -> AsyncGenerator[list[Mapping[str, Any]]]:
    """Follow the cursors of a paged answer; one that comes back again is the end, lest this goes in circles."""
    seen = {""}
    cursor: Mapping[str, str] = {}
    while True:
        page = await read(cursor)
        yield _objects(page.get("items") if isinstance(page, dict) else page)
        following = page.get("next_cursor") if isinstance(page, dict) and page.get("has_next", True) else None
        if not isinstance(following, str) or following in seen:
            return
        seen.add(following)
        cursor = {"cursor": following}


def _object(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableError(f"the server answered with {type(value).__name__} where an object was expected")
    return value


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
