"""One assistant message while it grows: whole forms and token deltas in, snapshots that only go forward out.

A server may send the whole message on every change, or token deltas, or both, in either order, and may replay any of
it. Whole forms are authoritative; deltas run ahead of them. Deltas are chained by ``seq``: one at or before the last is
dropped, and after a gap none is used until a whole form that arrives in the same stream says where the text stands. A
whole form from a separate request cannot say that, since it may hold any number of the deltas that are still under way.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import attrs

from .converter import read_arguments
from .growing_text import GrowingText, TextLog
from .models import Content, ContentType, Message, ToolCall, ToolCallStatus

__all__ = ["LiveMessage", "completed"]

_WRITTEN = frozenset({ContentType.TEXT, ContentType.REASONING})  # what deltas write


@attrs.define
class _CallFragment:
    """A tool call of which the deltas have brought a part."""

    id: str = ""
    name: str = ""
    arguments: TextLog = attrs.Factory(TextLog)


class LiveMessage:
    """The state of one message.

    Args:
        message_id: Its id.
    """

    __slots__ = (
        "_aligned",
        "_checked",
        "_deltas_here",
        "_disagreements",
        "_fragments",
        "_reasoning",
        "_seq",
        "_text",
        "_whole_here",
        "delivered",
        "id",
        "latest",
    )

    def __init__(self, message_id: str) -> None:
        self.id = message_id
        self.latest: Message | None = None  # the newest whole form
        self.delivered: Message | None = None  # the newest snapshot that was handed out
        self._text: TextLog | None = None  # what the deltas add up to, from the first text they bring
        self._reasoning = TextLog()
        self._fragments: dict[int, _CallFragment] = {}
        self._seq: int | None = None
        self._aligned = True  # whether the next delta in sequence continues _text
        self._checked = True  # whether _text is known to begin with the whole form's text
        self._disagreements = 0  # how often whole forms and deltas contradicted each other
        self._whole_here = False  # whether this connection has brought a whole form yet
        self._deltas_here = False  # whether it has brought a delta yet

    @property
    def done(self) -> bool:
        """Whether its final form has arrived."""
        return self.latest is not None and self.latest.done

    @property
    def needs_whole(self) -> bool:
        """Whether deltas are being held back until a whole form says what they belong to."""
        return not self.done and (self.latest is None or not self._aligned)

    @property
    def current(self) -> Message | None:
        """The message as it is known now: what was delivered, with what has changed since without being delivered."""
        return self.latest if self.delivered is None or self.done else self.delivered

    def reconnected(self) -> None:
        """A new connection: deltas may have been missed, which their ``seq`` will tell."""
        self._whole_here = self._deltas_here = False

    def take_whole(self, message: Message, *, in_stream: bool) -> Message | None:
        """Take in a whole form.

        Args:
            message: The whole form, fresh from the converter.
            in_stream: Whether it came on the stream the deltas come on, and so in order with them.

        Returns:
            The snapshot to deliver, or None when there is nothing new to see.
        """
        known = self.latest
        if known is not None:
            if known.done and not message.done:
                return None
            message = _keep_calls(message, known)
        if message.done:
            self.latest = message
            self._drop_deltas()
            return None if known is not None and known.done else self._deliver_whole(message)
        seen = self.delivered
        if seen is not None and _is_behind(message, seen):
            return self._advance_calls(message)
        self.latest = message
        self._whole_here = self._whole_here or in_stream
        if self._text is not None or not self._aligned:
            self._align(message, in_stream=in_stream)
            if self._aligned and self._text is not None and self._text.length >= len(message.text):
                return self._deliver_deltas(None)
        return self._deliver_whole(message)

    def take_delta(self, delta: Mapping[str, Any], seq: int | None) -> Message | None:
        """Take in a token delta.

        Args:
            delta: The model's delta: ``response``, ``reasoning``, ``tool_calls``; nulls say nothing.
            seq: Its number within the message, or None where the server does not number them.

        Returns:
            The snapshot to deliver, or None when there is nothing new to see or the message is not known yet.
        """
        if self.done or not self._follows(seq) or not self._aligned:
            return None
        piece = _string(delta.get("response"))
        if piece:
            if self._text is None:
                self._text = TextLog(self._anchor(piece, seq))
            self._text.append(piece)
        thought = _string(delta.get("reasoning"))
        if thought:
            self._reasoning.append(thought)
        self._take_fragments(delta.get("tool_calls"))
        return self._deliver_deltas(piece) if self._caught_up() else None

    def amend(self, change: Callable[[Message], Message]) -> None:
        """Correct what is known, where this side knows better than what the server has sent."""
        if self.latest is not None:
            self.latest = change(self.latest)
        if self.delivered is not None:
            self.delivered = change(self.delivered)

    # -- deltas ----------------------------------------------------------------------------------------------------

    def _follows(self, seq: int | None) -> bool:
        """Whether a delta is new; notes gaps."""
        first_here, self._deltas_here = not self._deltas_here, True
        if seq is None:
            return True
        last = self._seq
        if last is not None and seq <= last:
            return False
        self._seq = seq
        # Numbering starts at 0 or 1: a later start means that some were missed, like any other gap.
        if seq > (1 if last is None else last + 1):
            if first_here and self._whole_here and self.latest is not None:
                self._restart(self.latest)  # a stream is in order: its whole form holds what was missed
            else:
                self._aligned = False
        return True

    def _anchor(self, piece: str, seq: int | None) -> str:
        """The text that the first piece continues: none when it is the very first, else that of the whole form."""
        known = self.latest.text if self.latest is not None else ""
        starts_over = (seq is None or seq <= 1) and known.startswith(piece)
        return "" if starts_over else known

    def _align(self, message: Message, *, in_stream: bool) -> None:
        """Hold a whole form against the deltas."""
        if self._text is not None and self._aligned:
            text, deltas = message.text, self._text.read(self._text.length)
            if deltas.startswith(text):
                return
            if text.startswith(deltas):
                self._checked = False
                return
            self._disagreements += 1
            self._text, self._aligned = None, False
        # Where they go on contradicting each other, the deltas are not what the protocol says, and whole forms suffice.
        if not self._aligned and in_stream and self._disagreements < 2:
            self._restart(message)

    def _caught_up(self) -> bool:
        """Whether the deltas have reached the whole form, if there is one."""
        if self.latest is None:
            return False
        if self._text is None:
            return True
        if self._text.length < len(self.latest.text):
            return False
        if not self._checked:
            self._checked = True
            if not self._text.read(self._text.length).startswith(self.latest.text):
                self._text, self._aligned = None, False
                return False
        return True

    def _restart(self, message: Message) -> None:
        """Continue from a whole form."""
        self._text = TextLog(message.text)
        self._reasoning = TextLog(message.reasoning)
        self._fragments.clear()
        self._aligned = self._checked = True

    def _drop_deltas(self) -> None:
        self._text = None
        self._reasoning = TextLog()
        self._fragments.clear()

    def _take_fragments(self, value: object) -> None:
        """Merge the fragments of tool calls: by index; names and ids replace, arguments concatenate."""
        for item in value if isinstance(value, list) else ():
            fields = item if isinstance(item, Mapping) else {}
            index = fields.get("index")
            fragment = self._fragments.setdefault(index if isinstance(index, int) else 0, _CallFragment())
            function = fields.get("function")
            function = function if isinstance(function, Mapping) else {}
            fragment.id = _string(fields.get("id")) or fragment.id
            fragment.name = _string(function.get("name")) or fragment.name
            fragment.arguments.append(_string(function.get("arguments")))

    # -- snapshots -------------------------------------------------------------------------------------------------

    def _advance_calls(self, message: Message) -> Message | None:
        """Take the tool calls, and only them, from a form whose text is behind."""
        seen = self.delivered
        assert seen is not None
        known = {call.id: call for call in seen.tool_calls}
        newer = any(_is_ahead(call, known.get(call.id)) for call in message.tool_calls)
        if not newer:
            return None
        if self.latest is not None:
            self.latest = attrs.evolve(self.latest, tool_calls=message.tool_calls)
        return self._deliver(attrs.evolve(seen, tool_calls=message.tool_calls, delta=""))

    def _deliver_whole(self, message: Message) -> Message | None:
        seen = self.delivered
        if seen is None:
            if _is_empty(message):
                return None
            return self._deliver(_with_delta(message, message.text))
        text, seen_text = message.text, seen.text
        if not text.startswith(seen_text):
            return self._deliver(_with_delta(message, None))
        if len(text) == len(seen_text) and message == seen:
            return None
        return self._deliver(_with_delta(message, text[len(seen_text) :]))

    def _deliver_deltas(self, piece: str | None) -> Message | None:
        """The snapshot of what the deltas add up to; ``piece`` is the text just added, None when that is not known."""
        base, log, seen = self.latest, self._text, self.delivered
        assert base is not None
        snapshot = Message(
            id=base.id,
            chat_id=base.chat_id,
            role=base.role,
            status=base.status,
            content=_grown_content(base, log, self._reasoning),
            tool_calls=base.tool_calls or self._fragment_calls(),
            created_at=base.created_at,
            order=base.order,
            run_id=base.run_id,
            delta=piece,
            raw=base.raw,
        )
        if piece and seen is not None and seen.content and log is not None and _continues(seen, log, piece):
            return self._deliver(snapshot)  # nearly always; and no text was joined or compared
        before, text = seen.text if seen is not None else "", snapshot.text
        _with_delta(snapshot, text[len(before) :] if text.startswith(before) else None)
        return None if _is_empty(snapshot) or (not snapshot.delta and snapshot == seen) else self._deliver(snapshot)

    def _deliver(self, message: Message) -> Message:
        self.delivered = message
        return message

    def _fragment_calls(self) -> tuple[ToolCall, ...]:
        """The calls that deltas have brought so far; for show only, since their ids are the model's."""
        if not self._fragments:
            return ()
        return tuple(
            ToolCall(
                id=fragment.id,
                name=fragment.name,
                arguments=read_arguments(fragment.arguments.read(fragment.arguments.length)) or {},
                status=ToolCallStatus.PENDING,
            )
            for _, fragment in sorted(self._fragments.items())
        )


