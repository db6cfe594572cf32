"""A small real HTTP proxy: tunnels with CONNECT, forwards plain requests, and keeps what it could see."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from typing import cast
from urllib.parse import urlsplit

from tests.socket_server import SocketServer

_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy(SocketServer):
    """A proxy on this machine; a context manager. Its peers are the clients of the open tunnels.

    Args:
        refuse: Whether it refuses all requests.
    """

    def __init__(self, *, refuse: bool = False) -> None:
        super().__init__(_Handler, "proxy")
        self.refuse = refuse
        self.heads: list[str] = []


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
            proxy.peers.add(client)
            back.start()
            _copy(client, server)
            proxy.peers.remove(client)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on bytes until the source has closed, and let the target know."""
    with suppress(OSError):  # a reset ends the tunnel as a FIN does
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):  # already gone
        target.shutdown(socket.SHUT_WR)
