"""A message with an idempotency key is sent at most once, no matter which worker repeats it."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Any, Literal

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    AsyncInference,
    ClaimStoreError,
    ConfigurationError,
    InputRequiredError,
    Message,
    RunFailedError,
    StreamError,
    string,
    tool,
)
from inferencesh.claims import Claim, HeldClaim, MemoryClaims
from inferencesh.local import Fail, ToolCall
from inferencesh.testing import ScriptedRuntime
from tests.clients.conftest import Connect, Serve
from tests.clients.sides import make_side
from tests.redis_server import free_port
from tests.support import Gate, Kind, Served

from .proxy import MessageProxy
from .workers import Clock, WorkerClaims

AGENT = {"name": "greeter"}


async def sent(served: Served) -> list[str]:
    """Return the texts of all messages that the runtime has accepted."""
    async with AsyncInference(**served.address) as reader:
        chats = [chat.id async for chat in reader.chats.list()]
        messages = [message for chat_id in chats async for message in reader.chats.messages(chat_id)]
        return sorted(message.text for message in messages if message.role == "user")


def test_a_message_with_the_same_key_is_not_sent_again(serve: Serve, connect: Connect) -> None:
    """The reply of the first one is returned, also by another agent and another client."""
    served = serve(["Hello."], ["Another reply."])
    side, other = (connect(served, claims=shared) for shared in [MemoryClaims(lease=30)] * 2)
    first = side.result(side.agent(AGENT).send_message("Hi", idempotency_key="job-1"))
    again = other.agent(AGENT)
    assert other.result(again.send_message("Hi", idempotency_key="job-1")).text == "Hello."
    assert again.chat_id == first.chat_id
    assert [
        m.text for m in other.snapshots(other.agent(AGENT).send_message("Hi", stream=True, idempotency_key="job-1"))
    ]
    assert other.result(again.send_message("More", idempotency_key="job-2")).text == "Another reply."
    assert len(served.script.asked) == 2
    assert asyncio.run(sent(served)) == ["Hi", "More"]


def test_keys_work_without_shared_claims(serve: Serve, connect: Connect) -> None:
    """Within one client; typed output is that of the first reply."""
    served = serve(["Hello."])
    side = connect(served)
    agents = [side.agent(AGENT) for _ in range(3)]
    replies = [side.result(agent.send_message("Hi", idempotency_key="job-1")).text for agent in agents]
    assert replies == ["Hello."] * 3
    assert len({agent.chat_id for agent in agents}) == 1
    assert len(served.script.asked) == 1


async def test_two_workers_that_send_at_once_share_one_turn(serve: Serve) -> None:
    """The second waits until the first has started the turn, and continues when the first leaves it."""
    gate = Gate()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=30)
    async with (
        AsyncInference(**served.address, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        streams = [
            client.agent(AGENT).send_message("Hi", stream=True, idempotency_key="job-1") for client in (one, two)
        ]
        readings = [asyncio.create_task(stream.get_final_message()) for stream in streams]
        await gate.someone_there()
        gate.open()
        assert [(await reading).text for reading in readings] == ["Hello.", "Hello."]
        assert sorted(str(stream.fencing_token) for stream in streams) in (["1", "2"], ["1", "None"])
    assert await sent(served) == ["Hi"]


async def test_the_same_key_continues_the_turn_of_a_dead_worker(serve: Serve) -> None:
    """The redelivered job sends nothing, and sees the whole reply."""
    gate, clock = Gate(), Clock()
    served, shared = serve(["Hel", gate, "lo."]), MemoryClaims(lease=30, clock=clock)
    dying = WorkerClaims(shared)
    async with (
        AsyncInference(**served.address, claims=dying) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        stream = one.agent(AGENT).send_message("Hi", stream=True, idempotency_key="job-1")
        assert (await anext(stream)).text == "Hel"
        clock.now += 31
        other = two.agent(AGENT).send_message("Hi", stream=True, idempotency_key="job-1")
        seen = [(await anext(other)).text]
        gate.open()
        seen.append((await other.get_final_message()).text)
        assert seen == ["Hel", "Hello."]
        assert (stream.fencing_token, other.fencing_token) == (1, 2)
        await stream.aclose()
    assert await sent(served) == ["Hi"]


def test_a_refused_message_can_be_sent_again_with_its_key(kind: Kind) -> None:
    """It has not reached the agent."""
    with ScriptedRuntime() as runtime, ExitStack() as stack:
        runtime.reply(refuse=402)
        runtime.reply("Hello.")
        side = stack.enter_context(make_side(kind, api_key=runtime.api_key, base_url=runtime.base_url))
        with pytest.raises(APIError):
            side.result(side.agent(AGENT).send_message("Hi", idempotency_key="job-1"))
        assert side.result(side.agent(AGENT).send_message("Hi", idempotency_key="job-1")).text == "Hello."


@pytest.mark.parametrize("cut", ["message", "response"])
async def test_an_interrupted_message_is_searched_for_in_an_existing_chat(
    serve: Serve, cut: Literal["message", "response"]
) -> None:
    """It is sent again only if it is not there; an identical earlier message does not count."""
    served, shared = serve(["Hello."], ["Hello again."]), MemoryClaims(lease=30)
    async with AsyncInference(**served.address, claims=shared) as one:
        chat_id = (await one.agent(AGENT).send_message("Hi")).chat_id
        async with MessageProxy(served.address["base_url"], cut) as proxy:
            address = {**served.address, "base_url": proxy.url}
            async with AsyncInference(**address, claims=shared, max_retries=0) as lossy:
                agent = lossy.agent(AGENT, chat_id=chat_id)
                with pytest.raises(APIConnectionError):
                    await agent.send_message("Hi", idempotency_key="job-1")
                message = await agent.send_message("Hi", idempotency_key="job-1")
        assert message.text == "Hello again."
    assert await sent(served) == ["Hi", "Hi"]
    assert len(served.script.asked) == 2


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_message_is_not_sent_if_its_lease_expires_while_connecting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, *, taken_over: bool
) -> None:
    """The worker may have been suspended just before sending, and another one may have sent the message since."""
    served, shared, connecting = serve(["Hello."]), MemoryClaims(lease=0.3), Gate()
    loop = asyncio.get_running_loop()
    find_address = loop.getaddrinfo

    async def find_slowly(*arguments: Any, **options: Any) -> Any:
        await connecting.passed()
        return await find_address(*arguments, **options)

    monkeypatch.setattr(loop, "getaddrinfo", find_slowly)
    slow = {**served.address, "base_url": served.address["base_url"].replace("127.0.0.1", "localhost")}
    stopped = WorkerClaims(shared)
    stopped.stopped = True
    async with (
        AsyncInference(**slow, claims=stopped) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        sending = asyncio.create_task(_send(one, "Hi"))
        await connecting.someone_there()
        await asyncio.sleep(0.4)
        if taken_over:
            with pytest.raises(StreamError, match="cannot be known"):
                await two.agent(AGENT).send_message("Hi", idempotency_key="job-1")
        stopped.stopped = False
        connecting.open()
        if taken_over:
            with pytest.raises(StreamError, match="cannot be known"):
                await sending
        else:
            assert (await sending).text == "Hello."
    assert await sent(served) == ([] if taken_over else ["Hi"])


async def test_it_is_not_in_doubt_when_it_was_left_before_a_connection_was_made(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte of it was written, so that another worker sends it."""
    served, shared, connecting = serve(["Hello."]), MemoryClaims(lease=1000), Gate()

    async def find_never(*_: Any, **__: Any) -> Any:
        await connecting.passed()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", find_never)
    slow = {**served.address, "base_url": served.address["base_url"].replace("127.0.0.1", "localhost")}
    async with (
        AsyncInference(**slow, claims=shared) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        sending = asyncio.create_task(_send(one, "Hi"))
        await connecting.someone_there()
        sending.cancel()
        await asyncio.wait({sending})
        assert (await _send(two, "Hi")).text == "Hello."
    assert await sent(served) == ["Hi"]


async def test_a_worker_that_was_suspended_after_sending_leaves_the_turn_to_the_new_owner(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that one has finished; two readers of the same turn would publish its snapshots in any order."""
    first, rest, clock = Gate(), Gate(), Clock()
    served, shared = serve(["Hello."], ["Hel", rest, "lo again."]), MemoryClaims(lease=30, clock=clock)
    async with (
        AsyncInference(**served.address) as reader,
        AsyncInference(**served.address, claims=WorkerClaims(shared)) as one,
        AsyncInference(**served.address, claims=shared) as two,
    ):
        chat_id = (await reader.agent(AGENT).send_message("Hi")).chat_id
        claim, asked = shared.claim, asyncio.Event()

        async def claim_late(key: str, owner: str, scope: str = "") -> Claim:
            if ":turn:" in key and not asked.is_set():  # the message was sent, and its turn is not claimed yet
                asked.set()
                await first.passed()
            return await claim(key, owner, scope)

        monkeypatch.setattr(shared, "claim", claim_late)
        agents = [client.agent(AGENT, chat_id=chat_id) for client in (one, two)]
        stopped, other = (agent.send_message("More", stream=True, idempotency_key="job") for agent in agents)
        reading = asyncio.create_task(anext(stopped))
        await asked.wait()
        clock.now += 31
        assert (await anext(other)).text == "Hel"
        first.open()
        done, _ = await asyncio.wait({reading}, timeout=0.3)
        assert not done
        rest.open()
        assert (await other.get_final_message()).text == "Hello again."
        assert (await reading).text == "Hello again."
    assert await sent(served) == ["Hi", "More"]


async def _send(client: AsyncInference, text: str) -> Message:
    return await client.agent(AGENT).send_message(text, idempotency_key="job-1")


@pytest.mark.parametrize("cut", ["message", "response"])
async def test_an_interrupted_message_that_starts_a_chat_is_not_sent_again(
    serve: Serve, cut: Literal["message", "response"]
) -> None:
    """Nobody can know whether it arrived. The error says what to do; another key sends it."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    async with MessageProxy(served.address["base_url"], cut) as proxy:
        address = {**served.address, "base_url": proxy.url}
        async with AsyncInference(**address, claims=shared, max_retries=0) as lossy:
            with pytest.raises(APIConnectionError):
                await lossy.agent(AGENT).send_message("Hi", idempotency_key="job-1")
            for _ in range(2):
                with pytest.raises(
                    StreamError, match="was interrupted, and it cannot be known whether it started a chat"
                ):
                    await lossy.agent(AGENT).send_message("Hi", idempotency_key="job-1")
    assert await sent(served) == (["Hi"] if cut == "response" else [])


def test_a_withdrawn_message_can_be_sent_again_with_its_key(serve: Serve, connect: Connect) -> None:
    """It was queued behind a question and got no turn; once the question is answered, it is sent again, only once."""
    served = serve([ToolCall("ask", {"question": "Which?"})], ["Answered."], ["More."], ["Other."])
    side = connect(served, claims=MemoryClaims(lease=30))
    config = {"name": "asker", "tools": [tool("ask").param("question", string()).build()]}
    agent = side.agent(config)
    asking = side.result(agent.send_message("Hi"))
    with pytest.raises(InputRequiredError, match="the message was withdrawn"):
        side.result(agent.send_message("More", idempotency_key="job-1"))
    side.result(agent.submit_tool_result(asking.pending_tool_calls[0], "This one"))
    assert side.result(agent.wait()).text == "Answered."
    for _ in range(2):
        assert side.result(agent.send_message("More", idempotency_key="job-1")).text == "More."
    assert side.result(agent.send_message("Other", idempotency_key="job-1:1")).text == "Other."  # a key of its own
    assert len(served.script.asked) == 4


async def test_a_key_returns_the_reply_of_its_own_turn_although_the_chat_has_later_ones(serve: Serve) -> None:
    """The redelivered job of an old message gets the reply to that message."""
    served = serve(["One."], ["Two."], ["Three."])
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        for number in (1, 2, 3):
            await agent.send_message(f"Number {number}", idempotency_key=f"job-{number}")
        other = client.agent(AGENT)
        assert (await other.send_message("Number 2", idempotency_key="job-2")).text == "Two."
        assert other.chat_id == agent.chat_id
        assert (await other.send_message("Number 3", idempotency_key="job-3")).text == "Three."


async def test_a_failed_run_fails_again_for_the_same_key(serve: Serve) -> None:
    """The redelivered job gets the same error."""
    served = serve(["Hel", Fail("out of paper")], ["Two."])
    async with AsyncInference(**served.address) as client:

        async def fails(text: str) -> str | None:
            with pytest.raises(RunFailedError, match=text) as caught:
                await client.agent(AGENT).send_message("One", idempotency_key="job-1")
            assert caught.value.message is not None
            assert caught.value.message.text == "Hel"
            return caught.value.chat_id

        assert await fails("out of paper") == await fails("out of paper")
        await client.agent(AGENT, chat_id=await fails("out of paper")).send_message("Two")
        await fails("the run has failed")


async def test_a_key_of_another_chat_is_an_error(serve: Serve) -> None:
    """A key identifies one message."""
    served = serve(["Hello."])
    async with AsyncInference(**served.address) as client:
        await client.agent(AGENT).send_message("One", idempotency_key="job-1")
        agent = client.agent(AGENT)
        await agent.send_message("Two")
        with pytest.raises(ConfigurationError, match="was sent to another chat"):
            await agent.send_message("One", idempotency_key="job-1")


@pytest.mark.parametrize("key", ["", 7, b"job"])
def test_a_key_must_be_a_str(serve: Serve, connect: Connect, key: Any) -> None:
    """The call itself raises."""
    side = connect(serve(["Hello."]))
    with pytest.raises(ConfigurationError, match="idempotency_key must be a text that is not empty"):
        side.agent(AGENT).send_message("Hi", idempotency_key=key, stream=True)


async def test_files_are_not_uploaded_again(serve: Serve) -> None:
    """The message was sent together with its files."""
    served = serve(["Hello."])
    async with AsyncInference(**served.address) as client:
        for _ in range(2):
            await client.agent(AGENT).send_message("Hi", files=[b"abc"], idempotency_key="job-1")
        assert len([file async for file in client.files.list()]) == 1


async def test_a_cancelled_wait_for_a_claim_sends_nothing(serve: Serve) -> None:
    """It changes nothing at all."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    assert (await shared.claim("message:job-1", "somebody", "message")).attempt == 1
    async with AsyncInference(**served.address, claims=shared) as client:
        waiting = asyncio.create_task(client.agent(AGENT).send_message("Hi", idempotency_key="job-1"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await sent(served) == []


async def test_a_failed_search_keeps_the_record_that_the_message_may_have_been_sent(serve: Serve) -> None:
    """A worker that could not read the chat has learned nothing; the next one searches again."""
    served, shared = serve(["Hello."], ["Hello again."]), MemoryClaims(lease=30)
    async with AsyncInference(**served.address, claims=shared) as one:
        chat_id = (await one.agent(AGENT).send_message("Hi")).chat_id
        async with MessageProxy(served.address["base_url"], "response") as proxy:
            address = {**served.address, "base_url": proxy.url}
            async with AsyncInference(**address, claims=shared, max_retries=0) as lossy:
                with pytest.raises(APIConnectionError):
                    await lossy.agent(AGENT, chat_id=chat_id).send_message("Bye", idempotency_key="job-1")
        unreachable = {**served.address, "base_url": f"http://127.0.0.1:{free_port()}"}
        for address in (unreachable, {**served.address, "api_key": "inf_wrong"}):
            async with AsyncInference(**address, claims=shared, max_retries=0) as other:
                with pytest.raises((APIConnectionError, APIError)):
                    await other.agent(AGENT, chat_id=chat_id).send_message("Bye", idempotency_key="job-1")
        again = one.agent(AGENT, chat_id=chat_id)
        assert (await again.send_message("Bye", idempotency_key="job-1")).text == "Hello again."
    assert await sent(served) == ["Bye", "Hi"]


async def test_an_identical_message_of_another_worker_does_not_count(serve: Serve) -> None:
    """The agent's copy of the chat may be outdated."""
    served, shared = serve(["One."], ["Two."], ["Three."]), MemoryClaims(lease=30)
    async with AsyncInference(**served.address, claims=shared) as one:
        async with MessageProxy(served.address["base_url"], "message") as proxy:
            address = {**served.address, "base_url": proxy.url}
            async with AsyncInference(**address, claims=shared, max_retries=0) as lossy:
                proxy.cut, cut = None, proxy.cut
                agent = lossy.agent(AGENT)
                chat_id = (await agent.send_message("Hi")).chat_id
                proxy.cut = cut
                await one.agent(AGENT, chat_id=chat_id).send_message("Yes")
                with pytest.raises(APIConnectionError):
                    await agent.send_message("Yes", idempotency_key="job-1")
                message = await agent.send_message("Yes", idempotency_key="job-1")
        assert message.text == "Three."
    assert await sent(served) == ["Hi", "Yes", "Yes"]


async def test_a_sent_message_is_found_by_an_agent_without_a_chat(serve: Serve) -> None:
    """The store knows the chat."""
    served, shared = serve(["Hello."], ["Hello again."]), MemoryClaims(lease=30)
    async with AsyncInference(**served.address, claims=shared) as one:
        chat_id = (await one.agent(AGENT).send_message("Hi")).chat_id
        async with MessageProxy(served.address["base_url"], "response") as proxy:
            address = {**served.address, "base_url": proxy.url}
            async with AsyncInference(**address, claims=shared, max_retries=0) as lossy:
                with pytest.raises(APIConnectionError):
                    await lossy.agent(AGENT, chat_id=chat_id).send_message("Bye", idempotency_key="job-1")
        other = one.agent(AGENT)
        assert (await other.send_message("Bye", idempotency_key="job-1")).text == "Hello again."
        assert other.chat_id == chat_id


def test_a_key_is_released_when_its_coroutine_is_closed(serve: Serve) -> None:
    """As when an event loop is discarded without cancelling its tasks."""
    gate = Gate()
    served = serve(["Hello."])
    client = AsyncInference(**served.address)
    loop = asyncio.new_event_loop()

    async def stuck(*_: Any) -> Any:
        await gate.passed()

    agent = client.agent(AGENT)
    agent._conversation.api.run = stuck  # type: ignore[method-assign,assignment] # while the message is being posted
    sending = agent.send_message("Hi", idempotency_key="job-1")
    task = loop.create_task(sending)
    loop.run_until_complete(gate.someone_there())
    sending.close()
    gate.open()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))

    async def again() -> None:
        async with asyncio.timeout(2):
            await client.agent(AGENT).send_message("Hi", idempotency_key="job-1")

    with pytest.raises(StreamError, match="was interrupted"):
        loop.run_until_complete(again())
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.parametrize("corrupt", ["", "{", "[]", '{"chat_id": 1}', "null"])
async def test_a_malformed_value_in_the_store_is_a_claim_store_error(serve: Serve, corrupt: str) -> None:
    """Both for a message that is being sent and for one that was sent."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    for key in ("job-1", "job-2"):
        holding = HeldClaim(f"message:{key}", "somebody", "message")
        await shared.claim(holding.key, holding.owner, holding.scope)
        if key == "job-1":
            await shared.complete(holding, corrupt)
        elif corrupt:
            await shared.record(holding, corrupt)
            await shared.release(holding)
        else:
            continue
        async with AsyncInference(**served.address, claims=shared) as client:
            with pytest.raises(ClaimStoreError, match="a value in the claim store is malformed"):
                await client.agent(AGENT).send_message("Hi", idempotency_key=key)
    assert await sent(served) == []


async def test_an_earlier_turn_without_output_does_not_get_that_of_a_later_one(serve: Serve) -> None:
    """Wherever the service keeps the output."""
    served = serve(["One."], [ToolCall("finish", {"value": 2})])
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        for _ in range(2):
            assert await agent.run("1", idempotency_key="job-1") is None
            assert await agent.run("2", output_type=int, idempotency_key="job-2") == 2


async def test_earlier_turns_keep_their_own_outputs(serve: Serve) -> None:
    """Even if the chat has had other outputs since."""
    finish = [[ToolCall("finish", {"value": number})] for number in (1, 2)]
    served = serve(*finish)
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        for _ in range(2):
            for number in (1, 2):
                output = await agent.run(str(number), output_type=int, idempotency_key=f"job-{number}")
                assert output == number


async def test_a_deleted_message_does_not_get_the_reply_to_another_one(serve: Serve) -> None:
    """As when it was deleted at the service."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    async with AsyncInference(**served.address, claims=shared) as client:
        chat_id = (await client.agent(AGENT).send_message("Hi")).chat_id
        holding = HeldClaim("message:job-1", "somebody", "message")
        await shared.claim(holding.key, holding.owner, holding.scope)
        await shared.complete(holding, json.dumps({"chat_id": chat_id, "message_id": "gone"}))
        with pytest.raises(StreamError, match=r"is no longer in the chat "):
            await client.agent(AGENT).send_message("Bye", idempotency_key="job-1")
