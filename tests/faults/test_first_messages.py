"""An agent object is one conversation, however many first messages are sent at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from inferencesh import APIError, AsyncInference, ConflictError, Inference, Message
from inferencesh.testing import ScriptedRuntime
from tests.support import Kind

from .forms import accepted_of, chat, message
from .script import Reply, Scenario, Script, hold
from .server import FaultServer
from .turns import POST, TEXT, client_options

T = TypeVar("T")
Ended = Message | BaseException

TEXTS = ("one", "two", "three", "four")
WHOLE: Script = (chat("working"), message(TEXT, "ready"), chat("completed"))


def send_all(kind: Kind, options: dict[str, Any], texts: Sequence[str]) -> list[Ended]:
    """Send messages with one new agent, all at the same time, and return what each comes to."""
    if kind == "sync":
        ready = threading.Barrier(len(texts))
        with Inference(**options) as client, ThreadPoolExecutor(len(texts)) as pool:
            agent = client.agent({"name": "tester"})

            def send(text: str) -> Ended:
                ready.wait(10)
                try:
                    return agent.send_message(text)
                except APIError as error:
                    return error

            return list(pool.map(send, texts))

    async def gathered() -> list[Ended]:
        async with AsyncInference(**options) as client:
            agent = client.agent({"name": "tester"})
            return await asyncio.gather(*map(agent.send_message, texts), return_exceptions=True)

    return asyncio.run(gathered())


def test_first_messages_sent_at_once_share_one_chat(kind: Kind) -> None:
    """One begins the chat and the others follow it there; each has its own reply."""
    with ScriptedRuntime() as runtime:
        for text in TEXTS:
            runtime.reply(text.upper())
        ended = send_all(kind, {"api_key": runtime.api_key, "base_url": runtime.base_url}, TEXTS)
        replies = [each for each in ended if isinstance(each, Message)]
        assert len({reply.chat_id for reply in replies}) == 1
        assert sorted(reply.text for reply in replies) == sorted(text.upper() for text in TEXTS)
        assert sorted(request.text for request in runtime.requests) == sorted(TEXTS)
        assert [request.chat_id for request in runtime.requests].count(None) == 1


def test_where_the_first_message_is_refused_the_next_begins_the_chat(kind: Kind) -> None:
    """A failure holds up nobody."""
    with ScriptedRuntime() as runtime:
        runtime.reply(refuse=409)
        for text in TEXTS[1:]:
            runtime.reply(text)
        ended = send_all(kind, {"api_key": runtime.api_key, "base_url": runtime.base_url}, TEXTS)
        assert [type(each) for each in ended].count(ConflictError) == 1
        assert len({reply.chat_id for reply in ended if isinstance(reply, Message)}) == 1
        assert [request.chat_id for request in runtime.requests].count(None) == 2


def test_a_message_that_is_given_up_lets_the_next_begin_the_chat() -> None:
    """A cancelled task neither keeps the others waiting nor is anything sent for one that waited."""

    async def give_up_two(options: dict[str, Any], wait: Callable[[], Any]) -> str:
        async with AsyncInference(**options) as client:
            agent = client.agent({"name": "tester"})
            sending = [asyncio.create_task(agent.send_message(text)) for text in TEXTS[:3]]
            await asyncio.to_thread(wait)
            for each in sending[:2]:
                each.cancel()
            assert all(isinstance(each, asyncio.CancelledError) for each in await settled(sending[:2]))
            return (await sending[2]).text

    scenario = Scenario(post=[(hold("never"),), (Reply(accepted_of()),)], streams=[WHOLE])
    with FaultServer(scenario) as server:
        assert asyncio.run(give_up_two(client_options(server), lambda: server.wait_for_request(POST))) == TEXT
        assert len(server.seen(POST)) == 2


def test_an_answer_that_comes_after_a_reset_is_not_the_new_chat(kind: Kind) -> None:
    """The message that was under way has its reply; the agent stays without a chat."""
    scenario = Scenario(post=[(hold("answer"), Reply(accepted_of()))], streams=[WHOLE])
    with FaultServer(scenario) as server:

        def meanwhile(agent: Any) -> None:
            server.wait_for_request(POST)
            agent.reset()
            server.release("answer")

        text, chat_id = beside(kind, client_options(server), meanwhile)
    assert (text, chat_id) == (TEXT, None)


def beside(kind: Kind, options: dict[str, Any], act: Callable[[Any], None]) -> tuple[str, str | None]:
    """Send a message with a new agent, act meanwhile, and return the reply's text and the agent's chat."""
    if kind == "sync":
        with Inference(**options) as client, ThreadPoolExecutor(1) as pool:
            agent = client.agent({"name": "tester"})
            sending = pool.submit(agent.send_message, "Hi")
            act(agent)
            return sending.result(10).text, agent.chat_id

    async def send() -> tuple[str, str | None]:
        async with AsyncInference(**options) as client:
            agent = client.agent({"name": "tester"})
            sending = asyncio.create_task(agent.send_message("Hi"))
            await asyncio.to_thread(act, agent)
            return (await sending).text, agent.chat_id

    return asyncio.run(send())


async def settled(calls: Sequence[Awaitable[T]]) -> list[T | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)
