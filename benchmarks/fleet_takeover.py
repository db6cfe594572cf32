"""Simulate the death of some workers of a fleet: ``python -m benchmarks.fleet_takeover [--workers 100] ...``.

Prints how many claims per second Redis receives, and how long it takes until all turns are taken over. The simulated
workers behave like those of examples/fleet: a worker renews all its leases together, three times per lease; a worker
that waits for a lease polls at fixed intervals; workers and Redis do one thing at a time. ``benchmarks.fleet`` checks
the simulation against real processes at a small scale.
"""

from __future__ import annotations

import argparse
import collections
import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

__all__ = ["Scenario", "Takeovers", "simulate"]


def _option(default: Any, text: str) -> Any:
    return attrs.field(default=default, metadata={"help": text})


@attrs.frozen
class Scenario:
    """A fleet of which some workers die; each attribute is a command-line option."""

    workers: int = _option(100, "workers")
    dead: int = _option(10, "workers that die at the same moment")
    turns: int = _option(100, "open turns of each worker")
    discovery: str = _option(
        "queue", "how others discover the turns: by searching the 'queue', or from a complete 'list'"
    )
    lease: float = _option(30.0, "seconds of a lease")
    poll: float = _option(0.5, "seconds between two claims while waiting for a lease")
    at_once: int = _option(100, "maximum concurrent turns of a worker")
    search: float = _option(1.0, "seconds between two searches for abandoned jobs, while there are none")
    claim: float = _option(0.0006, "seconds of worker CPU per claim or search")
    attach: float = _option(0.004, "seconds of worker CPU per takeover")
    redis: float = _option(0.00003, "seconds of Redis CPU per claim or search")
    load: float = _option(0.5, "share of the cores of workers and Redis that other work uses")
    follow: float = _option(10.0, "seconds for which a turn continues after its takeover")
    fixed: float = _option(-1.0, "remaining seconds of the leases of dead workers; random if negative")


@attrs.frozen
class Takeovers:
    """The result of a simulation.

    Attributes:
        turns: The number of orphaned turns.
        times: Seconds from the death to the takeover of each turn, ascending.
        claims: The number of claims in each second.
        searches: The number of searches for abandoned jobs in each second.
        refused: The number of claims on turns whose lease had not expired.
        redis: The largest share of a second for which Redis was busy with them.
    """

    turns: int
    times: Sequence[float]
    claims: Sequence[int]
    searches: Sequence[int]
    refused: int
    redis: float

    def after(self, share: float) -> float:
        """Return the seconds until a share of the turns was taken over."""
        return self.times[min(len(self.times), max(1, math.ceil(share * len(self.times)))) - 1]


@attrs.define
class _Server:
    """A worker or Redis, which does one thing after another.

    Attributes:
        free: The time at which it becomes free.
        speed: The share of its core that is available.
    """

    speed: float
    free: float = 0.0

    def work(self, now: float, seconds: float) -> float:
        """Return the time at which work that arrives now will be done."""
        self.free = max(self.free, now) + seconds / self.speed
        return self.free


@attrs.define
class _Turn:
    """An orphaned turn.

    Attributes:
        until: The time at which its lease expires.
        idle: The time from which its job counts as abandoned.
    """

    until: float
    idle: float


