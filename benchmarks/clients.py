"""What is measured in this process: the floor, and the client in each of its forms.

A client runs one turn at a time and returns what its caller received. All make the same two requests on kept-alive
connections. The floor is what any client on aiohttp has to do at least.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Self

import aiohttp
import orjson

from inferencesh import AsyncInference, Inference, Message

from .payloads import CHAT, WORKLOADS, Workload, chat_line
from .server import Server

__all__ = ["Clients", "Outcome"]

KEY = "inf_benchmark"
SLOW = 0.002  # seconds for which a slow reader is busy with a snapshot


class Outcome(NamedTuple):
    """What the caller of a turn received.

    Attributes:
        events: The number of snapshots; of lines for the floor.
        text: The final text.
    """

    events: int
    text: str


class Tally:
    """Callbacks that count snapshots, without the final call."""

    def __init__(self) -> None:
        self.snapshots = 0

    def on_message(self, _text: str, done: bool) -> None:  # noqa: FBT001 - the callback's signature
        self.snapshots += not done

    async def on_message_async(self, _text: str, done: bool) -> None:  # noqa: FBT001 - as above
        self.snapshots += not done


class Clients:
    """The clients of this process; a context manager.

    Args:
        server: The server they talk to.
    """

    def __init__(self, server: Server) -> None:
        self._url = server.url
        self._async: dict[str, AsyncInference] = {}
        self._sync: dict[str, Inference] = {}
        self.runner = asyncio.Runner()
        self.turns: dict[str, Callable[[Workload], Outcome]] = {
            "floor": lambda workload: self.runner.run(self._floor(workload)),
            "floor bytes": lambda workload: self.runner.run(self._bytes(workload)),
            "floor .text": lambda workload: self.runner.run(self._floor(workload, text=True)),
            "async": lambda workload: self.runner.run(self._snapshots(workload)),
            "async .text": lambda workload: self.runner.run(self._snapshots(workload, text=True)),
            "async on_message": lambda workload: self.runner.run(self._callback(workload)),
            "async conflate slow": lambda workload: self.runner.run(self._conflated(workload)),
            "sync": self._sync_snapshots,
            "sync .text": lambda workload: self._sync_snapshots(workload, text=True),
            "sync on_message": self._sync_callback,
        }
        self.firsts: dict[str, Callable[[Workload], object]] = {
            "async": lambda workload: self.runner.run(self._first(self._async_client(workload))),
            "async, new client": lambda workload: self.runner.run(self._first_of_new(workload)),
            "sync": lambda workload: self._sync_first(self._sync_client(workload)),
            "sync, new client": self._sync_first_of_new,
        }
        self.requests: dict[str, Callable[[int], object]] = {
            "floor": lambda count: self.runner.run(self._floor_requests(count)),
            "async": lambda count: self.runner.run(self._requests(count)),
            "sync": self._sync_requests,
        }

    def __enter__(self) -> Self:
        async def open_session() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))

        self._session = self.runner.run(open_session())
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._sync.values():
            client.close()
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._session.close)
            for client in self._async.values():
                stack.push_async_callback(client.aclose)

    async def _floor(self, workload: Workload, *, text: bool = False) -> Outcome:
        """Make the two requests, cut the stream into lines, and decode each to a dict.

        Args:
            workload: The reply.
            text: Whether the whole text so far is built at every event.
        """
        deltas, whole = workload.kind == "deltas", ""
        url, expected, count = f"{self._url}/{workload.name}", workload.lines, 0
        async with self._session.post(f"{url}/agents/run", data=b"{}") as answer:
            orjson.loads(await answer.read())
        async with self._session.get(f"{url}/chats/{CHAT}/stream") as answer:
            begun: list[bytes] = []
            last: dict[str, Any] = {}
            form: dict[str, Any] = {}
            async for data in answer.content.iter_any():
                lines = data.split(b"\n")
                rest = lines.pop()
                if lines and begun:
                    lines[0] = b"".join([*begun, lines[0]])
                    begun.clear()
                if rest:
                    begun.append(rest)
                for line in lines:
                    last, form = form, orjson.loads(line)
                    if text and form["event"] == "delta":
                        whole += form["data"]["delta"]["response"]
                    elif text and not deltas and form["event"] == "chat_messages":
                        whole = form["data"]["content"][0]["text"]
                count += len(lines)
                if count == expected:
                    break
            answer.close()
        return Outcome(count, last["data"]["content"][0]["text"])

    async def _bytes(self, workload: Workload) -> Outcome:
        """Make the two requests and read the bytes of whole messages, without cutting or decoding lines."""
        url, end, tail = f"{self._url}/{workload.name}", orjson.dumps(chat_line("completed")) + b"\n", b""
        latest: deque[bytes] = deque(maxlen=4)  # with the last message in it
        async with self._session.post(f"{url}/agents/run", data=b"{}") as answer:
            orjson.loads(await answer.read())
        async with self._session.get(f"{url}/chats/{CHAT}/stream") as answer:
            async for data in answer.content.iter_any():
                latest.append(data)
                tail = (tail + data[-len(end) :])[-len(end) :]
                if tail == end:
                    break
            answer.close()
        *_, last, _, _ = b"".join(latest).split(b"\n")
        return Outcome(workload.lines, orjson.loads(last)["data"]["content"][0]["text"])

    async def _snapshots(self, workload: Workload, *, text: bool = False) -> Outcome:
        count, seen = 0, None
        async for message in self._async_client(workload).agent("a/b").send_message("Hi", stream=True):
            seen = message.text if text else message.delta
            count += 1
        assert seen is not None
        return Outcome(count, message.text)

    async def _callback(self, workload: Workload) -> Outcome:
        tally = Tally()
        final = await self._async_client(workload).agent("a/b").send_message("Hi", on_message=tally.on_message_async)
        return Outcome(tally.snapshots, final.text)

    def _sync_snapshots(self, workload: Workload, *, text: bool = False) -> Outcome:
        count, seen = 0, None
        for message in self._sync_client(workload).agent("a/b").send_message("Hi", stream=True):
            seen = message.text if text else message.delta
            count += 1
        assert seen is not None
        return Outcome(count, message.text)

    def _sync_callback(self, workload: Workload) -> Outcome:
        tally = Tally()
        final = self._sync_client(workload).agent("a/b").send_message("Hi", on_message=tally.on_message)
        return Outcome(tally.snapshots, final.text)

    async def _conflated(self, workload: Workload) -> Outcome:
        """Read with ``conflate``, more slowly than the server sends."""
        count, agent = 0, self._async_client(workload).agent("a/b")
        stream = agent.send_message("Hi", stream=True, conflate=True)
        async for _ in stream:
            await asyncio.sleep(SLOW)
            count += 1
        return Outcome(count, (await stream.get_final_message()).text)

    # -- the first snapshot ----------------------------------------------------------------------------------------

    async def _first(self, client: AsyncInference) -> Message:
        async with client.agent("a/b").send_message("Hi", stream=True) as stream:
            return await anext(aiter(stream))

    async def _first_of_new(self, workload: Workload) -> Message:
        async with AsyncInference(KEY, base_url=f"{self._url}/{workload.name}") as client:
            return await self._first(client)

    def _sync_first(self, client: Inference) -> Message:
        with client.agent("a/b").send_message("Hi", stream=True) as stream:
            return next(iter(stream))

    def _sync_first_of_new(self, workload: Workload) -> Message:
        with Inference(KEY, base_url=f"{self._url}/{workload.name}") as client:
            return self._sync_first(client)

    # -- plain requests --------------------------------------------------------------------------------------------

    async def _floor_requests(self, count: int) -> None:
        for _ in range(count):
            async with self._session.get(f"{self._url}/short/chats/{CHAT}") as answer:
                orjson.loads(await answer.read())

    async def _requests(self, count: int) -> None:
        agent = self._async_client(WORKLOADS["short"]).agent("a/b", chat_id=CHAT)
        for _ in range(count):
            await agent.get_chat()

    def _sync_requests(self, count: int) -> None:
        agent = self._sync_client(WORKLOADS["short"]).agent("a/b", chat_id=CHAT)
        for _ in range(count):
            agent.get_chat()

    # -- the clients themselves, one for each base URL -------------------------------------------------------------

    def _async_client(self, workload: Workload) -> AsyncInference:
        if workload.name not in self._async:
            self._async[workload.name] = AsyncInference(KEY, base_url=f"{self._url}/{workload.name}")
        return self._async[workload.name]

    def _sync_client(self, workload: Workload) -> Inference:
        if workload.name not in self._sync:
            self._sync[workload.name] = Inference(KEY, base_url=f"{self._url}/{workload.name}")
        return self._sync[workload.name]
