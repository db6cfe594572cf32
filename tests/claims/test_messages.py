"""A message with an idempotency key is sent at most once, whoever sends it again."""

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
from inferencesh.claims import Claim, Holding, MemoryClaims
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
    """Return the texts of all messages that the runtime has taken."""
    async with AsyncInference(**served.address) as reader:
        chats = [chat.id async for chat in reader.chats.list()]
        messages = [message for chat_id in chats async for message in reader.chats.messages(chat_id)]
        return sorted(message.text for message in messages if message.role == "user")


def test_a_message_with_the_same_key_is_not_sent_again(serve: Serve, connect: Connect) -> None:
    """What comes back is the reply that it has got, from another agent and another client too."""
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


def test_keys_count_without_shared_claims_too(serve: Serve, connect: Connect) -> None:
    """Within one client; output of a type is read as of the first reply."""
    served = serve(["Hello."])
    side = connect(served)
    agents = [side.agent(AGENT) for _ in range(3)]
    replies = [side.result(agent.send_message("Hi", idempotency_key="job-1")).text for agent in agents]
    assert replies == ["Hello."] * 3
    assert len({agent.chat_id for agent in agents}) == 1
    assert len(served.script.asked) == 1


async def test_two_that_send_at_once_share_one_turn(serve: Serve) -> None:
    """The second waits until the first has begun the turn, and goes on when that one leaves it."""
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


async def test_the_turn_of_a_worker_that_died_goes_on_with_the_same_key(serve: Serve) -> None:
    """The job that is delivered again sends nothing, and sees the whole reply."""
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


def test_a_message_that_was_refused_may_be_sent_again_with_its_key(kind: Kind) -> None:
    """It has not reached the agent."""
    with ScriptedRuntime() as runtime, ExitStack() as stack:
        runtime.reply(refuse=402)
        runtime.reply("Hello.")
        side = stack.enter_context(make_side(kind, api_key=runtime.api_key, base_url=runtime.base_url))
        with pytest.raises(APIError):
            side.result(side.agent(AGENT).send_message("Hi", idempotency_key="job-1"))
        assert side.result(side.agent(AGENT).send_message("Hi", idempotency_key="job-1")).text == "Hello."


@pytest.mark.parametrize("cut", ["message", "response"])
async def test_in_a_chat_that_exists_it_is_looked_for(serve: Serve, cut: Literal["message", "response"]) -> None:
    """An interrupted message is sent again if it is not there, and only then; an equal one before it does not count."""
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
async def test_it_is_not_sent_once_its_lease_has_run_out_while_a_connection_was_made(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, *, taken_over: bool
) -> None:
    """As when a worker is stopped just before it sends: another one may have sent the message, or have given it up."""
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


