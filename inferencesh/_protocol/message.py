"""One assistant message while it grows: whole forms and token deltas in, snapshots out, none older than the one before.

A server may send the whole message on every change, or token deltas, or both, in either order, and may replay any of
them. Whole forms are authoritative; deltas may be ahead of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from inferencesh._text import Form, GrowingText, TextLog, decoded
from inferencesh._types.codec import read_arguments, read_blocks, read_usage
from inferencesh.models import (
    FINAL_MESSAGE,
    FINISH,
    Content,
    ContentType,
    Message,
    ToolCall,
    ToolCallStatus,
    ToolType,
    Usage,
    is_finish,
    with_text,
    written_output,
)

from .lines import GrownLine, TextPiece, text_added
from .wire import Event

__all__ = [
    "WRITTEN",
    "CallFragments",
    "DeltaAccumulator",
    "LiveMessage",
    "has_less_output",
    "has_newer_calls",
    "is_repeat",
    "is_stale",
    "keep_calls",
    "with_finish",
]


def has_less_output(form: object, seen: object) -> bool:
    """Whether the output in one form is a beginning of that in another, both as ``written_output`` returns it."""
    if not isinstance(seen, str):
        return False
    return form is None or (isinstance(form, str) and len(form) < len(seen) and seen.startswith(form))


def with_finish(calls: tuple[ToolCall, ...], fragments: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Return the tool calls of a whole form with the newer arguments of the finish call from deltas.

    Args:
        calls: The calls of the whole form.
        fragments: The calls from the deltas.
    """
    newer = next((call for call in fragments if is_finish(call)), None)
    if newer is None:
        return calls
    known = next((call for call in calls if call.name == FINISH), None)
    if known is None:
        return (*calls, newer)
    if not is_finish(known) or known.done or (known.arguments and known.undecoded_arguments is None):
        return calls
    text = newer.undecoded_arguments
    if text is not None and len(text) <= len(known.undecoded_arguments or ""):
        return calls
    grown = attrs.evolve(known, arguments=newer.arguments, undecoded_arguments=text)
    return tuple(grown if call is known else call for call in calls)


_EARLY = {ToolCallStatus.PENDING: 0, ToolCallStatus.AWAITING_APPROVAL: 1}


def is_stale(message: Message, seen: Message) -> bool:
    """Whether a pending form is older than a delivered snapshot: its text, calls or output are behind."""
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


def is_repeat(message: Message, seen: Message) -> bool:
    """Whether a form is the same as the delivered snapshot."""
    try:
        return message == seen and _output(message) == _output(seen)
    except RecursionError:  # arguments of a call that are nested too deeply to be compared
        return False


def has_newer_calls(message: Message, seen: Message) -> bool:
    """Whether a form whose text is stale has a tool call that is new or further than in the snapshot."""
    known = {call.id: call for call in seen.tool_calls}
    return any(_is_ahead(call, known.get(call.id)) for call in message.tool_calls)


def keep_calls(message: Message, known: Message) -> Message:
    """Return a form with the known tool calls, where it omits them or has one in an earlier status."""
    if not known.tool_calls:
        return message
    if not message.tool_calls:
        if decoded(message._raw).get("tool_invocations") is not None:
            return message
        return attrs.evolve(message, tool_calls=known.tool_calls)
    further = {call.id: call for call in known.tool_calls}
    calls = [
        call if _progress(call) >= _progress(further.get(call.id, call)) else further[call.id]
        for call in message.tool_calls
    ]
    return message if calls == list(message.tool_calls) else attrs.evolve(message, tool_calls=tuple(calls))


def _is_ahead(call: ToolCall, known: ToolCall | None) -> bool:
    """Whether a call is in a later status than the known one."""
    if known is None or known.done:
        return known is None
    return _progress(call) > _progress(known) or (call.pending and not known.pending)


def _progress(call: ToolCall) -> int:
    """Return the stage of a call: pending, awaiting approval, begun (in any status), or done."""
    return 3 if call.done else _EARLY.get(call.status, 2)


def _output(message: Message) -> object:
    """Return the agent's structured output in a message, not parsed."""
    return written_output(message.tool_calls, message.content)


