"""Runs turns on a fleet under faults, and checks them."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import attrs

from inferencesh import AsyncInference
from tests.support import eventually

from .browsers import Browser
from .checks import Observations, Report, check, read_chats, read_lines, read_streams
from .faults import Faults, Rates
from .plan import Plan
from .processes import Fleet
from .proxy import FaultyProxy

__all__ = ["DEPLOY", "Options", "Run", "run_chaos", "run_deploy"]

_TENANTS = 4
_STARTS_WITHIN = 40.0  # seconds
_PREFIX = "chaos:"


@attrs.frozen
class Options:
    """The options of a run.

    Attributes:
        turns: The number of turns.
        at_once: The number of concurrent turns.
        fronts: The number of fronts.
        workers: The number of workers.
        seed: The random seed of plans, lost connections and faults.
        rates: The frequency of each kind of fault.
        drops: The probability that a connection of a browser is lost.
        pace: Seconds between the pieces of a reply.
        longest: The maximum duration of a handler in seconds.
        lease: Seconds without a renewal after which the turns of a worker are taken over.
        drain: Seconds that running turns have to finish when a worker shuts down.
        interval: Minimum seconds between two snapshots of a turn.
        tenant_limit: The maximum number of turns in flight for each of the four tenants.
        patience: Seconds after which an accepted turn without a final event counts as lost.
        report: Whether to print the progress.
        logs: A new directory to which the logs of all processes are copied, or None.
    """

    turns: int = 2000
    at_once: int = 48
    fronts: int = 2
    workers: int = 4
    seed: int = 1
    rates: Rates = attrs.field(factory=Rates)
    drops: float = 0.5
    pace: float = 0.02
    longest: float = 0.5
    lease: float = 3.0
    drain: float = 10.0
    interval: float = 0.05
    tenant_limit: int = 12
    patience: float = 120.0
    report: bool = False
    logs: Path | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables of fronts and workers."""
        return {
            "FLEET_PREFIX": _PREFIX,
            "FLEET_LEASE": str(self.lease),
            "FLEET_DRAIN": str(self.drain),
            "FLEET_ATTEMPTS": "1000",
            "FLEET_INTERVAL": str(self.interval),
            "FLEET_TENANT_LIMIT": str(self.tenant_limit),
            "FLEET_QUEUE_LIMIT": str(self.at_once),
        }


DEPLOY = Options(
    at_once=100, workers=3, pace=0.1, longest=1.0, interval=0.25, drops=0.0, lease=60.0, drain=30.0, tenant_limit=100
)
"""The options of a deploy: turns of some seconds each, and enough time for them to finish."""


@attrs.define
class Run:
    """The turns of a run.

    Attributes:
        options: The options of the run.
        fleet: The fleet.
        browsers: The browsers of all turns, in the order of their start.
    """

    options: Options
    fleet: Fleet
    browsers: list[Browser] = attrs.field(factory=list)
    ended: int = 0

    async def converse(
        self, session: aiohttp.ClientSession, rng: random.Random, more_wanted: Callable[[], bool]
    ) -> None:
        """Have conversations of a few turns each, one after the other."""
        while more_wanted():
            tenant, chat_id = f"tenant-{rng.randrange(_TENANTS)}", None
            for _ in range(rng.randint(1, 5)):
                if not more_wanted():
                    return
                plan = Plan.generate(f"{self.options.seed}-{len(self.browsers)}", rng)
                browser = Browser(plan, chat_id, tenant)
                self.browsers.append(browser)
                await self._follow(browser, session, rng)
                if browser.last is None or browser.last.name != "done":
                    break
                chat_id = browser.last.data["chat_id"]

    async def _follow(self, browser: Browser, session: aiohttp.ClientSession, rng: random.Random) -> None:
        began = time.monotonic()
        try:
            await browser.send(session, self.fleet.addresses, rng)
            began = time.monotonic()
            async with asyncio.timeout(self.options.patience):
                await browser.follow(session, self.fleet.addresses, rng, self.options.drops)
        except (TimeoutError, AssertionError) as error:
            browser.error = str(error)
        browser.seconds = time.monotonic() - began
        self.ended += 1

    @property
    def under_way(self) -> int:
        """The number of turns that have started and not ended, as far as the browsers know."""
        return sum(bool(browser.events) and browser.last is None for browser in self.browsers)

    async def check(self) -> Report:
        """Check all turns after their end."""
        url, key = self.fleet.runtime_url, self.fleet.api_key
        async with AsyncInference(key, base_url=url, trust_env=False) as client:
            chats = await read_chats(client)
        turn_ids = [browser.plan.turn_id for browser in self.browsers]
        streams = await read_streams(self.fleet.redis.url, _PREFIX, turn_ids)
        handlers, accepted = read_lines(self.fleet.handlers), read_lines(self.fleet.accepted)
        return check(Observations(self.browsers, chats, streams, handlers, accepted))


