"""The endpoints of the service that chats need, and the pages of its lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, TypeVar
from urllib.parse import quote

from inferencesh._loops.threads import Uncopied
from inferencesh._types.codec import read_items
from inferencesh.errors import (
    APIError,
    ConfigurationError,
    ConflictError,
    InferenceError,
    NotFoundError,
    UnreadableError,
    refusing,
)
from inferencesh.models import FileRef

from .retry import Safety
from .sources import FileSource
from .transport import Transport
from .uploads import attachments, upload_all

__all__ = ["ChatAPI", "Items", "Page", "Pages", "chat_path", "delete", "path_segment", "posted_pages"]

T = TypeVar("T")
Page: TypeAlias = list[Mapping[str, Any]]

logger = logging.getLogger("inferencesh")

_PAGE_SIZE = 50  # messages read at a time


class Pages(Uncopied):
    """The pages of a list.

    Args:
        read: Reads one page; it receives the parameters to add to the request, none for the first page.
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
        return _listed(page)

    def _following(self, page: object) -> Mapping[str, str] | None:
        """Return the parameters of the next page, or None at the end; a repeated cursor also ends the list."""
        if not isinstance(page, dict) or page.get("has_next") is False:
            return None
        cursor = page.get("next_cursor")
        if not isinstance(cursor, str) or cursor in self._seen:
            if cursor or page.get("has_next"):
                logger.warning(
                    "the rest of a list was not read: the server says that there is more, but not from where"
                )
            return None
        self._seen.add(cursor)
        return {"cursor": cursor}


class Items(Uncopied, Generic[T]):
    """The items of the pages, one by one; several tasks or threads may share them, and each item is given once.

    Args:
        pages: The pages.
        read: Converts the items of a page, in the order to return them; one that cannot be converted is an error in its
            place, and the others follow.
    """

    def __init__(self, pages: Pages, read: Callable[[Page], Iterable[T]]) -> None:
        self._pages = pages
        self._read = read
        self._waiting: Iterator[T] = iter(())
        self._turn = asyncio.Lock()  # a page is read for one caller at a time
        self._loop: asyncio.AbstractEventLoop | None = None  # of the last caller

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._turn.locked():
                raise InferenceError("this list is being read on another event loop; give each loop a list of its own")
            self._loop, self._turn = loop, asyncio.Lock()  # a lock belongs to one loop
        async with self._turn:
            while True:
                for item in self._waiting:
                    return item
                self._waiting = iter(self._read(await anext(self._pages)))

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __await__ = __iter__ = __getitem__ = refusing(
            "a list is read while it is iterated, page by page: write «async for item in ...», "
            "or «items = [item async for item in ...]»"
        )


def _listed(answer: object) -> Page:
    """Return the objects in a list, or in the ``items`` of an object."""
    return read_items(answer.get("items") if isinstance(answer, dict) else answer)


