"""Measure what a turn costs, and compare it with another turn that is run directly before or after it.

The speed of a shared machine changes by a factor of two within seconds. So two clients are not compared by their best
or mean times but pair by pair: the ratio is the median over pairs of runs that alternate the two.
"""

from __future__ import annotations

import gc
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping

import attrs

__all__ = ["Comparison", "Cost", "Measured", "alternate", "digest_of", "measured"]


@attrs.frozen
class Cost:
    """The cost of one event of a run.

    Attributes:
        cpu: Seconds of CPU of all threads of the process, in user mode and in the kernel.
        wall: Seconds of wall-clock time.
    """

    cpu: float
    wall: float


Measured = Callable[[], Cost]


@attrs.frozen
class Comparison:
    """Two clients, run in pairs.

    Attributes:
        base: The costs of the one that is the measure, run by run.
        other: The costs of the other one, run by run.
    """

    base: list[Cost] = attrs.field(factory=list)
    other: list[Cost] = attrs.field(factory=list)

    @property
    def ratio(self) -> float:
        """The CPU time of the other over that of the base, as the median of all pairs."""
        return statistics.median(other.cpu / base.cpu for base, other in zip(self.base, self.other, strict=True))


def measured(events: int, run: Callable[[], object]) -> Cost:
    """Run a function and return its cost per event."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu / events, wall / events)


def alternate(pairs: Mapping[str, tuple[Measured, Measured]], rounds: int) -> dict[str, Comparison]:
    """Run pairs of clients round robin, after one run of each to warm up; the order within a pair alternates.

    Args:
        pairs: Base and other, by the name of the comparison.
        rounds: The number of runs of each pair.
    """
    found = {name: Comparison() for name in pairs}
    for base, other in pairs.values():
        base()
        other()
    for turn in range(rounds):
        for name, (base, other) in pairs.items():
            first, second = (base, other) if turn % 2 else (other, base)
            one, two = first(), second()
            found[name].base.append(one if turn % 2 else two)
            found[name].other.append(two if turn % 2 else one)
    return found


def digest_of(text: str) -> str:
    """Return a digest, by which long texts are compared across processes."""
    return hashlib.sha256(text.encode()).hexdigest()
