"""Tool calls of workers that share claims: if a worker dies, another one continues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import AsyncInference, LeaseLostError, ToolContext, tool
from inferencesh.claims import Claim, ClaimState, HeldClaim, MemoryClaims
from inferencesh.local import ToolCall
from tests.clients.conftest import Serve
from tests.support import Gate, Served, eventually

from .workers import Clock, WorkerClaims

LEASE = 0.5  # seconds, of the workers that run out of it
CALL = [ToolCall("look_up", {"word": "pelican"})]


class Handlers:
    """The handlers of one tool, one per worker, and the calls that they received."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.keys: list[str] = []
        self.cancelled: list[int] = []

    def config(self, answer: str, gate: Gate | None = None) -> dict[str, Any]:
        """Return the configuration of a worker's agent, whose handler waits at the gate before it answers."""

        async def look_up(word: str, context: ToolContext) -> str:
            self.attempts.append(context.attempt)
            self.keys.append(context.idempotency_key)
            try:
                if gate is not None:
                    await gate.passed()
            except asyncio.CancelledError:
                self.cancelled.append(context.attempt)
                raise
            return answer

        return {"name": "librarian", "tools": [tool("look_up").handler(look_up).build()]}


def client(served: Served, claims: WorkerClaims, **options: Any) -> AsyncInference:
    """Create the client of a worker."""
    return AsyncInference(**served.address, claims=claims, **options)


async def chat_of(agent: Any) -> str:
    """Wait until an agent's message was sent, and return the chat's id."""
    await eventually(lambda: agent.chat_id is not None, "the chat", within=5)
    chat_id: str = agent.chat_id
    return chat_id


async def results(reader: AsyncInference, chat_id: str) -> list[str]:
    """Return the results that the agent received."""
    messages = await reader.agent(chat_id=chat_id).history()
    return [call.result or "" for message in messages for call in message.tool_calls if call.result]


async def test_a_second_worker_waits_for_a_call_that_another_worker_runs(serve: Serve) -> None:
    """It follows the same turn, does not run the call, and sees the whole reply."""
    served, handlers, gate = serve(CALL, ["A bird."]), Handlers(), Gate()
    shared = MemoryClaims(lease=30)
    first, second = WorkerClaims(shared), WorkerClaims(shared)
    async with client(served, first) as one, client(served, second) as two:
        agent = one.agent(handlers.config("from one", gate))
        running = asyncio.create_task(agent.send_message("Look it up"))
        await gate.someone_there()
        follower = asyncio.create_task(two.agent(handlers.config("from two"), chat_id=await chat_of(agent)).wait())
        await eventually(lambda: any(":call:" in key for key in second.claimed), "the second worker asks", within=5)
        gate.open()
        texts = [(await task).text for task in (running, follower)]
        assert texts == ["A bird.", "A bird."]
        assert handlers.attempts == [1]
        assert await results(two, await chat_of(agent)) == ["from one"]


async def test_the_call_of_a_dead_worker_is_run_again(serve: Serve) -> None:
    """With the next attempt number and the same idempotency key; the agent gets only the second result."""
    served, handlers, gate = serve(CALL, ["A bird."]), Handlers(), Gate()
    shared = MemoryClaims(lease=LEASE)
    dying = WorkerClaims(shared)
    async with client(served, dying) as one, client(served, WorkerClaims(shared)) as two:
        agent = one.agent(handlers.config("from one", gate))
        running = asyncio.create_task(agent.send_message("Look it up"))
        await gate.someone_there()
        dying.stopped = True
        other = two.agent(handlers.config("from two"), chat_id=await chat_of(agent))
        message = await other.take_over().get_final_message()
        assert (message.text, handlers.attempts) == ("A bird.", [1, 2])
        assert handlers.keys[0] == handlers.keys[1]
        dying.stopped = False  # and the first worker goes on
        gate.open()
        with pytest.raises(LeaseLostError, match="another worker has taken over this turn"):
            await running
        assert await results(two, await chat_of(agent)) == ["from two"]


async def test_a_suspended_worker_drops_a_call_that_was_taken_over(serve: Serve) -> None:
    """Its async handler is cancelled, and its turn ends with a LeaseLostError."""
    served, handlers, gate, held = serve(CALL, ["A bird."]), Handlers(), Gate(), Gate()
    shared = MemoryClaims(lease=LEASE)
    dying = WorkerClaims(shared)
    async with client(served, dying) as one, client(served, WorkerClaims(shared)) as two:
        agent = one.agent(handlers.config("from one", gate))
        running = asyncio.create_task(agent.send_message("Look it up"))
        await gate.someone_there()
        dying.stopped = True
        other = two.agent(handlers.config("from two", held), chat_id=await chat_of(agent))
        taken = asyncio.create_task(other.take_over().get_final_message())
        await held.someone_there()
        dying.stopped = False
        with pytest.raises(LeaseLostError):
            await running
        assert handlers.cancelled == [1]
        held.open()
        assert (await taken).text == "A bird."


