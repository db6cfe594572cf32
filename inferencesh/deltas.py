"""The token deltas of one message, added up, and held against the message's whole forms.

Deltas are chained by ``seq``: one at or before the last is dropped, and after a gap none is used until a whole form
that arrives in the same stream says where the text stands. A whole form from a separate request cannot say that, since
it may hold any number of the deltas that are still under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .call_fragments import CallFragments
from .growing_text import GrowingText, TextLog
from .models import Content, ContentType, Message

__all__ = ["WRITTEN", "DeltaAccumulator"]

WRITTEN = frozenset({ContentType.TEXT, ContentType.REASONING})  # the blocks that deltas write


class DeltaAccumulator:
    """What the deltas of one message add up to, and whether the next one is known to continue that.

    Attributes:
        text: The text, from the first that they bring; None where the whole form's is all there is.
        calls: The tool calls.
        seq: The number of the last delta, where the server numbers them.
        aligned: Whether the next delta in sequence continues ``text``.
        stated: The newest whole form of this connection's stream, stale or not; set by whoever takes it in.
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
    )

    def __init__(self) -> None:
        self.text: TextLog | None = None
        self.calls = CallFragments()
        self.seq: int | None = None
        self.aligned = True
        self.stated: Message | None = None
        self._reasoning = TextLog()
        self._from_start = False  # whether the first delta of all was among those that came
        self._begun_here = False  # whether this connection has brought a delta yet
        self._checked = True  # whether text is known to begin with the whole form's text
        self._disagreements = 0  # how often whole forms and deltas contradicted each other

    @property
    def waiting(self) -> bool:
        """Whether deltas are held back until a whole form says what they belong to, and none comes by itself."""
        return not self.aligned and (self.stated is None or not self._given_up)

    def reconnected(self) -> None:
        """A new connection: deltas may have been missed, which their ``seq`` will tell."""
        self.stated = None
        self._begun_here = False

    def take(self, delta: Mapping[str, Any], seq: int | None, whole: Message | None) -> str | None:
        """Take in a delta.

        Args:
            delta: The model's delta: ``response``, ``reasoning``, ``tool_calls``; nulls say nothing.
            seq: Its number within the message, or None where the server does not number them.
            whole: The message's newest whole form.

        Returns:
            The text that it adds, "" for none; None while the deltas have nothing to show: they are not aligned, or
            have not got as far as the whole form.
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
        return added if self._has_caught_up(whole) else None

    def align(self, whole: Message, *, in_stream: bool) -> bool:
        """Hold a new whole form against the deltas.

        Args:
            whole: The form.
            in_stream: Whether it came on the stream the deltas come on, and so in order with them.

        Returns:
            Whether the deltas have something to show: what they add up to, which is as far as the form at least.
        """
        if self.text is None and self.aligned and not self._reasoning.length and not self.calls:
            return False  # there are none
        if self.text is not None and self.aligned:
            self._compare(self.text, whole.text)
        if not self.aligned and in_stream and not self._given_up:
            self._restart(whole)
        return self.aligned and (self.text is None or self.text.length >= len(whole.text))

    def drop(self) -> None:
        """Forget what they add up to: the final form has come."""
        self.text = None
        self._reasoning = TextLog()
        self.calls.clear()

    def snapshot(self, whole: Message, delta: str | None) -> Message:
        """The newest whole form with what the deltas add up to in place of its own."""
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
            raw=whole.form,
        )

    def continues(self, seen: Message, piece: str) -> bool:
        """Whether ``seen`` is a snapshot of the same text just before ``piece`` was added; no text is read to tell."""
        text = self.text
        return text is not None and any(block.continued_by(text, len(piece)) for block in seen.content)

    # -- which deltas count ----------------------------------------------------------------------------------------

    def _is_new(self, seq: int | None, whole: Message | None) -> bool:
        """Whether a delta is new; notes gaps."""
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
                self._restart(self.stated)  # a stream is in order: its whole form holds what was missed
            else:
                self.aligned = False
        return True

    def _begin(self, piece: str, seq: int | None, whole: Message | None) -> TextLog | None:
        """Find what the first piece of text continues; returns that text, None when it is not known."""
        form = self.stated or whole
        known = form.text if form is not None else ""
        if (seq is None or self._from_start) and known.startswith(piece):
            known = ""  # the very first piece, which a whole form has overtaken
        elif known and self.stated is None:
            self.aligned = False  # a form that was requested may hold any number of the deltas under way
            return None
        self.text = TextLog(known)
        self._checked = False
        return self.text

    # -- how they stand to the whole form --------------------------------------------------------------------------

    @property
    def _given_up(self) -> bool:
        """Whether they went on contradicting whole forms, so are not what the protocol says; whole forms suffice."""
        return self._disagreements >= 2

    def _compare(self, log: TextLog, text: str) -> None:
        """Hold the whole form's text against that of the deltas: one of them has to begin with the other."""
        written = log.read(log.length)
        if written.startswith(text):
            return
        if text.startswith(written):
            self._checked = False
            return
        self._disagreements += 1
        self.text, self.aligned = None, False

    def _has_caught_up(self, whole: Message | None) -> bool:
        """Whether the deltas have reached the whole form, if there is one."""
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

    # -- what they add up to ---------------------------------------------------------------------------------------

    def _content(self, whole: Message) -> tuple[Content, ...]:
        """The content of a whole form with the text and reasoning of the deltas in place of its own."""
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
