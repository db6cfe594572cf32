"""The fixture ``async_inference_client`` for whatever else runs async tests: the client ends with the test's loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from inferencesh import AsyncInference

    from .runtime import ScriptedRuntime

__all__ = ["async_inference_client"]


@pytest.fixture
def async_inference_client(inference_runtime: ScriptedRuntime) -> AsyncInference:
    """An async client of ``inference_runtime``."""
    from inferencesh import AsyncInference

    return AsyncInference(inference_runtime.api_key, base_url=inference_runtime.base_url, trust_env=False)
