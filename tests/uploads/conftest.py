"""Fixtures of the tests of files."""

from __future__ import annotations

from tests.faults.conftest import canary, kind

__all__ = ["canary", "kind"]
