"""CPU time per event of whole replies, sent as fast as they go: beside the floor, and beside other SDKs."""

from __future__ import annotations

import statistics

from .context import Context
from .pairs import Comparison, Cost, Measured, alternate
from .payloads import WORKLOADS, Format, Workload
from .peers import OFFICIAL, PEERS
from .report import Section

__all__ = ["against_official", "against_peers", "streams"]

CLIENTS = {
    "deltas": ["async", "async .text", "async on_message", "sync", "sync .text", "sync on_message"],
    "deltas-block": ["async .text", "sync .text"],
    "snapshots": ["async", "async on_message", "sync", "sync on_message"],
    "snapshots-block": ["async .text", "sync .text"],
}
STREAMS = [
    "deltas",
    "deltas-wide",
    "deltas-block",
    "snapshots",
    "snapshots-wide",
    "snapshots-block",
    "message-200k",
    "message-1m",
]
TOKENS: dict[str, tuple[str, Format, str]] = {
    "openai async": ("async", "openai", "pydantic chunks, no snapshot"),
    "openai async stream()": ("async", "openai", "pydantic events with a snapshot"),
    "openai sync": ("sync", "openai", "pydantic chunks, no snapshot"),
    "anthropic async": ("async", "anthropic", "pydantic events, no snapshot"),
    "anthropic async stream()": ("async", "anthropic", "pydantic events with a snapshot"),
    "anthropic sync stream()": ("sync", "anthropic", "pydantic events with a snapshot"),
}


def streams(context: Context, names: list[str]) -> Section:
    """Each workload, each form of the client, against the floor."""
    rows: list[tuple[str | float | int, ...]] = []
    figures: dict[str, float] = {}
    for name in names:
        workload = WORKLOADS[name]
        rounds = context.rounds(15 if workload.length < 100_000 else 7 if workload.length < 500_000 else 3)
        clients = CLIENTS.get(name, ["async", "sync"])
        found = alternate({client: _beside_floor(context, client, workload) for client in clients}, rounds)
        context.check_server()
        floors = Comparison(other=[cost for one in found.values() for cost in one.base])
        rows.append((name, "floor", *_costs(floors.other), 1.0))
        for client, comparison in found.items():
            rows.append((name, client, *_costs(comparison.other), comparison.ratio))
            figures[f"{name} {client}"] = comparison.ratio
    note = (
        "Floor: aiohttp, whole lines, orjson to a dict, and nothing else; the same two requests, in the same process. "
        "A delta's caller reads `delta`; of `.text` and `on_message` also the whole text so far, which has to be "
        "joined for each token. " + "; ".join(f"{name}: {WORKLOADS[name].title}" for name in names) + "."
    )
    columns = ("workload", "client", "CPU µs median", "CPU µs min", "wall µs median", "wall µs min", "x floor")
    return Section("CPU per event", columns, rows, note, figures)


def against_official(context: Context) -> Section:
    """The same bytes through the official SDK, which runs in a process of its own for its import name."""
    rows: list[tuple[str | float | int, ...]] = []
    figures: dict[str, float] = {}
    for name in ("deltas", "snapshots") if context.quick else ("deltas", "snapshots", "message-200k"):
        workload = WORKLOADS[name]
        pairs = {
            client: (context.ours(client, workload), context.theirs(OFFICIAL, f"official {client}", workload))
            for client in ("async", "sync")
        }
        found = alternate(pairs, context.rounds(9 if workload.length < 100_000 else 3))
        context.check_server()
        for client, comparison in found.items():
            figures[f"official {name} {client}"] = comparison.ratio
            rows.append((name, client, *_medians(comparison), comparison.ratio))
    note = (
        f"inferencesh {context.versions['inferencesh']}, one pair after the other. Its snapshots are the dicts of the "
        "server, through callbacks; ours are typed and immutable, never go backwards, and tell what was added. It "
        "reads no line over 512 KiB in its async client and does not reconnect; so the larger messages are left out."
    )
    columns = ("workload", "client", "ours CPU µs", "official CPU µs", "official / ours")
    return Section("Against the official SDK", columns, rows, note, figures)


def against_peers(context: Context) -> Section:
    """The same 5,000 tokens through openai and anthropic, each in its own wire format."""
    workload = WORKLOADS["deltas"]
    chosen = ["openai async", "anthropic async stream()"] if context.quick else list(TOKENS)
    pairs = {
        peer: (context.ours(client, workload), context.theirs(PEERS, peer, workload, wire))
        for peer, (client, wire, _) in TOKENS.items()
        if peer in chosen
    }
    found = alternate(pairs, context.rounds(5))
    context.check_server()
    rows = [(peer, TOKENS[peer][0], *_medians(found[peer]), found[peer].ratio, TOKENS[peer][2]) for peer in chosen]
    figures = {f"peer {peer}": comparison.ratio for peer, comparison in found.items()}
    helpers = [found[peer].ratio for peer in chosen if peer.startswith("anthropic") and "stream()" in peer]
    figures["openai least"] = min(found[peer].ratio for peer in chosen if peer.startswith("openai"))
    figures["anthropic helper least"] = min(helpers)
    versions = ", ".join(f"{name} {context.versions[name]}" for name in ("openai", "anthropic"))
    note = (
        f"{versions}, each with its default HTTP library, in a process beside this one, one pair after the other. The "
        "work differs: they read server-sent events with more fields around each token and build pydantic objects; "
        "this client reads NDJSON and builds an immutable snapshot of the whole message."
    )
    columns = ("peer", "beside our", "ours CPU µs", "peer CPU µs", "peer / ours", "what it builds for each token")
    return Section("Against openai and anthropic, per token event", columns, rows, note, figures)


def _beside_floor(context: Context, client: str, workload: Workload) -> tuple[Measured, Measured]:
    floor = "floor .text" if client.endswith(".text") else "floor"
    return context.ours(floor, workload), context.ours(client, workload)


def _costs(costs: list[Cost]) -> tuple[float, float, float, float]:
    """Median and least CPU and wall time, in microseconds."""
    cpu, wall = [cost.cpu * 1e6 for cost in costs], [cost.wall * 1e6 for cost in costs]
    return statistics.median(cpu), min(cpu), statistics.median(wall), min(wall)


def _medians(comparison: Comparison) -> tuple[float, float]:
    """The median CPU time of both, in microseconds."""
    return _costs(comparison.base)[0], _costs(comparison.other)[0]
