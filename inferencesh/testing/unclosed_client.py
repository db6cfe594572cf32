"""The fixture ``async_inference_client`` without pytest-asyncio; the client is closed with the test's event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from inferencesh import AsyncInference

    from .runtime import ScriptedRuntime

__all__ = ["async_inference_client"]


@pytest.fixture
def async_inference_client(inference_runtime: ScriptedRuntime) -> AsyncInference:
    """Return an async client that is connected to ``inference_runtime``."""
    from inferencesh import AsyncInference

    return AsyncInference(inference_runtime.api_key, base_url=inference_runtime.base_url, trust_env=False)
