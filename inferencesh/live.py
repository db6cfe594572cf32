"""One assistant message while it grows: whole forms and token deltas in, snapshots that only go forward out.

A server may send the whole message on every change, or token deltas, or both, in either order, and may replay any of
it. Whole forms are authoritative; deltas run ahead of them. Deltas are chained by ``seq``: one at or before the last is
dropped, and after a gap none is used until a whole form that arrives in the same stream says where the text stands. A
whole form from a separate request cannot say that, since it may hold any number of the deltas that are still under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .converter import read_arguments
from .finish import FINISH, has_less_output, with_finish, written_output
from .growing_text import GrowingText, TextLog
from .growth import grown_by_line, grown_by_piece, grown_by_whole
from .models import Content, ContentType, Message, ToolCall, ToolCallStatus, ToolType
from .wire import Event

__all__ = ["LiveMessage"]

_WRITTEN = frozenset({ContentType.TEXT, ContentType.REASONING})  # what deltas write
_EARLY = {ToolCallStatus.PENDING: 0, ToolCallStatus.AWAITING_APPROVAL: 1}


@attrs.define
class _CallFragment:
    """A tool call of which the deltas have brought a part."""

    id: str = ""
    name: str = ""
    arguments: TextLog = attrs.Factory(TextLog)

    def call(self) -> ToolCall:
        """The call as far as it is known."""
        text = self.arguments.read(self.arguments.length)
        # Decoding is not tried in vain: of a long call nearly every delta ends somewhere in the middle.
        arguments = read_arguments(text) if not text or text.rstrip().endswith("}") else None
        return ToolCall(
            id=self.id,
            name=self.name,
            arguments=arguments or {},
            type=ToolType.INTERNAL if self.name == FINISH else ToolType.CLIENT,  # deltas do not say
            undecoded_arguments=text if arguments is None else None,
        )


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
        "_from_start",
        "_lines",
        "_reasoning",
        "_running",
        "_seq",
        "_stated",
        "_text",
        "delivered",
        "id",
        "latest",
    )

    def __init__(self, message_id: str) -> None:
        self.id = message_id
        self.latest: Message | None = None  # the newest whole form
        self.delivered: Message | None = None  # the newest snapshot that was handed out
        self._text: TextLog | None = None  # what the deltas add up to, from the first text they bring
        self._lines: TextLog | None = None  # what whole forms add up to that each continue the one before
        self._reasoning = TextLog()
        self._fragments: dict[int, _CallFragment] = {}
        self._seq: int | None = None
        self._from_start = False  # whether the first delta of all was among those that came
        self._aligned = True  # whether the next delta in sequence continues _text
        self._checked = True  # whether _text is known to begin with the whole form's text
        self._disagreements = 0  # how often whole forms and deltas contradicted each other
        self._running = False  # whether the newest snapshot is of _text and nothing else
        self._stated: Message | None = None  # the newest whole form of this connection's stream, outdated or not
        self._deltas_here = False  # whether it has brought a delta yet

    @property
    def done(self) -> bool:
        """Whether its final form has arrived."""
        return self.latest is not None and self.latest.done

    @property
    def needs_whole(self) -> bool:
        """Whether deltas are being held back until a whole form says what they belong to, and none comes by itself."""
        if self.done:
            return False
        return self.latest is None or not (self._aligned or (self._stated is not None and self._given_up_deltas))

    @property
    def current(self) -> Message | None:
        """The message as it is known now: what was delivered, with what has changed since without being delivered."""
        return self.latest if self.delivered is None or self.done else self.delivered

    def reconnected(self) -> None:
        """A new connection: deltas may have been missed, which their ``seq`` will tell."""
        self._stated = None
        self._deltas_here = self._running = False

    def take_line(self, event: Event) -> Message | None:
        """Take in a form that is known to continue another; returns the snapshot, None when that is not the newest."""
        seen = self.delivered
        if seen is None or event.before is not seen.form or not self._shows_latest(seen):
            return None
        log = self._lines
        if log is None or not seen.content[0].continued_by(log, 0):
            log = self._lines = TextLog(seen.text)
        log.append(event.added)
        snapshot = self.latest = self.delivered = self._stated = grown_by_line(seen, log, event.added, event.form)
        return snapshot

    def take_growth(self, data: Mapping[str, Any]) -> Message | None:
        """Take in a whole form if it only adds text to the one before; returns the snapshot, or None."""
        seen = self.delivered
        if seen is None or not self._shows_latest(seen):
            return None
        snapshot = grown_by_whole(seen, data)
        if snapshot is not None:
            self.latest = self.delivered = self._stated = snapshot
        return snapshot

    def _shows_latest(self, seen: Message) -> bool:
        """Whether what was delivered is the newest whole form as it came, and may grow."""
        return seen is self.latest and self._text is None and self._aligned and not seen.done

    def take_whole(self, message: Message, *, in_stream: bool) -> Message | None:
        """Take in a whole form.

        Args:
            message: The whole form, fresh from the converter.
            in_stream: Whether it came on the stream the deltas come on, and so in order with them.

        Returns:
            The snapshot to deliver, or None when there is nothing new to see.
        """
        known = self.latest
        self._running = False
        if known is not None:
            if known.done and not message.done:
                return None
            message = _keep_calls(message, known)
        if message.done:
            if self._fragments and _output(message) is None:
                message = attrs.evolve(message, tool_calls=with_finish(message.tool_calls, self._fragment_calls()))
            self.latest = message
            self._drop_deltas()
            return None if known is not None and known.done else self._deliver_whole(message)
        if in_stream:
            self._stated = message
        seen = self.delivered
        if seen is not None and _is_behind(message, seen):
            return self._advance_calls(message)
        self.latest = message
        if self._text is not None or self._reasoning.length or self._fragments or not self._aligned:
            self._align(message, in_stream=in_stream)
            if self._aligned and (self._text is None or self._text.length >= len(message.text)):
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
        piece, last = _string(delta.get("response")), self._seq
        in_sequence = seq is None if last is None else seq == last + 1
        if self._running and piece and in_sequence and len(delta) == 1 and self._text is not None:
            self._seq = seq
            self._text.append(piece)
            assert self.delivered is not None
            self.delivered = grown_by_piece(self.delivered, self._text, piece)
            return self.delivered
        self._running = False
        if self.done or not self._follows(seq) or not self._aligned:
            return None
        if piece:
            if self._text is None and not self._begin(piece, seq):
                return None
            assert self._text is not None
            self._text.append(piece)
        thought = _string(delta.get("reasoning"))
        if thought:
            self._reasoning.append(thought)
        self._take_fragments(delta.get("tool_calls"))
        return self._deliver_deltas(piece) if self._caught_up() else None

    def amend(self, change: Callable[[Message], Message]) -> None:
        """Correct what is known, where this side knows better than what the server has sent."""
        self._running = False
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
        if last is None:
            self._from_start = seq <= 1
        # Numbering starts at 0 or 1: a later start means that some were missed, like any other gap.
        if seq > (1 if last is None else last + 1):
            if first_here and self._stated is not None and self._stated is self.latest:
                self._restart(self._stated)  # a stream is in order: its whole form holds what was missed
            else:
                self._aligned = False
        return True

    def _begin(self, piece: str, seq: int | None) -> bool:
        """Find what the first piece of text continues; returns whether that is known."""
        whole = self._stated or self.latest
        known = whole.text if whole is not None else ""
        if (seq is None or self._from_start) and known.startswith(piece):
            known = ""  # the very first piece, which a whole form has overtaken
        elif known and self._stated is None:
            self._aligned = False  # a form that was requested may hold any number of the deltas under way
            return False
        self._text = TextLog(known)
        self._checked = False
        return True

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
        if not self._aligned and in_stream and not self._given_up_deltas:
            self._restart(message)

    @property
    def _given_up_deltas(self) -> bool:
        """Whether they went on contradicting whole forms, so are not what the protocol says; whole forms suffice."""
        return self._disagreements >= 2

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
        self._aligned, self._checked = True, False  # it may be behind what a request brought

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
        seen, latest = self.delivered, self.latest
        assert seen is not None
        assert latest is not None
        known = {call.id: call for call in seen.tool_calls}
        newer = any(_is_ahead(call, known.get(call.id)) for call in message.tool_calls)
        if not newer:
            return None
        self.latest = attrs.evolve(latest, tool_calls=message.tool_calls)
        return self._deliver(attrs.evolve(seen, tool_calls=self._calls(message), delta=""))

    def _deliver_whole(self, message: Message) -> Message | None:
        seen = self.delivered
        if seen is None:
            if _is_empty(message):
                return None
            return self._deliver(_with_delta(message, message.text))
        text, seen_text = message.text, seen.text
        if not text.startswith(seen_text):
            return self._deliver(_with_delta(message, None))
        if len(text) == len(seen_text) and message == seen and _output(message) == _output(seen):
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
            tool_calls=self._calls(base),
            created_at=base.created_at,
            order=base.order,
            run_id=base.run_id,
            delta=piece,
            raw=base.form,
        )
        if piece and seen is not None and seen.content and log is not None and _continues(seen, log, piece):
            self._running = len(snapshot.content) == 1 and not self._fragments
            return self._deliver(snapshot)  # and no text was joined or compared
        before, text = seen.text if seen is not None else "", snapshot.text
        _with_delta(snapshot, text[len(before) :] if text.startswith(before) else None)
        return None if _is_empty(snapshot) or (not snapshot.delta and snapshot == seen) else self._deliver(snapshot)

    def _deliver(self, message: Message) -> Message:
        self.delivered = message
        return message

    def _calls(self, form: Message) -> tuple[ToolCall, ...]:
        """The calls of a whole form, with what deltas have brought since."""
        if not self._fragments:  # nearly always
            return form.tool_calls
        return with_finish(form.tool_calls, self._fragment_calls()) if form.tool_calls else self._fragment_calls()

    def _fragment_calls(self) -> tuple[ToolCall, ...]:
        """The calls that deltas have brought so far; for show only, since their ids are the model's."""
        return tuple(fragment.call() for _, fragment in sorted(self._fragments.items()))