class _Simulation:
    """One run.

    Args:
        scenario: The fleet.
        seed: The seed of random phases.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._redis = _Server(1 - scenario.load)
        self._claims: collections.Counter[int] = collections.Counter()
        self._searches: collections.Counter[int] = collections.Counter()
        self._refused = 0
        self._times: list[float] = []
        turns: list[_Turn] = []
        for _ in range(scenario.dead):
            # A worker renews all its leases together, and its jobs at another time.
            until = (
                scenario.lease - self._random.uniform(0, scenario.lease / 3) if scenario.fixed < 0 else scenario.fixed
            )
            idle = scenario.lease - self._random.uniform(0, scenario.lease / 3)
            turns += [_Turn(until, idle) for _ in range(scenario.turns)]
        self.orphans = len(turns)
        self._waiting = collections.deque(sorted(turns, key=lambda turn: turn.idle))

    def run(self) -> Takeovers:
        """Run until all turns are taken over."""
        scenario = self._scenario
        survivors = scenario.workers - scenario.dead
        for number in range(survivors):
            worker = _Server(1 - scenario.load)
            if scenario.discovery == "queue":
                # The worker's own turns end at random times, after each of which it can take another one.
                has = min(scenario.turns, scenario.at_once)
                free = [scenario.at_once - has]
                for _ in range(has):
                    self._at(self._random.uniform(0, scenario.follow), self._ends(free))
                self._at(self._random.uniform(0, scenario.search), self._searching(worker, free))
            else:
                assigned = collections.deque(itertools.islice(self._waiting, number, None, survivors))
                for _ in range(min(scenario.at_once, len(assigned))):
                    self._at(0.0, self._taking_listed(worker, assigned))
        while self._events and len(self._times) < self.orphans:
            now, _, act = heapq.heappop(self._events)
            act(now)
        return self._found()

    def _found(self) -> Takeovers:
        last = max([*self._claims, *self._searches, 0]) + 1
        claims, searches = ([counter[second] for second in range(last)] for counter in (self._claims, self._searches))
        busy = max((a + b) * self._scenario.redis for a, b in zip(claims, searches, strict=True))
        return Takeovers(self.orphans, sorted(self._times), claims, searches, self._refused, busy)

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), act))

    def _ask(
        self, worker: _Server, now: float, counter: collections.Counter[int], then: Callable[[float], None]
    ) -> None:
        """Send a command to Redis, and continue when it responds."""

        def arrive(sent: float) -> None:
            counter[int(sent)] += 1
            self._at(self._redis.work(sent, self._scenario.redis), then)

        self._at(worker.work(now, self._scenario.claim), arrive)

    def _claiming(self, worker: _Server, turn: _Turn, ended: Callable[[float], None]) -> Callable[[float], None]:
        """Return a function that claims a turn until its lease has expired, and then follows it to its end."""

        refused = False

        def claim(now: float) -> None:
            self._ask(worker, now, self._claims, answered)

        def answered(now: float) -> None:
            nonlocal refused
            if now < turn.until:
                self._refused += 1
                self._at(now + self._scenario.poll * refused, claim)  # it waits from the second attempt on
                refused = True
            elif refused:  # it may have ended: release it, read it and claim it again
                self._ask(worker, now, self._claims, lambda then: self._ask(worker, then, self._claims, attach))
            else:
                attach(now)

        def attach(now: float) -> None:
            attached = worker.work(now, self._scenario.attach)
            self._times.append(attached)
            self._at(attached + self._scenario.follow, ended)

        return claim

    def _taking_listed(self, worker: _Server, assigned: collections.deque[_Turn]) -> Callable[[float], None]:
        """Return a function that takes over the next of the turns that are assigned to a worker."""

        def take_next(now: float) -> None:
            if assigned:
                self._claiming(worker, assigned.popleft(), take_next)(now)

        return take_next

    def _ends(self, free: list[int]) -> Callable[[float], None]:
        """Return a function to call when a turn of a worker has ended, so that it can take another one."""

        def ended(_now: float) -> None:
            free[0] += 1

        return ended

    def _searching(self, worker: _Server, free: list[int]) -> Callable[[float], None]:
        """Return a function that searches for abandoned jobs, one at a time, without a pause while there are any."""

        def search(now: float) -> None:
            if free[0]:
                self._ask(worker, now, self._searches, answered)
            else:
                self._at(now + self._scenario.poll, search)

        def answered(now: float) -> None:
            if self._waiting and self._waiting[0].idle <= now:
                free[0] -= 1
                self._claiming(worker, self._waiting.popleft(), self._ends(free))(now)
                search(now)
            else:
                self._at(now + self._scenario.search, search)

        return search


def simulate(scenario: Scenario, seed: int = 1) -> Takeovers:
    """Simulate the takeovers after some workers have died.

    Args:
        scenario: The fleet.
        seed: The seed of random phases.
    """
    return _Simulation(scenario, seed).run()


def main(arguments: Sequence[str] | None = None) -> str:
    """Simulate the scenario of the command line, and return a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_takeover", description=__doc__)
    for field in attrs.fields(Scenario):
        flag, help_ = f"--{field.name.replace('_', '-')}", f"{field.metadata['help']} (%(default)s)"
        parser.add_argument(flag, type=type(field.default), default=field.default, metavar="N", help=help_)
    return render_table([Scenario(**vars(parser.parse_args(arguments)))])


def render_table(scenarios: Sequence[Scenario]) -> str:
    """Return the results of some scenarios as a Markdown table."""
    head = [
        "workers",
        "die",
        "orphaned turns",
        "discovery",
        "50 %",
        "99 %",
        "all",
        "claims/s",
        "searches/s",
        "refused",
        "Redis busy",
    ]
    lines = [head, ["---:", "---:", "---:", "---", *["---:"] * 7]]
    for scenario in scenarios:
        found = simulate(scenario)
        times = [f"{found.after(share):.1f} s" for share in (0.5, 0.99, 1)]
        numbers = [f"{number:,}" for number in (max(found.claims), max(found.searches), found.refused)]
        lines.append(
            [
                f"{scenario.workers:,}",
                f"{scenario.dead:,}",
                f"{found.turns:,}",
                scenario.discovery,
                *times,
                *numbers,
                f"{found.redis:.0%}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(main())
