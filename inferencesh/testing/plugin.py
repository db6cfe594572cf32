"""The pytest plugin: fixtures of a scripted runtime and of clients that talk to it."""

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
    """An agent service that answers by the test's script: ``inference_runtime.reply("text")``.

    While the test runs, INFERENCE_BASE_URL and INFERENCE_API_KEY lead clients to it that are made without arguments,
    those of the program under test included. A message that no reply was scripted for fails the test.
    """
    from .runtime import ScriptedRuntime

    with ScriptedRuntime() as runtime:
        for name, value in runtime.environment.items():
            monkeypatch.setenv(name, value)
        request.node.stash[_RUNTIME] = runtime
        yield runtime


@pytest.fixture
def inference_client(inference_runtime: ScriptedRuntime) -> Iterator[Inference]:
    """A blocking client of ``inference_runtime``."""
    from inferencesh import Inference

    with Inference(inference_runtime.api_key, base_url=inference_runtime.base_url, trust_env=False) as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Add ``async_inference_client``: closed after the test where pytest-asyncio is there to do it."""
    if config.pluginmanager.hasplugin("asyncio"):
        from . import asyncio_client as module
    else:
        from . import unclosed_client as module  # type: ignore[no-redef]  # either has the same fixture
    config.pluginmanager.register(module, "inferencesh.testing.async_client")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test whose agent was asked what its script has no reply to, whatever the program made of that."""
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
    """What was not scripted in a test, or nothing."""
    runtime = item.stash.get(_RUNTIME, None)
    if runtime is None or not runtime.unscripted:
        return ""
    listed = "\n".join(f"  - {each}" for each in runtime.unscripted)
    return (
        f"no reply was scripted for what happened:\n{listed}\n"
        'Script one for each step with inference_runtime.reply("...") before it is sent.'
    )
