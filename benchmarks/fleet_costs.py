"""CPU time of a worker and of Redis, per turn, tool call and 1,000 snapshots, with and without Redis in one run."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from typing import Any

import attrs

from .fleet_context import Fleet, Measured
from .fleet_server import Plan
from .report import Cell, Section

__all__ = ["costs"]

AT_ONCE = 50  # concurrent turns, which send events at a constant rate
RATE = 40.0  # events per second and turn
SHORT_TURNS, SHORT_AT_ONCE = 100, 20  # turns and concurrent turns, for plans with only two events
SPREAD = 0.5  # seconds over which the starts of the turns are distributed
MAX_RATE = 4  # published snapshots per second and turn, if limited

# The cost of 40 events, or of a tool call, is the difference between two plans.
PLANS = {
    "turn": Plan("deltas", 2, 50, RATE, tool=False),
    "tool": Plan("deltas", 2, 50, RATE, tool=True),
    "deltas": Plan("deltas", 42, 1050, RATE, tool=False),
    "whole": Plan("snapshots", 42, 8000, RATE, tool=False),
}


@attrs.frozen
class Mode:
    """A way for a worker to run turns.

    Attributes:
        title: A description for the table.
        fields: The fields of the job.
        tls: Whether the service is reached over TLS.
        plans: The plans to run.
    """

    title: str
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    tls: bool = False
    plans: tuple[str, ...] = ("turn", "tool", "deltas", "whole")


MODES = {
    "follow": Mode("follow"),
    "claims": Mode("follow, claims in Redis", {"claims": True}),
    "publish": Mode("follow, XADD of each snapshot", {"publish": True}),
    "both": Mode("follow, XADD, claims", {"publish": True, "claims": True}),
    "conflate": Mode(
        f"follow with conflate, XADD at most {MAX_RATE} a second",
        {"publish": True, "conflate": True, "interval": 1 / MAX_RATE},
        plans=("turn", "deltas", "whole"),
    ),
    "tls": Mode("follow over TLS", tls=True, plans=("turn", "deltas", "whole")),
}


QUICK = ("follow", "claims", "publish")
ROUNDS = {"turn": 6, "tool": 6, "deltas": 4, "whole": 4}  # more for short plans, whose differences are smaller


@attrs.frozen
class Cost:
    """The cost of a turn.

    Attributes:
        cpu: CPU time of the worker in seconds.
        redis: CPU time of Redis in seconds.
        commands: The number of commands sent to Redis.
        kept: Bytes that Redis keeps.
        published: The number of published snapshots.
        sent: Bytes sent to Redis.
    """

    cpu: float
    redis: float
    commands: float
    kept: float
    published: float
    sent: float

    @classmethod
    def of(cls, run: Measured, kept: int) -> Cost:
        """Return the average cost of the turns of a job."""
        calls, turns = run.redis.calls("evalsha", "xadd", "expire"), run.turns  # not those within scripts
        return cls(
            run.cpu / turns,
            run.redis.cpu / turns,
            calls / turns,
            kept / turns,
            run.published / turns,
            run.redis.received / turns,
        )

    def less(self, other: Cost) -> Cost:
        """Return the difference from the cost of another turn."""
        mine, its = attrs.astuple(self), attrs.astuple(other)
        return Cost(*(a - b for a, b in zip(mine, its, strict=True)))


def costs(fleet: Fleet) -> list[Section]:
    """Run all modes with all plans in rounds, so that modes that are compared run at about the same time."""
    tls = fleet.tls_server()
    found: dict[tuple[str, str], list[Cost]] = {}
    commands: dict[str, dict[str, int]] = {}
    modes = {name: MODES[name] for name in (QUICK if fleet.quick else MODES)}
    for turn, (plan, rounds) in itertools.product(range(max(ROUNDS.values())), ROUNDS.items()):
        for name, mode in modes.items() if turn < fleet.rounds(rounds) else ():
            if plan in mode.plans:
                cost, calls = _run(fleet, mode, plan, tls)
                found.setdefault((name, plan), []).append(cost)
                commands[f"{name} {plan}"] = calls
    return [_workers(found), _redis(found, commands)]


def _run(fleet: Fleet, mode: Mode, plan: str, tls: Mapping[str, str]) -> tuple[Cost, dict[str, int]]:
    short = plan in {"turn", "tool"}
    count, at_once = (SHORT_TURNS, SHORT_AT_ONCE) if short else (AT_ONCE, AT_ONCE)
    service = tls if mode.tls else {}
    fields = {
        "plan": PLANS[plan].name,
        "count": count,
        "at_once": at_once,
        "spread": SPREAD,
    }
    fields |= {**mode.fields, **service}
    # Costs that occur once, such as for connections to Redis, are not counted.
    fleet.warm(fleet.job(**fields))
    run = fleet.run(fleet.job(**fields))
    kept = sum(fleet.redis.kept().values())
    fleet.redis.empty()
    return Cost.of(run, kept), run.redis.commands


def _median(found: dict[tuple[str, str], list[Cost]], mode: str, plan: str, base: str = "") -> Cost | None:
    """Return the median over all rounds of the cost of a plan's turn, or of its difference from the base plan."""
    if (mode, plan) not in found:
        return None
    rounds = found[mode, plan]
    if base:
        rounds = [cost.less(other) for cost, other in zip(rounds, found[mode, base], strict=False)]
    return Cost(*(statistics.median(values) for values in zip(*map(attrs.astuple, rounds), strict=True)))