def _is_behind(message: Message, seen: Message) -> bool:
    """Whether a pending form is older than one that was delivered: it had not got as far, or had fewer calls."""
    text, seen_text = message.text, seen.text
    if len(text) != len(seen_text):
        return len(text) < len(seen_text) and seen_text.startswith(text)
    if text != seen_text:
        return False
    reasoning, seen_reasoning = message.reasoning, seen.reasoning
    if reasoning != seen_reasoning:
        return seen_reasoning.startswith(reasoning)
    if {call.id for call in message.tool_calls} < {call.id for call in seen.tool_calls}:
        return True
    return has_less_output(_output(message), _output(seen))


def _output(message: Message) -> object:
    """What the message has of the agent's structured output, not parsed."""
    return written_output(message.tool_calls, message.content)


def _is_ahead(call: ToolCall, known: ToolCall | None) -> bool:
    """Whether a call has got further than what is known of it."""
    if known is None or known.done:
        return known is None
    return _progress(call) > _progress(known) or (call.pending and not known.pending)


def _progress(call: ToolCall) -> int:
    """How far a call has got: not begun, not approved yet, begun, or over; what else there is may come in any order."""
    return 3 if call.done else _EARLY.get(call.status, 2)


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
    """Keep what is known of tool calls where a form leaves them out or has one less far than it was."""
    if not known.tool_calls:
        return message
    if not message.tool_calls:
        if "tool_invocations" in message.raw and message.raw["tool_invocations"] is not None:
            return message
        return attrs.evolve(message, tool_calls=known.tool_calls)
    further = {call.id: call for call in known.tool_calls}
    calls = [
        call if _progress(call) >= _progress(further.get(call.id, call)) else further[call.id]
        for call in message.tool_calls
    ]
    return message if calls == list(message.tool_calls) else attrs.evolve(message, tool_calls=tuple(calls))


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
