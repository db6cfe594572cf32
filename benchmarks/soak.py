"""Run thousands of turns over a network and a server that fail at random: ``python -m benchmarks.soak``.

Each turn must deliver its whole reply, call its tool once, and leave nothing behind. The faults of each turn are drawn
from ``--seed``; each client gets half of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import ctypes
import faulthandler
import gc
import itertools
import logging
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import attrs
import orjson

from inferencesh import AsyncInference, Backoff, Inference, InferenceError, Message, Timeout, Tool, string, tool

from .child import rss
from .soak_plan import TOOL, plan_of, result_of
from .soak_server import running_soak_server

TURNS_PER_CHAT = 2
IDLE = 5.0  # seconds within which idle worker threads must have ended
PATIENCE = 60.0  # seconds that the last turns may take
SAMPLE_EVERY = 200  # turns between measurements of memory


def used_memory() -> int:
    """Return the resident memory in bytes, without garbage and what the allocator holds in reserve."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # only in glibc
        trim(0)
    return rss()


class Options(TypedDict):
    """The arguments of both clients, with short times."""

    base_url: str
    timeout: Timeout
    max_retries: int
    max_reconnects: int
    backoff: Backoff
    trust_env: bool


@attrs.define
class Tally:
    """The results of one client's turns."""

    seed: int
    deadline: float
    most: int
    turns: int = 0
    losses: list[str] = attrs.field(factory=list)
    memory: list[tuple[int, int]] = attrs.field(factory=list)
    calls: collections.Counter[str] = attrs.field(factory=collections.Counter)
    lock: threading.Lock = attrs.field(factory=threading.Lock)
    leaked: dict[str, int] = attrs.field(factory=dict)
    seconds: float = 0.0

    def go_on(self) -> bool:
        """Whether there is time for another turn, and one is wanted."""
        return self.turns < self.most and time.monotonic() < self.deadline

    def end_turn(self, chat_id: str | None, turn: int, text: str, final: Message | InferenceError) -> bool:
        """Compare a turn with its plan, and return whether nothing was lost.

        Args:
            chat_id: The chat, if it is known.
            turn: The number of the turn in the chat.
            text: The text of the last snapshot.
            final: The turn's final message, or the error it raised.
        """
        with self.lock:
            self.turns += 1
            if self.turns % SAMPLE_EVERY == 0:
                self.memory.append((self.turns, used_memory()))
            if isinstance(final, InferenceError):
                self.losses.append(f"{chat_id} turn {turn}: {type(final).__name__}: {final}")
                return False
            before, plan = len(self.losses), plan_of(self.seed, str(chat_id), turn)
            ran = self.calls.pop(str(chat_id), 0)
            if final.status != "ready" or final.text != plan.text(str(chat_id)) or text != final.text:
                self.losses.append(f"{chat_id} turn {turn}: {final.status}, {final.text!r:.200}")
            if ran != (plan.tool_at is not None):
                self.losses.append(f"{chat_id} turn {turn}: the tool ran {ran} times")
            return len(self.losses) == before

    @property
    def slope(self) -> float:
        """The bytes of resident memory that each turn adds, from the second half of the turns."""
        late = self.memory[len(self.memory) // 2 :]
        return statistics.linear_regression(*zip(*late, strict=True)).slope if len(late) > 1 else 0.0

    def lookup(self) -> Tool:
        """Return the tool, which counts how often it ran for each chat."""

        def run(argument: str) -> str:
            with self.lock:
                self.calls[argument] += 1
            return result_of(argument)

        return tool(TOOL).describe("for the soak").param("argument", string("what to look up")).handler(run).build()


def grown(seen: str, message: Message) -> str:
    """Return the text of a snapshot, which must begin with that of the one before."""
    if not message.text.startswith(seen):
        raise InferenceError(f"a snapshot went back: {message.text!r:.100} after {seen!r:.100}")
    return message.text


async def async_chats(client: AsyncInference, tally: Tally) -> None:
    """Run chats one after the other, until the time is over."""
    while tally.go_on():
        agent = client.agent({"name": "soak", "tools": [tally.lookup()]})
        for turn in range(TURNS_PER_CHAT):
            seen = ""
            final: Message | InferenceError
            try:
                stream = agent.send_message("Hi", stream=True)
                async for message in stream:
                    seen = grown(seen, message)
                final = await stream.get_final_message()
            except InferenceError as error:
                final = error
            if not tally.end_turn(agent.chat_id, turn, seen, final):
                break


def sync_chats(client: Inference, tally: Tally) -> None:
    """Run chats one after the other with the blocking client."""
    while tally.go_on():
        agent = client.agent({"name": "soak", "tools": [tally.lookup()]})
        for turn in range(TURNS_PER_CHAT):
            seen = ""
            final: Message | InferenceError
            try:
                stream = agent.send_message("Hi", stream=True)
                for message in stream:
                    seen = grown(seen, message)
                final = stream.get_final_message()
            except InferenceError as error:
                final = error
            if not tally.end_turn(agent.chat_id, turn, seen, final):
                break


async def soak_async(options: Options, tally: Tally, at_once: int) -> None:
    """Run the half of the async client, and count the tasks it leaves."""
    before = asyncio.all_tasks()
    async with AsyncInference("inf_soak", **options) as client:
        await asyncio.gather(*(async_chats(client, tally) for _ in range(at_once)))
    await asyncio.sleep(0)
    tally.leaked["tasks"] = len(asyncio.all_tasks() - before)


def soak_sync(options: Options, tally: Tally, at_once: int) -> None:
    """Run the half of the blocking client."""
    with Inference("inf_soak", **options) as client, concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(sync_chats, client, tally) for _ in range(at_once)]:
            done.result()


