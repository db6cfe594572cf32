"""A fleet under faults loses nothing and does nothing twice; ``make chaos`` is a longer run of the same."""

from __future__ import annotations

import asyncio

import pytest

from .faults import Rates
from .run import Options, run_chaos

pytestmark = [pytest.mark.redis, pytest.mark.timeout(150)]

OPTIONS = Options(
    turns=150,
    at_once=32,
    tenant_limit=9,
    lease=2.0,
    rates=Rates(kill=1.0, redis=7.0, pause=3.0, cut=0.3, front=9.0, paused=4.0),
)


def test_nothing_is_lost_or_done_twice_under_faults() -> None:
    """Every turn has its whole text or a typed failure, every call one result, and every reply only grows."""
    report = asyncio.run(run_chaos(OPTIONS))
    assert not report.violations, "\n".join([*report.violations, str(report.figures)])
    figures = report.figures
    assert figures["turns"] == OPTIONS.turns
    assert figures["whole"] >= OPTIONS.turns * 0.75, figures
    for fault in ("kills", "redis restarts", "pauses", "connections cut", "front kills", "takeovers"):
        assert figures[fault] >= 1, f"no {fault}, so the run has proved nothing: {figures}"