def _is_behind(message: Message, seen: Message) -> bool:
    """Whether a pending form is older than one that was delivered: its text or reasoning had not got as far."""
    text, seen_text = message.text, seen.text
    if len(text) != len(seen_text):
        return len(text) < len(seen_text) and seen_text.startswith(text)
    if text != seen_text:
        return False
    reasoning, seen_reasoning = message.reasoning, seen.reasoning
    return len(reasoning) < len(seen_reasoning) and seen_reasoning.startswith(reasoning)


def _is_ahead(call: ToolCall, known: ToolCall | None) -> bool:
    """Whether a call has got further than what is known of it."""
    if known is None or known.done:
        return known is None
    return call.done or (call.pending and not known.pending)


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_empty(message: Message) -> bool:
    """Whether it is the placeholder that stands for a reply not yet begun."""
    if message.done or message.tool_calls:
        return False
    return all(block.type in _WRITTEN and not block.text for block in message.content)


def _with_delta(message: Message, delta: str | None) -> Message:
    """Complete a message that was just read and that nobody else has seen yet."""
    object.__setattr__(message, "delta", delta)  # a copy by attrs.evolve would cost as much as reading it did
    return message


def _keep_calls(message: Message, known: Message) -> Message:
    """Keep what is known of tool calls where a newer form leaves them out or has an ended one going on."""
    if not known.tool_calls:
        return message
    if not message.tool_calls:
        if "tool_invocations" in message.raw and message.raw["tool_invocations"] is not None:
            return message
        return attrs.evolve(message, tool_calls=known.tool_calls)
    ended = {call.id: call for call in known.tool_calls if call.done}
    if not any(call.id in ended and not call.done for call in message.tool_calls):
        return message
    calls = tuple(call if call.done else ended.get(call.id, call) for call in message.tool_calls)
    return attrs.evolve(message, tool_calls=calls)


