"""Memory of open turns that wait, and the cost of renewing their leases."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

from .fleet_context import Fleet, running_worker
from .fleet_server import Plan
from .report import Cell, Section

__all__ = ["memory"]

HELD = Plan("held", 40, 1000, 100, tool=False)
LEASE = 30.0
HOLD = 12.0  # seconds during which renewals and polls of silent turns are counted; both happen every 10 seconds
SHORT = 2.0  # seconds for which turns are held if nothing is counted


def memory(fleet: Fleet) -> list[Section]:
    """Measure workers with 1,000 and 5,000 open turns: plain, over TLS, and with leases in Redis."""
    tls = fleet.tls_server()
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, float] = {}
    modes: dict[str, Mapping[str, Any]] = {"plain": {}, "claims": {"claims": True}, "tls": tls}
    counts = (300,) if fleet.quick else (1000, 5000)
    for count, name in itertools.product(counts, modes):
        if name == "tls" and count != 1000:
            continue
        counted = not fleet.quick and name != "tls" and (count, name) != (5000, "plain")
        row = _held(fleet, count, modes[name], HOLD if counted else SHORT)
        figures |= {f"held {name} {count} {key}": value for key, value in row.items()}
        shown: list[Cell] = [row["memory"], row["streams per GB"], int(row["files"])]
        redis = (row["commands"], row["redis"] * 100, row["renewal"] * 1000, row["kept"])
        rest = [row["look"], *redis] if "claims" in name else [row["look"]] + [0.0] * len(redis)
        rows.append((count, TITLES[name], *shown, *(f"{value:.2f}" if value else "" for value in rest)))
    note = (
        "Resident memory beyond that of the idle worker, after a garbage collection, while all turns are open and "
        f"have received some text. Then nothing happens for {HOLD:g} seconds: a turn polls its chat after ten "
        f"silent seconds, with two requests, later less often, and renews its lease of {LEASE:g} seconds every ten. "
        "`ms/request` is the CPU of the worker for that time over these requests. `Redis KB` is what Redis keeps for "
        "each turn."
    )
    columns = (
        "turns",
        "a worker with",
        "KB each",
        "turns/GB",
        "files",
        "ms/request",
        "renewals/s",
        "Redis CPU %",
        "Redis CPU µs/renewal",
        "Redis KB",
    )
    return [Section("Open turns that wait", columns, rows, note, figures)]


TITLES = {"plain": "plain HTTP", "claims": "plain HTTP, leases in Redis", "tls": "TLS"}


def _held(fleet: Fleet, count: int, fields: Mapping[str, Any], hold: float) -> dict[str, float]:
    """Open turns in a new worker, hold them for some seconds, and return the figures."""
    job = fleet.job(kind="held", plan=HELD.name, count=count, hold=hold, lease=LEASE, **fields)
    with running_worker() as worker:
        worker.begin(job)
        worker.wait_until_open()
        fleet.server.take_stats()
        before, began = fleet.redis.usage(), time.monotonic()
        worker.wait_until_measured()
        redis, seconds = fleet.redis.usage().since(before), time.monotonic() - began
        requests = fleet.server.take_stats()["requests"]
        kept = sum(fleet.redis.kept().values())
        held = worker.release()
    fleet.redis.empty()
    renewals = redis.calls("evalsha")
    return {
        "memory": held.memory,
        "streams per GB": 1024 * 1024 / held.memory,
        "files": held.files,
        "look": held.idle * seconds / requests * 1e3 if requests else 0.0,
        "commands": renewals / seconds,
        "redis": redis.cpu / seconds,
        "kept": kept / count / 1024,
        "base": held.base,
        "renewal": redis.cpu / renewals * 1e3 if renewals else 0.0,
    }
