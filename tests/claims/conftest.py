"""Fixtures of the tests of claims."""

from __future__ import annotations

from tests.clients.conftest import connect, kind, serve

__all__ = ["connect", "kind", "serve"]
