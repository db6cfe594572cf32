"""``AsyncEventStream``: the events of a chat as the service sends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import attrs

from ._http.api import chat_path
from ._http.events import EventConnection, ReconnectCounter, Reconnects, may_pass
from ._http.transport import Transport
from ._loops.threads import call_on
from ._protocol.lines import GrownLine, TextPiece
from ._protocol.wire import Event as WireEvent
from ._protocol.wire import whole_event
from ._text import copied
from ._types.codec import read_text, structure
from .endpoints import AsyncItemStream
from .errors import APIConnectionError, APIError, InferenceError, UnreadableError
from .models import Chat, Message, Run

__all__ = ["AsyncEventStream", "Event"]

T = TypeVar("T")

logger = logging.getLogger("inferencesh")

_MODELS: Mapping[str, type[Any]] = {"chat_messages": Message, "chats": Chat, "agent_runs": Run}


@attrs.frozen
class Event:
    """One event of a chat, as the service has sent it.

    Attributes:
        name: ``chats``, ``chat_messages``, ``agent_runs``, ``delta``, or a name that this version does not know.
        fields: The names of the fields that ``data`` changes; empty when ``data`` is the whole object.

    Example:
        ```python
        agent.send_message("Hello")
        for event in agent.stream_events():
            print(event.name, event.data["id"] == agent.chat_id, event.chat.status)
            break
        ```

        ```text
        chats True ...
        ```
    """

    name: str
    _data: dict[str, Any] = attrs.field(hash=False)
    fields: tuple[str, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """What the event is about, a copy of what the service has sent."""
        data: dict[str, Any] = copied(self._data)
        return data

    @property
    def message(self) -> Message | None:
        """The message, of a ``chat_messages`` event that has all of it; None of any other event."""
        return self._model(Message)

    @property
    def chat(self) -> Chat | None:
        """The chat, of a ``chats`` event that has all of it; None of any other event."""
        return self._model(Chat)

    @property
    def run(self) -> Run | None:
        """The run, of an ``agent_runs`` event that has all of it; None of any other event."""
        return self._model(Run)

    def _model(self, cls: type[T]) -> T | None:
        if _MODELS.get(self.name) is not cls or self.fields:
            return None
        try:
            return structure(self._data, cls)
        except UnreadableError:  # such as a message without an id; what there is of it is in ``data``
            return None


class AsyncEventStream(AsyncItemStream[Event]):
    """All events of a chat as the service sends them, whoever has caused them; ``agent.stream_events`` makes it.

    It has no end of its own: read it until there is enough, then leave the loop, which closes the connection at once.
    A connection that is lost is opened again, as for a turn. The service then sends the present state of the chat
    first; events of the time between are lost, and ``reconnects`` counts how often that may have happened. What cannot
    be read is logged and left out.

    Example:
        ```python
        await agent.send_message("Hello")
        async with agent.stream_events() as events:
            await agent.send_message("Hello again")
            async for event in events:
                if event.run is not None and event.run.state == RunState.COMPLETED:
                    break
        ```
    """

    def __init__(self, transport: Transport, chat_id: str, reconnects: Reconnects) -> None:
        super().__init__()
        self._transport = transport
        self._chat_id = chat_id
        self._path = f"{chat_path(chat_id)}/stream"
        self._loop: asyncio.AbstractEventLoop | None = None  # of the connection
        self._connection = EventConnection(transport)
        self._counter = ReconnectCounter(reconnects)
        self._reconnects = 0
        self._progress = 0  # the number of events that were new
        self._known: dict[tuple[str, str], object] = {}  # by name and id: what the last event has said

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and opened again."""
        return self._reconnects

    async def _open(self) -> Self:
        if not self._connection.is_open and not self._over:
            self._loop = asyncio.get_running_loop()
            await self._connection.open(self._path)
        return self

    async def _take(self) -> list[Event]:
        connection = self._connection
        while not self._over:
            if connection.has_events:
                events = [self._read(event) for event in connection.events]
                connection.has_events = False
                self._report(connection)
                if events:
                    return events
            elif connection.ended:
                await self._reopen(APIConnectionError("the server closed the stream"))
            else:
                try:
                    await connection.read()
                except (APIConnectionError, UnreadableError) as error:
                    await self._reopen(error)
        return []

    def _read(self, event: WireEvent | GrownLine | TextPiece) -> Event:
        whole = whole_event(event)
        read = Event(whole["event"], whole["data"], tuple(whole.get("fields") or ()))
        self._note(read)
        return read

    def _note(self, event: Event) -> None:
        """Count an event that says something new, so that a server that only repeats itself is given up."""
        data = event._data
        key = (event.name, read_text(data.get("resource_id" if event.name == "delta" else "id")))
        said = data.get("seq", data) if event.name == "delta" else data
        try:
            new = self._known.get(key) != said
        except RecursionError:  # it is nested too deeply to be compared
            new = False
        if new:
            self._progress += 1
            self._known[key] = said

    def _report(self, connection: EventConnection) -> None:
        """Log what could not be read."""
        for error in connection.problems:
            logger.warning("chat %s: an event was left out: %s", self._chat_id, self._transport.masked(str(error)))
        connection.problems.clear()

    async def _reopen(self, cause: InferenceError) -> None:
        """Open the connection again after it was lost, with the waits and the limit of the client's streams."""
        while True:
            self._connection.close()
            if self._over:
                return
            if self._transport.closed:
                raise InferenceError("the client was closed while this stream was open") from cause
            attempt = self._counter.count(
                self._progress, f"chat {self._chat_id}", "agent.stream_events() begins another one", cause
            )
            wait = self._counter.delay(attempt, cause)
            logger.info("chat %s: %s; connecting again in %.2f s", self._chat_id, type(cause).__name__, wait)
            await asyncio.sleep(wait)
            try:
                await self._connection.open(self._path, retry=False)
            except (APIConnectionError, APIError, UnreadableError) as error:
                if not may_pass(error):
                    raise
                cause = error
            else:
                self._reconnects += 1
                return

    def _leave(self) -> None:
        if self._loop is not None:  # else it was never opened
            call_on(self._loop, self._connection.close)
