"""Fixtures of the chat service's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from inferencesh.testing import ScriptedRuntime

from . import playgrounds
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests of a module; each has a context of its own."""
    async with playgrounds.launched() as browser:
        yield browser


@pytest.fixture
def opened(chromium: Browser) -> playgrounds.Opened:
    """Opens the playground of a runtime with a model."""
    return playgrounds.opened(chromium)
