"""A message that is sent while the chat is busy waits for its turn, and for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from inferencesh import ConflictError, Inference, Message, NotFoundError, StreamError
from tests.support import Gate, Served, wait_until

from .conftest import Connect, Serve
from .sides import Side


def begin(side: Side, agent: Any) -> str:
    """Begin a turn that goes on by itself; returns the chat's id."""
    stream = agent.send_message("first", stream=True)
    side.next(stream)
    side.close(stream)
    chat_id: str = agent.chat_id
    return chat_id


def queued(watcher: Inference, chat_id: str, count: int = 1) -> list[Message]:
    """The messages that wait in a chat, oldest first, once there are so many."""

    def waiting() -> list[Message]:
        return [message for message in watcher.chats.messages(chat_id) if message.status == "queued"][::-1]

    wait_until(lambda: len(waiting()) == count, f"{count} queued messages", 5.0)
    return waiting()


def while_queued(served: Served, chat_id: str, act: Callable[[Inference], object]) -> tuple[ThreadPoolExecutor, Any]:
    """Have something done from elsewhere once a message waits."""
    pool = ThreadPoolExecutor(1)

    def main() -> object:
        with Inference(**served.address) as watcher:
            queued(watcher, chat_id)
            return act(watcher)

    return pool, pool.submit(main)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "message"])
def test_the_reply_to_a_queued_message_is_its_own(serve: Serve, connect: Connect, stream: bool) -> None:
    """Not the one that the other agent's message gets, in whose turn it was sent."""
    gate = Gate()
    served = serve(["one, ", gate, "and more of it"], ["two"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    chat_id = begin(side, agent)
    pool, opened = while_queued(served, chat_id, lambda _: gate.open())
    with pool:
        second = other.agent(chat_id=chat_id).send_message("second", stream=stream)
        snapshots = other.snapshots(second) if stream else [other.result(second)]
    opened.result(1)
    assert (snapshots[-1].text, snapshots[-1].status) == ("two", "ready")
    assert {snapshot.id for snapshot in snapshots} == {snapshots[-1].id}
    assert [message.text for message in served.script.asked[1].messages][-1] == "second"


def test_queued_messages_have_their_turns_in_order(serve: Serve, connect: Connect) -> None:
    """Each sender gets the reply to its own message."""
    gate = Gate()
    served = serve(["one", gate], ["two"], ["three"])
    side = connect(served)
    chat_id = begin(side, side.agent())
    replies: list[Future[str]] = []
    with Inference(**served.address) as watcher, ThreadPoolExecutor(2) as pool:

        def send(text: str) -> str:
            with Inference(**served.address) as client:
                return client.agent("tests/agent", chat_id=chat_id).send_message(text).text

        for count, text in enumerate(("second", "third"), 1):
            replies.append(pool.submit(send, text))
            queued(watcher, chat_id, count)
        gate.open()
        assert [reply.result(5) for reply in replies] == ["two", "three"]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "message"])
def test_a_queued_message_that_is_withdrawn_ends_with_an_error(serve: Serve, connect: Connect, stream: bool) -> None:
    """It says so, without waiting for the turn before; that one and the chat are unharmed."""
    gate = Gate()
    served = serve(["one", gate], ["three"])
    side, other = connect(served), connect(served)
    agent = side.agent()
    chat_id = begin(side, agent)

    def cancel(watcher: Inference) -> None:
        (message,) = queued(watcher, chat_id)
        watcher.chats.cancel_message(message.id)

    pool, cancelled = while_queued(served, chat_id, cancel)
    finish = other.snapshots if stream else other.result
    with pool, pytest.raises(StreamError, match="withdrawn before its turn came") as caught:
        finish(other.agent(chat_id=chat_id).send_message("second", stream=stream))
    cancelled.result(1)
    assert (caught.value.chat_id, caught.value.message) == (chat_id, None)
    gate.open()
    assert side.result(agent.wait()).text == "one"
    assert side.result(agent.send_message("third")).text == "three"
    assert "second" not in [message.text for message in served.script.asked[-1].messages]


def test_a_message_can_be_withdrawn_once_and_only_while_it_waits(serve: Serve, connect: Connect) -> None:
    """A conflict afterwards, and for a message whose turn has come; NotFoundError for one that there is not."""
    gate = Gate()
    served = serve(["one", gate])
    side = connect(served)
    chat_id = begin(side, side.agent())
    chats = side.client.chats
    with Inference(**served.address) as sender, ThreadPoolExecutor(1) as pool:
        lost = pool.submit(sender.agent("tests/agent", chat_id=chat_id).send_message, "second")
        (message,) = queued(sender, chat_id)
        side.result(chats.cancel_message(message.id))
        with pytest.raises(ConflictError, match="only a queued one"):
            side.result(chats.cancel_message(message.id))
        with pytest.raises(StreamError):
            lost.result(5)
        first = list(sender.chats.messages(chat_id))[-1]
    with pytest.raises(ConflictError):
        side.result(chats.cancel_message(first.id))
    with pytest.raises(NotFoundError):
        side.result(chats.cancel_message("nothing"))
    gate.open()


def test_leaving_a_queued_message_leaves_it_in_the_queue(serve: Serve, connect: Connect) -> None:
    """wait() takes it up again."""
    gate = Gate()
    served = serve(["one", gate], ["two"])
    side, other = connect(served), connect(served)
    chat_id = begin(side, side.agent())
    second = other.agent(chat_id=chat_id)
    stream = second.send_message("second", stream=True)
    if other.kind == "async":
        other.result(stream)
    else:
        stream.__enter__()
    with Inference(**served.address) as watcher:
        queued(watcher, chat_id)
    other.close(stream)
    opener = threading.Timer(0.1, gate.open)
    opener.start()
    assert other.result(second.wait()).text == "two"
    opener.join()
