"""Turns that another worker has begun: taken over when its lease has ended, and not before."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from inferencesh import (
    AsyncAgent,
    AsyncInference,
    AsyncMessageStream,
    CallbackCancelledError,
    ClaimStoreError,
    ConfigurationError,
    Inference,
    InferenceError,
    LeaseHeldError,
    LeaseLostError,
    NotFoundError,
    Supervisor,
    string,
    tool,
)
from inferencesh.claims import Claim, Holding, MemoryClaims
from inferencesh.local import ToolCall
from tests.clients.conftest import Connect, Serve
from tests.support import Gate, eventually

from .workers import WorkerClaims

AGENT = {"name": "greeter"}


def test_a_turn_that_was_left_is_taken_over_at_once(serve: Serve, connect: Connect) -> None:
    """The message as it is by now, then all that follows; the numbers of its leases grow."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    one, two = connect(served, claims=shared), connect(served, claims=shared)
    agent = one.agent(AGENT)
    stream = agent.send_message("Hi", stream=True)
    assert one.next(stream).text == "Hel"
    one.close(stream)
    other = two.agent(AGENT, chat_id=agent.chat_id)
    taken = other.take_over(wait=0)
    texts = [two.next(taken).text]
    gate.open()
    texts += [message.text for message in two.snapshots(taken)]
    assert (texts[0], texts[-1]) == ("Hel", "Hello.")
    assert (stream.fencing_token, taken.fencing_token) == (1, 2)
    assert two.result(taken.get_final_message()).text == "Hello."


def test_a_turn_of_a_living_worker_is_left_to_it(serve: Serve, connect: Connect) -> None:
    """Waiting has an end if one is given; the worker itself notices nothing."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    one, two = connect(served, claims=shared), connect(served, claims=shared)
    agent = one.agent(AGENT)
    stream = agent.send_message("Hi", stream=True)
    one.next(stream)
    for wait in (0, 0.1):
        with pytest.raises(LeaseHeldError, match="another worker still has the lease of the turn"):
            two.result(two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=wait).get_final_message())
    gate.open()
    assert one.snapshots(stream)[-1].text == "Hello."
    over = two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=0)
    assert two.snapshots(over) == []
    assert two.result(over.get_final_message()).text == "Hello."


class Waiting(WorkerClaims):
    """Claims for which a worker waits at a gate."""

    def __init__(self, shared: MemoryClaims) -> None:
        super().__init__(shared)
        self.gate = Gate()

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """As the shared store, once the gate is open."""
        await self.gate.passed()
        return await super().claim(key, owner, scope)


async def test_a_stream_that_is_closed_while_it_is_opened_holds_nothing(serve: Serve) -> None:
    """Another task closes it; the one that has begun to open it gets it closed."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    claims = Waiting(shared)
    async with (
        AsyncInference(**served.address, claims=claims) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        stream = agent.send_message("Hi", stream=True)

        async def opening() -> None:
            await stream

        task = asyncio.create_task(opening())
        await claims.gate.someone_there()
        await stream.aclose()
        claims.gate.open()
        await task
        async with two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=0) as taken:
            assert (await anext(taken)).text == "Hel"
        assert [message async for message in stream] == []
        gate.open()


async def test_a_stream_that_was_awaited_and_is_then_entered_holds_one_lease(serve: Serve) -> None:
    """It is released when the stream is left, so that another worker can go on at once."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        async with await agent.send_message("Hi", stream=True) as stream:
            assert (await anext(stream)).text == "Hel"
        taken = await two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=0)
        gate.open()
        assert (await taken.get_final_message()).text == "Hello."
        assert (stream.fencing_token, taken.fencing_token) == (1, 2)


async def test_waiting_ends_with_the_lease(serve: Serve) -> None:
    """However long it takes; the turn that is over by then gives its last message."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    waiting = WorkerClaims(shared)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=waiting) as two,
    ):
        agent = one.agent(AGENT)
        stream = await agent.send_message("Hi", stream=True)
        await anext(stream)
        taking = asyncio.create_task(two.agent(AGENT, chat_id=agent.chat_id).take_over().get_final_message())
        await eventually(lambda: len(waiting.claimed) > 2, "it asks again", within=5)
        gate.open()
        assert (await stream.get_final_message()).text == "Hello."
        assert (await taking).text == "Hello."


