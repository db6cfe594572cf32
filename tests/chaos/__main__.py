"""Prints the figures of a run of examples/fleet under random faults: ``python -m tests.chaos``, or ``make chaos``."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from .run import Options, run_chaos

_FAULTS_SHOWN = 40


def main() -> int:
    """Run turns under faults and print the figures; return 1 if anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=48, help="how many turns at once")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file that the figures are written to")
    given = parser.parse_args()
    options = Options(turns=given.turns, at_once=given.at_once, workers=given.workers, seed=given.seed, report=True)
    verdict = asyncio.run(run_chaos(options))
    for name, figure in verdict.figures.items():
        shown = ", ".join(f"{count} {what}" for what, count in figure.items()) if isinstance(figure, dict) else figure
        print(f"{name}: {shown if shown != '' else 'none'}")
    for fault in verdict.faults[:_FAULTS_SHOWN]:
        print(fault)
    if given.json:
        given.json.write_text(json.dumps(verdict.figures, indent=2) + "\n")
    return int(bool(verdict.faults))


if __name__ == "__main__":
    raise SystemExit(main())
