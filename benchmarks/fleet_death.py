"""Check the simulation of takeovers against real processes at a small scale."""

from __future__ import annotations

import time
from contextlib import ExitStack

from .fleet_context import Fleet, running_worker
from .fleet_memory import HELD
from .fleet_takeover import Scenario, simulate
from .report import Cell, Section

__all__ = ["deaths"]

SURVIVORS = 2
LEASE = 3.0
PREFIX = "bench:"


def deaths(fleet: Fleet) -> list[Section]:
    """Kill a worker with open turns, and let two others, which know all of them at once, take them over."""
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, float] = {}
    for turns in (100,) if fleet.quick else (100, 400):
        found, left = _death(fleet, turns)
        scenario = Scenario(
            workers=SURVIVORS + 1,
            dead=1,
            turns=turns,
            discovery="list",
            lease=LEASE,
            poll=min(0.5, LEASE / 4),
            at_once=turns,
            load=0.0,
            fixed=left,
        )
        expected = simulate(scenario)
        times, claims, cpu = found
        simulated = [expected.after(share) for share in (0.5, 0.99, 1)]
        real = [times[min(turns, round(share * turns)) - 1] for share in (0.5, 0.99, 1)]
        rows.append((turns, "real", left, *real, claims, f"{cpu:.2f}"))
        commands = sum(expected.claims) + turns  # each turn is released in the end
        rows.append((turns, "simulated", left, *simulated, commands, ""))
        figures |= {f"death {turns} real": real[2], f"death {turns} simulated": simulated[2]}
        figures |= {f"death {turns} commands real": claims, f"death {turns} commands simulated": commands}
        figures[f"death {turns} left"] = left
    note = (
        f"One of three workers is killed with its open turns, whose leases of {LEASE:g} seconds last for the time in "
        "`left`; the other two are given all of them at once. Times are seconds from the kill until half, 99 % and "
        "all turns are taken over; `commands` counts the commands of all claims in Redis."
    )
    columns = ("turns", "", "left", "50 %", "99 %", "all", "commands", "CPU s of the survivors")
    return [Section("A worker dies", columns, rows, note, figures)]


def _death(fleet: Fleet, turns: int) -> tuple[tuple[list[float], int, float], float]:
    """Return the times of all takeovers, the commands that Redis got and the CPU, and the time that the leases had."""
    held = fleet.job(kind="held", plan=HELD.name, count=turns, hold=60, lease=LEASE, claims=True)
    with ExitStack() as stack:
        victim, *others = [stack.enter_context(running_worker()) for _ in range(SURVIVORS + 1)]
        victim.begin(held)
        chats = victim.wait_until_open()
        time.sleep(LEASE / 2)  # so that all leases have been renewed, at one moment
        died, left = victim.kill(), fleet.redis.remaining_lease(f"{PREFIX}*:turn:*")
        before = fleet.redis.usage()
        for number, worker in enumerate(others):
            mine = chats[number::SURVIVORS]
            worker.begin(fleet.job(kind="take_over", plan=HELD.name, lease=LEASE, claims=True, chats=mine))
        taken = [worker.wait_for_takeovers() for worker in others]
        redis = fleet.redis.usage().since(before)
    fleet.redis.empty()
    times = sorted(at - died for each in taken for at in each.times)
    return (times, redis.calls("evalsha"), sum(each.cpu for each in taken)), left
