"""Measuring: what a turn costs, and how that compares with another that was run right before or after it.

The speed of a machine changes by a factor of two within seconds, so two clients are never compared by their best or
mean times, but pair by pair: the ratio is the median over pairs of runs that alternate the two.
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
    """What one event of a run took.

    Attributes:
        cpu: Seconds of CPU, all threads of the process together, the kernel's share included.
        wall: Seconds on the clock.
    """

    cpu: float
    wall: float


Measured = Callable[[], Cost]


@attrs.frozen
class Comparison:
    """Two clients, run in pairs.

    Attributes:
        base: The one that is compared with, run by run.
        other: The one that is compared, run by run.
    """

    base: list[Cost] = attrs.field(factory=list)
    other: list[Cost] = attrs.field(factory=list)

    @property
    def ratio(self) -> float:
        """The CPU time of the other over that of the base: the median over the pairs."""
        return statistics.median(other.cpu / base.cpu for base, other in zip(self.base, self.other, strict=True))


def measured(events: int, run: Callable[[], object]) -> Cost:
    """Run something and say what it took for each of its events."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu / events, wall / events)


def alternate(pairs: Mapping[str, tuple[Measured, Measured]], rounds: int) -> dict[str, Comparison]:
    """Run pairs of clients round robin, each once unmeasured before; who goes first changes from round to round.

    Args:
        pairs: The base and the other, by the name of the comparison.
        rounds: How often each pair is run.
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
    """What stands for a long text where two are compared across processes."""
    return hashlib.sha256(text.encode()).hexdigest()
