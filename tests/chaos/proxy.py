"""A TCP proxy whose connections can be cut at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
from types import TracebackType
from typing import Self

__all__ = ["CuttingProxy"]

logger = logging.getLogger(__name__)

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER that turns a close into a RST


class CuttingProxy:
    """Passes connections on to a port on this machine; an async context manager.

    Args:
        port: Where to.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self, chance: random.Random) -> bool:
        """Reset one of the open connections, in whatever it is in the middle of; return whether there was one."""
        if not self._open:
            return False
        task = chance.choice(list(self._open))
        with contextlib.suppress(OSError):  # the client has just closed it
            self._open[task].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        task.cancel()
        return True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Start a task for a connection; the one that asyncio has started must not be cancelled."""
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._open[task] = writer
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            del self._open[task]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target: asyncio.StreamWriter | None = None
        try:
            answers, target = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, target))
                both.create_task(_copy(answers, writer))
        except* OSError:  # one side has gone, which the other is told by closing it
            logger.debug("a connection broke")
        except* asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            for each in (writer, target):
                if each is not None:
                    each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on bytes until one side has closed; the other is told so."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
