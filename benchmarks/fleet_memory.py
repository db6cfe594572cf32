"""Memory of open turns that wait, and what keeping their leases costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .fleet_context import Fleet, running_worker
from .fleet_server import Plan
from .report import Cell, Section

__all__ = ["memory"]

HELD = Plan("held", 40, 1000, 100, tool=False)
SPREADS = {1000: 2.0, 5000: 8.0, 300: 0.5}  # seconds over which so many turns are begun
LEASE = 30.0
HOLD = 10.0  # seconds for which renewals are counted: as long as the time between two


def memory(fleet: Fleet) -> list[Section]:
    """Measure workers with 1,000 and 5,000 open turns: plain, over TLS, and with leases in Redis."""
    tls = fleet.tls_server()
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, float] = {}
    modes: dict[str, Mapping[str, Any]] = {"plain": {}, "claims": {"claims": True}, "tls": tls}
    for count in (300,) if fleet.quick else (1000, 5000):
        for name, fields in modes.items():
            row = _held(fleet, count, fields)
            figures |= {f"held {name} {count} {key}": value for key, value in row.items()}
            shown = (row["memory"], row["streams per GB"], row["files"], row["idle"] * 100)
            rows.append((count, TITLES[name], *shown, row["commands"], row["redis"] * 100, row["kept"]))
    note = (
        "Resident memory beyond that of the idle worker, after a garbage collection, while all turns are open and "
        f"have received some text. Then nothing happens for {HOLD:g} seconds, in which the CPU of worker and Redis and "
        f"the commands are counted: with a lease of {LEASE:g} seconds each turn renews it once in that time. `Redis "
        "KB` is what Redis keeps for each turn."
    )
    columns = (
        "turns",
        "a worker with",
        "KB each",
        "turns/GB",
        "files",
        "CPU % idle",
        "commands/s",
        "Redis CPU %",
        "Redis KB",
    )
    return [Section("Open turns that wait", columns, rows, note, figures)]


TITLES = {"plain": "plain HTTP", "claims": "plain HTTP, leases in Redis", "tls": "TLS"}


def _held(fleet: Fleet, count: int, fields: Mapping[str, Any]) -> dict[str, float]:
    """Open turns in a worker of their own, and return what they hold and do."""
    hold = 2.0 if fleet.quick else HOLD
    job = fleet.job(kind="held", plan=HELD.name, count=count, spread=SPREADS[count], hold=hold, lease=LEASE, **fields)
    with running_worker() as worker:
        worker.begin(job)
        worker.all_open()
        before, began = fleet.redis.look(), time.monotonic()
        worker.waited()
        redis, seconds = fleet.redis.look().since(before), time.monotonic() - began
        kept = sum(fleet.redis.kept().values())
        held = worker.release()
    fleet.redis.empty()
    return {
        "memory": held.memory,
        "streams per GB": 1024 * 1024 / held.memory,
        "files": held.files,
        "idle": held.idle,
        "commands": redis.asked("evalsha") / seconds,
        "redis": redis.cpu / seconds,
        "kept": kept / count / 1024,
        "base": held.base,
        "renewal": redis.cpu / max(1, redis.asked("evalsha")) * 1e3,
    }
