"""A server with the OpenAI chat-completions interface that answers by simple rules, in the forms real servers use."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

__all__ = ["ChatServer", "chat_server"]

KEY = "sk-secret-of-the-server"
PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7


class ChatServer:
    """The server's rules and what it has received.

    Attributes:
        bodies: The requests, decoded.
        headers: Their headers.
        closed: Set when a client leaves an answer that never ends.
        knows_tools: Whether requests with tools are accepted.
        props: What llama.cpp's ``/props`` tells, or None if there is no such page.
        reply: If set, the raw lines of the next answers.
        replies: Those of single answers, which go before.
        status: If set, the status and body of the next answers.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closed = asyncio.Event()
        self.knows_tools = True
        self.props: dict[str, Any] | None = None
        self.reply: list[str] | None = None
        self.replies: list[list[str]] = []
        self.status: tuple[int, str] | None = None
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.status is not None:
            return web.Response(status=self.status[0], text=self.status[1], content_type="application/json")
        if body.get("tools") and not self.knows_tools:
            return refused(400, "this model does not support tools")
        if "fail" in last_text(body):
            return refused(500, "out of memory")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if "forever" in last_text(body):
            return await self._never_end(response)
        reply = self.replies.pop(0) if self.replies else self.reply
        for line in reply if reply is not None else lines(body):
            await response.write(line.encode())
        return response

    async def _never_end(self, response: web.StreamResponse) -> web.StreamResponse:
        try:
            while True:
                await response.write(chunk({"content": "and "}).encode())
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()

    async def tell_props(self, _request: web.Request) -> web.Response:
        return web.Response(status=404) if self.props is None else web.json_response(self.props)


def refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "server_error"}}, status=status)


def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    data = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f"data: {json.dumps(data)}\n\n"


def last_text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else json.dumps(content)


def lines(body: dict[str, Any]) -> Iterator[str]:
    """Yield the answer to a request, as server-sent events."""
    yield ": a comment\n\n"
    yield chunk({"role": "assistant", "content": None})
    text = last_text(body)
    expressions = re.findall(r"\d+ [*+] \d+", text) if body["messages"][-1]["role"] == "user" else []
    if body.get("tools") and expressions:
        yield from call_lines(expressions)
        yield chunk({}, "tool_calls")
    else:
        yield chunk({"reasoning_content": "Let me "})
        yield chunk({"reasoning_content": "think."})
        for word in re.findall(r"\S+\s*", said(body, text)):
            yield chunk({"content": word})
        yield chunk({}, "stop")
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": 18}
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def call_lines(expressions: list[str]) -> Iterator[str]:
    """Yield calls of the calculator, in fragments that alternate between the calls."""
    texts = [json.dumps({"expression": each}) for each in expressions]
    for index in range(len(texts)):
        head = {"name": "calculator", "arguments": ""}
        yield chunk({"tool_calls": [{"index": index, "id": f"c{index}", "type": "function", "function": head}]})
    for at in range(0, max(map(len, texts)), 5):
        for index, text in enumerate(texts):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": text[at : at + 5]}}]})


def said(body: dict[str, Any], text: str) -> str:
    form = body.get("response_format", {}).get("json_schema", {})
    if form.get("name") == "answer":  # a choice of text and calls
        expressions = re.findall(r"\d+ [*+] \d+", text) if not text.startswith("The result") else []
        calls = [{"tool": "calculator", "arguments": {"expression": each}} for each in expressions]
        return json.dumps({"calls": calls} if calls else {"text": "It is so. " + text})
    if form:
        return json.dumps({"name": "Ada", "age": 36})
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    if results:
        return f"It is {' and '.join(results)}."
    count = sum(message["role"] == "user" for message in body["messages"])
    return f"This is answer number {count}. Once upon a time there was a robot who loved the rain."


@asynccontextmanager
async def chat_server() -> AsyncIterator[ChatServer]:
    """Run the server on a free port; its ``url`` is the base URL."""
    server = ChatServer()
    app = web.Application(client_max_size=32 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", server.answer)
    app.router.add_get("/props", server.tell_props)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()
