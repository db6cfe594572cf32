"""A deploy under load loses nothing: workers and fronts are terminated and replaced one after another."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from .run import DEPLOY, run_deploy

pytestmark = [pytest.mark.redis, pytest.mark.timeout(150)]


def test_a_deploy_lets_turns_finish() -> None:
    """The time to drain is sufficient, so no turn changes its worker and no handler starts twice."""
    report = asyncio.run(run_deploy(DEPLOY))
    figures = report.figures
    assert not report.violations, "\n".join([*report.violations, str(figures)])
    assert min(figures["turns in flight"]) >= 50, figures
    assert figures["whole"] == figures["turns"]
    assert (figures["takeovers"], figures["handler repeats"]) == (0, 0), figures


def test_turns_that_do_not_finish_in_time_are_taken_over_at_once() -> None:
    """Nothing waits for a lease to expire, which would take a minute, and nothing is lost."""
    report = asyncio.run(run_deploy(attrs.evolve(DEPLOY, at_once=40, drain=1.0, patience=40.0)))
    figures = report.figures
    assert not report.violations, "\n".join([*report.violations, str(figures)])
    assert figures["whole"] == figures["turns"]
    assert figures["takeovers"] > 0, figures
