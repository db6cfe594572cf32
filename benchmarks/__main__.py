"""Run the benchmarks and print their results: ``python -m benchmarks [--quick] [--only NAME,NAME]``."""

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

# The first four are of a caller who reads ``message.text`` at every update, over a floor that joins its text too, while
# the server coalesces lines into large writes.
TARGETS = [
    Target("deltas-block async .text", "async, token deltas, CPU per event over the floor", 2.8),
    Target("deltas-block sync .text", "blocking, token deltas, CPU per event over the floor", 3.8),
    Target("snapshots-block async .text", "async, whole messages, CPU per event over the floor", 1.25),
    Target("snapshots-block sync .text", "blocking, whole messages, CPU per event over the floor", 1.45),
    Target("openai least", "openai, CPU per token event over ours", 20, at_least=True),
    Target("anthropic helper least", "anthropic's helper, CPU per token event over ours", 14, at_least=True),
    Target("official message-200k async", "official SDK, async, messages of 200 KB, CPU over ours", 2, at_least=True),
    Target(
        "official message-200k sync", "official SDK, blocking, messages of 200 KB, CPU over ours", 10, at_least=True
    ),
    Target("1000 incomplete", "1,000 streams at once: not complete", 0, unit=""),
    Target("1000 memory", "1,000 streams at once: memory of each", 25, unit="KB"),
    Target("1000 p99", "1,000 streams at once: lag, 99th percentile", 5, unit="ms"),
    Target("from inferencesh import Inference", "`from inferencesh import Inference`, over bare Python", 50, unit="ms"),
    Target("from inferencesh import Inference: aiohttp", "aiohttp loaded by that import", 0, unit=""),
    Target("growth message-1m async conflate slow", "CPU of a 1 MB message over a 500 KB one, conflated", 2.2),
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
QUICK = ["deltas-block", "snapshots-block", "official", "peers", "concurrency", "first", "import"]


def _run(context: Context, chosen: list[str]) -> Iterator[Section]:
    """Run the chosen benchmarks, and print each table as soon as it is complete."""
    benchmarks: list[Callable[[Context], Section]] = [GROUPS[name] for name in GROUPS if name in chosen]
    if workloads := [name for name in STREAMS if name in chosen]:
        benchmarks.insert(0, functools.partial(streams, names=workloads))
    for benchmark in benchmarks:
        section = benchmark(context)
        print(render(section), flush=True)
        yield section


def main() -> None:
    """Run the benchmarks that the command line names."""
    names = [*STREAMS, *GROUPS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures, in less than a minute")
    parser.add_argument("--only", metavar="NAMES", help=f"a comma-separated choice of {','.join(names)}")
    parser.add_argument(
        "--json",
        type=Path,
        default=None,
        help=f"the file to write the results to; by default {LATEST.name} after a full run",
    )
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
