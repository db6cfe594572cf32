"""A fleet loses nothing and does nothing twice while everything is killed; ``make chaos`` is the long form of this."""

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


def test_nothing_is_lost_and_nothing_is_done_twice_whatever_is_killed() -> None:
    """Every turn has its whole text or a typed failure, every call one result, and every browser a reply that grows."""
    report = asyncio.run(run_chaos(OPTIONS))
    assert not report.violations, "\n".join([*report.violations, str(report.figures)])
    figures = report.figures
    assert figures["turns"] == OPTIONS.turns
    assert figures["whole"] >= OPTIONS.turns * 0.75, figures
    for fault in ("kills", "redis restarts", "pauses", "connections cut", "front kills", "takeovers"):
        assert figures[fault] >= 1, f"no {fault}, so that this has shown nothing: {figures}"
