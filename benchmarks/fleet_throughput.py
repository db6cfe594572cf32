"""Turns per second of 1, 2 and 4 workers at full speed, and the load of the service."""

from __future__ import annotations

import os
import statistics

from .fleet_context import Fleet, Measured
from .fleet_server import Plan
from .report import Cell, Section

__all__ = ["throughput"]

AT_ONCE = 20  # concurrent turns per worker
WORKERS = (1, 2, 4)


def throughput(fleet: Fleet) -> list[Section]:
    """Measure a minimal client, and this package with 1, 2 and 4 workers."""
    plan, count = Plan(), 150 if fleet.quick else 600
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, float] = {}
    for client, workers in [("floor", 1), *(("ours", number) for number in WORKERS)]:
        each = count * (2 if client == "floor" else 1) // workers
        job = fleet.job(plan=plan.name, count=each, at_once=AT_ONCE, floor=client == "floor")
        runs = sorted((fleet.run(job, workers) for _ in range(fleet.rounds(3))), key=_rate)
        run = runs[len(runs) // 2]
        cpu = statistics.median(each.cpu / each.turns for each in runs)
        server = statistics.median(each.server / each.turns for each in runs)
        busy = run.server / run.wall
        rows.append((client, workers, _rate(run), cpu * 1e3, 1 / cpu, server * 1e3, 1 / server, f"{busy:.0%}"))
        figures[f"turns per second {client} {workers}"] = _rate(run)
        figures[f"turn cpu ms {client} {workers}"] = cpu * 1e3
        figures[f"server turns per second {client} {workers}"] = 1 / server
        figures[f"server busy {client} {workers}"] = busy
    note = (
        f"A turn is a reply of 1 KB in {plan.events} deltas with one tool call: three requests and a new connection "
        f"for its stream. Each worker runs {AT_ONCE} at once; the service sends what it has in one piece. The floor "
        "makes the same requests with aiohttp and orjson. `turns/s per core` is 1 / CPU of a turn, what a worker would "
        "do with a core to itself; `service turns/s per core` is the same for the service, a single process, which is "
        f"not the bottleneck of a run far below it. All share {os.cpu_count()} cores. The median of three runs."
    )
    columns = (
        "client",
        "workers",
        "turns/s",
        "CPU ms/turn",
        "turns/s per core",
        "service CPU ms/turn",
        "service turns/s per core",
        "service busy",
    )
    return [Section("Turns per second", columns, rows, note, figures)]


def _rate(run: Measured) -> float:
    return run.turns / run.wall
