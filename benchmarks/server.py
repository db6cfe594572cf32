"""The server of the benchmarks, in a process of its own: it sends bytes that were rendered before, as fast as possible.

The first part of a path names the workload (``/deltas/agents/run``), so that a client chooses it by its base URL.
``/paced,RATE,COUNT`` is a reply of COUNT tokens at RATE a second, each of which holds the time at which it was sent.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import orjson

from .payloads import (
    WORKLOADS,
    Format,
    asked_form,
    chat_form,
    chat_line,
    delta_line,
    message_form,
    message_line,
    rendered,
)

__all__ = ["Exchange", "Server", "Stats", "answer", "running_server", "serve"]

Stats = dict[str, int]
_SLICE = 256 * 1024  # bytes handed to the socket at a time
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
_NDJSON = b"application/x-ndjson"
_SSE = b"text/event-stream"
_POST = {"user_message": asked_form(), "assistant_message": message_form("")}
# The oldest envelope: the only one that the agents of the official SDK can read.
_ENVELOPE = {"success": True, "status": 200}

stats: Stats = {"requests": 0, "bytes": 0}  # since they were last read


def answer(data: object) -> bytes:
    """Return a whole response with JSON, in the oldest envelope."""
    body = orjson.dumps({**_ENVELOPE, "data": data})
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


_ANSWERS = {
    "/agents/run": answer(_POST),
    "/messages": answer({"items": [message_form("Hi", "ready"), asked_form()], "has_next": False}),
    "/chat": answer(chat_form("completed")),
}


class Exchange(asyncio.Protocol):
    """One connection, the requests of which are answered one after the other."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Receive bytes of a request, and answer it when it is complete."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
        size = int(lengths[0].split(b":")[1]) if lengths else 0
        if len(body) < size:
            return
        self._received = b""
        self.serve(lines[0].split(b" ")[1].decode().partition("?")[0], body)

    def serve(self, path: str, body: bytes) -> None:
        """Answer a request."""
        raise NotImplementedError


class Connection(Exchange):
    """A connection on which replies are sent."""

    def __init__(self) -> None:
        super().__init__()
        self._writable = asyncio.Event()
        self._writable.set()
        self._stream: asyncio.Task[None] | None = None

    def connection_lost(self, _exc: Exception | None) -> None:
        """Stop sending."""
        if self._stream is not None:
            self._stream.cancel()

    def pause_writing(self) -> None:
        """Stop sending for now: the client reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on sending."""
        self._writable.set()

    def serve(self, path: str, _body: bytes) -> None:
        """Answer a request, or begin to send a reply."""
        _, name, rest = path.split("/", 2)
        if name == "stats":
            self.transport.write(answer(dict(stats)))
            stats.update(requests=0, bytes=0)
            return
        stats["requests"] += 1
        if rest == "agents/run":
            self.transport.write(_ANSWERS["/agents/run"])
        elif rest.endswith("/stream"):
            paced = name.startswith("paced")
            self._start(self._send_paced(name) if paced else self._send(name, "inference", _NDJSON))
        elif rest == "chat/completions":
            self._start(self._send(name, "openai", _SSE))
        elif rest == "v1/messages":
            self._start(self._send(name, "anthropic", _SSE))
        else:
            self.transport.write(_ANSWERS["/messages" if rest.endswith("/messages") else "/chat"])

    def _start(self, sending: object) -> None:
        self._stream = asyncio.get_running_loop().create_task(sending)  # type: ignore[arg-type] # a coroutine of ours

    async def _send(self, name: str, wire: Format, content_type: bytes) -> None:
        """Send a whole reply; the stream of a chat then stays open, as at the service."""
        body = rendered(WORKLOADS[name], wire)
        self.transport.write(_HEAD % content_type)
        view = memoryview(body)
        for at in range(0, len(body), _SLICE):
            part = view[at : at + _SLICE]
            self.transport.write(part)
            stats["bytes"] += len(part)
            await self._writable.wait()
        if wire != "inference":
            self.transport.write(b"0\r\n\r\n")

    async def _send_paced(self, name: str) -> None:
        """Send tokens at a steady rate; where it cannot be kept, tokens hold the time at which they were sent."""
        _, rate, count = name.split(",")
        loop, pause, text = asyncio.get_running_loop(), 1 / float(rate), ""
        self.transport.write(_HEAD % _NDJSON)
        self._line(chat_line("working"))
        self._line(message_line(""))
        begin = loop.time()
        for seq in range(int(count)):
            await asyncio.sleep(begin + seq * pause - loop.time())
            piece = f"{time.monotonic_ns()} "
            text += piece
            self._line(delta_line(piece, seq))
        self._line(message_line(text, "ready"))
        self._line(chat_line("completed"))

    def _line(self, line: object) -> None:
        data = orjson.dumps(line) + b"\n"
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def serve(protocol: Callable[[], Exchange], tls: ssl.SSLContext | None = None) -> None:
    """Serve on a free port, which is printed, until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=4096, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The pipe ends when the benchmark does, for whatever reason.
    await loop.run_in_executor(None, sys.stdin.read)


class Server:
    """The running server, as the measuring process sees it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def take_stats(self) -> Stats:
        """Return what was served since the last call."""
        with urllib.request.urlopen(f"{self.url}/stats/", timeout=10) as response:  # noqa: S310 - our own address
            return cast("Stats", orjson.loads(response.read())["data"])


@contextmanager
def running_server() -> Iterator[Server]:
    """Start the server in a process of its own, and end it when the block is left."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()))
        process.communicate()


if __name__ == "__main__":
    asyncio.run(serve(Connection))
