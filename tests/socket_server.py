"""A server over bare sockets, each connection in a thread of its own."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.support import wait_until

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SocketServer", "reset_on_close"]


def reset_on_close(peer: socket.socket) -> None:
    """Make a socket send a RST when it is closed."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class SocketServer(socketserver.ThreadingTCPServer):
    """A server on this machine; a context manager.

    Args:
        handler: Serves one connection; it adds the socket to ``peers`` and removes it at the end.
        name: The name of the server's thread.
    """

    block_on_close = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler], name: str) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.peers: set[socket.socket] = set()  # the clients' ends of the open connections
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name=name)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait_until_left(self) -> None:
        """Block until no connection is open."""
        wait_until(lambda: not self.peers, "the end of all connections")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.shutdown()
        for peer in tuple(self.peers):  # what the client under test has left open must not hold up the tests
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()