async def test_a_recorded_result_is_posted_without_running_the_call_again(serve: Serve) -> None:
    """The worker died between the end of its handler and the acknowledgement of the service."""
    served, handlers = serve(CALL, ["A bird."]), Handlers()
    clock = Clock()
    shared = MemoryClaims(lease=30, clock=clock)
    dying, posting = WorkerClaims(shared), Gate()
    async with client(served, dying) as one, client(served, WorkerClaims(shared)) as two:
        agent = one.agent(handlers.config("from one"))
        submit = agent._conversation.submit

        async def dies(*arguments: Any, **options: Any) -> None:
            await posting.passed()
            await submit(*arguments, **options)

        agent._conversation.submit = dies  # type: ignore[method-assign] # as if the process ended here
        running = asyncio.create_task(agent.send_message("Look it up"))
        await posting.someone_there()
        clock.now += 31
        other = two.agent(handlers.config("from two"), chat_id=await chat_of(agent))
        assert (await other.take_over().get_final_message()).text == "A bird."
        assert handlers.attempts == [1]
        assert await results(two, await chat_of(agent)) == ["from one"]
        posting.open()  # the first worker was not dead after all: the service takes one result only
        assert (await running).text == "A bird."
        assert await results(two, await chat_of(agent)) == ["from one"]


class Waiting(WorkerClaims):
    """A worker that reports when it was granted a call as the second owner."""

    def __init__(self, shared: MemoryClaims) -> None:
        super().__init__(shared)
        self.granted = Gate()
        self.granted.open()

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """As the shared store."""
        claim = await super().claim(key, owner, scope)
        if claim.state is ClaimState.GRANTED and claim.attempt > 1:
            self.granted.wait()
        return claim


class Forgetful(WorkerClaims):
    """A worker that dies between posting a result and completing the claim."""

    async def record(self, holding: HeldClaim, result: str) -> bool:
        """Keep nothing, as a store does that is told to keep no results."""
        return await self.shared.record(holding, "")

    async def complete(self, holding: HeldClaim, result: str | None = None) -> None:
        """Never reach the store."""


async def test_a_call_whose_result_the_service_has_is_not_run_again(serve: Serve) -> None:
    """Whatever the store says: the worker that waited for the dead one sees the result in the chat."""
    going_on = Gate()
    served, handlers, gate = serve(CALL, [going_on, "A bird."]), Handlers(), Gate()
    clock = Clock()
    shared = MemoryClaims(lease=30, clock=clock)
    second = Waiting(shared)
    async with client(served, Forgetful(shared)) as one, client(served, second) as two:
        agent = one.agent(handlers.config("from one", gate))
        running = asyncio.create_task(agent.send_message("Look it up"))
        await gate.someone_there()
        other = two.agent(handlers.config("from two"), chat_id=await chat_of(agent))
        following = asyncio.create_task(other.wait())
        await eventually(lambda: any(":call:" in key for key in second.claimed), "the second worker asks", within=5)
        gate.open()
        await going_on.someone_there()
        clock.now += 31
        await second.granted.someone_there()
        going_on.open()
        assert [(await task).text for task in (running, following)] == ["A bird.", "A bird."]
        assert handlers.attempts == [1]


async def test_a_released_call_is_run_again_by_another_worker_at_once(serve: Serve) -> None:
    """A worker that shuts down leaves its turns, and nobody has to wait for its leases to expire."""
    served, handlers, gate = serve(CALL, ["A bird."]), Handlers(), Gate()
    shared = MemoryClaims(lease=1000)
    async with client(served, WorkerClaims(shared)) as one, client(served, WorkerClaims(shared)) as two:
        agent = one.agent(handlers.config("from one", gate))
        async with agent.send_message("Look it up", stream=True) as stream:
            reading = asyncio.create_task(stream.get_final_message())
            await gate.someone_there()
            reading.cancel()
        other = two.agent(handlers.config("from two"), chat_id=await chat_of(agent))
        assert (await other.take_over(wait=0).get_final_message()).text == "A bird."
        assert handlers.attempts == [1, 2]


async def test_without_shared_claims_an_abandoned_call_is_not_run_again(serve: Serve) -> None:
    """A single process runs a call at most once; the program learns that the call waits."""
    served, handlers, gate = serve(CALL, ["A bird."]), Handlers(), Gate()
    async with AsyncInference(**served.address) as one:
        agent = one.agent(handlers.config("from one", gate))
        async with agent.send_message("Look it up", stream=True) as stream:
            reading = asyncio.create_task(stream.get_final_message())
            await gate.someone_there()
            reading.cancel()
        other = one.agent(handlers.config("from two"), chat_id=await chat_of(agent))
        message = await other.take_over(wait=0).get_final_message()
        assert [call.name for call in message.pending_tool_calls] == ["look_up"]
        assert handlers.attempts == [1]


@pytest.mark.parametrize("decision", [True, "not today"])
async def test_only_one_worker_asks_for_an_approval(serve: Serve, decision: bool | str) -> None:
    """Another worker that follows the turn learns the decision."""
    served, gate = serve(CALL, ["Done."]), Gate()
    shared = MemoryClaims(lease=30)
    asked: list[str] = []

    def asker(worker: str) -> Callable[[Any], Any]:
        async def on_approval(call: Any) -> bool | str:
            asked.append(worker)
            await gate.passed()
            return decision

        return on_approval

    build = tool("look_up").handler(lambda **_: "a bird").require_approval().build()
    second = WorkerClaims(shared)
    async with client(served, WorkerClaims(shared)) as one, client(served, second) as two:
        agent = one.agent({"name": "librarian", "tools": [build]})
        running = asyncio.create_task(agent.send_message("Look it up", on_approval=asker("one")))
        await gate.someone_there()
        other = two.agent({"name": "librarian", "tools": [build]}, chat_id=await chat_of(agent))
        follower = asyncio.create_task(other.stream_messages(on_approval=asker("two")).get_final_message())
        await eventually(lambda: any(key.endswith(":approval") for key in second.claimed), "it asks", within=5)
        gate.open()
        assert [(await task).text for task in (running, follower)] == ["Done.", "Done."]
        assert asked == ["one"]
