"""The service's calls that a conversation needs, each in one place: paths, bodies, and what comes back."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Self, TypeAlias, TypeVar
from urllib.parse import quote

from inferencesh._loops.threads import Uncopied
from inferencesh._types.codec import result_text
from inferencesh.errors import APIError, ConfigurationError, ConflictError, NotFoundError, UnreadableError
from inferencesh.models import FileRef

from .retry import Safety
from .transport import Transport
from .uploads import attachments

__all__ = ["ChatAPI", "Items", "Page", "Pages", "objects"]

T = TypeVar("T")
Page: TypeAlias = list[Mapping[str, Any]]


class Pages(Uncopied):
    """The pages of a list.

    Args:
        read: Reads the page that a cursor leads to; it is given what to add to the request, nothing for the first.
    """

    def __init__(self, read: Callable[[Mapping[str, str]], Awaitable[object]]) -> None:
        self._read = read
        self._cursor: Mapping[str, str] | None = {}  # None at the end
        self._seen = {""}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page:
        if self._cursor is None:
            raise StopAsyncIteration
        page = await self._read(self._cursor)
        self._cursor = self._following(page)
        return objects(page.get("items") if isinstance(page, dict) else page)

    def _following(self, page: object) -> Mapping[str, str] | None:
        """Where the next page is; a cursor that comes back again is the end, lest this goes in circles."""
        if not isinstance(page, dict) or page.get("has_next") is False:
            return None
        cursor = page.get("next_cursor")
        if not isinstance(cursor, str) or cursor in self._seen:
            return None
        self._seen.add(cursor)
        return {"cursor": cursor}


class Items(Uncopied, Generic[T]):
    """What is in the pages, one by one.

    Args:
        pages: The pages.
        read: Makes what is wanted of a page's items, in the order that is wanted.
    """

    def __init__(self, pages: Pages, read: Callable[[Page], Iterable[T]]) -> None:
        self._pages = pages
        self._read = read
        self._waiting: deque[T] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            self._waiting.extend(self._read(await anext(self._pages)))
        return self._waiting.popleft()


def objects(value: object) -> Page:
    """The objects in a list that a server sent; anything else is no list, or none of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


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
            async for items in self.message_pages(chat_id):
                messages += items
                if any(map(enough, items)):
                    break
        except NotFoundError:
            return objects(chat.get("chat_messages"))
        return messages or objects(chat.get("chat_messages"))

    def message_pages(self, chat_id: str, size: int = _PAGE) -> Pages:
        """Read a chat's messages a page at a time, the newest page first."""

        async def read(cursor: Mapping[str, str]) -> object:
            params = {"limit": str(size), **cursor}
            path = f"{chat_path(chat_id)}/messages"
            return await self._transport.request("GET", path, params=params, safety=Safety.REPEATABLE)

        return Pages(read)

    def chat_pages(self, search: str | None, size: int = _PAGE) -> Pages:
        """Read the account's chats a page at a time, the newest page first."""

        async def read(cursor: Mapping[str, str]) -> object:
            body = {"limit": size, **({"search": search} if search else {}), **cursor}
            return await self._transport.request("POST", "/chats/list", json=body, safety=Safety.REPEATABLE)

        return Pages(read)

    async def delete_chat(self, chat_id: str) -> None:
        """Delete a chat."""
        try:
            await self._transport.request("DELETE", chat_path(chat_id), safety=Safety.UNTIL_ACKNOWLEDGED)
        except NotFoundError as error:
            if not error.repetitions:  # else an earlier attempt has deleted it, its answer being lost
                raise

    async def cancel_message(self, message_id: str) -> bool:
        """Withdraw a queued message; returns False where it was settled before, most likely by this very request."""
        return None is not await self._settle(f"/chats/messages/{_segment('message', message_id)}/cancel", None)

    async def submit(
        self, call_id: str, result: object, *, accept_existing: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result until the server has acknowledged it.

        Args:
            call_id: The call's id.
            result: A string, or anything with a JSON form.
            accept_existing: Whether it is as good when somebody else has answered the call.
            files: What goes with it.

        Raises:
            APIError: The server refused it; a ConflictError when the call does not wait for a result.
        """
        path = f"/tools/{_segment('tool call', call_id)}"
        body: dict[str, Any] = {"result": result_text(result)}
        if files:
            body["attachments"] = attachments(files)
        await self._settle(path, body, accept_existing=accept_existing)

    async def decide(self, call_id: str, *, approved: bool, reason: str, accept_existing: bool = False) -> bool:
        """Post the decision about a tool call that waits for approval, until the server has acknowledged it.

        Args:
            call_id: The call's id.
            approved: Whether it may run.
            reason: Why not, for the agent to read.
            accept_existing: Whether to go by what somebody else has decided before.

        Returns:
            Whether it surely counts; otherwise the call was settled before, most likely by this very request.

        Raises:
            APIError: The server refused it; a ConflictError when the call does not wait for approval.
        """
        path = f"/tools/{_segment('tool call', call_id)}"
        if approved:
            answer = await self._settle(f"{path}/invoke", None, accept_existing=accept_existing)
        else:
            answer = await self._settle(f"{path}/reject", {"reason": reason}, accept_existing=accept_existing)
        return answer is not None

    async def resolve_interrupt(self, interrupt_id: str, *, allow: bool) -> Mapping[str, Any]:
        """Decide about an interrupt; returns it as it stands then, as far as the server says."""
        path = f"/interrupts/{_segment('interrupt', interrupt_id)}/resolve"
        answer = await self._settle(path, {"decision": "allow" if allow else "deny"})
        return {"id": interrupt_id, "status": "resolved", **(answer or {})}

    async def _settle(
        self, path: str, body: Mapping[str, Any] | None, *, accept_existing: bool = False
    ) -> Mapping[str, Any] | None:
        """Post what the server takes once, until it says so; returns its answer, None where it was settled before."""
        try:
            answer = await self._transport.request("POST", path, json=body, safety=Safety.UNTIL_ACKNOWLEDGED)
        except APIError as error:
            taken = isinstance(error, ConflictError) or error.code in {"already_processed", "already_submitted"}
            # After a repetition it is most likely this very request that the server has taken, its answer being lost.
            if not taken or not (accept_existing or error.repetitions):
                raise
            logger.info("POST %s: it was settled already", path)
            return None
        return answer if isinstance(answer, dict) else {}

    async def stop(self, chat_id: str) -> None:
        """End the chat's run on the server."""
        await self._transport.request("POST", f"{chat_path(chat_id)}/stop", safety=Safety.REPEATABLE)


def chat_path(chat_id: str) -> str:
    """The path of a chat; its id may come from anywhere."""
    return f"/chats/{_segment('chat', chat_id)}"


def _segment(kind: str, value: str) -> str:
    """An id as one segment of a path."""
    if not isinstance(value, str):
        raise TypeError(f"the {kind} id is a str, not {type(value).__name__}")
    if value in {"", ".", ".."}:  # with these the path would lead somewhere else
        raise ConfigurationError(f"{value!r} is no {kind} id")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ConfigurationError(f"{value!r} is no {kind} id") from None


def _object(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableError(f"the server answered with {type(value).__name__} where an object was expected")
    return value
