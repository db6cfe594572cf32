"""Runs the benchmarks and prints what came of them: ``python -m benchmarks [--quick] [--only NAME,NAME]``."""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .concurrency import growth, many_streams, slow_reader
from .context import Context
from .latency import first_snapshot, imports, one_request
from .report import LATEST, Section, Target, environment, judged, render, save
from .throughput import STREAMS, against_official, against_peers, streams

TARGETS = [
    Target("snapshots async", "async, cumulative snapshots, CPU per event over the floor", 1.5),
    Target("deltas async", "async, token deltas, CPU per event over the floor", 3.5),
    Target("snapshots sync", "sync, cumulative snapshots, CPU per event over the floor", 1.8),
    Target("deltas sync", "sync, token deltas, CPU per event over the floor", 4.5),
    Target("openai least", "less CPU per token event than openai", 10, at_least=True),
    Target("anthropic helper least", "less CPU per token event than anthropic's helper", 10, at_least=True),
    Target(
        "official message-200k async", "less CPU than the official SDK, async, messages of 200 KB", 4, at_least=True
    ),
    Target("official message-200k sync", "less CPU than the official SDK, sync, messages of 200 KB", 10, at_least=True),
    Target("1000 incomplete", "of 1,000 streams at once, not complete", 0, unit=""),
    Target("1000 memory", "memory for each of 1,000 streams", 40, unit="KB"),
    Target("1000 p99", "lag with 1,000 streams, 99th per cent", 50, unit="ms"),
    Target("from inferencesh import Inference", "import, over bare Python", 120, unit="ms"),
    Target("from inferencesh import Inference: aiohttp", "aiohttp loaded by the import", 0, unit=""),
    Target("growth message-1m async conflate slow", "CPU of a 1 MB message over 500 KB, conflated, slow reader", 2.2),
]
GROUPS: dict[str, Callable[[Context], Section]] = {
    "official": against_official,
    "peers": against_peers,
    "concurrency": many_streams,
    "slow": slow_reader,
    "growth": growth,
    "first": first_snapshot,
    "request": one_request,
    "import": imports,
}
QUICK = ["deltas", "snapshots", "official", "peers", "concurrency", "first", "import"]


def _run(context: Context, chosen: list[str]) -> Iterator[Section]:
    """Run what was chosen, and print each table as soon as it is there."""
    benchmarks: list[Callable[[Context], Section]] = [GROUPS[name] for name in GROUPS if name in chosen]
    if workloads := [name for name in STREAMS if name in chosen]:
        benchmarks.insert(0, functools.partial(streams, names=workloads))
    for benchmark in benchmarks:
        section = benchmark(context)
        print(render(section), flush=True)
        yield section


def main() -> None:
    """Run what was asked for."""
    names = [*STREAMS, *GROUPS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures in less than half a minute")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(names)}")
    parser.add_argument("--json", type=Path, default=None, help=f"where to write them; {LATEST.name} for a full run")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else QUICK if options.quick else names
    if unknown := set(chosen) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    began, load = time.monotonic(), os.getloadavg()[0]
    with Context(quick=options.quick) as context:
        sections = list(_run(context, chosen))
        about = environment(context.versions, load)
    sections.append(judged(sections, TARGETS))
    print(render(sections[-1]))
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    whole = not options.quick and set(chosen) == set(names)
    if path := options.json or (LATEST if whole else None):
        save(path, about, sections)
        print(f"written to {path}")
    print(f"{time.monotonic() - began:.0f} seconds")


if __name__ == "__main__":
    main()
