"""A proxy before a runtime that breaks the connection of a message once, before or after the runtime has it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

__all__ = ["MessageProxy"]


class MessageProxy:
    """Forwards connections; ``async with`` starts it.

    Args:
        target: The address that it forwards to.
        cut: Whether the first message is lost on its way, or only the response to it.

    Attributes:
        cut: What will be lost of the next message; None for nothing.
    """

    def __init__(self, target: str, cut: Literal["message", "response"]) -> None:
        self._target = urlsplit(target)
        self.cut: str | None = cut
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its own address."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        async with asyncio.timeout(5):  # the client has been closed, and with it its connections
            await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        down = asyncio.create_task(self._pump(there, writer))
        try:
            while data := await _read(reader):
                is_message = data.startswith(b"POST /agents/run")
                if is_message and self.cut == "message":
                    self.cut = None
                    return
                if is_message and self.cut == "response":
                    self.cut = None
                    down.cancel()
                    await asyncio.gather(down, return_exceptions=True)
                    back.write(data)
                    await there.read(65536)  # the runtime has the message now
                    return
                back.write(data)
        finally:
            down.cancel()
            await asyncio.gather(down, return_exceptions=True)
            for end in (back, writer):
                end.transport.abort()
                await asyncio.gather(end.wait_closed(), return_exceptions=True)
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:  # the client has left it with something unread
        return b""
