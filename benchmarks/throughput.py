"""CPU time per event of whole replies, sent as fast as possible: over the floor, and against other SDKs."""

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
    "message-200k": ["floor bytes", "async", "sync"],
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
    """Measure each form of the client against the floor, with each workload."""
    rows: list[tuple[str | float | int, ...]] = []
    figures: dict[str, float] = {}
    for name in names:
        workload = WORKLOADS[name]
        rounds = context.rounds(15 if workload.length < 100_000 else 7 if workload.length < 500_000 else 3)
        clients = CLIENTS.get(name, ["async", "sync"])
        found = alternate({client: _beside_floor(context, client, workload) for client in clients}, rounds)
        context.check_server()
        for floor in sorted({_floor_of(client) for client in clients}):
            costs = [cost for client in clients if _floor_of(client) == floor for cost in found[client].base]
            rows.append((name, floor, *_costs(costs), 1.0))
        for client, comparison in found.items():
            rows.append((name, client, *_costs(comparison.other), comparison.ratio))
            figures[f"{name} {client}"] = comparison.ratio
    note = (
        "The floor makes the same two requests in the same process with aiohttp, cuts the stream into lines and "
        "decodes each with orjson to a dict; `floor bytes` decodes none. A client's caller reads `message.delta`; that "
        "of `.text` reads `message.text` at every update, and is compared with a floor that builds the text as well. "
        + "; ".join(f"{name}: {WORKLOADS[name].title}" for name in names)
        + "."
    )
    columns = ("workload", "client", "CPU µs median", "CPU µs min", "wall µs median", "wall µs min", "x floor")
    return Section("CPU per event", columns, rows, note, figures)


def against_official(context: Context) -> Section:
    """Measure the official SDK with the same bytes, in a process of its own because of its import name."""
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
        f"inferencesh {context.versions['inferencesh']}, in alternating pairs. It passes the dicts of the server to "
        "callbacks; this client builds typed, immutable snapshots, keeps them in order and says what was added. The "
        "official async client reads no line over 512 KiB, so the larger messages are left out."
    )
    columns = ("workload", "client", "ours CPU µs", "official CPU µs", "official / ours")
    return Section("Against the official SDK", columns, rows, note, figures)


def against_peers(context: Context) -> Section:
    """Measure openai and anthropic with the same 5,000 tokens, each in its own wire format."""
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
        f"{versions}, each with its default HTTP library, in a process of its own, in alternating pairs. The work "
        "differs: they read server-sent events with more fields around each token and build pydantic objects; this "
        "client reads NDJSON and builds an immutable snapshot of the whole message."
    )
    columns = ("peer", "against our", "ours CPU µs", "peer CPU µs", "peer / ours", "builds for each token")
    return Section("Against openai and anthropic, per token event", columns, rows, note, figures)


def _beside_floor(context: Context, client: str, workload: Workload) -> tuple[Measured, Measured]:
    return context.ours(_floor_of(client), workload), context.ours(client, workload)


def _floor_of(client: str) -> str:
    """Return the floor that a client is compared with: one that builds the text if its caller reads it."""
    return "floor .text" if client.endswith(".text") else "floor"


def _costs(costs: list[Cost]) -> tuple[float, float, float, float]:
    """Return the median and the least CPU and wall time, in microseconds."""
    cpu, wall = [cost.cpu * 1e6 for cost in costs], [cost.wall * 1e6 for cost in costs]
    return statistics.median(cpu), min(cpu), statistics.median(wall), min(wall)


def _medians(comparison: Comparison) -> tuple[float, float]:
    """Return the median CPU times of both, in microseconds."""
    return _costs(comparison.base)[0], _costs(comparison.other)[0]
