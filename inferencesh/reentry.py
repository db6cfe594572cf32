"""Which conversations wait for the function of the user that is running: they can take no other turn meanwhile.

A turn waits for its handlers and callbacks. One that sends a message to its own conversation, and waits for the reply,
would wait for ever: the message stands behind the turn, and the turn waits for the function.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVar

__all__ = ["HasChat", "carried", "waiting_for", "waits"]

T = TypeVar("T")


class HasChat(Protocol):
    """A conversation."""

    chat_id: str | None


class _Wait:
    """A conversation that waits for a function of the user, until that has returned."""

    __slots__ = ("conversation", "over")

    def __init__(self, conversation: HasChat) -> None:
        self.conversation = conversation
        self.over = False  # tasks that the function has started keep this in their context for longer


_waits: ContextVar[tuple[_Wait, ...]] = ContextVar("inferencesh_waits", default=())


@contextlib.contextmanager
def waiting_for(conversation: HasChat) -> Iterator[None]:
    """Mark what is called inside, and what that calls and starts, as what a conversation's turn waits for.

    Args:
        conversation: The conversation.
    """
    wait = _Wait(conversation)
    token = _waits.set((*_waits.get(), wait))
    try:
        yield
    finally:
        wait.over = True
        with contextlib.suppress(ValueError):  # closed by the garbage collector, in a context that was never marked
            _waits.reset(token)


def waits(conversation: HasChat) -> bool:
    """Whether a conversation, or another one in the same chat, waits for the function that asks.

    Args:
        conversation: The conversation.
    """
    return any(
        wait.conversation is conversation
        or (wait.conversation.chat_id is not None and wait.conversation.chat_id == conversation.chat_id)
        for wait in _waits.get()
        if not wait.over
    )


def carried(call: Callable[[], T]) -> Callable[[], T]:
    """Make a call keep its marks on another thread, whose other context variables it is to see and may set.

    Args:
        call: The call.
    """
    present = _waits.get()

    def marked() -> T:
        token = _waits.set(present)
        try:
            return call()
        finally:
            _waits.reset(token)

    return marked
