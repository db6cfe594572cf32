"""Stores of claims with mistakes: what raises or answers what no store may is a ClaimStoreError, and loses no turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, ClaimStoreError, ConfigurationError, Inference, tool
from inferencesh.claims import MemoryClaims
from inferencesh.local import ToolCall
from tests.clients.conftest import Connect, Serve

from .workers import WorkerClaims

CALL = [ToolCall("look_up", {"word": "pelican"})]


async def raises(*_: object, **__: object) -> None:
    """Raise what is no error of this package."""
    raise LookupError("a mistake")


async def raises_cancelled(*_: object, **__: object) -> None:
    """Raise what looks like a cancellation of the caller, as when a task was cancelled that a store waits for."""
    raise asyncio.CancelledError


async def returns_a_text(*_: object, **__: object) -> str:
    """Answer with something else."""
    return "a mistake"


async def returns_nothing(*_: object, **__: object) -> None:
    """Answer with nothing, or to nothing that was asked."""


async def returns_too_little(*_: object, **__: object) -> list[bool]:
    """Answer to nothing that was asked."""
    return []


def is_not_async(*_: object, **__: object) -> None:
    """Return what cannot be awaited."""


Mistake = Callable[..., Awaitable[object] | None]


def with_mistake(method: str, mistake: Mistake, shared: MemoryClaims) -> WorkerClaims:
    """Return claims of which one method has a mistake."""
    kind: type[WorkerClaims] = type("Mistaken", (WorkerClaims,), {method: mistake})
    return kind(shared)


@pytest.mark.parametrize("mistake", [raises, raises_cancelled, returns_a_text, returns_nothing, is_not_async])
@pytest.mark.parametrize("method", ["claim", "record"])
def test_a_mistake_in_what_is_needed_before_is_told(
    serve: Serve, connect: Connect, method: str, mistake: Mistake
) -> None:
    """Nothing is sent then; with on_claim_store_lost="run" the program goes on as in a single process."""
    served, ran = serve(CALL, ["A bird."]), []
    config = {"name": "librarian", "tools": [tool("look_up").handler(lambda **given: ran.append(given)).build()]}
    claims = with_mistake(method, mistake, MemoryClaims(lease=30))
    failing, running = connect(served, claims=claims), connect(served, claims=claims, on_claim_store_lost="run")
    with pytest.raises(ClaimStoreError, match=rf"{mistake.__name__}\(\) of the claim store (failed|returned)"):
        failing.result(failing.agent(config).send_message("Hi", idempotency_key="job-1"))
    assert served.script.asked == []
    claims.shared = MemoryClaims(lease=30)
    reply = running.result(running.agent(config).send_message("Hi", idempotency_key="job-1"))
    assert (reply.text, len(ran)) == ("A bird.", 1)


@pytest.mark.parametrize(
    "mistake", [raises, raises_cancelled, returns_a_text, returns_nothing, returns_too_little, is_not_async]
)
@pytest.mark.parametrize("method", ["renew", "complete", "release", "aclose"])
async def test_a_mistake_in_what_is_needed_afterwards_loses_no_turn(
    serve: Serve, method: str, mistake: Mistake, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the log, unless the answer is of no importance."""
    served, ran = serve(CALL, ["A bird."]), 0
    claims = with_mistake(method, mistake, MemoryClaims(lease=0.3))

    async def look_up(word: str) -> str:
        nonlocal ran
        ran += 1
        if method == "renew":
            async with asyncio.timeout(5):
                while "the turns under way go on" not in caplog.text:  # noqa: ASYNC110 - nothing tells of a renewal
                    await asyncio.sleep(0.01)
        return word

    config = {"name": "librarian", "tools": [tool("look_up").handler(look_up).build()]}
    async with AsyncInference(**served.address, claims=claims) as client:
        assert (await client.agent(config).send_message("Hi", idempotency_key="job-1")).text == "A bird."
    assert ran == 1
    if mistake in {raises, raises_cancelled, is_not_async}:
        assert f"{mistake.__name__}() of the claim store failed" in caplog.text


@pytest.mark.parametrize("lease", [0, -1, "30", float("nan"), True])
@pytest.mark.parametrize("kind", [AsyncInference, Inference])
def test_the_lease_of_a_store_is_a_number_of_seconds(kind: type[Any], lease: Any) -> None:
    """Said when the client is made, and not in the middle of the first turn."""
    with pytest.raises(ConfigurationError, match="the lease of claims must be a positive number of seconds or None"):
        kind("inf_key", claims=MemoryClaims(lease=lease))
    kind("inf_key", claims=MemoryClaims(lease=None))  # for a single process
