"""A plain ``inferencesh serve``, and what the programs of each official client found there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import ROOT, piped, started

HOME = ROOT / ".venv-clients"
PROGRAMS = Path(__file__).parent / "programs"
CLIENTS = ["python-0.36.0", "python-0.6.34", "javascript-0.6.54"]


@pytest.fixture(scope="session")
def found() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Return what the programs of a client found; those of all clients run at the same time, once."""
    with ExitStack() as stack:
        base_url, key = _address(stack.enter_context(piped("serve", "--port", "0")))
        running = {client: stack.enter_context(_programs(client, base_url, key)) for client in CLIENTS}

        @cache
        def results(client: str) -> dict[str, Any]:
            out, err = running[client].communicate(timeout=50)
            assert running[client].returncode == 0, err
            written: dict[str, Any] = json.loads(out.splitlines()[-1])
            return written

        yield results


def _address(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the base URL and the key that ``inferencesh serve`` prints."""
    assert process.stdout is not None
    assert process.stdout.readline().startswith("The embedded runtime listens on"), process.communicate()
    base_url, key = (process.stdout.readline().strip().partition("=")[2] for _ in range(2))
    return base_url, key


def _programs(client: str, *address: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start the programs of a client."""
    home = HOME / client
    assert home.is_dir(), f"{home} is missing: make test-clients installs the official SDKs"
    command = [str(home / "bin" / "python"), "-I", str(PROGRAMS / "python_client.py")]
    if client.startswith("javascript"):
        command = ["node", "--import", str(PROGRAMS / "loader.mjs"), str(PROGRAMS / "javascript_client.mjs")]
    return started([*command, *address], SDK_HOME=str(home))
