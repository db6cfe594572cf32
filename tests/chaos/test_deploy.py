"""A deploy under load loses nothing: workers and fronts are told to end, one after the other, and others go on."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from .run import DEPLOY, run_deploy

pytestmark = [pytest.mark.redis, pytest.mark.timeout(150)]


def test_a_deploy_lets_turns_end() -> None:
    """No turn changes its worker and no handler starts twice, for the time to drain is enough."""
    report = asyncio.run(run_deploy(DEPLOY))
    figures = report.figures
    assert not report.violations, "\n".join([*report.violations, str(figures)])
    assert min(figures["turns in flight"]) >= 50, figures
    assert figures["whole"] == figures["turns"]
    assert (figures["takeovers"], figures["handler repeats"]) == (0, 0), figures


def test_turns_that_do_not_end_in_time_are_taken_over_at_once() -> None:
    """Nobody waits for the end of a lease, which is a minute here, and nothing is lost either."""
    report = asyncio.run(run_deploy(attrs.evolve(DEPLOY, at_once=40, drain=1.0, patience=40.0)))
    figures = report.figures
    assert not report.violations, "\n".join([*report.violations, str(figures)])
    assert figures["whole"] == figures["turns"]
    assert figures["takeovers"] > 0, figures
