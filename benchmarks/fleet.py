"""Measure what a fleet of workers costs: ``python -m benchmarks.fleet [--quick] [--only NAME,NAME]``.

The workers, the simulated service and Redis are separate processes on this machine. Costs are CPU time, which other
programs on the machine affect little. Turns per second are wall-clock time, and mean little on a busy machine.
``python -m benchmarks.fleet_sizing`` calculates the sizes of fleets from the figures.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from .fleet_context import Fleet
from .fleet_costs import costs
from .fleet_death import deaths
from .fleet_front import fronts
from .fleet_memory import memory
from .fleet_throughput import throughput
from .fleet_whole import whole
from .report import Section, environment, render, save

__all__ = ["RESULTS"]

QUICK = ["throughput", "costs", "memory"]
RESULTS = Path(__file__).parent / "results" / "fleet.json"
GROUPS: dict[str, Callable[[Fleet], list[Section]]] = {
    "throughput": throughput,
    "costs": costs,
    "memory": memory,
    "front": fronts,
    "death": deaths,
    "whole": whole,
}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures, in less than a minute")
    parser.add_argument("--only", metavar="NAMES", help=f"a comma-separated choice of {','.join(GROUPS)}")
    parser.add_argument(
        "--json",
        type=Path,
        default=None,
        help=f"the file to write the results to; by default {RESULTS.name} after a full run",
    )
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else QUICK if options.quick else list(GROUPS)
    if unknown := set(chosen) - set(GROUPS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    began, load, sections = time.monotonic(), os.getloadavg()[0], []
    with Fleet(quick=options.quick) as fleet:
        for benchmark in [benchmark for name, benchmark in GROUPS.items() if name in chosen]:
            started = time.monotonic()
            for section in benchmark(fleet):
                print(render(section), flush=True)
                sections.append(section)
                fleet.figures |= section.figures
            print(f"({time.monotonic() - started:.0f} seconds)\n", flush=True)
        about = environment({"redis-server": fleet.redis.version}, load)
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    whole = not options.quick and set(chosen) == set(GROUPS)
    if path := options.json or (RESULTS if whole else None):
        save(path, about, sections)
        print(f"written to {path}")
    print(f"{time.monotonic() - began:.0f} seconds")


if __name__ == "__main__":
    main()
