"""One assistant message while it grows: whole forms and token deltas in, snapshots that only go forward out.

A server may send the whole message on every change, or token deltas, or both, in either order, and may replay any of
it. Whole forms are authoritative; deltas run ahead of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .deltas import WRITTEN, DeltaAccumulator
from .growing_text import TextLog
from .growth import grown_by_line, grown_by_piece, grown_by_whole
from .models import Message
from .staleness import has_newer_calls, is_repeat, is_stale, keep_calls
from .wire import Event

__all__ = ["LiveMessage"]


class LiveMessage:
    """Which snapshots of one message are delivered: none that is older than the one before."""

    __slots__ = ("_deltas", "_lines", "_running", "delivered", "latest")

    def __init__(self) -> None:
        self.latest: Message | None = None  # the newest whole form
        self.delivered: Message | None = None  # the newest snapshot that was handed out
        self._deltas = DeltaAccumulator()
        self._lines: TextLog | None = None  # what whole forms add up to that each continue the one before
        self._running: TextLog | None = None  # the text of the deltas, while the newest snapshot is that and no more

    @property
    def done(self) -> bool:
        """Whether its final form has arrived."""
        return self.latest is not None and self.latest.done

    @property
    def needs_whole(self) -> bool:
        """Whether deltas are being held back until a whole form says what they belong to, and none comes by itself."""
        return not self.done and (self.latest is None or self._deltas.waiting)

    @property
    def current(self) -> Message | None:
        """The message as it is known now: what was delivered, with what has changed since without being delivered."""
        return self.latest if self.delivered is None or self.done else self.delivered

    def reconnected(self) -> None:
        """A new connection: deltas may have been missed, which their ``seq`` will tell."""
        self._running = None
        self._deltas.reconnected()

    def take_line(self, event: Event) -> Message | None:
        """Take in a form that is known to continue another; returns the snapshot, None when that is not the newest."""
        seen = self.delivered
        if seen is None or event.before is not seen.form or not self._shows_latest(seen):
            return None
        log = self._lines
        if log is None or not seen.content[0].continued_by(log, 0):
            log = self._lines = TextLog(seen.text)
        log.append(event.added)
        snapshot = self.latest = self.delivered = grown_by_line(seen, log, event.added, event.form)
        self._deltas.stated = snapshot
        return snapshot

    def take_growth(self, data: Mapping[str, Any]) -> Message | None:
        """Take in a whole form if it only adds text to the one before; returns the snapshot, or None."""
        seen = self.delivered
        if seen is None or not self._shows_latest(seen):
            return None
        snapshot = grown_by_whole(seen, data)
        if snapshot is not None:
            self.latest = self.delivered = self._deltas.stated = snapshot
        return snapshot

    def _shows_latest(self, seen: Message) -> bool:
        """Whether what was delivered is the newest whole form as it came, and may grow."""
        deltas = self._deltas
        return seen is self.latest and deltas.text is None and deltas.aligned and not seen.done

    def take_whole(self, message: Message, *, in_stream: bool) -> Message | None:
        """Take in a whole form.

        Args:
            message: The whole form, fresh from the converter.
            in_stream: Whether it came on the stream the deltas come on, and so in order with them.

        Returns:
            The snapshot to deliver, or None when there is nothing new to see.
        """
        known, deltas = self.latest, self._deltas
        self._running = None
        if known is not None:
            if known.done and not message.done:
                return None
            message = keep_calls(message, known)
        if message.done:
            message = self.latest = deltas.calls.complete(message)
            deltas.drop()
            return None if known is not None and known.done else self._deliver_whole(message)
        if in_stream:
            deltas.stated = message
        seen = self.delivered
        if seen is not None and is_stale(message, seen):
            return self._advance_calls(message)
        self.latest = message
        if deltas.align(message, in_stream=in_stream):
            return self._deliver_deltas(message, None)
        return self._deliver_whole(message)

    def take_delta(self, delta: Mapping[str, Any], seq: int | None) -> Message | None:
        """Take in a token delta.

        Args:
            delta: The model's delta: ``response``, ``reasoning``, ``tool_calls``; nulls say nothing.
            seq: Its number within the message, or None where the server does not number them.

        Returns:
            The snapshot to deliver, or None when there is nothing new to see or the message is not known yet.
        """
        piece, log, deltas = delta.get("response"), self._running, self._deltas
        if log is not None and piece and type(piece) is str and len(delta) == 1:
            last = deltas.seq
            if seq is None if last is None else seq == last + 1:  # nearly always
                deltas.seq = seq
                log.append(piece)
                assert self.delivered is not None
                snapshot = self.delivered = grown_by_piece(self.delivered, log, piece)
                return snapshot
        self._running = None
        whole = self.latest
        added = None if self.done else deltas.take(delta, seq, whole)
        return None if whole is None or added is None else self._deliver_deltas(whole, added)

    def amend(self, change: Callable[[Message], Message]) -> None:
        """Correct what is known, where this side knows better than what the server has sent."""
        self._running = None
        if self.latest is not None:
            self.latest = change(self.latest)
        if self.delivered is not None:
            self.delivered = change(self.delivered)

    # -- snapshots -------------------------------------------------------------------------------------------------

    def _advance_calls(self, message: Message) -> Message | None:
        """Take the tool calls, and only them, from a form whose text is behind."""
        seen, latest = self.delivered, self.latest
        assert seen is not None
        assert latest is not None
        if not has_newer_calls(message, seen):
            return None
        self.latest = attrs.evolve(latest, tool_calls=message.tool_calls)
        return self._deliver(
            attrs.evolve(seen, tool_calls=self._deltas.calls.merged_with(message.tool_calls), delta="")
        )

    def _deliver_whole(self, message: Message) -> Message | None:
        seen = self.delivered
        if seen is None:
            return None if _is_empty(message) else self._deliver(_with_delta(message, message.text))
        text, seen_text = message.text, seen.text
        if not text.startswith(seen_text):
            return self._deliver(_with_delta(message, None))
        if len(text) == len(seen_text) and is_repeat(message, seen):
            return None
        return self._deliver(_with_delta(message, text[len(seen_text) :]))

    def _deliver_deltas(self, whole: Message, piece: str | None) -> Message | None:
        """The snapshot of what the deltas add up to; ``piece`` is the text just added, None when that is not known."""
        deltas, seen = self._deltas, self.delivered
        snapshot = deltas.snapshot(whole, piece)
        if piece and seen is not None and deltas.continues(seen, piece):
            self._running = deltas.text if len(snapshot.content) == 1 and not deltas.calls else None
            return self._deliver(snapshot)  # and no text was joined or compared
        before, text = seen.text if seen is not None else "", snapshot.text
        _with_delta(snapshot, text[len(before) :] if text.startswith(before) else None)
        return None if _is_empty(snapshot) or (not snapshot.delta and snapshot == seen) else self._deliver(snapshot)

    def _deliver(self, message: Message) -> Message:
        self.delivered = message
        return message


def _is_empty(message: Message) -> bool:
    """Whether it is the placeholder that stands for a reply not yet begun."""
    if message.done or message.tool_calls:
        return False
    return all(block.type in WRITTEN and not block.text for block in message.content)


def _with_delta(message: Message, delta: str | None) -> Message:
    """Complete a message that was just read and that nobody else has seen yet."""
    object.__setattr__(message, "delta", delta)  # a copy by attrs.evolve would cost as much as reading it did
    return message
