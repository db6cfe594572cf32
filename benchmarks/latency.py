"""Costs that are paid once: the first snapshot, a plain request, the import."""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from .context import Context
from .pairs import Comparison, Cost, alternate, measured
from .payloads import WORKLOADS
from .peers import OFFICIAL, PEERS, python_of
from .report import Section

__all__ = ["first_snapshot", "imports", "one_request"]

REPEATS = 40  # requests or turns in a measured run


def first_snapshot(context: Context) -> Section:
    """Measure the time from ``send_message`` to the first snapshot."""
    workload, clients = WORKLOADS["short"], context.clients

    def repeated(turn: Callable[[], object]) -> Callable[[], Cost]:
        return lambda: measured(REPEATS, lambda: [turn() for _ in range(REPEATS)])

    floor = repeated(lambda: clients.turns["floor"](workload))
    pairs = {name: (floor, repeated(functools.partial(turn, workload))) for name, turn in clients.firsts.items()}
    found = alternate(pairs, context.rounds(7))
    context.server.take_stats()
    note = (
        "A reply of one token: the message is posted, the stream opened, the snapshot read and the stream left. The "
        "floor makes the same two requests with aiohttp. A new client also opens its connections, which over a network "
        "takes one to three round trips more."
    )
    return Section("Time to the first snapshot", *_table(found, floor="floor"), note=note)


def one_request(context: Context) -> Section:
    """Measure ``get_chat`` on kept-alive connections."""
    clients, server = context.clients, context.server

    def ours(client: str) -> Callable[[], Cost]:
        request = clients.requests[client]
        return lambda: measured(REPEATS, lambda: request(REPEATS))

    def official(client: str) -> Callable[[], Cost]:
        peer = context.peer(OFFICIAL)

        def run() -> Cost:
            seen = [peer.order(client, f"{server.url}/short") for _ in range(REPEATS)]
            return Cost(sum(one["cpu"] for one in seen) / REPEATS, sum(one["wall"] for one in seen) / REPEATS)

        return run

    floor = ours("floor")
    pairs = {
        "async": (floor, ours("async")),
        "sync": (floor, ours("sync")),
        "official async": (floor, official("official request async")),
        "official sync": (floor, official("official request")),
    }
    found = alternate(pairs, context.rounds(7))
    context.server.take_stats()
    note = (
        "The official SDK opens a connection for each request. The blocking client passes each call to its loop thread."
    )
    return Section("One request", *_table(found, floor="floor"), note=note)


def imports(context: Context) -> Section:
    """Measure imports in a fresh interpreter, over one that imports nothing."""
    cases = {
        "import inferencesh": (sys.executable, "import inferencesh"),
        "from inferencesh import Inference": (sys.executable, "from inferencesh import Inference"),
        "from inferencesh import AsyncInference": (sys.executable, "from inferencesh import AsyncInference"),
        "import aiohttp": (sys.executable, "import aiohttp"),
        "official: from inferencesh import Inference": (python_of(OFFICIAL), "from inferencesh import Inference"),
        "import openai": (python_of(PEERS), "import openai"),
        "import anthropic": (python_of(PEERS), "import anthropic"),
    }
    times: dict[str, list[float]] = {case: [] for case in cases}
    bare: dict[str, list[float]] = {case: [] for case in cases}
    for python, statement in cases.values():
        _seconds(python, statement)  # writes the bytecode
    for _ in range(1 if context.quick else 9):
        for case, (python, statement) in cases.items():
            bare[case].append(_seconds(python, "pass"))
            times[case].append(_seconds(python, statement))
    rows = []
    figures = {}
    for case, (python, statement) in cases.items():
        net = (min(times[case]) - min(bare[case])) * 1e3
        median = (statistics.median(times[case]) - statistics.median(bare[case])) * 1e3
        modules, aiohttp = _modules(python, statement)
        rows.append((case, net, median, modules, "yes" if aiohttp else "no"))
        figures[case] = net
        figures[f"{case}: aiohttp"] = int(aiohttp)
    note = "In a fresh interpreter (`python -I`), over one that imports nothing."
    return Section("Import", ("statement", "ms least", "ms median", "modules", "aiohttp loaded"), rows, note, figures)


def _table(found: dict[str, Comparison], *, floor: str) -> tuple[tuple[str, ...], list[tuple[str | float, ...]]]:
    """Return columns and rows of a table that begins with the base."""
    bases = [cost for comparison in found.values() for cost in comparison.base]
    rows: list[tuple[str | float, ...]] = [(floor, *_milliseconds(bases), 1.0)]
    rows += [(name, *_milliseconds(comparison.other), comparison.ratio) for name, comparison in found.items()]
    return ("client", "wall ms median", "wall ms least", "CPU ms median", "x floor CPU"), rows


def _milliseconds(costs: list[Cost]) -> tuple[float, float, float]:
    wall, cpu = [cost.wall * 1e3 for cost in costs], [cost.cpu * 1e3 for cost in costs]
    return statistics.median(wall), min(wall), statistics.median(cpu)


def _seconds(python: str, statement: str) -> float:
    """Return how long an interpreter runs, from start to exit."""
    began = time.perf_counter()
    subprocess.run([python, "-I", "-c", statement], check=True)
    return time.perf_counter() - began


def _modules(python: str, statement: str) -> tuple[int, bool]:
    """Return how many modules a statement loads, and whether aiohttp is one of them."""
    program = f"import sys; before = set(sys.modules); {statement}; new = set(sys.modules) - before"
    report = "; print(len(new), 'aiohttp' in new)"
    done = subprocess.run([python, "-I", "-c", program + report], stdout=subprocess.PIPE, text=True, check=True)
    count, aiohttp = done.stdout.split()
    return int(count), aiohttp == "True"