async def test_whoever_was_stopped_after_sending_leaves_the_turn_to_the_one_that_has_taken_it_over(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that one has ended; two that read the same turn would show its snapshots in any order."""
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
async def test_in_a_new_chat_nobody_can_tell(serve: Serve, cut: Literal["message", "response"]) -> None:
    """So it is not sent again, and an error says what to do; with another key it may be."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    async with MessageProxy(served.address["base_url"], cut) as proxy:
        address = {**served.address, "base_url": proxy.url}
        async with AsyncInference(**address, claims=shared, max_retries=0) as lossy:
            with pytest.raises(APIConnectionError):
                await lossy.agent(AGENT).send_message("Hi", idempotency_key="job-1")
            for _ in range(2):
                with pytest.raises(
                    StreamError, match="was interrupted, and whether it has begun a chat cannot be known"
                ):
                    await lossy.agent(AGENT).send_message("Hi", idempotency_key="job-1")
    assert await sent(served) == (["Hi"] if cut == "response" else [])


def test_a_message_that_was_withdrawn_may_be_sent_again_with_its_key(serve: Serve, connect: Connect) -> None:
    """It was queued behind a question, and gets no turn; once that is answered, it is sent anew, and only once."""
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


async def test_the_reply_of_an_earlier_turn_is_found_when_the_chat_went_on(serve: Serve) -> None:
    """The job of a message that was answered long ago gets that answer, and not the latest one."""
    served = serve(["One."], ["Two."], ["Three."])
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        for number in (1, 2, 3):
            await agent.send_message(f"Number {number}", idempotency_key=f"job-{number}")
        other = client.agent(AGENT)
        assert (await other.send_message("Number 2", idempotency_key="job-2")).text == "Two."
        assert other.chat_id == agent.chat_id
        assert (await other.send_message("Number 3", idempotency_key="job-3")).text == "Three."


async def test_a_run_that_has_failed_fails_again(serve: Serve) -> None:
    """The job that is delivered again is told what became of the run."""
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
    """It names one message."""
    served = serve(["Hello."])
    async with AsyncInference(**served.address) as client:
        await client.agent(AGENT).send_message("One", idempotency_key="job-1")
        agent = client.agent(AGENT)
        await agent.send_message("Two")
        with pytest.raises(ConfigurationError, match="was sent to another chat"):
            await agent.send_message("One", idempotency_key="job-1")


@pytest.mark.parametrize("key", ["", 7, b"job"])
def test_a_key_is_a_text(serve: Serve, connect: Connect, key: Any) -> None:
    """Said by the call itself."""
    side = connect(serve(["Hello."]))
    with pytest.raises(ConfigurationError, match="idempotency_key must be a text that is not empty"):
        side.agent(AGENT).send_message("Hi", idempotency_key=key, stream=True)


async def test_files_are_not_uploaded_again(serve: Serve) -> None:
    """What goes with a message that was sent is there already."""
    served = serve(["Hello."])
    async with AsyncInference(**served.address) as client:
        for _ in range(2):
            await client.agent(AGENT).send_message("Hi", files=[b"abc"], idempotency_key="job-1")
        assert len([file async for file in client.files.list()]) == 1


async def test_a_worker_that_is_left_while_it_waits_sends_nothing(serve: Serve) -> None:
    """A cancelled wait for a claim leaves everything as it is."""
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


async def test_a_look_that_fails_does_not_forget_that_the_message_may_have_been_sent(serve: Serve) -> None:
    """A worker that could not read the chat knows no more than before; the next one looks again."""
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


async def test_an_equal_message_that_another_worker_has_sent_meanwhile_does_not_count(serve: Serve) -> None:
    """What the agent knows of the chat may be older than what is there."""
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


async def test_a_message_that_was_sent_is_found_by_an_agent_without_its_chat(serve: Serve) -> None:
    """The store knows in which chat to look."""
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


def test_a_key_is_free_again_when_the_coroutine_that_had_it_was_closed(serve: Serve) -> None:
    """As when an event loop is given up without cancelling its tasks: nobody waits for what has ended."""
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
async def test_what_somebody_else_has_written_into_the_store_is_told(serve: Serve, corrupt: str) -> None:
    """As an error of the store, whether it is of a message that is on its way or was sent."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    for key in ("job-1", "job-2"):
        holding = Holding(f"message:{key}", "somebody", "message")
        await shared.claim(holding.key, holding.owner, holding.scope)
        if key == "job-1":
            await shared.settle(holding, corrupt)
        elif corrupt:
            await shared.record(holding, corrupt)
            await shared.release(holding)
        else:
            continue
        async with AsyncInference(**served.address, claims=shared) as client:
            with pytest.raises(ClaimStoreError, match="what the store of claims has kept cannot be read"):
                await client.agent(AGENT).send_message("Hi", idempotency_key=key)
    assert await sent(served) == []


async def test_the_output_of_a_later_turn_is_not_that_of_an_earlier_one_without(serve: Serve) -> None:
    """Wherever the service keeps it."""
    served = serve(["One."], [ToolCall("finish", {"value": 2})])
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        for _ in range(2):
            assert await agent.run("1", idempotency_key="job-1") is None
            assert await agent.run("2", output_type=int, idempotency_key="job-2") == 2


async def test_outputs_of_earlier_turns_are_their_own(serve: Serve) -> None:
    """Also when the chat went on, and had other outputs since."""
    finish = [[ToolCall("finish", {"value": number})] for number in (1, 2)]
    served = serve(*finish)
    async with AsyncInference(**served.address) as client:
        agent = client.agent(AGENT)
        for _ in range(2):
            for number in (1, 2):
                output = await agent.run(str(number), output_type=int, idempotency_key=f"job-{number}")
                assert output == number


async def test_a_message_that_is_gone_gets_no_reply_of_another(serve: Serve) -> None:
    """As when it was removed at the service."""
    served, shared = serve(["Hello."]), MemoryClaims(lease=30)
    async with AsyncInference(**served.address, claims=shared) as client:
        chat_id = (await client.agent(AGENT).send_message("Hi")).chat_id
        holding = Holding("message:job-1", "somebody", "message")
        await shared.claim(holding.key, holding.owner, holding.scope)
        await shared.settle(holding, json.dumps({"chat_id": chat_id, "message_id": "gone"}))
        with pytest.raises(StreamError, match=r"is not in the chat .* any more"):
            await client.agent(AGENT).send_message("Bye", idempotency_key="job-1")