class CallFragments:
    """The tool calls of one message from its deltas.

    They can be shown but not answered, since their ids are the model's. The arguments of the finish call are used: they
    are the agent's output, of which the whole form may have less or nothing.
    """

    __slots__ = ("_fragments",)

    def __init__(self) -> None:
        self._fragments: dict[int, _Fragment] = {}  # by index

    def __len__(self) -> int:
        return len(self._fragments)

    def take(self, value: object) -> None:
        """Merge the ``tool_calls`` of a delta by index: names and ids replace, arguments are concatenated."""
        for item in value if isinstance(value, list) else ():
            fields = item if isinstance(item, Mapping) else {}
            index = fields.get("index")
            fragment = self._fragments.setdefault(index if isinstance(index, int) else 0, _Fragment())
            function = fields.get("function")
            function = function if isinstance(function, Mapping) else {}
            fragment.id = _string(fields.get("id")) or fragment.id
            fragment.name = _string(function.get("name")) or fragment.name
            fragment.arguments.append(_string(function.get("arguments")))

    def clear(self) -> None:
        """Discard the calls, because a whole form holds them."""
        self._fragments.clear()

    def merged_with(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """Return the calls to show, given those of the whole form, which take precedence."""
        if not self._fragments:  # nearly always
            return calls
        return with_finish(calls, self._calls()) if calls else self._calls()

    def complete(self, final: Message) -> Message:
        """Return the final form of the message, with the agent's output if only deltas had it."""
        if not self._fragments or written_output(final.tool_calls, final.content) is not None:
            return final
        return attrs.evolve(final, tool_calls=with_finish(final.tool_calls, self._calls()))

    def _calls(self) -> tuple[ToolCall, ...]:
        return tuple(fragment.call() for _, fragment in sorted(self._fragments.items()))


@attrs.define
class _Fragment:
    """One tool call as far as deltas have brought it."""

    id: str = ""
    name: str = ""
    arguments: TextLog = attrs.Factory(TextLog)

    def call(self) -> ToolCall:
        """Return the call as far as it is known."""
        text = self.arguments.read(self.arguments.length)
        # Most deltas end in the middle of the arguments, so decoding them is tried only where they may be complete.
        arguments = read_arguments(text) if not text or text.rstrip().endswith("}") else None
        return ToolCall(
            id=self.id,
            name=self.name,
            arguments=arguments or {},
            type=ToolType.INTERNAL if self.name == FINISH else ToolType.CLIENT,  # deltas do not say
            undecoded_arguments=text if arguments is None else None,
        )


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


WRITTEN = frozenset({ContentType.TEXT, ContentType.REASONING})  # the blocks that deltas write


class DeltaAccumulator:
    """The accumulated deltas of one message, and whether the next delta is known to continue them.

    Attributes:
        text: The text, or None while no delta has brought any.
        calls: The tool calls.
        seq: The ``seq`` of the last delta; None if the server does not number them.
        aligned: Whether the next delta in sequence continues ``text``.
        stated: The newest whole form on the current connection, stale or not; set by ``LiveMessage``.
        usage: The usage that the last delta with one has reported, or None.
    """

    __slots__ = (
        "_begun_here",
        "_checked",
        "_disagreements",
        "_from_start",
        "_reasoning",
        "aligned",
        "calls",
        "seq",
        "stated",
        "text",
        "usage",
    )

    def __init__(self) -> None:
        self.text: TextLog | None = None
        self.calls = CallFragments()
        self.seq: int | None = None
        self.aligned = True
        self.stated: Message | None = None
        self.usage: Usage | None = None
        self._reasoning = TextLog()
        self._from_start = False  # whether the first delta of the message was received
        self._begun_here = False  # whether the current connection has brought a delta
        self._checked = True  # whether text is known to begin with the whole form's text
        self._disagreements = 0  # how often whole forms and deltas contradicted each other

    @property
    def waiting(self) -> bool:
        """Whether deltas cannot be used until a whole form arrives, and none is certain to."""
        return not self.aligned and (self.stated is None or not self._given_up)

    def reconnected(self) -> None:
        """Note a new connection: deltas may have been missed, as their ``seq`` will show."""
        self.stated = None
        self._begun_here = False

    def take(self, delta: Mapping[str, Any], seq: int | None, whole: Message | None) -> str | None:
        """Add a delta.

        Args:
            delta: The model's delta: ``response``, ``reasoning``, ``tool_calls``, ``usage``; any may be null.
            seq: Its number within the message, or None if the server does not number deltas.
            whole: The newest whole form of the message.

        Returns:
            The text that it adds, which may be "". None if the deltas cannot be shown: they are not aligned, or behind
            the whole form.
        """
        if not self._is_new(seq, whole) or not self.aligned:
            return None
        piece, thought = delta.get("response"), delta.get("reasoning")
        added = piece if isinstance(piece, str) else ""
        if added:
            text = self.text if self.text is not None else self._begin(added, seq, whole)
            if text is None:
                return None
            text.append(added)
        if isinstance(thought, str) and thought:
            self._reasoning.append(thought)
        self.calls.take(delta.get("tool_calls"))
        self.usage = read_usage(delta.get("usage")) or self.usage
        return added if self._has_caught_up(whole) else None

    def align(self, whole: Message, *, in_stream: bool) -> bool:
        """Compare a new whole form with the deltas.

        Args:
            whole: The form.
            in_stream: Whether it arrived on the same stream as the deltas, and so in order with them.

        Returns:
            Whether the deltas can be shown, because they are at least as far as the form.
        """
        if self.text is None and self.aligned and not self._reasoning.length and not self.calls:
            return False  # there are none
        if self.text is not None and self.aligned:
            self._compare(self.text, whole.text)
        if not self.aligned and in_stream and not self._given_up:
            self._restart(whole)
        return self.aligned and (self.text is None or self.text.length >= len(whole.text))

    def drop(self) -> None:
        """Discard the deltas, because the final form has arrived."""
        self.text = None
        self._reasoning = TextLog()
        self.calls.clear()

    def snapshot(self, whole: Message, delta: str | None) -> Message:
        """Return a whole form with the text, reasoning and calls of the deltas."""
        return Message(
            id=whole.id,
            chat_id=whole.chat_id,
            role=whole.role,
            status=whole.status,
            content=self._content(whole),
            tool_calls=self.calls.merged_with(whole.tool_calls),
            created_at=whole.created_at,
            order=whole.order,
            run_id=whole.run_id,
            delta=delta,
            raw=decoded(whole._raw),  # the block of an undecoded form would pass for that of the text
            usage=self.usage or whole.usage,
        )

    def complete(self, final: Message) -> Message:
        """Return the final form of the message, with the agent's output and the usage if only deltas had them."""
        final = self.calls.complete(final)
        return final if final.usage is not None or self.usage is None else attrs.evolve(final, usage=self.usage)

    def continues(self, seen: Message, piece: str) -> bool:
        """Whether ``seen`` is a snapshot of the same text just before ``piece`` was added. Reads no text."""
        text = self.text
        return text is not None and _ends_with(seen, text, text.length - len(piece))

    # -- sequence

    def _is_new(self, seq: int | None, whole: Message | None) -> bool:
        """Whether a delta is new. Notes a gap before it."""
        first_here, self._begun_here = not self._begun_here, True
        if seq is None:
            return True
        last = self.seq
        if last is not None and seq <= last:
            return False
        self.seq = seq
        if last is None:
            self._from_start = seq <= 1
        # Numbering starts at 0 or 1: a later start means that some were missed, like any other gap.
        if seq > (1 if last is None else last + 1):
            if first_here and self.stated is not None and self.stated is whole:
                self._restart(self.stated)  # the stream is in order, so this form holds what was missed
            else:
                self.aligned = False
        return True

    def _begin(self, piece: str, seq: int | None, whole: Message | None) -> TextLog | None:
        """Return the text that the first piece continues, or None if it is not known."""
        form = self.stated or whole
        known = form.text if form is not None else ""
        if (seq is None or self._from_start) and known.startswith(piece):
            known = ""  # the first piece of all, and the whole form is ahead of it
        elif known and self.stated is None:
            self.aligned = False  # a form from a request may hold any number of the deltas to come
            return None
        self.text = TextLog(known)
        self._checked = False
        return self.text

    # -- comparison with the whole form

    @property
    def _given_up(self) -> bool:
        """Whether deltas have contradicted whole forms repeatedly, so that they are not waited for any more."""
        return self._disagreements >= 2

    def _compare(self, log: TextLog, text: str) -> None:
        """Compare the text of a whole form with that of the deltas: one has to begin with the other."""
        written = log.read(log.length)
        if written.startswith(text):
            return
        if text.startswith(written):
            self._checked = False
            return
        self._disagreements += 1
        self.text, self.aligned = None, False

    def _has_caught_up(self, whole: Message | None) -> bool:
        """Whether the deltas are at least as far as the whole form, if there is one."""
        if whole is None:
            return False
        if self.text is None:
            return True
        if self.text.length < len(whole.text):
            return False
        if not self._checked:
            self._checked = True
            if not self.text.read(self.text.length).startswith(whole.text):
                self.text, self.aligned = None, False
                return False
        return True

    def _restart(self, whole: Message) -> None:
        """Continue from a whole form."""
        self.text = TextLog(whole.text)
        self._reasoning = TextLog(whole.reasoning)
        self.calls.clear()
        self.aligned, self._checked = True, False  # it may be behind what a request brought

    # -- result

    def _content(self, whole: Message) -> tuple[Content, ...]:
        """Return the content of a whole form with the text and reasoning of the deltas."""
        rest = [block for block in whole.content if block.type not in WRITTEN] if whole.content else []
        written = []
        thoughts: str | GrowingText = whole.reasoning if whole.content else ""
        if self._reasoning.length and self._reasoning.length >= len(whole.reasoning):
            thoughts = GrowingText(self._reasoning)
        if thoughts:
            written.append(Content(type=ContentType.REASONING, text=thoughts))
        if self.text is None:
            written.extend(block for block in whole.content if block.type == ContentType.TEXT)
        elif self.text.length:
            written.append(Content(text=GrowingText(self.text)))
        return (*written, *rest)


class LiveMessage:
    """One message while it grows, and its snapshots, none of which is older than the one before.

    Attributes:
        latest: The newest whole form.
        delivered: The last snapshot that was returned.
        whole: The newest whole form in wire form, to which updates of single fields apply; None if there is none.
    """

    __slots__ = ("_deltas", "_lines", "_running", "delivered", "latest", "whole")

    def __init__(self) -> None:
        self.latest: Message | None = None
        self.delivered: Message | None = None
        self.whole: Form | None = None
        self._deltas = DeltaAccumulator()
        self._lines: TextLog | None = None  # the text, while each whole form only adds to it
        self._running: TextLog | None = None  # the text of the deltas, while the snapshot has no other content

    @property
    def done(self) -> bool:
        """Whether the final form has arrived."""
        return self.latest is not None and self.latest.done

    @property
    def needs_whole(self) -> bool:
        """Whether deltas cannot be used until a whole form arrives, and none is certain to."""
        return not self.done and (self.latest is None or self._deltas.waiting)

    @property
    def current(self) -> Message | None:
        """The message as far as it is known."""
        return self.latest if self.delivered is None or self.done else self.delivered

    def reconnected(self) -> None:
        """Note a new connection: deltas may have been missed, as their ``seq`` will show."""
        self._running = None
        self._deltas.reconnected()

    def extend(self, event: Event | GrownLine | TextPiece) -> Message | None:
        """Process an event if it only adds text to the last snapshot, as nearly all do.

        Returns:
            The snapshot to deliver. None for any other event, which is not processed.
        """
        seen = self.delivered
        if seen is None:
            return None
        if isinstance(event, GrownLine):
            if event.before is not seen._raw or not self._shows_latest(seen):
                return None
            log = self._lines
            if log is None or seen._stored is not log or seen._length != log.length:
                log = self._lines = TextLog(seen.text)
            form = self.whole = event.form
            snapshot = with_text(seen, log, log.append(event.added), event.added, form)
            self.latest = self.delivered = self._deltas.stated = snapshot
            return snapshot
        piece = event if isinstance(event, tuple) else _text_piece(event)
        running, deltas = self._running, self._deltas
        if piece is None or running is None:
            return None
        message_id, seq, text = piece
        due = None if deltas.seq is None else deltas.seq + 1
        if message_id != seen.id or seq != due:
            return None
        deltas.seq = due
        snapshot = self.delivered = with_text(seen, running, running.append(text), text, seen._raw)
        return snapshot

    def take_growth(self, data: Mapping[str, Any]) -> Message | None:
        """Process a whole form if it only adds text to the one before, and return the snapshot, else None."""
        seen = self.delivered
        if seen is None or not self._shows_latest(seen):
            return None
        before = decoded(seen._raw)
        added = text_added(before, data) if type(data) is dict and type(before) is dict else None
        if added is None:
            return None
        self.whole = data
        snapshot = attrs.evolve(seen, content=read_blocks(data["content"]), delta=added, raw=data)
        self.latest = self.delivered = self._deltas.stated = snapshot
        return snapshot

    def _shows_latest(self, seen: Message) -> bool:
        """Whether the last snapshot is the newest whole form, without deltas, and may grow."""
        deltas = self._deltas
        return seen is self.latest and deltas.text is None and deltas.aligned and seen.status not in FINAL_MESSAGE

    def take_whole(self, message: Message, *, in_stream: bool) -> Message | None:
        """Process a whole form.

        Args:
            message: The whole form. It must not be shared yet: its ``delta`` is set.
            in_stream: Whether it arrived on the same stream as the deltas, and so in order with them.

        Returns:
            The snapshot to deliver, or None if nothing has changed.
        """
        known, deltas = self.latest, self._deltas
        self._running = None
        if known is not None:
            if known.done and not message.done:
                return None
            message = keep_calls(message, known)
        if message.done:
            message = self.latest = deltas.complete(message)
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
        """Process a token delta.

        Args:
            delta: The model's delta: ``response``, ``reasoning``, ``tool_calls``, ``usage``; any may be null.
            seq: Its number within the message, or None if the server does not number deltas.

        Returns:
            The snapshot to deliver, or None if nothing has changed or the message is not known yet.
        """
        self._running = None
        whole = self.latest
        added = None if self.done else self._deltas.take(delta, seq, whole)
        return None if whole is None or added is None else self._deliver_deltas(whole, added)

    def amend(self, change: Callable[[Message], Message]) -> None:
        """Apply a change that is ahead of what the server has sent."""
        self._running = None
        if self.latest is not None:
            self.latest = change(self.latest)
        if self.delivered is not None:
            self.delivered = change(self.delivered)

    # -- snapshots

    def _advance_calls(self, message: Message) -> Message | None:
        """Use only the tool calls of a form whose text is behind."""
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
        """Return the snapshot with the deltas; ``piece`` is the text that was added, None if that is not known."""
        deltas, seen = self._deltas, self.delivered
        snapshot = deltas.snapshot(whole, piece)
        if piece and seen is not None and deltas.continues(seen, piece):
            self._running = deltas.text if len(snapshot.content) == 1 and not deltas.calls else None
            return self._deliver(snapshot)  # without joining or comparing any text
        before, text = seen.text if seen is not None else "", snapshot.text
        _with_delta(snapshot, text[len(before) :] if text.startswith(before) else None)
        return None if _is_empty(snapshot) or (not snapshot.delta and snapshot == seen) else self._deliver(snapshot)

    def _deliver(self, message: Message) -> Message:
        self.delivered = message
        return message


def _text_piece(event: Event) -> TextPiece | None:
    """Return the piece of text in an event that is a delta of text alone; None for any other event."""
    data: Any = event["data"]
    delta = data.get("delta")
    if event["event"] != "delta" or type(delta) is not dict or len(delta) != 1:
        return None
    text = delta.get("response")
    return (data.get("resource_id"), data.get("seq"), text) if isinstance(text, str) and text else None


def _ends_with(message: Message, log: TextLog, length: int) -> bool:
    """Whether the text of a message is the first ``length`` characters of a log. Reads no text."""
    content = message._stored
    if isinstance(content, TextLog):
        return content is log and message._length == length
    texts = [block._text for block in content]
    return any(not isinstance(text, str) and text.log is log and text.length == length for text in texts)


def _is_empty(message: Message) -> bool:
    """Whether a message is the placeholder for a reply that has not begun."""
    if message.done or message.tool_calls:
        return False
    return all(block.type in WRITTEN and not block.text for block in message.content)


def _with_delta(message: Message, delta: str | None) -> Message:
    """Set the ``delta`` of a message that is not shared yet."""
    object.__setattr__(message, "delta", delta)  # a copy would take as long as structuring the message
    return message
