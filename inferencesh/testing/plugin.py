"""The pytest plugin: fixtures for a scripted runtime and for clients connected to it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from inferencesh import Inference

    from .runtime import ScriptedRuntime

__all__ = ["inference_client", "inference_runtime"]

_RUNTIME: pytest.StashKey[ScriptedRuntime] = pytest.StashKey()


@pytest.fixture
def inference_runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedRuntime]:
    """Provide a ``ScriptedRuntime``: script its replies with ``inference_runtime.reply("text")``.

    During the test, the environment variables INFERENCE_BASE_URL and INFERENCE_API_KEY connect clients that are created
    without arguments, such as those of the program under test. A message without a scripted reply fails the test.
    """
    from .runtime import ScriptedRuntime

    with ScriptedRuntime() as runtime:
        for name, value in runtime.environment.items():
            monkeypatch.setenv(name, value)
        request.node.stash[_RUNTIME] = runtime
        yield runtime


@pytest.fixture
def inference_client(inference_runtime: ScriptedRuntime) -> Iterator[Inference]:
    """Provide a blocking client that is connected to ``inference_runtime``."""
    from inferencesh import Inference

    with Inference(inference_runtime.api_key, base_url=inference_runtime.base_url, trust_env=False) as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixture ``async_inference_client``, which depends on whether pytest-asyncio is active."""
    if config.pluginmanager.hasplugin("asyncio"):
        from . import asyncio_client as module
    else:
        from . import unclosed_client as module  # type: ignore[no-redef]  # both define the same fixture
    config.pluginmanager.register(module, "inferencesh.testing.async_client")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test whose agent was asked something without a scripted reply, even if the program hid the error."""
    try:
        result = yield
    except Exception as error:
        if complaint := _complaint(item):
            error.add_note(complaint)
        raise
    if complaint := _complaint(item):
        pytest.fail(complaint, pytrace=False)
    return result


def _complaint(item: pytest.Item) -> str:
    """Return a description of the unscripted steps of a test, or ""."""
    runtime = item.stash.get(_RUNTIME, None)
    if runtime is None or not runtime.unscripted:
        return ""
    listed = "\n".join(f"  - {each}" for each in runtime.unscripted)
    return (
        f"no reply was scripted for what happened:\n{listed}\n"
        'Script one for each step with inference_runtime.reply("...") or task(...) before it is sent.'
    )
