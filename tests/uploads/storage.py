"""A storage server over bare sockets: it takes files in constant memory, or does what a test wants to see survived."""

from __future__ import annotations

import hashlib
import select
import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, cast

import attrs

from tests.faults.script import Reply, Scenario, Script, Step
from tests.socket_server import SocketServer, reset_on_close
from tests.support import Gate, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.faults.connection import Exchange
    from tests.faults.forms import Json

__all__ = ["Put", "Storage", "Way", "announced", "service"]

REFUSED = b"<?xml version='1.0'?><Error><Code>EntityTooLarge</Code><Message>Too large</Message><Key>k</Key></Error>"


@attrs.frozen
class Way:
    """How one file is met.

    Args:
        status: What is answered.
        body: The answer's body.
        reads: How many bytes are read before that; None reads all.
        then: What follows the bytes: an answer, a RST, nothing, the rest until the client leaves, or an answer and
            then, a while later, a RST.
        gate: Waited for after the bytes were read.
        pace: Seconds of rest after each 64 KiB that were read.
        headers: Headers of the answer.
    """

    status: int = 200
    body: bytes = b""
    reads: int | None = None
    then: Literal["answer", "reset", "silence", "leaving", "haste"] = "answer"
    gate: Gate | None = None
    pace: float = 0.0
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.define
class Put:
    """A file as it came; header names are in lower case."""

    line: str
    headers: dict[str, str]
    size: int = 0
    digest: str = ""


class Storage(SocketServer):
    """A storage server; a context manager.

    Args:
        ways: How the files are met, one after the other; the last also for all that follow.
    """

    request_queue_size = 64

    def server_bind(self) -> None:
        """Bind it, so that little is on its way which nobody has read."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        super().server_bind()

    def __init__(self, *ways: Way) -> None:
        super().__init__(_Handler, "storage")
        self.ways: Sequence[Way] = ways or (Way(),)
        self.puts: list[Put] = []
        self.most = 0  # how many were under way at once
        self.lock = threading.Lock()

    def wait_for(self, count: int) -> None:
        """Block until so many files have begun to come."""
        wait_until(lambda: len(self.puts) >= count, f"{count} files", 5)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        storage, peer = cast("Storage", self.server), cast("socket.socket", self.request)
        with storage.lock:
            storage.peers.add(peer)
            storage.most = max(storage.most, len(storage.peers))
        try:
            with suppress(OSError):  # the client has left
                while self._serve(storage, peer):
                    continue
        finally:
            with storage.lock:
                storage.peers.discard(peer)

    def _serve(self, storage: Storage, peer: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            byte = peer.recv(1)
            if not byte:
                return False
            head += byte
        line, *fields = head.decode("latin-1").strip().split("\r\n")
        put = Put(line, {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)})
        with storage.lock:
            storage.puts.append(put)
            way = storage.ways[min(len(storage.puts), len(storage.ways)) - 1]
        whole = int(put.headers["content-length"])
        self._take(peer, put, whole if way.reads is None else min(way.reads, whole), way.pace)
        if way.gate is not None:
            way.gate.wait()
        if way.then == "reset":
            reset_on_close(peer)
            return False
        if way.then == "leaving":
            self._take(peer, put, whole, 0.0)
            return False
        if way.then == "silence":
            watch = select.poll()
            watch.register(peer, select.POLLRDHUP)  # without taking what is still on its way
            watch.poll(10_000)
            return False
        answer = {"Content-Length": str(len(way.body)), **way.headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in answer.items())
        peer.sendall(f"HTTP/1.1 {way.status} Status\r\n{text}\r\n".encode() + way.body)
        if way.then == "haste":
            self._take(peer, put, 8_000_000, 0.0)  # by then the client has read the answer
            reset_on_close(peer)
            return False
        if put.size < whole:  # a close now would be a RST, which takes the answer with it
            peer.shutdown(socket.SHUT_WR)
            self._take(peer, put, whole, 0.0)
            return False
        return True

    def _take(self, peer: socket.socket, put: Put, count: int, pace: float) -> None:
        buffer, digest = memoryview(bytearray(65536)), hashlib.sha256()
        while put.size < count and (got := peer.recv_into(buffer, min(len(buffer), count - put.size))):
            digest.update(buffer[:got])
            put.size += got
            if pace:
                time.sleep(pace)
        put.digest = digest.hexdigest()


def announced(storage: str = "", **more: object) -> Step:
    """Answers the announcement of a file with its record, which names an address below ``storage``."""

    async def step(exchange: Exchange) -> None:
        (file,) = cast("list[Json]", exchange.request.json["files"])
        name = file.get("filename", "nameless")
        record: Json = {**file, "id": f"id-{name}", "uri": f"inf://files/{name}"}
        record |= {"upload_url": f"{storage}/put/{name}?signature=sesame"} | more
        reply = Reply([{key: value for key, value in record.items() if value is not None}])
        await exchange.connection.write(reply.render(exchange.server.scenario.envelope))

    return step


def service(storage: str = "", streams: Sequence[Script] = (), **more: object) -> Scenario:
    """A service that has files sent to a storage server."""
    return Scenario(streams=streams, answers={"POST /files": [(announced(storage, **more),)]})
