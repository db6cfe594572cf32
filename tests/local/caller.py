"""A plain HTTP client for a runtime, and scripted models, for the tests of this directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, Unpack

import aiohttp

from inferencesh.local import Conversation, LocalRuntime, Piece, RuntimeOptions, Text

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"

CALCULATOR = {
    "name": "calculator",
    "display_name": "calculator",
    "description": "Do math",
    "type": "client",
    "require_approval": False,
    "client": {
        "input_schema": {
            "type": "object",
            "properties": {"expression": {"type": "string", "description": "Expression"}},
            "required": ["expression"],
        }
    },
}
AGENT = {"core_app": {"ref": "infsh/model@abc"}, "name": "tester", "system_prompt": "Be kind.", "tools": [CALCULATOR]}

Json = dict[str, Any]


class Scripted:
    """A model that answers the n-th time with the n-th step: pieces, events to wait for, errors to raise."""

    def __init__(self, *steps: Sequence[Piece | asyncio.Event | BaseException]) -> None:
        self.steps = steps
        self.asked: list[Conversation] = []
        self.closed = 0

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        step = self.steps[len(self.asked)]
        self.asked.append(conversation)
        try:
            for item in step:
                if isinstance(item, asyncio.Event):
                    await item.wait()
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self.closed += 1


class Flood:
    """A model that writes far more than socket buffers hold, then sets an event."""

    def __init__(self) -> None:
        self.said = asyncio.Event()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        for _ in range(16):
            yield Text("x" * 2**20)
        self.said.set()


def words(text: str) -> list[Piece]:
    """Return a text as pieces of one word each."""
    return [Text(f"{word} ") for word in text.split()]


class Events:
    """The events of a stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.seen: list[tuple[str, Json]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Json]:
        name = ""
        while line := await self.response.content.readline():
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b": "):
                return self._note("heartbeat", {})
            elif line.startswith(b"data: "):
                return self._note(name, json.loads(line[6:]))
            elif line.strip():
                return self._note_line(json.loads(line))
        raise StopAsyncIteration

    async def rest(self) -> list[tuple[str, Json]]:
        """Read to the end of the stream."""
        return [event async for event in self]

    async def until(self, name: str, where: Callable[[Json], bool] = lambda _: True, **fields: object) -> Json:
        """Read up to the first event of this name, with these fields, and return its data."""
        async for each, data in self:
            if each == name and where(data) and all(data[field] == value for field, value in fields.items()):
                return data
        raise AssertionError(f"The stream ended before it brought what was wanted: {self.seen}")

    async def until_idle(self) -> list[tuple[str, Json]]:
        """Read until a run has ended; return all events so far."""
        await self.until("chats", lambda chat: bool(chat["active_run"]), status="idle")
        return self.seen

    def named(self, name: str) -> list[Json]:
        """The data of the events of one kind seen so far."""
        return [data for each, data in self.seen if each == name]

    def _note_line(self, line: Json) -> tuple[str, Json]:
        if line.get("type") == "heartbeat":
            return self._note("heartbeat", {})
        # A streamed run sends the assistant's messages bare.
        return self._note(line["event"], line["data"]) if "event" in line else self._note("message", line)

    def _note(self, name: str, data: Json) -> tuple[str, Json]:
        self.seen.append((name, data))
        return name, data


class Caller:
    """Requests to one runtime."""

    def __init__(self, runtime: LocalRuntime, session: aiohttp.ClientSession) -> None:
        self.runtime = runtime
        self.session = session

    async def ask(self, method: str, path: str, body: object = None, *, status: int = 200) -> Json:
        """Make a request, check its status and return the body of the response."""
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, path, data=data) as response:
            content = await response.read()
            assert response.status == status, content
            answer: Json = json.loads(content) if content else {}
            return answer

    async def get(self, path: str) -> Json:
        """Return the data of a GET."""
        data: Json = (await self.ask("GET", path))["data"]
        return data

    async def post(self, path: str, body: object = None) -> Json:
        """Return the data of a POST."""
        data: Json = (await self.ask("POST", path, body))["data"]
        return data

    async def send(self, text: str, **body: object) -> tuple[Json, Json]:
        """Run the agent on a message; return the user's message and the placeholder of the reply."""
        agent = {} if "chat_id" in body or "agent" in body else {"agent_config": AGENT}
        data = await self.post("/agents/run", {"input": {"text": text}, **agent, **body})
        return data["user_message"], data["assistant_message"]

    @asynccontextmanager
    async def follow(self, chat_id: str, accept: str = NDJSON) -> AsyncIterator[Events]:
        """Open a chat's stream."""
        async with self.session.get(f"/chats/{chat_id}/stream", headers={"Accept": accept}) as response:
            assert response.status == 200
            assert response.content_type == accept
            yield Events(response)

    async def finish(self, chat_id: str) -> list[Json]:
        """Wait until the chat's run is over and return the chat's messages."""
        async with self.follow(chat_id) as events:
            await events.until_idle()
        return await self.messages(chat_id)

    async def messages(self, chat_id: str) -> list[Json]:
        """Return the newest page of a chat's messages."""
        items: list[Json] = (await self.get(f"/chats/{chat_id}/messages"))["items"]
        return items


@asynccontextmanager
async def calling(**options: Unpack[RuntimeOptions]) -> AsyncIterator[Caller]:
    """Run a runtime without delays, and yield a client with its key."""
    settings: RuntimeOptions = {"pace": 0}
    settings.update(options)
    async with LocalRuntime(**settings) as runtime:
        headers = {"Authorization": f"Bearer {runtime.api_key}", "Content-Type": "application/json"}
        async with aiohttp.ClientSession(runtime.base_url, headers=headers, read_bufsize=2**22) as session:
            yield Caller(runtime, session)


def text_of(message: Json) -> str:
    """Return the text of a message in wire form."""
    return "".join(block["text"] or "" for block in message["content"] if block["type"] == "text")


def invocations(message: Json) -> list[Json]:
    """Return the tool calls of a message."""
    return message["tool_invocations"] or []


async def open_and_ignore(
    runtime: LocalRuntime, request: str, body: object = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Request NDJSON over a plain socket, read the first line of the response and stop reading."""
    host, port = runtime.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    content = json.dumps(body)
    head = [
        f"{request} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {runtime.api_key}",
        f"Accept: {NDJSON}",
        f"Content-Length: {len(content)}",
    ]
    writer.write("\r\n".join([*head, "", content]).encode())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    return reader, writer


async def told(caller: Caller, *head: bytes, body: bytes = b"") -> tuple[int, Json]:
    """Send a request with a key, byte by byte as it is, and return the status and the body of the response."""
    host, port = caller.runtime.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [*head, b"Authorization: Bearer inf_local", b"Connection: close", b"Content-Length: %d" % len(body)]
    writer.write(b"\r\n".join([*lines, b"", body]))
    start, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    answer: Json = json.loads(content)
    return int(start.split()[1]), answer
