"""The server of the soak, in a process of its own: each turn fails as its plan says, but nothing posted is lost."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from .soak_chat import Chat
from .soak_plan import Fault

__all__ = ["running_soak_server"]

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
_PAGE = b"<!doctype html><html>Bad gateway</html>"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER that turns a close into a RST
_PAUSE = 0.0005  # seconds between lines, so that a turn takes more than one segment
_LOOK = 0.02  # seconds between checks whether the client has left
_KEPT = 2000  # chats
_PUT_OFF = 9  # of so many posts of a message, one is answered with 429
_EXTRAS = [
    b'{"type":"heartbeat"}\n',
    b'{"event":"chats","data":null}\n',
    b'{"event":"moods","data":{"mood":"fine"}}\n',
    b'{"event":"delta","data":{"delta":{"response":"not ours"},"seq":1}}\n',
]


class Gone(Exception):  # noqa: N818 - it leaves nested calls and is no error
    """The connection is over."""


class Link:
    """One connection.

    Args:
        reader: The requests.
        writer: The responses.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> tuple[str, str, bytes]:
        """Wait for a request; return method, path and body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        body = await self._reader.readexactly(int(fields.get("content-length", "0")))
        method, target, _ = head.split(" ", 2)
        return method, target.partition("?")[0], body

    def answer(self, data: object, status: int = 200, **headers: str) -> None:
        """Send a whole response."""
        body = orjson.dumps({"data": data, "messages": []} if status < 400 else data)
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write("\r\n".join([*lines, "", ""]).encode() + body)

    def refuse(self, status: int, code: str, **headers: str) -> None:
        """Send an error response."""
        kind = f"https://api.inference.sh/errors/{code}"
        self.answer({"type": kind, "title": code, "status": status, "detail": code}, status, **headers)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def chunk(self, data: bytes) -> None:
        """Send a piece of a streamed body."""
        self.check()
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    def check(self) -> None:
        """Raise Gone when the client has left."""
        if self._reader.at_eof() or self._writer.is_closing():
            raise Gone

    async def until_left(self) -> None:
        """Send nothing more until the client leaves."""
        while True:
            self.check()
            await asyncio.sleep(_LOOK)

    def reset(self) -> None:
        """Close with a RST, which drops what was not delivered."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()
        raise Gone

    def close(self) -> None:
        """Close with a FIN."""
        self._writer.close()


class SoakServer:
    """All chats of a soak.

    Args:
        seed: The seed of the plans.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chats: dict[str, Chat] = {}
        self._posts = 0
        self._faults: collections.Counter[str] = collections.Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        link = Link(reader, writer)
        # Cancelled at the server's end: asyncio's streams would report that as a failure.
        with contextlib.suppress(Gone, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await self._answer(*await link.request(), link)
        link.close()

    async def _answer(self, method: str, path: str, body: bytes, link: Link) -> None:
        if path == "/stats":
            link.answer(dict(self._faults))
        elif path == "/agents/run":
            self._run(orjson.loads(body), link)
        elif path.startswith("/tools/"):
            self._result(path.rpartition("/")[2], orjson.loads(body)["result"], link)
        elif path.endswith("/stream"):
            await self._stream(self._chats[path.split("/")[2]], link)
        else:
            chat = self._chats[path.split("/")[2]]
            if method == "GET" and not self._put_off(chat, link):
                page = {"items": chat.messages(), "next_cursor": None, "has_next": False}
                link.answer(page if path.endswith("/messages") else chat.chat())

    def _run(self, body: dict[str, str], link: Link) -> None:
        """Receive a message; one that is answered with 429 is not taken, so that it is sent again."""
        self._posts += 1
        if self._posts % _PUT_OFF == 0:
            self._faults["message put off"] += 1
            link.refuse(429, "rate_limited", Retry_After="0.01")
            return
        chat_id = body.get("chat_id") or f"c{self._posts}"
        chat = self._chats.setdefault(chat_id, Chat(self._seed, chat_id))
        if len(self._chats) > _KEPT:
            del self._chats[next(iter(self._chats))]
        chat.begin()
        link.answer({"user_message": chat.asked(), "assistant_message": chat.placeholder()})

    def _result(self, call_id: str, result: str, link: Link) -> None:
        """Receive a tool's result; it may be refused for now, or its acknowledgement may be lost."""
        chat = self._chats[call_id.partition("-")[0]]
        if chat.result is not None or call_id != chat.call_id:
            link.refuse(409, "already_submitted")
        elif chat.failing == 1 and self._put_off(chat, link):
            return
        else:
            chat.take_result(result)
            if chat.failing:
                chat.failing -= 1
                self._faults["acknowledgement lost"] += 1
                link.reset()
            link.answer(None)

    def _put_off(self, chat: Chat, link: Link) -> bool:
        if chat.turn < 0 or not chat.failing:
            return False
        chat.failing -= 1
        self._faults["request put off"] += 1
        link.refuse(503, "internal_error", Retry_After="0")
        return True

    async def _stream(self, chat: Chat, link: Link) -> None:
        """Send the present state and what follows, with each fault of the plan once in its place."""
        fault, left = chat.next_fault(opening=True)
        if fault is not None and self._refuse(fault, link):
            return
        link.write(_HEAD)
        turn, lines, sent = chat.turn, chat.state_lines(), [b""]
        while True:
            for line in lines:
                if fault is not None and left <= 0:
                    self._faults[fault] += 1
                    if fault == "end":
                        link.write(b"0\r\n\r\n")
                        return
                    await self._fail(fault, line, sent, chat, link)
                    fault, left = chat.next_fault()
                await link.chunk(line)
                sent = [*sent[-2:], line]
                left -= 1
            if chat.turn != turn:
                turn, lines = chat.turn, chat.state_lines()
                fault, left = chat.next_fault()
            elif chat.done or chat.waits:
                link.check()
                lines = []
                await chat.wait(_LOOK)
            else:
                await asyncio.sleep(_PAUSE)
                lines = chat.step_lines()

    def _refuse(self, fault: Fault, link: Link) -> bool:
        """Answer with something other than a stream; return whether the fault is of that kind."""
        if fault not in {"refused", "limited", "page"}:
            return False
        self._faults[fault] += 1
        if fault == "page":
            link.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(_PAGE) + _PAGE)
        elif fault == "refused":
            link.refuse(503, "internal_error", Retry_After="0.01")
        else:
            link.refuse(429, "rate_limited", Retry_After="0.01")
        return True

    async def _fail(self, fault: Fault, line: bytes, sent: list[bytes], chat: Chat, link: Link) -> None:
        """Inject a fault before a line; those that cut the connection raise Gone."""
        if fault == "garbage":
            await link.chunk(b'{"event": "chat_messages", "data": {"id":\n')
        elif fault == "duplicate":
            await link.chunk(b"".join(sent))
        elif fault == "unknown":
            await link.chunk(b"".join(_EXTRAS))
        elif fault == "bytewise":
            for byte in line:
                await link.chunk(bytes([byte]))
        elif fault == "stall":
            await link.until_left()
        else:
            if fault == "skip":
                chat.advance(10)
            await link.chunk(line[: len(line) // 2])
            if fault == "reset":
                link.reset()
            raise Gone


async def _main(seed: int) -> None:
    server = await asyncio.start_server(SoakServer(seed).serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def running_soak_server(seed: int) -> Iterator[str]:
    """Start the server and return its address; end it when the block is left."""
    command = [sys.executable, "-m", "benchmarks.soak_server", str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
