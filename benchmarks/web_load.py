"""Measure a chat service with many browsers at once: ``python -m benchmarks.web_load [--browsers N]``.

There are three processes: the embedded runtime, which writes one story to each browser; the service of
examples/fastapi_chat in one uvicorn worker, which is measured; and this one with the browsers. Every browser must
receive its whole reply. The figures are read from /proc, so this needs Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import aiohttp
import attrs
import orjson

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "examples" / "fastapi_chat"
STORY = "Tell me a story about the sea"


@attrs.frozen
class Reply:
    """What one browser received.

    Attributes:
        first: Seconds until the first text.
        events: The number of snapshots.
        text: The final text, "" if the reply was not finished.
    """

    first: float
    events: int
    text: str


@contextmanager
def process(*arguments: str, address: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a Python process; return it with the address that it prints, found by a pattern."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            found = next((match[0] for line in child.stdout if (match := re.search(address, line))), None)
            if found is None:
                raise RuntimeError(f"{arguments[:3]} did not start")
            yield child, found
        finally:
            child.terminate()


async def browse(session: aiohttp.ClientSession, service: str) -> Reply:
    """Send a message and read the events of its reply, as a browser would."""
    started = time.monotonic()
    first, events, name = float("nan"), 0, ""
    async with session.post(f"{service}/chat/stream", json={"text": STORY}) as answer:
        async for line in answer.content:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: ") and name == "message":
                events += 1
                if events == 1:
                    first = time.monotonic() - started
            elif line.startswith(b"data: ") and name == "done":
                return Reply(first, events, orjson.loads(line[6:])["text"])
    return Reply(first, events, "")


async def load(service: str, browsers: int) -> list[Reply]:
    """Run all browsers at once."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**20) as session:
        return await asyncio.gather(*(browse(session, service) for _ in range(browsers)))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> Mapping[str, float]:
    """Return a process's resident memory in MB: the present (VmRSS) and the peak (VmHWM)."""
    found = re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return {name: int(size) / 1024 for name, size in found}


def measure(service: subprocess.Popen[str], address: str, browsers: int) -> dict[str, str]:
    """Put the service under load, and return the row of the table."""
    (warm,) = asyncio.run(load(address, 1))
    before, idle, started = cpu_seconds(service.pid), memory(service.pid)["VmRSS"], time.monotonic()
    replies = asyncio.run(load(address, browsers))
    seconds = time.monotonic() - started
    used, peak = cpu_seconds(service.pid) - before, memory(service.pid)["VmHWM"]
    finished = sum(reply.text == warm.text != "" for reply in replies)
    events = sum(reply.events for reply in replies)
    first = quantiles([reply.first for reply in replies], n=100)
    if finished < browsers:
        raise SystemExit(f"only {finished} of {browsers} browsers got the whole reply")
    return {
        "browsers": str(browsers),
        "finished": str(finished),
        "seconds": f"{seconds:.1f}",
        "snapshots/s": f"{events / seconds:,.0f}",
        "first text p50": f"{first[49] * 1000:.0f} ms",
        "first text p99": f"{first[98] * 1000:.0f} ms",
        "CPU of a core": f"{used / seconds:.0%}",
        "memory idle": f"{idle:.0f} MB",
        "memory peak": f"{peak:.0f} MB",
        "each stream": f"{(peak - idle) * 1024 / browsers:.0f} KB",
    }


def main() -> None:
    """Run and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Measure one worker of the chat service with many browsers at once.")
    parser.add_argument("--browsers", type=int, default=200)
    parser.add_argument("--pace", type=float, default=0.05, help="the seconds between the words of a reply")
    options = parser.parse_args()
    runtime = ("-m", "inferencesh", "serve", "--port", "0", "--pace", str(options.pace))
    # No access log: nobody reads the pipe after the start, and its lines would fill it.
    worker = ("-m", "uvicorn", "service:app", "--app-dir", str(SERVICE), "--port", "0", "--no-access-log")
    with process(*runtime, address=r"http://[\d.:]+") as (_, upstream):
        environment = {"INFERENCE_BASE_URL": upstream, "INFERENCE_API_KEY": "inf_local"}
        with process(*worker, address=r"http://[\d.:]+", **environment) as (service, address):
            row = measure(service, address, options.browsers)
    print("| " + " | ".join(row) + " |")
    print("|" + "---|" * len(row))
    print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
