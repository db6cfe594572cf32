"""Run other SDKs in their own virtual environment, by orders on stdin: ``python -P peer.py``.

It is a script that imports nothing but the SDKs, since the official one has the import name of this project. A line
``{"client", "url"}`` on stdin starts one turn; a line on stdout has its cost and what it received.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

KEY = "inf_benchmark"
Seen = tuple[int, str]  # events, and the text at the end
Turn = Callable[[str], Seen]
runner = asyncio.Runner()


def module(name: str) -> Any:
    """Import a module of an SDK, whose types are not known here."""
    return importlib.import_module(name)


@functools.cache
def client(kind: str, url: str) -> Any:
    """Return a client for a base URL, which is kept for all turns, as a program would keep it."""
    sdk, _, name = kind.rpartition(".")
    return getattr(module(sdk), name)(api_key=KEY, base_url=url)


# The official SDK: ``send_message`` with a callback streams until the run has ended.


class Watcher:
    """Callbacks of the official SDK that read the text of each update, and count the updates."""

    def __init__(self) -> None:
        self.events = 0
        self.text = ""

    def on_message(self, message: dict[str, Any]) -> None:
        if message["content"]:
            self.events += 1
            self.text = message["content"][0]["text"]

    def on_delta(self, delta: Any) -> None:
        self.events += 1
        self.text = delta.output["response"]


async def official_async(url: str) -> Seen:
    watcher = Watcher()
    agent = client("inferencesh.AsyncInference", url).agent("a/b")
    await agent.send_message("Hi", on_message=watcher.on_message, on_delta=watcher.on_delta)
    return watcher.events, watcher.text


def official_sync(url: str) -> Seen:
    watcher = Watcher()
    agent = client("inferencesh.Inference", url).agent("a/b")
    agent.send_message("Hi", on_message=watcher.on_message, on_delta=watcher.on_delta)
    return watcher.events, watcher.text


def official_request(url: str) -> Seen:
    agent = client("inferencesh.Inference", url).agent("a/b")
    return 1, agent.get_chat("chat")["status"]


async def official_request_async(url: str) -> Seen:
    agent = client("inferencesh.AsyncInference", url).agent("a/b")
    return 1, (await agent.get_chat("chat"))["status"]


# OpenAI and Anthropic: tokens, and the helpers that also keep a snapshot.

ASK: Any = [{"role": "user", "content": "Hi"}]


async def openai_async(url: str) -> Seen:
    count, pieces = 0, []
    completions = client("openai.AsyncOpenAI", url).chat.completions
    async for chunk in await completions.create(model="m", messages=ASK, stream=True):
        if piece := chunk.choices[0].delta.content:
            count += 1
            pieces.append(piece)
    return count, "".join(pieces)


def openai_sync(url: str) -> Seen:
    count, pieces = 0, []
    completions = client("openai.OpenAI", url).chat.completions
    for chunk in completions.create(model="m", messages=ASK, stream=True):
        if piece := chunk.choices[0].delta.content:
            count += 1
            pieces.append(piece)
    return count, "".join(pieces)


async def openai_helper(url: str) -> Seen:
    count, text = 0, ""
    completions = client("openai.AsyncOpenAI", url).chat.completions
    async with completions.stream(model="m", messages=ASK) as stream:
        async for event in stream:
            if event.type == "content.delta" and event.delta:
                count += 1
                text = event.snapshot
    return count, text


async def anthropic_async(url: str) -> Seen:
    count, text = 0, ""
    messages = client("anthropic.AsyncAnthropic", url).messages
    async with messages.stream(model="m", max_tokens=9999, messages=ASK) as stream:
        async for event in stream:
            if event.type == "text":
                count += 1
                text = event.snapshot
    return count, text


def anthropic_sync(url: str) -> Seen:
    count, text = 0, ""
    messages = client("anthropic.Anthropic", url).messages
    with messages.stream(model="m", max_tokens=9999, messages=ASK) as stream:
        for event in stream:
            if event.type == "text":
                count += 1
                text = event.snapshot
    return count, text


async def anthropic_raw(url: str) -> Seen:
    count, pieces = 0, []
    messages = client("anthropic.AsyncAnthropic", url).messages
    async for event in await messages.create(model="m", max_tokens=9999, messages=ASK, stream=True):
        if event.type == "content_block_delta":
            count += 1
            pieces.append(event.delta.text)
    return count, "".join(pieces)


def awaited(turn: Callable[[str], Coroutine[Any, Any, Seen]]) -> Turn:
    """Return a function that runs an async turn on the loop that all turns share."""
    return lambda url: runner.run(turn(url))


TURNS: dict[str, Turn] = {
    "official async": awaited(official_async),
    "official sync": official_sync,
    "official request": official_request,
    "official request async": awaited(official_request_async),
    "openai async": awaited(openai_async),
    "openai sync": openai_sync,
    "openai async stream()": awaited(openai_helper),
    "anthropic async": awaited(anthropic_raw),
    "anthropic async stream()": awaited(anthropic_async),
    "anthropic sync stream()": anthropic_sync,
}


def run(order: dict[str, Any]) -> dict[str, object]:
    """Run a turn; return its cost in seconds and what it received."""
    turn = TURNS[order["client"]]
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    events, text = turn(order["url"])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"cpu": cpu, "wall": wall, "events": events, "digest": digest}


def main() -> None:
    """Run orders until stdin ends; what the SDKs print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
