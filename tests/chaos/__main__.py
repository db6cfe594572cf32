"""Prints the figures of a run of examples/fleet under random faults: ``python -m tests.chaos``, or ``make chaos``.

With ``--deploy`` nothing is killed: all workers and fronts are terminated and replaced, one after another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import attrs

from .run import DEPLOY, Options, run_chaos, run_deploy

_VIOLATIONS_SHOWN = 40


def main() -> int:
    """Run turns under faults and print the figures; return 1 if anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=48, help="concurrent turns")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1, help="random seed of the faults")
    parser.add_argument("--json", type=Path, help="a file to which the figures are written")
    parser.add_argument("--logs", type=Path, help="a new directory for the logs of all processes")
    parser.add_argument("--deploy", action="store_true", help="replace all processes while 100 turns are in flight")
    given = parser.parse_args()
    options = Options(turns=given.turns, at_once=given.at_once, workers=given.workers, seed=given.seed)
    options, run = (DEPLOY, run_deploy) if given.deploy else (options, run_chaos)
    report = asyncio.run(run(attrs.evolve(options, report=True, logs=given.logs)))
    for name, figure in report.figures.items():
        print(f"{name}: {_shown(figure)}")
    for violation in report.violations[:_VIOLATIONS_SHOWN]:
        print(violation)
    if given.json:
        given.json.write_text(json.dumps(report.figures, indent=2) + "\n")
    return int(bool(report.violations))


def _shown(figure: object) -> object:
    """Return a figure as text or number for printing."""
    if isinstance(figure, dict):
        return ", ".join(f"{name} {count}" for name, count in figure.items()) or "none"
    return figure


if __name__ == "__main__":
    raise SystemExit(main())
