"""Fixtures of the chat service's tests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from inferencesh.testing import ScriptedRuntime

from .uvicorns import Uvicorn


@pytest.fixture
def service(inference_runtime: ScriptedRuntime) -> Iterator[Uvicorn]:
    """The chat service in a process of its own, with the scripted runtime as its upstream."""
    with Uvicorn(inference_runtime.environment) as service:
        yield service


@pytest.fixture
def browser(service: Uvicorn) -> Iterator[httpx.Client]:
    """What talks to it over sockets."""
    with httpx.Client(base_url=service.address, timeout=10) as client:
        yield client
