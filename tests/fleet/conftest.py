"""Fixtures of the fleet's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.chaos.processes import Forker
from tests.support import Step

from .processes import Fleet

__all__ = ["MakeFleet"]


class MakeFleet(Protocol):
    """Makes a fleet; see ``Fleet``."""

    def __call__(self, *steps: list[Step], **settings: str) -> Fleet: ...


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """What starts processes without importing everything anew."""
    with Forker() as forker:
        yield forker


@pytest.fixture
def make_fleet(forker: Forker, tmp_path: Path) -> MakeFleet:
    """Make a fleet whose model answers by a script."""

    def make(*steps: list[Step], **settings: str) -> Fleet:
        return Fleet(forker, tmp_path, *steps, **settings)

    return make
