"""The service's calls that a conversation needs, each in one place: paths, bodies, and what comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from .converter import UnreadableError, result_text
from .errors import APIError, ConflictError, NotFoundError
from .retry import Safety
from .transport import Transport

__all__ = ["ChatAPI"]

logger = logging.getLogger("inferencesh")

_PAGE = 50  # messages read at a time
_MOST_PAGES = 200


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
        cursor = ""
        for _ in range(_MOST_PAGES):
            params = {"limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
            try:
                page = await self._transport.request(
                    "GET", f"{chat_path(chat_id)}/messages", params=params, safety=Safety.REPEATABLE
                )
            except NotFoundError:
                return _objects(chat.get("chat_messages"))
            items = _objects(page.get("items") if isinstance(page, dict) else page)
            messages += items
            cursor = page.get("next_cursor") or "" if isinstance(page, dict) and page.get("has_next", True) else ""
            if not cursor or not isinstance(cursor, str) or any(map(enough, items)):
                break
        return messages or _objects(chat.get("chat_messages"))

    async def submit(self, call_id: str, result: object, *, anybodys: bool = False) -> None:
        """Post a tool call's result until the server has acknowledged it.

        Args:
            call_id: The call's id.
            result: A string, or anything with a JSON form.
            anybodys: Whether it is as good when somebody else has answered the call.

        Raises:
            APIError: The server refused it; a ConflictError when the call does not wait for a result.
        """
        body = {"result": result_text(result)}
        path = f"/tools/{quote(call_id, safe='')}"
        try:
            await self._transport.request("POST", path, json=body, safety=Safety.UNTIL_ACKNOWLEDGED)
        except APIError as error:
            taken = isinstance(error, ConflictError) or error.code in {"already_processed", "already_submitted"}
            # After a repetition it is most likely this very result that the server has taken, its answer being lost.
            if not taken or not (anybodys or error.repetitions):
                raise
            logger.info("the result of tool call %s was there already", call_id)

    async def stop(self, chat_id: str) -> None:
        """End the chat's run on the server."""
        await self._transport.request("POST", f"{chat_path(chat_id)}/stop", safety=Safety.REPEATABLE)


def chat_path(chat_id: str) -> str:
    """The path of a chat; its id may come from anywhere."""
    return f"/chats/{quote(chat_id, safe='')}"


def _object(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableError(f"the server answered with {type(value).__name__} where an object was expected")
    return value


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
