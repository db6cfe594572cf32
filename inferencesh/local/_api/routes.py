"""The addresses of the runtime and what each does; the wire's words stay here and in `bodies`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from attrs import define

from inferencesh._text import copied
from inferencesh.local.files import AttachmentReader
from inferencesh.local.observer import SentMessage, SentResult

from .bodies import NewChat, Post, RunRequest, ToolResult, read_page_limit
from .fields import Fields, parse_body
from .paging import listed, newest_page, page
from .problems import Envelope, answer
from .streams import bare_messages, choose_format, stream

if TYPE_CHECKING:
    from inferencesh.local.chats import Chat, Run
    from inferencesh.local.engine import Engine
    from inferencesh.local.feed import Subscription, Updates
    from inferencesh.local.files import Files
    from inferencesh.local.observer import Observer
    from inferencesh.local.records import Message, Wire
    from inferencesh.local.store import Store

    from .streams import Format

__all__ = ["Api", "Settings"]


@define(frozen=True)
class Settings:
    """How the runtime answers."""

    envelope: Envelope
    updates: Updates
    heartbeat: float
    replay: bool
    observer: Observer | None = None


@define
class Api:
    """The request handlers. Each reads its body, then acts and answers without waiting for anything in between."""

    _store: Store
    _engine: Engine
    _settings: Settings
    _files: Files
    open_streams: int = 0

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return every address with its handler."""
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
            web.get("/chats/{id}/messages", self.list_messages, allow_head=False),
            web.post("/chats/{id}/messages", self.send_message),
            web.get("/chats/{id}/status", self.get_status, allow_head=False),
            web.get("/chats/{id}/stream", self.stream_chat, allow_head=False),
            web.post("/chats/{id}/stop", self.stop_chat),
            web.post("/tools/{id}", self.answer_tool),
        ]

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Post a message into a new or an existing chat; with `stream`, follow the reply on this very answer."""
        body = await _body(request)
        wanted = RunRequest.from_body(body, self._attachments(request))
        self._tell(SentMessage(wanted.post.text, wanted.chat_id, copied(body.data)))
        chat = self._open(wanted)
        user, reply = self._engine.post(chat, wanted.post)
        if not wanted.stream or reply is None:
            return self._answer(_posted(user, reply))
        subscription = chat.feed.subscribe("snapshots", chat, [reply])
        form = bare_messages(choose_format(request))
        return await self._stream(request, chat, subscription, form, until_settled=chat.run)

    async def create_chat(self, request: web.Request) -> web.StreamResponse:
        """Open a chat without a message."""
        chat = self._store.open_chat(NewChat.from_body(await _body(request)))
        return self._answer(chat.wire())

    async def send_message(self, request: web.Request) -> web.StreamResponse:
        """Post a message into a chat; answers with the user's message."""
        body = await _body(request)
        chat, post = self._chat(request), Post.from_chat_body(body, self._attachments(request))
        self._tell(SentMessage(post.text, chat.id, copied(body.data)))
        user, _ = self._engine.post(chat, post)
        return self._answer(user.wire())

    async def list_chats(self, request: web.Request) -> web.StreamResponse:
        """List the chats, newest first, or those whose name has the text of `search` in it. Filters are ignored."""
        wanted = await _body(request)
        search = (wanted.text("search") or "").strip().casefold()
        chats, cursor = newest_page(
            (chat for chat in self._store.chats.values() if search in chat.name.casefold()),
            read_page_limit(wanted.count("limit")),
            wanted.text("cursor"),
        )
        return self._answer(listed([chat.wire() for chat in chats], cursor))

    async def get_chat(self, request: web.Request) -> web.StreamResponse:
        """Return a chat."""
        return self._answer(self._chat(request).wire())

    async def update_chat(self, request: web.Request) -> web.StreamResponse:
        """Give a chat another name; what else a chat has is not the client's to change, and is ignored."""
        body = await _body(request)
        chat, name = self._chat(request), body.text("name")
        if name is not None:
            chat.name = name
            chat.touch()
            chat.feed.chat(chat)
        return self._answer(chat.wire())

    async def get_status(self, request: web.Request) -> web.StreamResponse:
        """Return a chat's status alone, for those who poll."""
        chat = self._chat(request)
        status: Wire = {"id": chat.id, "status": chat.status, "updated_at": chat.updated_at}
        return self._answer(status)

    async def list_messages(self, request: web.Request) -> web.StreamResponse:
        """Return a page of a chat's messages: the newest at first, then older ones, each page oldest first."""
        messages, cursor = page(
            self._chat(request).messages,
            read_page_limit(request.query.get("limit")),
            request.query.get("cursor"),
        )
        return self._answer(listed([message.wire() for message in messages], cursor))

    async def stream_chat(self, request: web.Request) -> web.StreamResponse:
        """Follow a chat until it is deleted or the reader leaves."""
        chat = self._chat(request)
        replay: list[Message] = chat.messages if self._settings.replay else []
        subscription = chat.feed.subscribe(self._settings.updates, chat, replay)
        return await self._stream(request, chat, subscription, choose_format(request))

    async def stop_chat(self, request: web.Request) -> web.StreamResponse:
        """Stop the chat's run; without one nothing happens."""
        chat = self._chat(request)
        self._engine.stop(chat)
        return self._answer(chat.wire())

    async def delete_chat(self, request: web.Request) -> web.StreamResponse:
        """Stop and forget a chat; those who follow it see the stream end."""
        chat = self._chat(request)
        self._engine.discard(chat)
        self._store.forget_chat(chat)
        return web.Response(status=204)

    async def cancel_message(self, request: web.Request) -> web.StreamResponse:
        """Withdraw a message that waits in the queue."""
        chat, message = self._store.message(request.match_info["id"])
        self._engine.withdraw(chat, message)
        return self._answer(message.wire())

    async def answer_tool(self, request: web.Request) -> web.StreamResponse:
        """Take the result of a client tool in."""
        result = ToolResult.from_body(await _body(request), self._attachments(request))
        chat, invocation = self._store.invocation(request.match_info["id"])
        self._engine.answer(chat, invocation, result)
        self._tell(
            SentResult(
                invocation.name, copied(invocation.arguments.values), result.text, invocation.id, invocation.chat_id
            )
        )
        return self._answer(invocation.wire())

    def _attachments(self, request: web.Request) -> AttachmentReader:
        return AttachmentReader(self._files, str(request.url.origin()))

    def _chat(self, request: web.Request) -> Chat:
        return self._store.chat(request.match_info["id"])

    def _open(self, wanted: RunRequest) -> Chat:
        if wanted.chat is not None:
            return self._store.open_chat(wanted.chat)
        assert wanted.chat_id is not None
        return self._store.chat(wanted.chat_id)

    def _tell(self, sent: SentMessage | SentResult) -> None:
        if self._settings.observer is not None:
            self._settings.observer(sent)

    def _answer(self, data: Wire) -> web.Response:
        return answer(self._settings.envelope, data)

    async def _stream(
        self,
        request: web.Request,
        chat: Chat,
        subscription: Subscription,
        form: Format,
        *,
        until_settled: Run | None = None,
    ) -> web.StreamResponse:
        self.open_streams += 1
        try:
            return await stream(request, subscription, form, self._settings.heartbeat, until_settled)
        finally:
            self.open_streams -= 1
            chat.feed.unsubscribe(subscription)


async def _body(request: web.Request) -> Fields:
    return parse_body(await request.read())


def _posted(user: Message, reply: Message | None) -> Wire:
    return {
        "user_message": user.wire(),
        "assistant_message": reply.wire() if reply else None,
    }