EVENTS = PLANS["deltas"].events - PLANS["turn"].events


def _added(found: Mapping[tuple[str, str], list[Cost]], part: str) -> float:
    """Return the milliseconds that claims add to a turn: the median of the differences within each round."""
    pairs = zip(found["claims", part], found["follow", part], strict=True)
    return statistics.median(claimed.cpu - plain.cpu for claimed, plain in pairs) * 1e3


def _workers(found: dict[tuple[str, str], list[Cost]]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, float] = {}
    for name, mode in MODES.items():
        parts = {
            "turn": (_median(found, name, "turn"), 1e3),
            "tool": (_median(found, name, "tool", "turn"), 1e3),
            "deltas": (_median(found, name, "deltas", "turn"), 1e3 / EVENTS),
            "whole": (_median(found, name, "whole", "turn"), 1e3 / EVENTS),
        }
        cells: list[Cell] = []
        for part, (cost, factor) in parts.items():
            cells.append("" if cost is None else f"{cost.cpu * factor:.2f}")
            if cost is not None:
                figures[f"worker {name} {part}"] = cost.cpu * factor
        if any(cells):
            rows.append((mode.title, *cells))
    claims = {part: _added(found, part) for part in ("turn", "tool")}
    figures |= {f"claims add to a {part}": value for part, value in claims.items()}
    note = (
        f"{AT_ONCE} turns at once, each with {RATE:g} events a second, which arrive one by one, so that nearly each "
        f"wakes the event loop; of the short turns {SHORT_AT_ONCE} at once. CPU of the worker process in user mode and "
        "in the kernel, the medians of four to six rounds. "
        f"A turn has two deltas; the tool call, {EVENTS} deltas of 25 characters, and {EVENTS} whole messages of 4 KB "
        "on average are differences to it. With `conflate` a publisher sleeps after each snapshot; the costs are "
        f"still per 1,000 snapshots that the service sent. Claims in Redis add {claims['turn']:.2f} ms to a turn and "
        f"{claims['tool']:.2f} ms to one with a tool call, by the differences within each round."
    )
    columns = (
        "a worker that does",
        "ms/turn",
        "ms/tool call",
        "s/1,000 deltas",
        "s/1,000 whole messages",
    )
    return Section("CPU of a worker", columns, rows, note, figures)


def _redis(found: dict[tuple[str, str], list[Cost]], commands: Mapping[str, Mapping[str, int]]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, float] = {}
    for name, mode in MODES.items():
        for part, base in (("turn", ""), ("tool", "turn"), ("deltas", "turn"), ("whole", "turn")):
            cost = _median(found, name, part, base)
            if cost is None or not mode.fields:
                continue
            values = {
                "commands": cost.commands,
                "ms": cost.redis * 1e3,
                "kept": cost.kept / 1024,
                "sent": cost.sent / 1024,
            }
            title = {"turn": "a turn of two deltas", "tool": "a tool call"}.get(part, f"{EVENTS} {part}")
            rows.append((mode.title, title, *(f"{value:.2f}" for value in values.values())))
            figures |= {f"redis {name} {part} {key}": value for key, value in values.items()}
    lists = "; ".join(
        f"{MODES[name].title}, {part}: " + ", ".join(f"{call} {count}" for call, count in calls.items())
        for key, calls in commands.items()
        for name, part in [key.split(" ")]
        if part == "tool" and calls
    )
    note = (
        "Of the same runs. `KB kept` is MEMORY USAGE of all keys after the turns. All commands of "
        f"{SHORT_TURNS} turns with a tool call, those within scripts included: {lists}."
    )
    columns = ("a worker that does", "part", "commands", "CPU ms", "KB kept", "KB received")
    return Section("Redis", columns, rows, note, figures)
