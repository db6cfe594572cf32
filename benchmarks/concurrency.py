"""Many streams at once, and slow readers: lag, memory and delivered snapshots."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import orjson

from .context import Context
from .pairs import Comparison, alternate
from .payloads import WORKLOADS
from .report import Section

__all__ = ["growth", "many_streams", "slow_reader"]

SECONDS = 6  # for which a stream sends tokens
REPEATS = {1000: 3}  # runs by number of streams; other work on the machine disturbs the largest most


def many_streams(context: Context) -> Section:
    """Measure 1, 50 and 1,000 streams at once."""
    _allow_files(4096)
    seconds = 2 if context.quick else SECONDS
    rows: list[tuple[str | float | int, ...]] = []
    figures: dict[str, float] = {}
    for streams, rate in ((50, 50.0), (1000, 2.5)) if context.quick else ((1, 50.0), (50, 50.0), (1000, 2.5)):
        for client in ("async",) if context.quick else ("floor", "async"):
            repeats = 1 if context.quick else REPEATS.get(streams, 1)
            arguments = ("paced", context.server.url, client, streams, rate, int(rate * seconds))
            runs = sorted((_child(*arguments) for _ in range(repeats)), key=_p99)
            seen = runs[repeats // 2]
            complete = min(run["complete"] for run in runs)
            p50, p99, worst = seen["lags"]
            each, total = f"{rate:g} Hz", f"{rate * streams:g} Hz"
            rows.append((streams, each, total, client, complete, p50, p99, worst, seen["cpu"], seen["memory"]))
            if client == "async":
                figures[f"{streams} incomplete"] = streams - complete
                figures[f"{streams} p99"] = p99
                figures[f"{streams} memory"] = seen["memory"]
    context.server.take_stats()  # not checked: after a silence a client also polls the chat
    note = (
        "Each token holds the time at which the server sent it; the lag ends when the caller has the snapshot. Tokens "
        "come one by one, so each wakes the loop. Of three runs with 1,000 streams that of the median lag is shown. "
        "Memory is resident memory while all streams are open, beyond that of the client without streams."
    )
    columns = (
        "streams",
        "each",
        "together",
        "client",
        "complete",
        "lag ms p50",
        "lag ms p99",
        "lag ms max",
        "CPU µs/event",
        "KB/stream",
    )
    return Section("Streams at once", columns, rows, note, figures)


def slow_reader(context: Context) -> Section:
    """Measure a reader that takes 2 ms for each snapshot."""
    rows: list[tuple[str | float | int, ...]] = []
    for name in ("snapshots",) if context.quick else ("snapshots", "message-1m"):
        for mode in ("every one", "conflate"):
            seen = _child("slow", context.server.url, name, 0.002, mode)
            rows.append((name, mode, seen["snapshots"], seen["seconds"], seen["cpu"], seen["memory"]))
    context.server.take_stats()
    note = (
        "The server sends as fast as it can; the reader takes 2 ms for each snapshot. Memory is the peak beyond the "
        "idle client, without kernel buffers."
    )
    columns = ("workload", "mode", "snapshots", "seconds", "CPU ms", "MB")
    return Section("A slow reader", columns, rows, note)


def growth(context: Context) -> Section:
    """Measure the cost of a reply of twice the length."""
    pairs = {
        ("message-500k", "message-1m", "async conflate slow"): 3,
        ("message-500k", "message-1m", "async"): 3,
        ("deltas", "deltas-double", "async"): 7,
        ("deltas", "deltas-double", "sync"): 7,
    }
    rows: list[tuple[str | float | int, ...]] = []
    figures: dict[str, float] = {}
    for (base, other, client), rounds in pairs.items():
        one, two = WORKLOADS[base], WORKLOADS[other]
        runs = {"": (context.ours(client, one), context.ours(client, two))}
        comparison = alternate(runs, context.rounds(rounds))[""]
        ratio = comparison.ratio * two.events / one.events
        rows.append((base, other, client, _total(comparison, one.events, two.events), ratio))
        figures[f"growth {other} {client}"] = ratio
    context.check_server()
    note = "Twice the bytes, so 2 is linear. The slow reader takes 2 ms for each snapshot."
    columns = ("half", "whole", "client", "CPU ms", "whole / half")
    return Section("Cost against length", columns, rows, note, figures)


def _p99(run: dict[str, Any]) -> float:
    lag: float = run["lags"][1]
    return lag


def _total(comparison: Comparison, half: int, whole: int) -> str:
    least = min(cost.cpu for cost in comparison.base) * half, min(cost.cpu for cost in comparison.other) * whole
    return f"{least[0] * 1e3:.0f} / {least[1] * 1e3:.0f}"


def _child(name: str, *arguments: str | float) -> dict[str, Any]:
    """Run a measurement in a process of its own and return its result."""
    command = [sys.executable, "-m", "benchmarks.child", name, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))