def open_sockets() -> int:
    """Return the number of sockets that this process has open."""

    def targets() -> Iterator[str]:
        for entry in Path("/proc/self/fd").iterdir():
            try:
                yield str(entry.readlink())
            except FileNotFoundError:  # the descriptor of this listing
                yield ""

    return sum(target.startswith("socket:") for target in targets())


def remaining_threads(before: int) -> int:
    """Return how many threads more than before there are, after idle worker threads have had time to end."""
    deadline = time.monotonic() + IDLE
    while (left := threading.active_count() - before) > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def half(name: str, url: str, seed: int, turns: int, seconds: float) -> Tally:
    """Run the half of one client."""
    gc.collect()
    sockets, threads = open_sockets(), threading.active_count()
    began = time.monotonic()
    tally = Tally(seed, began + seconds, turns)
    options = Options(
        base_url=url,
        timeout=Timeout(connect=5, idle=0.5, total=20),
        max_retries=5,
        max_reconnects=8,
        backoff=Backoff(initial=0.01, factor=1.0, maximum=0.02),
        trust_env=False,
    )
    faulthandler.dump_traceback_later(seconds + PATIENCE, exit=True)  # shows where a turn hangs
    if name == "async":
        asyncio.run(soak_async(options, tally, at_once=16))
    else:
        soak_sync(options, tally, at_once=16)
    faulthandler.cancel_dump_traceback_later()
    tally.seconds = time.monotonic() - began
    gc.collect()
    tally.leaked["sockets"] = open_sockets() - sockets
    tally.leaked["threads"] = remaining_threads(threads)
    return tally


def main() -> int:
    """Run the soak; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="the time for both clients together")
    parser.add_argument("--turns", type=int, default=1_000_000, help="the number of turns after which to stop earlier")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("inferencesh").setLevel(logging.CRITICAL)  # it warns of each malformed line
    bad = False
    with running_soak_server(options.seed) as url:
        for name in ("async", "sync"):
            tally = half(name, url, options.seed, options.turns // 2, options.seconds / 2)
            leaks = ", ".join(f"{count} {what}" for what, count in tally.leaked.items())
            print(
                f"{name}: {tally.turns} turns in {tally.seconds:.0f} s, {len(tally.losses)} losses, leaked {leaks}, "
                f"memory {tally.slope:+.0f} bytes a turn, {used_memory() / 1e6:.0f} MB at the end"
            )
            for loss in itertools.islice(tally.losses, 20):
                print(f"  lost: {loss}")
            bad = bad or bool(tally.losses) or any(tally.leaked.values())
        with urllib.request.urlopen(f"{url}/stats", timeout=10) as answer:  # noqa: S310 - our own address
            faults = orjson.loads(answer.read())["data"]
    print(f"{sum(faults.values())} faults: " + ", ".join(f"{count} {name}" for name, count in sorted(faults.items())))
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
