"""Which tool calls are taken care of by which turn: two streams of one chat never run, or ask about, the same twice."""

from __future__ import annotations

import weakref

from .calls import Step
from .turn import End, Turn

__all__ = ["Claims"]


class Claims:
    """The tool calls that a client's turns have taken on.

    Ids are unique in a chat while a turn lasts, so a claim lasts as long as its turn: until that has ended, or nobody
    holds it any more.
    """

    def __init__(self) -> None:
        self._owners: weakref.WeakValueDictionary[tuple[str, str, Step], Turn] = weakref.WeakValueDictionary()

    def take(self, call_id: str, turn: Turn, step: Step = Step.RESULT) -> Turn | None:
        """Claim a step of a call for a turn; returns the other turn that has it, or None on success."""
        key = (turn.chat_id or "", call_id, step)
        owner = self._owners.get(key)
        if owner is not None and owner is not turn and (owner.outcome is None or owner.outcome.end is End.PAUSED):
            return owner
        self._owners[key] = turn
        return None
