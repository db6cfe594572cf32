"""Turns that are cancelled while they wait for the claim store, at each such place: nothing stays claimed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from inferencesh import AsyncAgent, AsyncInference, AsyncMessageStream, Message, tool
from inferencesh.claims import Claim, ClaimState, HeldClaim, MemoryClaims
from inferencesh.local import ToolCall
from tests.clients.conftest import Serve
from tests.support import Gate, Served

from .workers import WorkerClaims

CALL = [ToolCall("look_up", {"word": "pelican"})]


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"what {word} means"


LIBRARIAN = {"name": "librarian", "tools": [look_up]}


class Cancelling(WorkerClaims):
    """Claims that cancel a task at one of their steps: each request has one before it is made, and one after it.

    Args:
        shared: The claims.
        at: The number of the step.
    """

    def __init__(self, shared: MemoryClaims, at: int) -> None:
        super().__init__(shared)
        self.task: asyncio.Task[Any] | None = None
        self.scope: anyio.CancelScope | None = None  # to cancel instead
        self.reached = False
        self.reached_step = asyncio.Event()
        self.scopes: dict[str, str] = {}
        self._left = at

    async def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached_step.set()
            if self.scope is not None:
                self.scope.cancel()
                self.reached = True
            elif self.task is not None:
                self.reached = self.task.cancel()
        await asyncio.sleep(0)

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """As the shared store, in two steps."""
        self.scopes[key] = scope
        await self._step()
        claim = await super().claim(key, owner, scope)
        await self._step()
        return claim

    async def record(self, holding: HeldClaim, result: str) -> bool:
        """As the shared store, in two steps."""
        await self._step()
        kept = await super().record(holding, result)
        await self._step()
        return kept

    async def complete(self, holding: HeldClaim, result: str | None = None) -> None:
        """As the shared store, in two steps."""
        await self._step()
        await super().complete(holding, result)
        await self._step()

    async def release(self, holding: HeldClaim, *, abandon: bool = False) -> None:
        """As the shared store, in two steps."""
        await self._step()
        await super().release(holding, abandon=abandon)
        await self._step()


@asynccontextmanager
async def two_workers(served: Served, at: int) -> AsyncIterator[tuple[AsyncInference, AsyncInference, Cancelling]]:
    """Return the clients of two workers, and the claims of the first one, which cancel it at a step."""
    shared = MemoryClaims(lease=1000)
    claims = Cancelling(shared, at)
    async with (
        AsyncInference(**served.address, claims=claims) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        yield one, two, claims


async def claims_left(claims: Cancelling) -> Sequence[str]:
    """Return the keys that somebody holds, or for which a result of a tool is kept."""
    for _ in range(10):  # loop steps, in which what was begun ends
        await asyncio.sleep(0)
    answers = {key: await claims.shared.claim(key, "another", scope) for key, scope in claims.scopes.items()}
    for key, answer in answers.items():
        if answer.state is ClaimState.GRANTED:
            await claims.shared.release(HeldClaim(key, "another", claims.scopes[key], answer.attempt))
    return [
        key
        for key, answer in answers.items()
        if answer.state is ClaimState.HELD
        or (":call:" in key and answer.state is ClaimState.COMPLETED and answer.result != "ANSWERED")
    ]


async def send_in_scope(agent: AsyncAgent, claims: Cancelling) -> None:
    """Send a message in a scope of anyio, as FastAPI has one for each request; raise CancelledError if it was left."""
    with anyio.CancelScope() as scope:
        claims.scope = scope
        await agent.send_message("Hi", idempotency_key="job-1")
    claims.scope = None
    if scope.cancelled_caught:
        raise asyncio.CancelledError


@pytest.mark.parametrize("by", ["task", "scope"])
async def test_a_cancelled_turn_can_be_gone_on_with_at_once_wherever_it_was(serve: Serve, by: str) -> None:
    """The cancellation arrives; the job that is delivered again sends the message only if it was not sent."""
    at, reached = 0, True
    while reached:
        at += 1
        served = serve(CALL, ["A bird."])
        async with two_workers(served, at) as (one, two, claims):
            agent = one.agent(LIBRARIAN)
            claims.task = asyncio.create_task(
                agent.send_message("Hi", idempotency_key="job-1") if by == "task" else send_in_scope(agent, claims)
            )
            await asyncio.wait({claims.task})
            reached = claims.reached
            assert claims.task.cancelled() is reached, at
            assert await claims_left(claims) == [], at
            async with asyncio.timeout(10):
                again = await two.agent(LIBRARIAN).send_message("Hi", idempotency_key="job-1")
            assert again.text == "A bird.", at
            users = [each for each in await two.agent(chat_id=again.chat_id).history() if each.role == "user"]
            assert len(users) == 1, at
        assert len(served.script.asked) == 2, at
    assert at > 12  # steps of at least a message, a turn and a call


async def test_a_taking_over_that_is_cancelled_leaves_the_turn_to_others(serve: Serve) -> None:
    """At whichever step; another worker that does not want to wait gets it."""
    at, reached = 0, True
    while reached:
        at += 1
        served = serve(CALL, ["A bird."])
        async with two_workers(served, at) as (one, two, claims):
            paused = await two.agent({"name": "librarian", "tools": [tool("look_up").build()]}).send_message("Hi")
            taken = one.agent(LIBRARIAN, chat_id=paused.chat_id).take_over(wait=0)
            claims.task = asyncio.create_task(taken.get_final_message())
            await asyncio.wait({claims.task})
            reached = claims.reached
            assert claims.task.cancelled() is reached, at
            assert await claims_left(claims) == [], at
            message = await two.agent(LIBRARIAN, chat_id=paused.chat_id).take_over(wait=0).get_final_message()
            assert message.text == "A bird.", at
    assert at > 6  # steps of at least a turn and a call


async def test_a_stream_that_was_cancelled_at_a_claim_can_be_read_on(serve: Serve) -> None:
    """It goes on with the message that it has sent, and what it gives back is not taken from what it has got anew."""
    at, reached = 0, True
    while reached:
        at += 1
        served, shared = serve(["A bird."]), MemoryClaims(lease=1000)
        claims = Cancelling(shared, at)
        async with AsyncInference(**served.address, claims=claims) as client:
            stream = client.agent({"name": "greeter"}).send_message("Hi", stream=True)
            claims.task = asyncio.create_task(stream.get_final_message())
            await asyncio.wait({claims.task})
            reached = claims.reached
            assert claims.task.cancelled() is reached, at
            async with asyncio.timeout(10):
                assert (await stream.get_final_message()).text == "A bird.", at
            assert await claims_left(claims) == [], at
        assert len(served.script.asked) == 1, at
    assert at > 4  # steps of the turn


async def close_at(step: asyncio.Event, what: AsyncInference | AsyncMessageStream) -> None:
    """Close a client or stream when a step is reached."""
    await step.wait()
    await what.aclose()


@pytest.mark.parametrize("closed", ["stream", "client"])
async def test_what_is_closed_in_the_middle_leaves_the_turn_to_others(serve: Serve, closed: str) -> None:
    """As when a worker is told to stop; a message is in doubt only while it is sent."""
    at, reached = 0, True
    while reached:
        at += 1
        served = serve(CALL, ["A bird."])
        async with two_workers(served, at) as (one, two, claims):
            stream = one.agent(LIBRARIAN).send_message("Hi", stream=True, idempotency_key="job-1")
            what = stream if closed == "stream" else one
            closing = asyncio.create_task(close_at(claims.reached_step, what))
            await asyncio.gather(stream.get_final_message(), return_exceptions=True)
            reached = claims.reached_step.is_set()
            claims.reached_step.set()
            await closing
            assert await claims_left(claims) == [], at
            async with asyncio.timeout(10):
                again = await two.agent(LIBRARIAN).send_message("Hi", idempotency_key="job-1")
            assert again.text == "A bird.", at
        assert len(served.script.asked) == 2, at
    assert at > 12  # steps of at least a message, a turn and a call


async def test_a_client_whose_closing_is_cancelled_leaves_its_turns_to_others(serve: Serve) -> None:
    """At whichever step of the event loop; the turn is one that nobody reads at the moment."""
    at, reached = 0, True
    while reached:
        at += 1
        gate = Gate()
        served = serve(["A ", gate, "bird."])
        async with two_workers(served, 0) as (one, two, claims):
            stream = one.agent({"name": "librarian"}).send_message("Hi", stream=True)
            assert (await anext(stream)).text == "A "
            closing = asyncio.create_task(one.aclose())
            for _ in range(at):
                await asyncio.sleep(0)
            reached = closing.cancel()
            await asyncio.wait({closing})
            assert await claims_left(claims) == [], at
            gate.open()
            message = (
                await two.agent({"name": "librarian"}, chat_id=stream.chat_id).take_over(wait=0).get_final_message()
            )
            assert message.text == "A bird.", at
    assert at > 2


@pytest.mark.parametrize("where", ["in a tool", "in the reply"])
def test_an_event_loop_that_ends_while_a_turn_is_left_gives_no_warning(
    serve: Serve, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``asyncio.run`` cancels all tasks, also those that have just begun to end a claim, at whichever step."""

    async def main(steps: int, gate: Gate) -> asyncio.Task[Message]:
        async def handler(word: str) -> str:
            await gate.passed()
            return word

        served = serve(CALL, ["A bird."]) if where == "in a tool" else serve(["A", gate, " bird."])
        client = AsyncInference(**served.address, claims=Cancelling(MemoryClaims(lease=1000), at=0))
        config = {"name": "librarian", "tools": [tool("look_up").handler(handler).build()]}
        task = asyncio.create_task(client.agent(config).send_message("Hi", idempotency_key="job-1"))
        await gate.someone_there()
        task.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        return task

    for steps in range(6):
        gate = Gate()
        task = asyncio.run(main(steps, gate))
        gate.open()
        gc.collect()
        assert task.cancelled()
    assert caplog.text == ""
