"""The fixture ``async_inference_client`` with pytest-asyncio, which closes the client after the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest_asyncio

if TYPE_CHECKING:
    from inferencesh import AsyncInference

    from .runtime import ScriptedRuntime

__all__ = ["async_inference_client"]


@pytest_asyncio.fixture
async def async_inference_client(inference_runtime: ScriptedRuntime) -> AsyncIterator[AsyncInference]:
    """Return an async client that is connected to ``inference_runtime``."""
    from inferencesh import AsyncInference

    async with AsyncInference(
        inference_runtime.api_key, base_url=inference_runtime.base_url, trust_env=False
    ) as client:
        yield client
