"""The HTTP endpoints of chats, messages, streams and tool results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from aiohttp import web

from inferencesh._text import copied
from inferencesh.local.observer import SentMessage, SentResult
from inferencesh.local.records import new_id

from .bodies import AttachmentReader, NewChat, NewMessage, NewResult, RunRequest
from .fields import read_body
from .filters import passes, read_filters, read_search
from .forms import read_agent
from .hosts import origin_of
from .paging import MAX_PAGE, message_page, newest_page, page_wire, read_page_limit
from .problems import Envelope, answer
from .streams import bare_messages, choose_format, stream
from .trace import trace

if TYPE_CHECKING:
    from inferencesh.local.chats import ChatStore, StoredChat, StoredRun
    from inferencesh.local.engine import Engine
    from inferencesh.local.feed import Subscription, Updates
    from inferencesh.local.files import FileStore
    from inferencesh.local.observer import Observer
    from inferencesh.local.records import StoredMessage, Wire

    from .streams import Format

__all__ = ["ChatApi", "Settings"]


@attrs.frozen
class Settings:
    """The options of ``LocalRuntime`` that affect responses.

    Args:
        envelope: The generation of response bodies.
        updates: Whether chat streams contain whole messages, deltas or both.
        heartbeat: Seconds without an event after which a stream sends a heartbeat.
        replay: Whether a chat stream starts with all existing messages.
        observer: Called with what clients send, if any.
    """

    envelope: Envelope
    updates: Updates
    heartbeat: float
    replay: bool
    observer: Observer | None = None


@attrs.define
class ChatApi:
    """The request handlers. Once its body is read, a handler changes state and responds without awaiting anything."""

    _store: ChatStore
    _engine: Engine
    _settings: Settings
    _files: FileStore
    open_streams: int = 0

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of all endpoints."""
        return [
            web.post("/agents/run", self.run),
            web.post("/agents/message", self.run),
            web.post("/agents/messages", self.run),
            web.post("/chats", self.create_chat),
            web.post("/chats/list", self.list_chats),
            web.post("/chats/messages/{id}/cancel", self.cancel_message),
            web.get("/chats/{id}", self.get_chat, allow_head=False),
            web.post("/chats/{id}", self.update_chat),
            web.delete("/chats/{id}", self.delete_chat),
            web.post("/chats/{id}/agent", self.set_agent),
            web.get("/chats/{id}/trace", self.get_trace, allow_head=False),
            web.get("/chats/{id}/messages", self.list_messages, allow_head=False),
            web.post("/chats/{id}/messages", self.send_message),
            web.get("/chats/{id}/status", self.get_status, allow_head=False),
            web.get("/chats/{id}/stream", self.stream_chat, allow_head=False),
            web.post("/chats/{id}/stop", self.stop_chat),
            web.post("/tools/{id}", self.answer_tool),
        ]

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Post a message to a new or an existing chat; with ``stream``, the response is a stream of the reply."""
        body = await read_body(request)
        wanted = RunRequest.from_body(body, self._attachments(request))
        self._observe(SentMessage(wanted.message.text, wanted.chat_id, copied(body.data)))
        chat = self._get_or_create(wanted)
        user, reply = self._post(chat, wanted.message)
        if not wanted.stream or reply is None:
            return self._answer(_posted(user, reply))
        subscription = chat.feed.subscribe("snapshots", chat, [reply])
        form = bare_messages(choose_format(request))
        return await self._stream(request, chat, subscription, form, until_settled=chat.run)

    async def create_chat(self, request: web.Request) -> web.StreamResponse:
        """Create an empty chat."""
        new = NewChat.from_body(await read_body(request))
        return self._answer(_with_messages(self._store.create(new.agent, new.context)))

    async def send_message(self, request: web.Request) -> web.StreamResponse:
        """Post a message to a chat; the response is the user's message."""
        body = await read_body(request)
        chat, message = self._chat(request), NewMessage.from_chat_body(body, self._attachments(request))
        self._observe(SentMessage(message.text, chat.id, copied(body.data)))
        user, _ = self._post(chat, message)
        return self._answer(user.wire())

    async def list_chats(self, request: web.Request) -> web.StreamResponse:
        """List the chats, newest first: those whose name is searched for, and for which all filters hold."""
        wanted = await read_body(request)
        searched, filters = read_search(wanted), read_filters(wanted)
        chats, cursor = newest_page(
            (chat for chat in self._store.chats.values() if searched(chat.name) and passes(chat.wire, filters)),
            read_page_limit(wanted.count("limit")),
            wanted.text("cursor"),
        )
        return self._answer(page_wire([chat.wire() for chat in chats], cursor))

    async def get_chat(self, request: web.Request) -> web.StreamResponse:
        """Return a chat with its newest messages, from which clients that poll learn what was said."""
        return self._answer(_with_messages(self._chat(request)))

    async def update_chat(self, request: web.Request) -> web.StreamResponse:
        """Rename a chat; other fields of the body are ignored."""
        body = await read_body(request)
        chat, name = self._chat(request), body.text("name")
        if name is not None:
            chat.name = name
            chat.touch()
            chat.feed.publish_chat(chat)
        return self._answer(_with_messages(chat))

    async def set_agent(self, request: web.Request) -> web.StreamResponse:
        """Let another agent answer from the next message on; a run that is under way ends with its own."""
        agent = read_agent(await read_body(request), required=True)
        assert agent is not None
        chat = self._chat(request)
        chat.agent_id, chat.config = new_id(), agent
        chat.touch()
        chat.feed.publish_chat(chat)
        changed: Wire = {"chat_id": chat.id, "agent_id": chat.agent_id, "agent": None}
        return self._answer({**changed, "agent_version_id": "", "agent_version": None})

    async def get_trace(self, request: web.Request) -> web.StreamResponse:
        """Return the steps of a chat as a graph."""
        return self._answer(trace(self._chat(request)))

    async def get_status(self, request: web.Request) -> web.StreamResponse:
        """Return only the status of a chat, for polling."""
        chat = self._chat(request)
        status: Wire = {"id": chat.id, "status": chat.status, "updated_at": chat.updated_at}
        return self._answer(status)

    async def list_messages(self, request: web.Request) -> web.StreamResponse:
        """Return a page of a chat's messages: the newest page first, each page oldest message first."""
        messages, cursor = message_page(
            self._chat(request).messages,
            read_page_limit(request.query.get("limit")),
            request.query.get("cursor"),
        )
        return self._answer(page_wire([message.wire() for message in messages], cursor))

    async def stream_chat(self, request: web.Request) -> web.StreamResponse:
        """Stream the events of a chat until it is deleted or the reader disconnects."""
        chat = self._chat(request)
        replay = chat.messages if self._settings.replay else chat.replies_under_way()
        subscription = chat.feed.subscribe(self._settings.updates, chat, replay)
        return await self._stream(request, chat, subscription, choose_format(request))

    async def stop_chat(self, request: web.Request) -> web.StreamResponse:
        """Stop the chat's run, if one is active."""
        chat = self._chat(request)
        self._engine.stop(chat)
        return self._answer(chat.wire())

    async def delete_chat(self, request: web.Request) -> web.StreamResponse:
        """Stop and delete a chat; its streams end."""
        chat = self._chat(request)
        self._engine.discard(chat)
        self._store.delete(chat)
        return web.Response(status=204)

    async def cancel_message(self, request: web.Request) -> web.StreamResponse:
        """Cancel a queued message."""
        chat, message = self._store.message(request.match_info["id"])
        self._engine.withdraw(chat, message)
        return self._answer(message.wire())

    async def answer_tool(self, request: web.Request) -> web.StreamResponse:
        """Accept the result of a client tool."""
        result = NewResult.from_body(await read_body(request), self._attachments(request))
        chat, invocation = self._store.invocation(request.match_info["id"])
        self._engine.answer(chat, invocation, result.text, result.attachments)
        arguments = copied(invocation.arguments.values)
        self._observe(SentResult(invocation.name, arguments, result.text, invocation.id, invocation.chat_id))
        return self._answer(invocation.wire())

    def _attachments(self, request: web.Request) -> AttachmentReader:
        return AttachmentReader(self._files, origin_of(request))

    def _chat(self, request: web.Request) -> StoredChat:
        return self._store.get(request.match_info["id"])

    def _get_or_create(self, wanted: RunRequest) -> StoredChat:
        if wanted.chat is not None:
            return self._store.create(wanted.chat.agent, wanted.chat.context)
        assert wanted.chat_id is not None
        return self._store.get(wanted.chat_id)

    def _post(self, chat: StoredChat, message: NewMessage) -> tuple[StoredMessage, StoredMessage | None]:
        return self._engine.post(chat, message.text, message.attachments, message.agent)

    def _observe(self, sent: SentMessage | SentResult) -> None:
        if self._settings.observer is not None:
            self._settings.observer(sent)

    def _answer(self, data: Wire) -> web.Response:
        return answer(self._settings.envelope, data)

    async def _stream(
        self,
        request: web.Request,
        chat: StoredChat,
        subscription: Subscription,
        form: Format,
        *,
        until_settled: StoredRun | None = None,
    ) -> web.StreamResponse:
        self.open_streams += 1
        try:
            return await stream(request, subscription, form, self._settings.heartbeat, until_settled)
        finally:
            self.open_streams -= 1
            chat.feed.unsubscribe(subscription)


def _with_messages(chat: StoredChat) -> Wire:
    return chat.wire(chat.messages[-MAX_PAGE:])


def _posted(user: StoredMessage, reply: StoredMessage | None) -> Wire:
    return {
        "user_message": user.wire(),
        "assistant_message": reply.wire() if reply else None,
    }
