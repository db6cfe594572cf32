"""Run other SDKs, each in a virtual environment and a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .pairs import Cost, digest_of
from .payloads import Workload, reply_text
from .server import Server

__all__ = ["OFFICIAL", "PEERS", "Peer", "python_of", "running_peer"]

HERE = Path(__file__).parent
OFFICIAL = "official"
PEERS = "peers"
REQUIREMENTS = {OFFICIAL: ["inferencesh[async]==0.36.0"], PEERS: ["openai", "anthropic"]}


def python_of(venv: str) -> str:
    """Return the interpreter of a virtual environment, which is created if it does not exist."""
    home = HERE / f".venv-{venv}"
    python = home / "bin" / "python"
    ready = home / ".ready"
    if not ready.exists():
        print(f"making {home} (once): {', '.join(REQUIREMENTS[venv])}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *REQUIREMENTS[venv]], check=True)
        ready.touch()
    return str(python)


class Peer:
    """A process with other SDKs.

    Attributes:
        versions: The versions of all installed distributions, by name.
    """

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders = orders
        self._answers = answers
        self.versions: dict[str, str] = json.loads(answers.readline())

    def turn(self, client: str, server: Server, workload: Workload, expected: int) -> Cost:
        """Run one turn and check its result.

        Args:
            client: One of the names in ``peer.py``.
            server: The server that it talks to.
            workload: The reply.
            expected: The number of events that it must have received.
        """
        seen = self.order(client, f"{server.url}/{workload.name}")
        if seen["events"] != expected or seen["digest"] != digest_of(reply_text(workload)):
            raise AssertionError(
                f"{client}, {workload.name}: saw {seen['events']} events of {expected}, or another text"
            )
        return Cost(seen["cpu"] / workload.events, seen["wall"] / workload.events)

    def order(self, client: str, url: str) -> dict[str, Any]:
        """Run a client once and return its report."""
        print(json.dumps({"client": client, "url": url}), file=self._orders, flush=True)
        line = self._answers.readline()
        if not line:
            raise AssertionError(f"{client} failed; its traceback is above")
        seen: dict[str, Any] = json.loads(line)
        return seen


@contextmanager
def running_peer(venv: str) -> Iterator[Peer]:
    """Start the process in a virtual environment, and end it when the block is left."""
    # -P keeps this directory, and the project with the same import name, off the import path.
    command = [python_of(venv), "-P", str(HERE / "peer.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"NO_PROXY": "*"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Peer(process.stdin, process.stdout)
