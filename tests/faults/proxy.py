"""A small real HTTP proxy: tunnels with CONNECT, forwards plain requests, and keeps what it could see."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy on this machine; a context manager.

    Args:
        refuse: Whether it refuses all requests.
    """

    block_on_close = True

    def __init__(self, *, refuse: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse = refuse
        self.heads: list[str] = []
        self.tunnels: set[socket.socket] = set()  # the clients' ends of those that are open
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="proxy")

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.shutdown()
        for client in tuple(self.tunnels):  # what the client under test has left open must not hold up the tests
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()

    def wait_until_closed(self, timeout: float = 1.0) -> None:
        """Block until no tunnel is open; an AssertionError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self.tunnels:
            assert time.monotonic() < deadline, f"after {timeout} s still {len(self.tunnels)} tunnels open"
            time.sleep(0.005)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy, client = cast("Proxy", self.server), cast("socket.socket", self.request)
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                return
            head += data
        proxy.heads.append(head.decode("latin-1"))
        if proxy.refuse:
            client.sendall(_REFUSED)
            return
        method, target, _ = head.decode("latin-1").split(" ", 2)
        address = urlsplit(f"//{target}" if method == "CONNECT" else target)
        with socket.create_connection((address.hostname, address.port)) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                server.sendall(head.replace(target.encode(), (address.path + "?" + address.query).encode(), 1))
            back = threading.Thread(target=_copy, args=(server, client))
            proxy.tunnels.add(client)
            back.start()
            _copy(client, server)
            proxy.tunnels.remove(client)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on bytes until the source has closed, and let the target know."""
    with suppress(OSError):  # a reset ends the tunnel as a FIN does
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):  # already gone
        target.shutdown(socket.SHUT_WR)