class ChatAPI:
    """Calls to the service.

    Args:
        transport: The transport for the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def run(self, body: Mapping[str, Any], guard: Callable[[], bool] | None = None) -> Mapping[str, Any]:
        """Post a message; it is retried only if the server cannot have processed it.

        Args:
            body: The body.
            guard: Asked at the moment at which the message would be written whether it still may be, or None.
        """
        answer = await self._transport.request("POST", "/agents/run", json=body, safety=Safety.ONCE, guard=guard)
        return _object(answer)

    async def read_chat(self, chat_id: str) -> Mapping[str, Any]:
        """Read a chat, without its messages."""
        chat = await self._transport.request("GET", chat_path(chat_id), safety=Safety.REPEATABLE)
        if chat is None:  # such as a proxy's page with status 200
            raise UnreadableError("the response has no chat; check that base_url is the address of the service")
        return _object(chat)

    async def read_messages(
        self, chat: Mapping[str, Any], chat_id: str, enough: Callable[[Mapping[str, Any]], bool]
    ) -> list[Mapping[str, Any]]:
        """Read a chat's messages, newest page first.

        Args:
            chat: The chat as it was read; older servers put the messages into it.
            chat_id: Its id.
            enough: Returns whether a message is so old that no further page is needed.

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
            return read_items(chat.get("chat_messages"))
        return messages or read_items(chat.get("chat_messages"))

    def message_pages(self, chat_id: str, size: int = _PAGE_SIZE) -> Pages:
        """Read a chat's messages a page at a time, the newest page first."""

        async def read(cursor: Mapping[str, str]) -> object:
            params = {"limit": str(size), **cursor}
            path = f"{chat_path(chat_id)}/messages"
            return await self._transport.request("GET", path, params=params, safety=Safety.REPEATABLE)

        return Pages(read)

    def chat_pages(self, search: str | None, size: int) -> Pages:
        """Read the account's chats a page at a time, the newest page first."""
        return posted_pages(self._transport, "/chats/list", {"limit": size, **({"search": search} if search else {})})

    async def delete_chat(self, chat_id: str) -> None:
        """Delete a chat."""
        await delete(self._transport, chat_path(chat_id))

    async def update_chat(self, chat_id: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change fields of a chat and return it."""
        path = chat_path(chat_id)
        return _object(await self._transport.request("POST", path, json=fields, safety=Safety.REPEATABLE))

    async def read_status(self, chat_id: str) -> Mapping[str, Any]:
        """Read the status of a chat, and when it has last changed."""
        path = f"{chat_path(chat_id)}/status"
        return _object(await self._transport.request("GET", path, safety=Safety.REPEATABLE))

    async def read_trace(self, chat_id: str) -> Mapping[str, Any]:
        """Read the steps of a chat's runs."""
        path = f"{chat_path(chat_id)}/trace"
        return _object(await self._transport.request("GET", path, safety=Safety.REPEATABLE))

    async def set_agent(self, chat_id: str, agent: str) -> None:
        """Continue a chat with another stored agent."""
        path = f"{chat_path(chat_id)}/agent"
        await self._transport.request("POST", path, json={"agent": agent}, safety=Safety.REPEATABLE, needed=False)

    async def read_interrupts(self, run_id: str) -> Page:
        """Read the interrupts of a run, ended ones included."""
        path = f"/agent-runs/{path_segment('run', run_id)}/interrupts"
        return _listed(await self._transport.request("GET", path, safety=Safety.REPEATABLE))

    async def always_allow(self, chat_id: str, call_id: str, option: str | None) -> bool:
        """Approve a call and what else an option covers; return False if the call was decided before."""
        path = f"{chat_path(chat_id)}/tools/{path_segment('tool call', call_id)}/always-allow"
        return await self._settle(path, {"option": option} if option is not None else {}) is not None

    def file_pages(self, size: int) -> Pages:
        """Read the account's files a page at a time, the newest page first."""
        return posted_pages(self._transport, "/files/list", {"limit": size})

    async def read_file(self, file_id: str) -> Mapping[str, Any]:
        """Read what the service knows of a file."""
        path = f"/files/{path_segment('file', file_id)}"
        return _object(await self._transport.request("GET", path, safety=Safety.REPEATABLE))

    async def delete_file(self, file_id: str) -> None:
        """Delete a file."""
        await delete(self._transport, f"/files/{path_segment('file', file_id)}")

    async def cancel_message(self, message_id: str) -> bool:
        """Withdraw a queued message; return False if that was done before, probably by an earlier attempt."""
        answer = await self._settle(f"/chats/messages/{path_segment('message', message_id)}/cancel", None)
        return answer is not None

    async def submit(
        self, call_id: str, result: str, *, accept_existing: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result until the server has acknowledged it.

        Args:
            call_id: The call's id.
            result: The result's text.
            accept_existing: Whether to accept that another client has submitted a result.
            files: The files to attach.

        Raises:
            APIError: The server refused it; a ConflictError when the call does not wait for a result.
        """
        path = f"/tools/{path_segment('tool call', call_id)}"
        body: dict[str, Any] = {"result": result}
        if files:
            body["attachments"] = attachments(files)
        await self._settle(path, body, accept_existing=accept_existing)

    async def upload(self, files: Sequence[FileSource]) -> list[FileRef]:
        """Upload files, several at once; return references to them, in the same order."""
        return await upload_all(self._transport, files)

    async def decide(self, call_id: str, *, approved: bool, reason: str, accept_existing: bool = False) -> bool:
        """Post the decision about a tool call that waits for approval, until the server has acknowledged it.

        Args:
            call_id: The call's id.
            approved: Whether it may run.
            reason: The reason for a rejection, which the agent receives.
            accept_existing: Whether to accept the existing decision of another client.

        Returns:
            Whether this decision was accepted; False if the call was decided before, probably by an earlier attempt.

        Raises:
            APIError: The server refused it; a ConflictError when the call does not wait for approval.
        """
        path = f"/tools/{path_segment('tool call', call_id)}"
        if approved:
            answer = await self._settle(f"{path}/invoke", None, accept_existing=accept_existing)
        else:
            answer = await self._settle(f"{path}/reject", {"reason": reason}, accept_existing=accept_existing)
        return answer is not None

    async def resolve_interrupt(self, interrupt_id: str, *, allow: bool) -> Mapping[str, Any]:
        """Resolve an interrupt; return its new state as far as the server reports it."""
        path = f"/interrupts/{path_segment('interrupt', interrupt_id)}/resolve"
        answer = await self._settle(path, {"decision": "allow" if allow else "deny"})
        return {"id": interrupt_id, "status": "resolved", **(answer or {})}

    async def _settle(
        self, path: str, body: Mapping[str, Any] | None, *, accept_existing: bool = False
    ) -> Mapping[str, Any] | None:
        """Post what the server accepts once; return its response, or None if it was accepted before."""
        try:
            answer = await self._transport.request("POST", path, json=body, safety=Safety.UNTIL_ACKNOWLEDGED)
        except APIError as error:
            taken = isinstance(error, ConflictError) or error.code in {"already_processed", "already_submitted"}
            # After a retry the server has probably accepted an earlier attempt, whose response was lost.
            if not taken or not (accept_existing or error.repetitions):
                raise
            logger.info("POST %s: it was accepted before", path)
            return None
        return answer if isinstance(answer, dict) else {}

    async def stop(self, chat_id: str) -> None:
        """End the chat's run on the server."""
        await self._transport.request("POST", f"{chat_path(chat_id)}/stop", safety=Safety.REPEATABLE, needed=False)


def posted_pages(transport: Transport, path: str, body: Mapping[str, Any]) -> Pages:
    """Return the pages of a list that is asked for with POST requests.

    Args:
        transport: The transport for the requests.
        path: The list's path.
        body: What is asked for; each page's cursor is added to it.
    """

    async def read(cursor: Mapping[str, str]) -> object:
        return await transport.request("POST", path, json={**body, **cursor}, safety=Safety.REPEATABLE)

    return Pages(read)


async def delete(transport: Transport, path: str, params: Mapping[str, str] | None = None) -> None:
    """Delete what a path stands for.

    Raises:
        NotFoundError: There was nothing before the first attempt; afterwards an attempt whose response was lost has
            probably deleted it.
    """
    try:
        await transport.request("DELETE", path, params=params, safety=Safety.UNTIL_ACKNOWLEDGED)
    except NotFoundError as error:
        if not error.repetitions:
            raise


def chat_path(chat_id: str) -> str:
    """Return the path of a chat; the id is checked and quoted."""
    return f"/chats/{path_segment('chat', chat_id)}"


def path_segment(kind: str, value: str) -> str:
    """Return an id as a path segment."""
    if not isinstance(value, str):
        raise TypeError(f"the {kind} id must be a str, not {type(value).__name__}")
    if value in {"", ".", ".."}:  # these would change the path
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
