"""Which tool calls are taken care of by which turn: two streams of one chat never run, or ask about, the same twice."""

from __future__ import annotations

import weakref
from typing import TypeAlias

from .calls import Fate, Step
from .turn import End, Turn

__all__ = ["Claims"]


_Key: TypeAlias = tuple[str, str, Step]

_REMEMBERED = 1024  # of settled calls, the newest; no stream is behind another by more of them


class Claims:
    """The tool calls that a client's turns have taken on.

    Ids are unique in a chat while a turn lasts, so a claim lasts as long as its turn: until that has ended, or nobody
    holds it any more. What was settled is remembered for streams of the same turn that are behind.
    """

    def __init__(self) -> None:
        self._owners: weakref.WeakValueDictionary[_Key, Turn] = weakref.WeakValueDictionary()
        self._settled: dict[tuple[_Key, str], Fate] = {}

    def take(self, call_id: str, turn: Turn, step: Step = Step.RESULT) -> Turn | Fate | None:
        """Claim a step of a call for a turn.

        Returns:
            None on success; else what has become of it, or the other turn that has it.
        """
        key = (turn.chat_id or "", call_id, step)
        if (fate := self._settled.get((key, turn.run.user_message_id))) is not None:
            return fate
        owner = self._owners.get(key)
        if owner is not None and owner is not turn and (owner.outcome is None or owner.outcome.end is End.PAUSED):
            return owner
        self._owners[key] = turn
        return None

    def settle(self, call_id: str, turn: Turn, step: Step, fate: Fate) -> None:
        """Remember what has become of a call; the message that began the turn tells it from one of the same id."""
        if turn.run.user_message_id:
            self._settled[(turn.chat_id or "", call_id, step), turn.run.user_message_id] = fate
            while len(self._settled) > _REMEMBERED:
                del self._settled[next(iter(self._settled))]
