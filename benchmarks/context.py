"""What all benchmarks share: the server, the clients of this process, the other SDKs, and a check of the traffic."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Self

from .clients import Clients, Outcome
from .pairs import Cost, Measured, measured
from .payloads import Format, Workload, rendered, reply_text
from .peers import Peer, running_peer
from .server import running_server

__all__ = ["Context"]


class Context:
    """One run of the benchmarks; a context manager.

    Args:
        quick: Whether rough figures are enough.
    """

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.versions: dict[str, str] = {}  # of the other SDKs that were run
        self._stack = ExitStack()
        self._requests = 0
        self._bytes = 0

    def __enter__(self) -> Self:
        self.server = self._stack.enter_context(running_server())
        self.clients = self._stack.enter_context(Clients(self.server))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @functools.cache  # noqa: B019 - one context, which lives as long as the program
    def peer(self, venv: str) -> Peer:
        """Return the process with other SDKs, starting it if necessary."""
        peer = self._stack.enter_context(running_peer(venv))
        names = ("openai", "anthropic", "httpx2") if venv == "peers" else ("inferencesh", "requests")
        self.versions |= {name: peer.versions[name] for name in names if name in peer.versions}
        return peer

    def rounds(self, most: int) -> int:
        """Return how often to run a pair."""
        return 2 if self.quick else most

    def ours(self, client: str, workload: Workload) -> Measured:
        """Return a measured turn of one of this process's clients, the result of which is checked each time."""
        turn = self.clients.turns[client]
        delivers_all = "conflate" not in client
        wanted = workload.lines if client.startswith("floor") else workload.snapshots

        def run() -> Cost:
            self._expect(workload, "inference", requests=2)
            seen: list[Outcome] = []
            cost = measured(workload.events, lambda: seen.append(turn(workload)))
            events, text = seen[0]
            if text != reply_text(workload) or (events != wanted if delivers_all else events > wanted):
                raise AssertionError(f"{client}, {workload.name}: saw {events} events of {wanted}, or another text")
            return cost

        return run

    def theirs(self, venv: str, client: str, workload: Workload, wire: Format = "inference") -> Measured:
        """Return a measured turn of another SDK, the result of which is checked each time."""
        peer, official = self.peer(venv), wire == "inference"

        def run() -> Cost:
            self._expect(workload, wire, requests=2 if official else 1)
            return peer.turn(client, self.server, workload, workload.snapshots if official else workload.events)

        return run

    def check_server(self) -> None:
        """Check that all clients made exactly the necessary requests, and were sent whole replies."""
        stats = self.server.take_stats()
        if stats != {"requests": self._requests, "bytes": self._bytes}:
            raise AssertionError(f"the server counted {stats}, not {self._requests} requests and {self._bytes} bytes")
        self._requests = self._bytes = 0

    def _expect(self, workload: Workload, wire: Format, *, requests: int) -> None:
        self._requests += requests
        self._bytes += len(rendered(workload, wire))
