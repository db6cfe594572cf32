"""The state of a turn's run: busy, paused or ended, and whether a reported state is about this run at all.

A stream begins with the current state of the chat, which for a follow-up turn is that of the turn before. So an idle
state counts only if there is evidence that it is about this turn: the run is known to be this turn's, the chat was
busy since, a message of this turn is final, or the chat is new.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from inferencesh._types.codec import structure
from inferencesh.models import Chat, ChatStatus, Interrupt, Run, RunState

from .calls import Ids

__all__ = ["Phase", "RunTracker", "goes_on", "merged", "phase_of"]


class Phase(enum.Enum):
    """The phase of a run."""

    UNKNOWN = "not reported"
    BUSY = "at work"
    PAUSED = "waiting for input"
    ENDED = "over"


_RUN_PHASES = {
    RunState.SUBMITTED: Phase.BUSY,
    RunState.WORKING: Phase.BUSY,
    RunState.INPUT_REQUIRED: Phase.PAUSED,
    RunState.AUTH_REQUIRED: Phase.PAUSED,
    RunState.COMPLETED: Phase.ENDED,
    RunState.FAILED: Phase.ENDED,
    RunState.CANCELED: Phase.ENDED,
    RunState.REJECTED: Phase.ENDED,
}
_CHAT_PHASES = {
    ChatStatus.BUSY: Phase.BUSY,
    ChatStatus.WAITING: Phase.BUSY,
    ChatStatus.AWAITING_INPUT: Phase.PAUSED,
    ChatStatus.IDLE: Phase.ENDED,
    ChatStatus.COMPLETED: Phase.ENDED,
}


class RunTracker:
    """The state of one turn's run, from ``chats`` and ``agent_runs`` events.

    Args:
        settled: Whether every reported state is about this turn, because the chat began with it.

    Attributes:
        phase: The phase of the run.
        run: The run, as far as it is known.
        user_message_id: The id of the user's message, or "".
        queued: Whether the user's message waits for another turn to end.
        began_chat: Whether the chat began with this turn.
        interrupts: The pending interrupts of the chat.
        held_up: Whether the run before this turn waits for input.
    """

    def __init__(self, *, settled: bool) -> None:
        self.phase = Phase.UNKNOWN
        self.run = Run()
        self.user_message_id = ""
        self.queued = False
        self.began_chat = settled
        self.interrupts: tuple[Interrupt, ...] = ()
        self.held_up = False
        self._settled = settled
        self._sure = False  # whether the phase was reported of this very run
        self._foreign: Ids = {}  # of runs of other turns
        self._chat: Mapping[str, Any] = {}
        self._newest_run: Mapping[str, Any] = {}

    @property
    def counts(self) -> bool:
        """Whether the phase is known to be about this turn."""
        return self._settled or self._sure

    @property
    def output(self) -> Any:
        """The structured output of the run, or of a chat that began with it; None if there is none."""
        chat_output = self._chat.get("output") if self.began_chat else None
        return self.run.output if self.run.output is not None else chat_output

    def settle(self) -> None:
        """Take all states from now on as about this turn, and forget an earlier one that may not have been."""
        if not self.counts:
            self.phase = Phase.UNKNOWN
        self._settled = True

    def begin(self, user_message_id: str, run_id: str, *, queued: bool) -> None:
        """Begin with what the response to the POST of the message says about its run."""
        self.user_message_id = user_message_id
        self.queued = queued
        if not queued:
            self.own(run_id)

    def dequeued(self) -> None:
        """Note that the message is not queued any more."""
        newest = structure(self._newest_run, Run)
        if self.queued and _RUN_PHASES.get(newest.state) is not Phase.ENDED:
            self._foreign.pop(newest.id, None)  # it was taken for another turn's
        self.queued = False

    def own(self, run_id: str) -> None:
        """Note the id of the turn's run, unless it is known already."""
        if run_id and not self.run.id and run_id not in self._foreign:
            self.run = Run(id=run_id, user_message_id=self.user_message_id)

    def is_foreign(self, run_id: str) -> bool:
        """Whether a run is known to belong to another turn."""
        return run_id in self._foreign

    def take_chat(self, data: Mapping[str, Any], fields: tuple[str, ...] = ()) -> None:
        """Process a ``chats`` event, or a chat that was read."""
        self._chat = merged(self._chat, data, fields)
        chat = structure(self._chat, Chat)
        run = chat.active_run
        self.interrupts = chat.pending_interrupts
        if run is not None:
            self._newest_run = self._chat["active_run"]
        state = _RUN_PHASES.get(run.state) if run is not None else None
        owned = self._owns(run) if run is not None else None
        by_itself = chat.status == ChatStatus.WAITING and state is Phase.PAUSED  # on the agent's own wait call
        phase = _CHAT_PHASES.get(chat.status) if state is None or by_itself else state
        self.held_up = phase is Phase.PAUSED and (owned is False or (self.queued and not owned))
        if run is None or state is None or by_itself:
            self._take_phase(phase)
        elif not self._take_run(run) and chat.status == ChatStatus.BUSY:
            self._take_phase(Phase.BUSY)  # the event still names the other turn's run, but the chat is busy again

    def take_run(self, data: Mapping[str, Any], fields: tuple[str, ...] = ()) -> None:
        """Process an ``agent_runs`` event."""
        known = self._newest_run if self._newest_run.get("id") == data.get("id") else {}
        self._newest_run = merged(known, data, fields)
        run = structure(self._newest_run, Run)
        if run.state in _RUN_PHASES:
            self.held_up = not self._take_run(run) and _RUN_PHASES[run.state] is Phase.PAUSED

    def _take_run(self, run: Run) -> bool:
        """Process the state of a run, and return whether it can be the turn's run."""
        owned = self._owns(run)
        if owned is False or (self.queued and not owned):
            if run.id:
                self._foreign[run.id] = None  # such as the one that a queued message waits for
            return False
        phase = _RUN_PHASES[run.state]
        if not owned and phase is Phase.ENDED and self._sees_another_at_work(run):
            return False
        self.queued = False
        self._foreign.pop(run.id, None)
        if owned or self._settled or phase is Phase.BUSY:
            self.run = run
            self._sure = True
        self.phase = phase
        return True

    def _take_phase(self, phase: Phase | None) -> None:
        """Process the phase of the chat; None stands for a status that this version does not know."""
        if phase is None or self.queued:
            return
        self._sure = phase is Phase.BUSY
        self._settled = self._settled or phase is Phase.BUSY
        self.phase = phase

    def _sees_another_at_work(self, run: Run) -> bool:
        """Whether the turn's run is active and is not the given one, which is most likely that of the turn before."""
        seen = _RUN_PHASES.get(self.run.state)
        return run.id != "" and self.run.id not in {"", run.id} and seen in {Phase.BUSY, Phase.PAUSED}

    def _owns(self, run: Run) -> bool | None:
        """Return whether a run is this turn's, or None if that is not known."""
        if run.user_message_id and self.user_message_id:
            return run.user_message_id == self.user_message_id
        if run.id and run.id in self._foreign:
            return False
        if run.id and run.id == self.run.id:
            return True
        return None


def phase_of(chat: Mapping[str, Any]) -> Phase:
    """Return the phase of the run of a chat that was read."""
    tracker = RunTracker(settled=True)
    tracker.take_chat(chat)
    return tracker.phase


def goes_on(chat: Mapping[str, Any]) -> bool:
    """Whether a chat that was read has a run that is at work or paused."""
    return phase_of(chat) in {Phase.BUSY, Phase.PAUSED}


def merged(known: Mapping[str, Any], data: Mapping[str, Any], fields: Sequence[str]) -> Mapping[str, Any]:
    """Return the whole object after an event that may hold only some of its fields."""
    if not fields:
        return data
    named = {name: data[name] for name in fields if name in data}
    return {**known, **(named or data)}