async def test_a_stopped_worker_delivers_nothing_after_another_has_its_turn(serve: Serve) -> None:
    """It finds out before it hands out what has arrived meanwhile."""
    gates = [Gate(), Gate()]
    served, shared = serve(["Hel", gates[0], "lo", gates[1], "."]), MemoryClaims(lease=0.5)
    dying = WorkerClaims(shared)
    async with (
        AsyncInference(**served.address, claims=dying) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        stream = agent.send_message("Hi", stream=True)
        assert (await anext(stream)).text == "Hel"
        dying.stopped = True
        taken = two.agent(AGENT, chat_id=agent.chat_id).take_over()
        assert (await anext(taken)).text == "Hel"
        gates[0].open()
        assert (await anext(taken)).text == "Hello"
        dying.stopped = False
        with pytest.raises(LeaseLostError) as caught:
            await anext(stream)
        assert caught.value.message is not None
        assert caught.value.message.text == "Hel"
        assert caught.value.chat_id == agent.chat_id
        gates[1].open()
        assert (await taken.get_final_message()).text == "Hello."


async def test_a_worker_that_is_stopped_while_it_waits_for_the_stream_delivers_nothing_more(serve: Serve) -> None:
    """What arrives when it goes on is not handed out before it knows whether it still has the turn."""
    gates = [Gate(), Gate()]
    served, shared = serve(["Hel", gates[0], "lo", gates[1], "."]), MemoryClaims(lease=0.5)
    dying = WorkerClaims(shared)
    async with (
        AsyncInference(**served.address, claims=dying) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        stream = agent.send_message("Hi", stream=True)
        assert (await anext(stream)).text == "Hel"
        dying.stopped = True
        waiting = asyncio.ensure_future(anext(stream))
        taken = await two.agent(AGENT, chat_id=agent.chat_id).take_over()
        gates[0].open()
        async for message in taken:
            if message.text == "Hello":
                break
        await asyncio.sleep(0.1)
        dying.stopped = False
        with pytest.raises(LeaseLostError):
            await waiting
        gates[1].open()
        assert (await taken.get_final_message()).text == "Hello."


class Delayed(WorkerClaims):
    """A worker that is stopped just after the store has granted it a turn."""

    def __init__(self, shared: MemoryClaims) -> None:
        super().__init__(shared)
        self.going_on = Gate()

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """As the shared store, but the answer to a request for a turn waits."""
        claim = await super().claim(key, owner, scope)
        if ":turn:" in key:
            await self.going_on.passed()
        return claim


async def test_a_worker_that_is_stopped_while_it_claims_a_turn_delivers_nothing(serve: Serve) -> None:
    """Its lease began when it asked, not when it learned of it."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=0.5)
    dying = Delayed(shared)
    async with (
        AsyncInference(**served.address, claims=dying) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        stream = agent.send_message("Hi", stream=True)
        reading = asyncio.ensure_future(anext(stream))
        await dying.going_on.someone_there()
        taken = await two.agent(AGENT, chat_id=agent.chat_id).take_over()
        dying.going_on.open()
        with pytest.raises(LeaseLostError):
            await reading
        gate.open()
        assert (await taken.get_final_message()).text == "Hello."


async def test_a_turn_of_which_nobody_has_the_lease_is_followed_by_several(serve: Serve) -> None:
    """stream_messages never waits: a second stream only has no fencing token."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    async with AsyncInference(**served.address, claims=shared) as client:
        agent = client.agent(AGENT)
        first = await agent.send_message("Hi", stream=True)
        second = await client.agent(AGENT, chat_id=agent.chat_id).stream_messages()
        assert (first.fencing_token, second.fencing_token) == (1, None)
        gate.open()
        assert [(await stream.get_final_message()).text for stream in (first, second)] == ["Hello."] * 2


async def test_a_stream_that_is_iterated_again_has_the_lease_again(serve: Serve) -> None:
    """With the next number, so that nobody else takes the turn meanwhile; without one where another worker has it."""
    gates = [Gate(), Gate(), Gate()]
    served, shared = serve(["Hel", gates[0], "lo", gates[1], ", you", gates[2], "."]), MemoryClaims(lease=1000)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        stream = agent.send_message("Hi", stream=True)
        async for _ in stream:
            break
        gates[0].open()
        async for _ in stream:
            assert stream.fencing_token == 2
            with pytest.raises(LeaseHeldError):
                await two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=0)
            break
        taken = await two.agent(AGENT, chat_id=agent.chat_id).take_over()
        assert taken.fencing_token == 3
        gates[1].open()
        async for _ in stream:
            assert stream.fencing_token is None
            break
        gates[2].open()
        assert (await taken.get_final_message()).text == "Hello, you."


@pytest.mark.parametrize("key", [None, "job-1"])
async def test_a_turn_whose_message_the_response_leaves_out_is_claimed_all_the_same(
    serve: Serve, key: str | None
) -> None:
    """Its id is read from the chat."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        api = agent._conversation.api
        run = api.run

        async def without(*arguments: Any) -> Mapping[str, Any]:
            return {**await run(*arguments), "user_message": None}

        api.run = without  # type: ignore[method-assign, assignment] # the service may leave it out
        stream = await agent.send_message("Hi", stream=True, idempotency_key=key)
        with pytest.raises(LeaseHeldError):
            await two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=0)
        gate.open()
        assert (await stream.get_final_message()).text == "Hello."


async def test_without_shared_claims_it_attaches_at_once(serve: Serve) -> None:
    """There are no leases in one process."""
    gate = Gate()
    served = serve(["Hel", gate, "lo."])
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        first = await agent.send_message("Hi", stream=True)
        taken = await client.agent(AGENT, chat_id=agent.chat_id).take_over()
        assert (first.fencing_token, taken.fencing_token) == (None, None)
        gate.open()
        assert [(await stream.get_final_message()).text for stream in (first, taken)] == ["Hello."] * 2


async def test_a_turn_that_waits_for_a_person_is_taken_over_as_it_is(serve: Serve) -> None:
    """Its lease ended with the pause."""
    served, shared = serve([ToolCall("ask", {"question": "Which?"})], ["Done."]), MemoryClaims(lease=1000)
    config = {"name": "asker", "tools": [tool("ask").param("question", string()).build()]}
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        chat_id = (await one.agent(config).send_message("Hi")).chat_id
        other = two.agent(config, chat_id=chat_id)
        message = await other.take_over(wait=0).get_final_message()
        await other.submit_tool_result(message.pending_tool_calls[0], "This one")
        assert (await other.take_over(wait=0).get_final_message()).text == "Done."


def test_without_a_chat_there_is_nothing_to_take_over(serve: Serve, connect: Connect) -> None:
    """Said by the stream, as for stream_messages; a chat that does not exist is not found."""
    side = connect(serve(["Hello."]))
    with pytest.raises(InferenceError, match="this agent has no chat yet"):
        side.result(side.agent(AGENT).take_over().get_final_message())
    with pytest.raises(NotFoundError):
        side.result(side.agent(AGENT, chat_id="no-such-chat").take_over().get_final_message())
    for wait in (-1, "5", True, float("nan")):
        with pytest.raises(ConfigurationError, match="wait must be a number of seconds"):
            side.agent(AGENT).take_over(wait=wait)


# -- the supervisor ----------------------------------------------------------------------------------------------------


async def begin(client: AsyncInference, count: int) -> list[str]:
    """Begin turns and leave them; return their chats."""
    chats = []
    for number in range(count):
        agent = client.agent(AGENT)
        async with agent.send_message(f"Number {number}", stream=True) as stream:
            await anext(stream)
        chats.append(agent.chat_id or "")
    return chats


async def test_a_supervisor_takes_all_turns_over(serve: Serve) -> None:
    """Each once, several at once but no more than it may, and what is done with their snapshots is the caller's."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        chats = await begin(one, 5)
        followed: dict[str | None, list[str]] = {}
        busy, most = 0, 0

        async def follow(stream: AsyncMessageStream) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            if busy == 2:
                gate.open()
            followed[stream.chat_id] = [message.text async for message in stream]
            busy -= 1

        async def queue() -> AsyncIterator[str]:
            for chat_id in [chats[0], *chats]:  # delivered twice, as queues may
                yield chat_id

        supervisor = Supervisor(lambda chat_id: two.agent(AGENT, chat_id=chat_id), follow, at_once=2)
        taken = [each async for each in supervisor.run(queue())]
        assert sorted(each.chat_id for each in taken) == sorted([chats[0], *chats])
        assert {each.message.text for each in taken if each.message} == {"Hello."}
        assert {texts[-1] for texts in followed.values() if texts} == {"Hello."}
        assert most == 2


async def test_what_fails_does_not_hold_up_the_others(serve: Serve) -> None:
    """A turn that a living worker has, and a chat that is gone, are told as they are."""
    gates = [Gate(), Gate()]
    served, shared = serve(["Hel", gates[0], "lo."], ["Hel", gates[1], "lo."]), MemoryClaims(lease=1000)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(AGENT)
        stream = await agent.send_message("Hi", stream=True)
        (left,) = await begin(one, 1)
        gates[1].open()
        supervisor = Supervisor(lambda chat_id: two.agent(AGENT, chat_id=chat_id), wait=0)
        assert agent.chat_id is not None
        taken = {each.chat_id: each async for each in supervisor.run([agent.chat_id, "no-such-chat", left])}
        assert isinstance(taken[agent.chat_id].error, LeaseHeldError)
        assert isinstance(taken["no-such-chat"].error, NotFoundError)
        message = taken[left].message
        assert message is not None
        assert message.text == "Hello."
        await stream.aclose()


async def test_leaving_a_supervisor_leaves_its_turns_to_others(serve: Serve) -> None:
    """At once, as a worker does that is told to stop."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        (chat_id,) = await begin(one, 1)
        following = asyncio.Event()

        async def follow(stream: AsyncMessageStream) -> None:
            async for _ in stream:
                following.set()

        def make_agent(chat_id: str) -> AsyncAgent:
            return one.agent(AGENT, chat_id=chat_id)

        async def supervise() -> None:
            async for _ in Supervisor(make_agent, follow).run([chat_id]):
                raise AssertionError("it ended")

        supervising = asyncio.create_task(supervise())
        await following.wait()
        supervising.cancel()
        with pytest.raises(asyncio.CancelledError):
            await supervising
        taken = two.agent(AGENT, chat_id=chat_id).take_over(wait=0)
        assert (await anext(taken)).text == "Hel"
        assert taken.fencing_token == 3
        gate.open()
        assert (await taken.get_final_message()).text == "Hello."


async def test_what_the_callers_own_code_raises_ends_the_supervisor(serve: Serve) -> None:
    """It is no error of a turn."""
    served = serve(["Hello."])
    async with AsyncInference(**served.address) as client:
        chats = await begin(client, 1)

        async def follow(stream: Any) -> None:
            raise RuntimeError("a mistake")

        supervisor = Supervisor(lambda chat_id: client.agent(AGENT, chat_id=chat_id), follow)
        with pytest.raises(RuntimeError, match="a mistake"):
            await anext(supervisor.run(chats))
        with pytest.raises(TypeError, match=r"write \[chat_id\] for one"):
            await anext(supervisor.run(chats[0]))
        with pytest.raises(ConfigurationError, match="at_once must be a whole number of at least 1"):
            Supervisor(lambda chat_id: client.agent(AGENT, chat_id=chat_id), at_once=0)


async def test_a_follow_that_is_cancelled_by_others_is_an_error_of_its_turn(serve: Serve) -> None:
    """The caller of the supervisor would look cancelled otherwise; the other turns go on."""
    served = serve(["Hello."], ["Hello."])
    async with AsyncInference(**served.address) as client:
        chats = await begin(client, 2)

        async def follow(stream: AsyncMessageStream) -> None:
            if first := not followed:
                followed.append(first)
                raise asyncio.CancelledError  # as if it had awaited a task that somebody cancelled

        followed: list[bool] = []
        supervisor = Supervisor(lambda chat_id: client.agent(AGENT, chat_id=chat_id), follow)
        taken = [(type(each.error), each.message and each.message.text) async for each in supervisor.run(chats)]
        assert sorted(taken, key=str) == [(type(None), "Hello."), (CallbackCancelledError, None)]


async def test_what_is_no_chat_id_or_no_agent_is_told(serve: Serve) -> None:
    """And is not taken for the end of the ids, as the id of an agent would be that has not sent a message yet."""
    served = serve(["Hello."])
    async with AsyncInference(**served.address) as client:
        (chat,) = await begin(client, 1)

        async def run(ids: Any, make_agent: Any = None, follow: Any = None) -> int:
            made = make_agent or (lambda chat_id: client.agent(AGENT, chat_id=chat_id))
            return len([taken async for taken in Supervisor(made, follow).run(ids)])

        for wrong in (client.agent(AGENT).chat_id, 5, [chat], b"id"):
            with pytest.raises(TypeError, match="a chat id must be a str"):
                await run([wrong, chat])
        for agent in (None, Inference(**served.address).agent(AGENT, chat_id=chat)):
            with pytest.raises(TypeError, match="make_agent must return an AsyncAgent"):
                await run([chat], lambda _, agent=agent: agent)
        with pytest.raises(TypeError, match="follow must be an async function"):
            await run([chat], follow=lambda _: None)
        with pytest.raises(ConfigurationError, match="wait must be a number of seconds of at least 0"):
            Supervisor(lambda chat_id: client.agent(AGENT, chat_id=chat_id), wait=-1)
        assert await run([chat]) == 1


# -- a store that is lost ----------------------------------------------------------------------------------------------


class Unreachable(WorkerClaims):
    """Claims that are lost while the test says so."""

    lost = False

    def _look(self) -> None:
        if self.lost:
            raise ClaimStoreError("the store cannot be reached")

    async def check(self) -> None:
        """As the shared store, unless it is lost."""
        self._look()

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """As the shared store, unless it is lost."""
        self._look()
        return await super().claim(key, owner, scope)

    async def renew(self, holdings: Sequence[Holding]) -> list[bool]:
        """As the shared store, unless it is lost."""
        self._look()
        return await super().renew(holdings)

    async def record(self, holding: Holding, result: str) -> bool:
        """As the shared store, unless it is lost."""
        self._look()
        return await super().record(holding, result)

    async def settle(self, holding: Holding, result: str | None = None) -> None:
        """As the shared store, unless it is lost."""
        self._look()
        await super().settle(holding, result)

    async def release(self, holding: Holding, *, for_good: bool = False) -> None:
        """As the shared store, unless it is lost."""
        self._look()
        await super().release(holding, for_good=for_good)


CALL = [ToolCall("look_up", {"word": "pelican"})]


def look_up(gate: Gate | None = None) -> dict[str, Any]:
    """Return an agent whose tool waits at a gate."""

    async def handler(word: str) -> str:
        if gate is not None:
            await gate.passed()
        return f"a {word}"

    return {"name": "librarian", "tools": [tool("look_up").handler(handler).build()]}


async def test_turns_under_way_finish_without_the_store(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The call that was claimed before it was lost is answered, and the turn goes on to its end."""
    gate, served = Gate(), serve(CALL, ["A bird."])
    claims = Unreachable(MemoryClaims(lease=0.3))
    async with AsyncInference(**served.address, claims=claims) as client:
        sending = asyncio.create_task(client.agent(look_up(gate)).send_message("Hi", idempotency_key="job-1"))
        await gate.someone_there()
        claims.lost = True
        await eventually(lambda: "the turns under way go on" in caplog.text, "a renewal fails", within=5)
        gate.open()
        assert (await sending).text == "A bird."
    assert "the result of a call that was claimed before is posted" in caplog.text


async def test_a_new_claim_fails_without_the_store(serve: Serve) -> None:
    """A typed error, with the chat to take up later; nothing was run or sent. Turns without claims of calls go on."""
    served = serve(CALL, ["A bird."], ["Hello."])
    claims = Unreachable(MemoryClaims(lease=30))
    async with AsyncInference(**served.address, claims=claims) as client:
        claims.lost = True
        with pytest.raises(ClaimStoreError) as caught:
            await client.agent(look_up()).send_message("Hi")
        with pytest.raises(ClaimStoreError):
            await client.agent(look_up()).send_message("Hi", idempotency_key="job-1")
        agent = client.agent(look_up(), chat_id=caught.value.chat_id)
        with pytest.raises(ClaimStoreError):
            await agent.take_over().get_final_message()
        claims.lost = False
        assert (await agent.take_over().get_final_message()).text == "A bird."
        assert len(served.script.asked) == 2
        claims.lost = True
        assert (await client.agent(AGENT).send_message("Hi")).text == "Hello."


class Refusing(Unreachable):
    """Claims that refuse this program while the test says so, as when its password was changed."""

    def _look(self) -> None:
        if self.lost:
            raise ConfigurationError("the store refuses this program")


async def test_a_message_is_followed_whose_turn_the_store_refuses_to_claim(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """It was sent: its reply is not thrown away."""
    claims = Refusing(MemoryClaims(lease=30))
    async with AsyncInference(**serve(["Hello."]).address, claims=claims) as client:
        claims.lost = True
        assert (await client.agent(AGENT).send_message("Hi")).text == "Hello."
    assert "the store refuses this program; the turn goes on" in caplog.text


class Slow(Unreachable):
    """Claims that need longer than a lease to find out that they are lost."""

    renewals = 0

    async def renew(self, holdings: Sequence[Holding]) -> list[bool]:
        """As the shared store, unless it is lost."""
        self.renewals += 1
        if self.lost:
            await asyncio.sleep(2 * (self.lease or 0))
        return await super().renew(holdings)


async def test_a_turn_does_not_wait_for_the_store_again_and_again(serve: Serve) -> None:
    """Once in each lease it asks whether the turn is still its own, however long the store lets it wait."""
    pieces = [f"{number} " for number in range(40)]
    gates = [Gate() for _ in pieces]
    served = serve([step for pair in zip(gates, pieces, strict=True) for step in pair])
    claims = Slow(MemoryClaims(lease=0.3))
    async with AsyncInference(**served.address, claims=claims) as client:
        stream = await client.agent(AGENT).send_message("Hi", stream=True)
        claims.lost = True
        await asyncio.sleep(0.3)
        for gate in gates[:-1]:
            gate.open()
            await anext(stream)
        assert claims.renewals < 12
        gates[-1].open()
        assert (await stream.get_final_message()).text == "".join(pieces)


async def test_a_call_that_on_tool_call_has_answered_needs_no_store(serve: Serve) -> None:
    """Its result is at the service already."""
    served = serve(CALL, ["A bird."])
    claims = Unreachable(MemoryClaims(lease=30))
    async with AsyncInference(**served.address, claims=claims) as client:
        agent = client.agent(look_up())

        async def answers(call: Any) -> None:
            await agent.submit_tool_result(call, "a bird")
            claims.lost = True

        assert (await agent.send_message("Hi", on_tool_call=answers)).text == "A bird."


async def test_a_program_may_go_on_without_the_store(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Each call still runs once in this process."""
    served = serve(CALL, ["A bird."])
    claims = Unreachable(MemoryClaims(lease=30))
    claims.lost = True
    async with AsyncInference(**served.address, claims=claims, on_claim_store_lost="run") as client:
        message = await client.agent(look_up()).send_message("Hi", idempotency_key="job-1")
        assert message.text == "A bird."
        again = await client.agent(look_up()).send_message("Hi", idempotency_key="job-1")
        assert again.id == message.id
    assert "going on without it, as on_claim_store_lost says" in caplog.text
    assert len(served.script.asked) == 2


class Faulty(WorkerClaims):
    """Claims with a mistake, which shows once."""

    failed = False

    async def renew(self, holdings: Sequence[Holding]) -> list[bool]:
        """As the shared store, but not the first time."""
        if not self.failed:
            self.failed = True
            raise LookupError("a mistake")
        return await super().renew(holdings)


async def test_leases_are_renewed_after_a_mistake_of_the_store(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """It is in the log, and the worker keeps its calls."""
    gate, served = Gate(), serve(CALL, ["A bird."])
    shared = MemoryClaims(lease=0.3)
    claims = Faulty(shared)
    async with (
        AsyncInference(**served.address, claims=claims) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        agent = one.agent(look_up(gate))
        sending = asyncio.create_task(agent.send_message("Hi"))
        await gate.someone_there()
        await eventually(lambda: claims.failed, "a renewal", within=5)
        with pytest.raises(LeaseHeldError):
            await two.agent(look_up(), chat_id=agent.chat_id).take_over(wait=0.6)
        gate.open()
        assert (await sending).text == "A bird."
    assert "Faulty.renew() of the store of claims failed: LookupError: a mistake" in caplog.text


def test_nothing_is_kept_of_event_loops_that_have_ended(serve: Serve) -> None:
    """Also of one that ended in the middle of a turn."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    client = AsyncInference(**served.address, claims=shared)
    streams, loops = [], []

    async def begin() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        streams.append(client.agent(AGENT).send_message("Hi", stream=True))
        await anext(streams[-1])

    for _ in range(3):
        asyncio.run(begin())
        streams.clear()
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None, None]
    gate.open()
    asyncio.run(client.aclose())


async def test_a_lost_store_is_told_when_a_client_is_entered(serve: Serve) -> None:
    """Before anything is sent; nothing is left behind."""
    claims, served = Unreachable(MemoryClaims(lease=30)), serve(["Hello."])
    claims.lost = True
    with pytest.raises(ClaimStoreError):
        await AsyncInference(**served.address, claims=claims).__aenter__()
    with pytest.raises(ClaimStoreError):
        await asyncio.to_thread(Inference(**served.address, claims=claims).__enter__)


async def test_closing_a_client_releases_what_it_holds(serve: Serve) -> None:
    """A stream that was not closed before is left to other workers at once."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=1000)
    async with AsyncInference(**served.address, claims=shared) as one:
        agent = one.agent(AGENT)
        stream = agent.send_message("Hi", stream=True)
        await anext(stream)
    async with AsyncInference(**served.address, claims=shared) as two:
        taken = await two.agent(AGENT, chat_id=agent.chat_id).take_over(wait=0)
        gate.open()
        assert (await taken.get_final_message()).text == "Hello."


@pytest.mark.parametrize("cls", [AsyncInference, Inference])
def test_wrong_arguments_are_told_at_once(cls: Any) -> None:
    """By the constructor."""
    with pytest.raises(ConfigurationError, match="claims must be a ClaimStore, such as RedisClaims"):
        cls("inf_key", claims="redis://localhost")
    with pytest.raises(ConfigurationError, match="on_claim_store_lost must be 'fail' or 'run', not 'stop'"):
        cls("inf_key", on_claim_store_lost="stop")
