"""Fixtures of the fleet's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.chaos.processes import ForkServer
from tests.support import Step

from .processes import Fleet

__all__ = ["MakeFleet"]


class MakeFleet(Protocol):
    """Makes a fleet; see ``Fleet``."""

    def __call__(self, *steps: list[Step], **settings: str) -> Fleet: ...


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """What starts processes without importing everything anew."""
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture
def make_fleet(fork_server: ForkServer, tmp_path: Path) -> MakeFleet:
    """Make a fleet whose model answers by a script."""

    def make(*steps: list[Step], **settings: str) -> Fleet:
        return Fleet(fork_server, tmp_path, *steps, **settings)

    return make