async def run_chaos(options: Options) -> Report:
    """Run turns under faults, and check them.

    Args:
        options: The options of the run.

    Returns:
        The violations and the figures.
    """
    with new_fleet(options) as fleet:
        async with (
            FaultyProxy(urlsplit(fleet.runtime_url).port or 0) as runtime,
            FaultyProxy(fleet.redis.port) as redis,
        ):
            run = Run(options, fleet)
            faults = Faults(fleet, runtime, redis, options.rates, options.seed)
            fleet.start(f"http://127.0.0.1:{runtime.port}", f"redis://127.0.0.1:{redis.port}/0")
            await fleet_is_up(fleet)
            began = time.monotonic()
            async with faults.running():
                await run_turns(run, lambda: len(run.browsers) < options.turns)
            seconds = time.monotonic() - began
            await asyncio.to_thread(fleet.kill_all)  # before the proxies close, so that no connection outlives them
        report = await run.check()
    report.figures |= {**faults.counts, "seconds": round(seconds, 1), "seed": options.seed}
    return report


async def run_deploy(options: Options) -> Report:
    """Run turns while first all workers and then all fronts are replaced, one after another, and check them.

    Args:
        options: The options of the run. Turns are started until all processes are replaced, regardless of ``turns``.

    Returns:
        The violations and the figures.
    """
    with new_fleet(options) as fleet:
        run = Run(options, fleet)
        fleet.start(fleet.runtime_url, fleet.redis.url)
        await fleet_is_up(fleet)
        deploying = asyncio.create_task(_deploy(run))
        await run_turns(run, lambda: not deploying.done())
        in_flight = await deploying
        report = await run.check()
    report.figures["turns in flight"] = in_flight
    return report


async def _deploy(run: Run) -> list[int]:
    """Replace all processes; return the number of turns in flight at the termination of each."""
    fleet, in_flight = run.fleet, []
    await eventually(lambda: run.under_way > run.options.at_once * 0.8, "most turns under way", _STARTS_WITHIN)
    for number, worker in list(fleet.workers.items()):
        in_flight.append(run.under_way)
        fleet.start_worker(number)
        worker.terminate()
        await asyncio.to_thread(worker.wait)
    for number, front in list(fleet.fronts.items()):
        in_flight.append(run.under_way)
        front.terminate()
        await asyncio.to_thread(front.wait)
        fleet.start_front(number)
        await fleet_is_up(fleet)
    return in_flight


def new_fleet(options: Options) -> Fleet:
    """Create the fleet of a run."""
    return Fleet(
        fronts=options.fronts,
        workers=options.workers,
        pace=options.pace,
        longest=options.longest,
        settings=options.settings,
        logs=options.logs,
    )


async def run_turns(run: Run, more_wanted: Callable[[], bool]) -> None:
    """Hold concurrent conversations until no more are wanted and all turns have ended."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        reporter = group.create_task(_report(run)) if run.options.report else None
        rngs = [random.Random(f"{run.options.seed}/browser/{n}") for n in range(run.options.at_once)]
        await asyncio.gather(*(run.converse(session, rng, more_wanted) for rng in rngs))
        if reporter is not None:
            reporter.cancel()


async def fleet_is_up(fleet: Fleet) -> None:
    """Wait until all fronts answer."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(_STARTS_WITHIN):
        for number, address in enumerate(fleet.addresses):
            while not await _answers(session, address):
                assert not fleet.fronts[number].ended, fleet.log(f"front-{number}")
                await asyncio.sleep(0.05)


async def _answers(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.get(address):
            return True
    except aiohttp.ClientError:
        return False


async def _report(run: Run) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(10)
        print(f"{time.monotonic() - began:.0f} s: {run.ended} of {run.options.turns} turns", file=sys.stderr)
