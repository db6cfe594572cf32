"""What the server says of the run behind a turn: going on, paused or over, and whether it means this turn's run at all.

A stream begins with the chat's present state, which on a follow-up turn is that of the turn before. So an idle state
counts only with evidence that it is about this turn: the run is known to be this turn's, or the chat was seen busy, or
a message of this turn has become final, or the chat is new.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from inferencesh._types.codec import structure
from inferencesh.models import Chat, ChatStatus, Interrupt, Run, RunState

__all__ = ["Phase", "RunTracker", "goes_on", "phase_of"]


class Phase(enum.Enum):
    """What a turn's run is doing."""

    UNKNOWN = "nothing was said yet"
    BUSY = "going on"
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
    """Follows the run of one turn through ``chats`` and ``agent_runs``.

    Args:
        settled: Whether every state is about this turn, because the chat began with it.
    """

    def __init__(self, *, settled: bool) -> None:
        self.phase = Phase.UNKNOWN
        self.run = Run()  # the turn's run, as far as it is known
        self.user_message_id = ""
        self.queued = False  # whether the turn's message waits behind another turn
        self.began_chat = settled
        self.interrupts: tuple[Interrupt, ...] = ()  # what holds the chat's run up, as the chat said last
        self.held_up = False  # whether another turn's run, which this one comes after, waits for input
        self._settled = settled
        self._sure = False  # whether the phase was said of this very run
        self._foreign: set[str] = set()  # runs that the turn's message waited behind
        self._chat: dict[str, Any] = {}
        self._newest_run: dict[str, Any] = {}

    @property
    def counts(self) -> bool:
        """Whether the phase is known to be this turn's own."""
        return self._settled or self._sure

    @property
    def output(self) -> Any:
        """The structured output that was said of this run, or of the chat that began with it; None when none was."""
        said_of_chat = self._chat.get("output") if self.began_chat else None
        return self.run.output if self.run.output is not None else said_of_chat

    def settle(self) -> None:
        """From here on states are about this turn; one that came before and may not have been is forgotten."""
        if not self.counts:
            self.phase = Phase.UNKNOWN
        self._settled = True

    def begin(self, user_message_id: str, run_id: str, *, queued: bool) -> None:
        """The message was posted: what the answer says about its run."""
        self.user_message_id = user_message_id
        self.queued = queued
        if not queued:
            self.own(run_id)

    def dequeued(self) -> None:
        """The message's turn has come."""
        newest = structure(self._newest_run, Run)
        if self.queued and _RUN_PHASES.get(newest.state) is not Phase.ENDED:
            self._foreign.discard(newest.id)  # it was taken for the one before, and is the turn's own
        self.queued = False

    def own(self, run_id: str) -> None:
        """Something that is surely this turn's names its run."""
        if run_id and not self.run.id and run_id not in self._foreign:
            self.run = Run(id=run_id, user_message_id=self.user_message_id)

    def is_foreign(self, run_id: str) -> bool:
        """Whether a run is known to be another turn's."""
        return run_id in self._foreign

    def take_chat(self, data: Mapping[str, Any], fields: tuple[str, ...] = ()) -> None:
        """Take in a ``chats`` event, or a chat that was read."""
        self._chat = _merged(self._chat, data, fields)
        chat = structure(self._chat, Chat)
        run = chat.active_run
        self.interrupts = chat.pending_interrupts
        if run is not None:
            self._newest_run = dict(self._chat["active_run"])
        state = _RUN_PHASES.get(run.state) if run is not None else None
        owned = self._owns(run) if run is not None else None
        by_itself = chat.status == ChatStatus.WAITING and state is Phase.PAUSED  # on the agent's own wait call
        phase = _CHAT_PHASES.get(chat.status) if state is None or by_itself else state
        self.held_up = phase is Phase.PAUSED and (owned is False or (self.queued and not owned))
        if run is None or state is None or by_itself:
            self._take_phase(phase)
        elif not self._take_run(run) and chat.status == ChatStatus.BUSY:
            self._take_phase(Phase.BUSY)  # the run is still shown as another turn's, but that the chat is busy is news

    def take_run(self, data: Mapping[str, Any], fields: tuple[str, ...] = ()) -> None:
        """Take in an ``agent_runs`` event."""
        known = self._newest_run if self._newest_run.get("id") == data.get("id") else {}
        self._newest_run = _merged(known, data, fields)
        run = structure(self._newest_run, Run)
        if run.state in _RUN_PHASES:
            self.held_up = not self._take_run(run) and _RUN_PHASES[run.state] is Phase.PAUSED

    def _take_run(self, run: Run) -> bool:
        """Take in a run's state; returns whether it can be the turn's run."""
        owned = self._owns(run)
        if owned is False or (self.queued and not owned):
            if run.id:
                self._foreign.add(run.id)  # such as the one that the message waits for
            return False
        phase = _RUN_PHASES[run.state]
        if not owned and phase is Phase.ENDED and self._sees_another_at_work(run):
            return False
        self.queued = False
        self._foreign.discard(run.id)
        if owned or self._settled or phase is Phase.BUSY:
            self.run = run
            self._sure = True
        self.phase = phase
        return True

    def _take_phase(self, phase: Phase | None) -> None:
        """Take in what the chat alone says; None is a state of a later server version, which says nothing here."""
        if phase is None or self.queued:
            return
        self._sure = phase is Phase.BUSY
        self._settled = self._settled or phase is Phase.BUSY
        self.phase = phase

    def _sees_another_at_work(self, run: Run) -> bool:
        """Whether the turn's run was seen to go on, and this is not it, but most likely the one before."""
        seen = _RUN_PHASES.get(self.run.state)
        return run.id != "" and self.run.id not in {"", run.id} and seen in {Phase.BUSY, Phase.PAUSED}

    def _owns(self, run: Run) -> bool | None:
        """Whether a run is this turn's: True, False, or None when nothing tells."""
        if run.user_message_id and self.user_message_id:
            return run.user_message_id == self.user_message_id
        if run.id and run.id in self._foreign:
            return False
        if run.id and run.id == self.run.id:
            return True
        return None


def phase_of(chat: Mapping[str, Any]) -> Phase:
    """What the run of a chat, as it was read, is doing."""
    tracker = RunTracker(settled=True)
    tracker.take_chat(chat)
    return tracker.phase


def goes_on(chat: Mapping[str, Any]) -> bool:
    """Whether a chat, as it was read, has a run that is at work or waits."""
    return phase_of(chat) in {Phase.BUSY, Phase.PAUSED}


def _merged(known: Mapping[str, Any], data: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """The whole object after an event that may carry only some of its fields."""
    if not fields:
        return dict(data)
    named = {name: data[name] for name in fields if name in data}
    return {**known, **(named or data)}
