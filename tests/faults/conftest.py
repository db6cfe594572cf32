"""Fixtures of the fault scenarios."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.support import KINDS, Kind

from .forms import KEY
from .server import FaultServer
from .turns import Case, Outcome, RunTurn, check, play

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The client under test: every scenario meets both."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def canary(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Log records of everything at DEBUG; the API key must be in none of them."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    assert records  # asyncio's own at the least, or nothing was captured
    assert KEY not in "\n".join(map(caplog.handler.format, records)), "the API key was logged"


@pytest.fixture
def run_turn(kind: Kind, canary: pytest.LogCaptureFixture) -> RunTurn:
    """One turn of one client through a case, with all that must hold checked."""

    def run(case: Case) -> Outcome:
        with FaultServer(case) as server:
            outcome = play(kind, case, server)
        check(case, outcome)
        warned = [record for record in canary.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
        assert case.warns in {None, bool(warned)}, warned
        return outcome

    return run
