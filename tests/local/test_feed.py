"""The feed of a chat and its subscriptions, without sockets."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from inferencesh.local.chats import AgentDefinition, StoredChat
from inferencesh.local.feed import DELTA_BACKLOG, Feed, Subscription
from inferencesh.local.records import Block, StoredMessage


def chat_with(*messages: StoredMessage) -> StoredChat:
    """Return a chat with these messages."""
    return StoredChat(agent_id="agent", config=AgentDefinition(), feed=Feed(), messages=list(messages))


def empty_reply() -> StoredMessage:
    """Return a placeholder for a reply."""
    return StoredMessage(chat_id="chat", role="assistant", order=1, status="pending", blocks=[Block("text", text="")])


def grow(feed: Feed, message: StoredMessage, text: str) -> None:
    """Add a piece of text to a message."""
    message.blocks[0].text = message.text + text
    feed.publish_delta(message, {"response": text})


async def names(subscription: Subscription) -> list[str]:
    """Take all events; return their names."""
    frames = await subscription.take()
    assert frames is not None
    return [frame.event for frame in frames]


async def test_an_unread_version_of_an_object_gives_way_to_the_newer_one() -> None:
    """The reader receives the newest version, at the position of the last change."""
    message = empty_reply()
    chat = chat_with(message)
    subscription = chat.feed.subscribe("snapshots", chat, [])
    chat.feed.publish_message(message)
    chat.feed.publish_chat(chat)
    for word in ("one ", "two ", "three"):
        grow(chat.feed, message, word)
    chat.feed.publish_chat(chat)
    frames = await subscription.take()
    assert frames is not None
    assert [frame.event for frame in frames] == ["chat_messages", "chats"]
    assert json.loads(frames[0].data)["content"][0]["text"] == "one two three"
    assert subscription.drained


@pytest.mark.parametrize("updates", ["deltas", "both"])
async def test_a_reader_with_too_many_unread_deltas_gets_whole_messages_instead(
    updates: Literal["deltas", "both"],
) -> None:
    """The queue stays bounded, and the sequence numbers that are read have no gap."""
    message = empty_reply()
    chat = chat_with(message)
    subscription = chat.feed.subscribe(updates, chat, [message])
    piece = "x" * (DELTA_BACKLOG // 8)
    for _ in range(64):
        grow(chat.feed, message, piece)
    frames = await subscription.take()
    assert frames is not None
    assert sum(len(frame.data) for frame in frames if frame.event == "delta") <= DELTA_BACKLOG
    assert [frame.event for frame in frames] == ["chats", "chat_messages"]
    assert len(json.loads(frames[-1].data)["content"][0]["text"]) == 64 * len(piece)
    grow(chat.feed, message, "and more")
    assert await names(subscription) == ["chat_messages"]


async def test_falling_behind_counts_for_one_message_only() -> None:
    """The next message is followed by its deltas again."""
    first, second = empty_reply(), empty_reply()
    chat = chat_with(first, second)
    subscription = chat.feed.subscribe("deltas", chat, [])
    for _ in range(3):
        grow(chat.feed, first, "x" * DELTA_BACKLOG)
    assert await names(subscription) == ["chats", "chat_messages"]
    first.status = "ready"
    chat.feed.publish_message(first)
    grow(chat.feed, second, "hello")
    assert await names(subscription) == ["chat_messages", "delta"]


async def test_one_delta_is_kept_however_large_it_is() -> None:
    """A single delta above the limit is still delivered."""
    message = empty_reply()
    chat = chat_with(message)
    subscription = chat.feed.subscribe("deltas", chat, [])
    await subscription.take()
    for _ in range(3):
        grow(chat.feed, message, "x" * (2 * DELTA_BACKLOG))
        assert await names(subscription) == ["delta"]


async def test_a_closed_subscription_is_read_to_its_end() -> None:
    """The queued events come first, then None."""
    chat = chat_with()
    subscription = chat.feed.subscribe("both", chat, [])
    chat.feed.close()
    assert await names(subscription) == ["chats"]
    assert await subscription.take() is None


async def test_who_has_left_gets_nothing_more() -> None:
    """No events are queued for it."""
    message = empty_reply()
    chat = chat_with(message)
    subscription = chat.feed.subscribe("both", chat, [])
    await subscription.take()
    chat.feed.unsubscribe(subscription)
    grow(chat.feed, message, "hello")
    chat.feed.publish_chat(chat)
    assert subscription.drained
