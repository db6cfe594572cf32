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
    """Creates a fleet; see ``Fleet``."""

    def __call__(self, *steps: list[Step], **settings: str) -> Fleet: ...


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """A fork server, which starts processes without importing all modules again."""
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture
def make_fleet(fork_server: ForkServer, tmp_path: Path) -> MakeFleet:
    """Return a function that creates a fleet with a scripted model."""

    def make(*steps: list[Step], **settings: str) -> Fleet:
        return Fleet(fork_server, tmp_path, *steps, **settings)

    return make
