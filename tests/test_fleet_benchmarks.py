"""The benchmarks of a fleet measure whole turns, and its sizes and simulation follow from their arithmetic."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs
import pytest

from benchmarks.fleet_context import Fleet
from benchmarks.fleet_costs import MODES
from benchmarks.fleet_death import deaths
from benchmarks.fleet_server import Plan, running_fleet_server
from benchmarks.fleet_sizing import Assumptions, Costs, Sizes, main
from benchmarks.fleet_takeover import Scenario, simulate
from benchmarks.fleet_takeover import main as takeovers
from benchmarks.fleet_worker import Job, Turns, Worker

from .command_line import ROOT

PAGE = (ROOT / "docs/fleet-sizing.md").read_text(encoding="utf-8")
PLANS = [
    Plan(),
    Plan(tool=False),
    Plan("snapshots", 10, 8000),
    Plan("deltas", 5, 100, 500),
    Plan("snapshots", 4, 400, 500),
]
ONE = Costs(**dict.fromkeys(attrs.fields_dict(Costs), 1.0))
SCENARIO = Scenario(workers=10, dead=2, turns=20, lease=6.0)


async def run(job: Job) -> Turns:
    """Run turns in this process; each checks its text and its tool call itself."""
    worker = Worker()
    try:
        found = await worker.run(job)
    finally:
        await worker.close()
    assert isinstance(found, Turns)
    return found


# -- the stand-in service ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", [True, False], ids=["floor", "client"])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
async def test_turns_are_whole(plan: Plan, *, floor: bool) -> None:
    """For the client and for the floor it is compared with, with no more requests than are necessary."""
    with running_fleet_server() as server:
        found = await run(Job(url=server.url, plan=plan.name, count=6, at_once=3, floor=floor))
        stats = server.take_stats()
    warm_up = 1
    assert found.turns == 6
    assert found.snapshots >= 6 * plan.events
    assert stats["turns"] == stats["streams"] == 6 + warm_up
    assert stats["results"] == 6 * plan.tool + warm_up
    assert stats["requests"] == stats["turns"] + stats["streams"] + stats["results"]
    assert stats["open"] == 0


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_the_calculator_prints() -> None:
    """Its tables, from the figures of the last full run."""
    assert main([]) in PAGE


def test_the_page_shows_what_the_simulation_prints() -> None:
    """Of the fleets that it names by their commands."""
    commands = re.findall(r"python -m benchmarks\.fleet_takeover(.*)$", PAGE, re.MULTILINE)
    assert commands
    for command in commands:
        assert takeovers(shlex.split(command)).splitlines()[-1] in PAGE


def test_twice_as_many_chats_need_twice_as_much() -> None:
    """Of everything but what is rounded up to whole processes."""
    one, two = (Sizes(chats, Assumptions(), ONE) for chats in (1000, 2000))
    for half, whole in zip(one.rows(), two.rows(), strict=True):
        if "**" not in half.name and half.name not in {"file descriptors of a worker", "connections to Redis"}:
            assert whole.value == pytest.approx(2 * half.value), half.name


def test_sizes_follow_from_the_assumptions() -> None:
    """An example that can be calculated by hand."""
    assumed = Assumptions(
        streaming=0.5, waiting=0, words=100, pace=10, events=2, tools=0, published=5, tls=0, load=0.25
    )
    costs = attrs.evolve(ONE, turn=100, event=0, publish=10)
    sizes = Sizes(100, assumed, costs)
    assert (sizes.open, sizes.turns, sizes.published) == (50, 5, 250)
    assert sizes.worker_cpu == pytest.approx((5 * 100 + 250 * 10) / 1000)
    assert sizes.workers == 12


def test_a_cost_of_ones_own_replaces_a_measured_one(tmp_path: Path) -> None:
    """With all of them given, no figures are needed."""
    figures = tmp_path / "figures.json"
    figures.write_text('{"sections": []}')
    given = [f"--cost-{name.replace('_', '-')}=1" for name in attrs.fields_dict(Costs)]
    table = main(["--chats", "1000", "--figures", str(figures), *given])
    assert "| replies being written | 200 | chats x 0.2 |" in table


# -- takeovers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("discovery", ["queue", "list"])
def test_all_orphaned_turns_are_taken_over_when_their_leases_have_run_out(discovery: str) -> None:
    """Not earlier, and soon after."""
    found = simulate(attrs.evolve(SCENARIO, discovery=discovery, lease=6.0))
    assert len(found.times) == found.turns == 40
    assert found.times[0] > 6.0 - 6.0 / 3
    assert found.after(1) < 6.0 + SCENARIO.poll + SCENARIO.search + 1


def test_those_who_wait_ask_more_often_with_a_longer_lease() -> None:
    """Where all turns are known at once; where jobs are found once they are abandoned, few wait for a lease."""
    short, long = (simulate(attrs.evolve(SCENARIO, discovery="list", lease=lease)) for lease in (6.0, 24.0))
    assert long.refused > 3 * short.refused
    assert simulate(attrs.evolve(SCENARIO, discovery="queue", lease=24.0)).refused < long.refused / 3


def test_more_turns_than_a_worker_follows_at_once_wait_for_others_to_end() -> None:
    """Until these have ended."""
    few, many = (simulate(attrs.evolve(SCENARIO, discovery="list", at_once=number, follow=30.0)) for number in (2, 100))
    assert few.after(1) > many.after(1) + 30


# -- with Redis --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet() -> Fleet:
    """A quick run of the benchmarks."""
    return Fleet(quick=True)


@pytest.mark.redis
def test_commands_of_redis_are_counted(fleet: Fleet) -> None:
    """One for each snapshot that is published, and eight for the claims of a turn with a tool call."""
    with fleet:
        job = fleet.job(plan=Plan().name, count=10, at_once=5, **MODES["both"].fields)
        fleet.warm(job)
        measured = fleet.run(job)
        kept = fleet.redis.kept()
    assert measured.turns == 10
    assert measured.redis.calls("xadd") == measured.published == measured.snapshots + 10
    assert measured.redis.calls("evalsha") == 80
    assert len(kept) == 10 * len(["message", "turn", "call", "snapshots"])


@pytest.mark.redis
@pytest.mark.timeout(120)
def test_turns_of_a_dead_worker_are_taken_over_as_simulated(fleet: Fleet) -> None:
    """After their leases have run out, with about as many commands."""
    with fleet:
        (section,) = deaths(fleet)
    assert section.figures["death 100 real"] > section.figures["death 100 left"]
    ratio = section.figures["death 100 commands real"] / section.figures["death 100 commands simulated"]
    assert 0.7 < ratio < 1.5
