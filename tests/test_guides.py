"""The guides in ``docs``: their blocks form one program each, which runs and prints the output that is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .command_line import ROOT
from .support import Served
from .test_readme import blocks, check

GUIDES = ["requests.md"]


@pytest.fixture
def served() -> Iterator[Served]:
    """The embedded runtime to which the environment directs ``Inference()``."""
    with Served() as running:
        yield running


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_runs_and_prints_what_it_says(guide: str, served: Served, tmp_path: Path) -> None:
    """In a process of its own, with warnings as errors; stderr stays empty."""
    page = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    found = list(blocks(page))
    assert len(found) == page.count("```python") >= 5
    assert sum(block.shown is not None for block in found) == page.count("```text")
    check(found, tmp_path / "guide.py", served)
