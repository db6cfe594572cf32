"""A TCP proxy whose connections can be reset at any time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from types import TracebackType
from typing import Self

__all__ = ["FaultyProxy"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER that turns a close into a RST


class FaultyProxy:
    """Forwards connections to a local port; an async context manager.

    Args:
        port: The target port.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def reset_one(self, rng: random.Random) -> bool:
        """Reset one of the open connections, whatever it is transferring; return whether there was one."""
        if not self._open:
            return False
        for writer in self._open[rng.choice(list(self._open))]:
            with contextlib.suppress(OSError):  # the other side has just closed it
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        return True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()
        if self._open:
            await asyncio.wait(list(self._open))
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Register a connection at once; a coroutine could be cancelled before it starts."""
        writers = [writer]
        task = asyncio.create_task(self._serve(reader, writers))
        self._open[task] = writers
        task.add_done_callback(self._open.pop)

    async def _serve(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        try:
            with contextlib.suppress(OSError):  # the target is unavailable
                answers, target = await asyncio.open_connection("127.0.0.1", self._target)
                writers.append(target)
                await asyncio.gather(_copy(reader, target), _copy(answers, writers[0]))
        finally:
            for each in writers:
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward bytes until one side has closed, then close the other side."""
    with contextlib.suppress(OSError):  # a reset ends the connection as a FIN does
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
