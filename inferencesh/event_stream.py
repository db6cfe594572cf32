"""The events of one chat's stream: opened, read, closed, and opened anew when it was lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .chat_api import chat_path
from .converter import UnreadableError
from .transport import Transport
from .wire import Event, EventDecoder, event_decoder

if TYPE_CHECKING:
    from .byte_stream import ByteStream

__all__ = ["EventStream"]


class EventStream:
    """The connection that a chat's events come over, one after the other.

    Args:
        transport: Makes the requests.

    Attributes:
        events: Those that have arrived and were not taken yet.
        was_open: Whether there was a connection before.
        ended: Whether the server has closed the present one.
    """

    def __init__(self, transport: Transport) -> None:
        self.events: Iterator[Event] = iter(())
        self.was_open = False
        self.ended = False
        self._transport = transport
        self._bytes: ByteStream | None = None
        self._decoder: EventDecoder | None = None
        self._broken: UnreadableError | None = None  # why the stream cannot be read on

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._bytes is not None

    async def open(self, chat_id: str, *, newest_only: bool, repeat: bool) -> None:
        """Open the chat's stream.

        Args:
            chat_id: The chat's id.
            newest_only: Whether of whole messages that arrive together the newest alone is wanted.
            repeat: Whether the request is repeated where it fails in passing.

        Raises:
            APIError, APIConnectionError: It could not be opened.
            UnreadableError: The answer is no stream.
        """
        stream = await self._transport.open_stream(chat_path(chat_id) + "/stream", repeat=repeat)
        try:
            limit = self._transport.options.max_line_bytes
            self._decoder = event_decoder(stream.content_type, limit, newest_only=newest_only)
        except UnreadableError:
            stream.close()
            raise
        self._bytes = stream
        self._broken = None
        self.ended = False
        self.was_open = True

    async def read(self, until: float) -> bool:
        """Wait for events; there may be none yet in what has arrived.

        Args:
            until: The loop's time at which to stop waiting.

        Returns:
            False when the time has come, ``wake`` was called, or there is no connection any more.

        Raises:
            APIConnectionError: The connection was lost.
            UnreadableError: What it brought cannot be read on.
        """
        if self._bytes is None or self._decoder is None:
            return False
        if self._broken is not None:
            raise self._broken
        data = await self._bytes.read(until)
        if data:
            self._decode(data)
        elif data is not None:
            self.ended = True
            self.events = self._decoder.close()
        return data is not None

    def read_now(self) -> bool:
        """Take in what has arrived already; returns whether there was anything."""
        data = self._bytes.read_now() if self._bytes is not None else b""
        if data:
            self._decode(data)
        return bool(data)

    def take_problems(self) -> list[UnreadableError]:
        """What could not be read, and was passed over, since the last time."""
        if self._decoder is None or not self._decoder.problems:
            return []
        problems, self._decoder.problems = self._decoder.problems, []
        return problems

    def wake(self) -> None:
        """Have a waiting ``read`` return at once."""
        if self._bytes is not None:
            self._bytes.wake()

    def close(self) -> None:
        """Close the connection, on its loop, and forget what was not taken; it may be opened anew."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None
        self.events = iter(())

    def _decode(self, data: bytes) -> None:
        assert self._decoder is not None
        try:
            self.events = self._decoder.feed(data)
        except UnreadableError as error:
            self._broken = error  # when all before it has been delivered, the connection is given up