def _grown_content(base: Message, text: TextLog | None, reasoning: TextLog) -> tuple[Content, ...]:
    """The content of a whole form with the text and reasoning of the deltas in place of its own."""
    rest = [block for block in base.content if block.type not in _WRITTEN] if base.content else []
    written = []
    thoughts: str | GrowingText = base.reasoning if base.content else ""
    if reasoning.length and reasoning.length >= len(base.reasoning):
        thoughts = GrowingText(reasoning)
    if thoughts:
        written.append(Content(type=ContentType.REASONING, text=thoughts))
    if text is None:
        written.extend(block for block in base.content if block.type == ContentType.TEXT)
    elif text.length:
        written.append(Content(text=GrowingText(text)))
    return (*written, *rest)


def _continues(seen: Message, log: TextLog, piece: str) -> bool:
    """Whether the snapshot before was of the same log, just before ``piece`` was added."""
    return any(block.continued_by(log, len(piece)) for block in seen.content)


def completed(message: Message, call_ids: Container[str]) -> Message:
    """Mark calls whose results the server has acknowledged as completed where it still says that they wait."""
    if not any(call.pending and call.id in call_ids for call in message.tool_calls):
        return message
    calls = tuple(
        attrs.evolve(call, status=ToolCallStatus.COMPLETED) if call.pending and call.id in call_ids else call
        for call in message.tool_calls
    )
    return attrs.evolve(message, tool_calls=calls)
