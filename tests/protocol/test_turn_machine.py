"""A turn against a model of a server, over any order of what can happen: nothing lost, nothing twice, never back.

The connection is cut anywhere and taken up again in every way, events are repeated, deltas and whole messages overtake
each other, the chat is read at any moment, calls are answered early, late or by hand, and time passes. In the end the
turn has what the server has.

``INFERENCESH_EXAMPLES=5000`` in the environment has it search longer, with other examples each time.
"""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferencesh._protocol.calls import Step, step_of
from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn
from inferencesh._protocol.wire import Event
from inferencesh._types.codec import structure
from inferencesh.models import Message, ToolCallStatus

from .forms import CHAT, Caller, chats, old_run, user
from .forms import chat as chat_form
from .model_server import Habits, ModelServer, Reply

EXAMPLES = int(os.environ.get("INFERENCESH_EXAMPLES", "0"))

pieces = st.lists(st.sampled_from(["a", "b", "ab", "a\u2028", "\U0001f600", "ba "]), max_size=6)
replies = st.lists(
    st.builds(Reply, st.lists(st.sampled_from(["hm ", "so "]), max_size=2), pieces), min_size=1, max_size=3
)
calls = st.lists(st.lists(st.sampled_from(["call", "ask", "app"]), max_size=2), min_size=3, max_size=3)
habits = st.builds(
    Habits,
    follow_up=st.booleans(),
    wholes=st.integers(0, 3),
    deltas=st.booleans(),
    first_seq=st.integers(0, 1),
    states=st.sampled_from(["chats", "agent_runs", "both", "neither"]),
    awaiting=st.sampled_from(["awaiting_input", "in_progress"]),
    partial=st.booleans(),
    in_order=st.booleans(),
)


class TurnMachine(RuleBasedStateMachine):
    """One turn, its server, and everything that may come between them."""

    def __init__(self) -> None:
        super().__init__()
        self.checked = 0
        self.latest: dict[str, Message] = {}
        self.handed_out: Counter[tuple[str, Step]] = Counter()
        self.with_caller: list[tuple[str, Step]] = []  # calls that somebody is busy with
        self.past: list[Event] = []  # what this connection has delivered

    @initialize(habits=habits, replies=replies, calls=calls, asks=st.booleans())
    def begin(self, habits: Habits, replies: list[Reply], calls: list[list[str]], asks: bool) -> None:
        """A message is posted."""
        called = [
            Reply(reply.thoughts, reply.pieces, [f"{kind}-{number}-{at}" for at, kind in enumerate(calls[number])])
            for number, reply in enumerate(replies)
        ]
        self.server = ModelServer(habits, called)
        self.caller = Caller(Turn(CHAT, after=2) if habits.follow_up else Turn(None))
        self.caller.turn.calls.asks = asks
        first = self.caller.turn.begin(
            structure(user(), Message), structure(self.server.form(0), Message), self.caller.now
        )
        assert first is None, "a placeholder is no snapshot"
        if habits.follow_up:
            self.server.lines.insert(0, chats(chat_form("idle", old_run())))

    # -- what can happen -------------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 6))
    def the_server_works(self, steps: int) -> None:
        """It does its next few steps."""
        for _ in range(steps):
            self.server.step()

    @rule(choices=st.lists(st.booleans(), min_size=1, max_size=8))
    def events_arrive(self, choices: list[bool]) -> None:
        """In the order of their ways; those of two ways overtake each other."""
        for choice in choices:
            way = self.server.tokens if (choice or not self.server.lines) else self.server.lines
            if way or (way := self.server.lines):
                self.deliver(way.pop(0))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def an_event_arrives_again(self, data: st.DataObject) -> None:
        """One that this connection has brought already."""
        self.deliver(data.draw(st.sampled_from(self.past)))

    @rule(data=st.data())
    def something_else_arrives(self, data: st.DataObject) -> None:
        """That has nothing to do with this turn."""
        self.deliver(data.draw(st.sampled_from(self.server.noise())))

    @rule(how=st.sampled_from(["present", "replay", "nothing"]), resume=st.integers(0, 8))
    def the_connection_is_cut(self, how: str, resume: int) -> None:
        """And another one made."""
        self.past = []
        self.server.connect(how, resume)
        self.caller.turn.reconnected()

    @rule()
    def the_chat_is_read(self) -> None:
        """At any moment."""
        if self.caller.turn.outcome is None:
            self.caller.reads(self.server.chat(), *self.server.messages())
            self.note_calls()

    @rule()
    def something_unreadable_arrives(self) -> None:
        """So the chat is to be read."""
        self.caller.turn.unreadable()

    @rule(seconds=st.floats(0.01, 30))
    def time_passes(self, seconds: float) -> None:
        """Nothing arrives meanwhile."""
        self.catch_up()
        self.caller.passes(seconds)
        self.catch_up()

    @precondition(lambda self: self.with_caller)
    @rule(data=st.data(), approved=st.booleans())
    def a_call_is_answered(self, data: st.DataObject, approved: bool) -> None:
        """Its handler has come to an end, or a person has decided, and the server has acknowledged that."""
        self.answer(*data.draw(st.sampled_from(self.with_caller)), approved=approved)

    @precondition(lambda self: self.with_caller)
    @rule(data=st.data())
    def a_call_is_declined(self, data: st.DataObject) -> None:
        """It has no handler, or nobody wants to decide."""
        call_id, step = data.draw(st.sampled_from(self.with_caller))
        self.with_caller.remove((call_id, step))
        self.caller.turn.call_declined(call_id, self.caller.now, step)

    @precondition(lambda self: self.with_caller)
    @rule()
    def the_caller_leaves_and_comes_back(self) -> None:
        """What it was busy with is left to whoever reads the reply."""
        self.with_caller = []
        self.caller.turn.calls.abandon()
        self.caller.turn.resume(self.caller.now)

    @precondition(lambda self: self.caller.turn.outcome is not None and self.caller.outcome.end is End.PAUSED)
    @rule(approved=st.booleans(), asks=st.booleans())
    def a_pause_is_ended(self, approved: bool, asks: bool) -> None:
        """Whoever reads the reply answers what it waits for, and takes the turn up again."""
        message = self.caller.outcome.message
        for call in message.tool_calls if message is not None else ():
            if call.pending:
                self.answer(call.id, Step.RESULT)
            elif call in (message.pending_approvals if message is not None else ()):
                self.answer(call.id, Step.APPROVAL, approved=approved)
        self.caller.turn.calls.asks = asks
        self.caller.turn.resume(self.caller.now)
        self.the_connection_is_cut("present", 0)

    # -- how -------------------------------------------------------------------------------------------------------

    def deliver(self, arrived: Event) -> None:
        """Feed one event, as a driver does: after what the turn wants to have read."""
        self.catch_up()
        if self.caller.turn.outcome is None:
            self.past.append(arrived)
            self.caller.take(arrived)
            self.note_calls()

    def catch_up(self) -> None:
        """Read the chat if that is wanted."""
        if self.caller.turn.wants_reread and self.caller.turn.outcome is None:
            self.the_chat_is_read()

    @rule(data=st.data(), approved=st.booleans())
    def somebody_else_decides(self, data: st.DataObject, approved: bool) -> None:
        """Another program or a person; this side learns it from what arrives."""
        if not hasattr(self, "server"):
            return
        waiting = [call for reply in self.server.replies for call in reply.calls if not call.startswith("call")]
        if waiting:
            self.server.decide(data.draw(st.sampled_from(waiting)), approved=approved)

    def answer(self, call_id: str, step: Step, *, approved: bool = True) -> None:
        """Post a call's result, or the decision about it."""
        if (call_id, step) in self.with_caller:
            self.with_caller.remove((call_id, step))
        if step is Step.RESULT:
            self.server.answer(call_id)
            self.caller.answers(call_id)
        else:
            counts = self.server.decide(call_id, approved=approved)
            self.caller.turn.call_decided(call_id, self.caller.now, approved=approved if counts else None)

    def note_calls(self) -> None:
        """Take on the calls that were handed out."""
        for call in self.caller.calls:
            step = step_of(call)
            assert step is not None
            if step is Step.APPROVAL:
                self.caller.turn.calls.ask(call.id)
            self.handed_out[call.id, step] += 1
            self.with_caller.append((call.id, step))
        self.caller.calls.clear()

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def snapshots_only_go_forward(self) -> None:
        """Each is more than the one before of the same message, and its delta says what is more."""
        if not hasattr(self, "caller"):
            return
        fresh, self.checked = self.caller.snapshots[self.checked :], len(self.caller.snapshots)
        for snapshot in fresh:
            before = self.latest.get(snapshot.id)
            self.check_step(before, snapshot)
            self.latest[snapshot.id] = snapshot
            if self.server.habits.in_order and self.server.habits.first_seq == 1:
                reply = self.server.replies[int(snapshot.id.removeprefix("reply-")) - 2]
                assert reply.text.startswith(snapshot.text), "an orderly server's text is never shown wrong"
                assert "".join(reply.thoughts).startswith(snapshot.reasoning), "nor its reasoning"

    def check_step(self, before: Message | None, snapshot: Message) -> None:
        """One snapshot against the one before it."""
        if before is None:
            assert snapshot.delta == snapshot.text
            return
        assert not before.done, "nothing follows a final snapshot"
        assert snapshot != before, "no snapshot comes twice"
        if snapshot.delta is None:
            assert not snapshot.text.startswith(before.text), "this was no rewrite"
        else:
            assert before.text + snapshot.delta == snapshot.text
        behind = before.text.startswith(snapshot.text) and before.text != snapshot.text
        assert snapshot.done or not behind, "a snapshot is older than the one before"
        known = {call.id: call for call in snapshot.tool_calls}
        for call in before.tool_calls:
            assert call.id in known, "a call has vanished"
            assert known[call.id].done or not call.done, "a call that was over has begun again"
            begun = {ToolCallStatus.PENDING, ToolCallStatus.AWAITING_APPROVAL}  # approved, it is about to begin
            assert known[call.id].status != ToolCallStatus.PENDING or call.status in begun
            assert known[call.id].status != ToolCallStatus.AWAITING_APPROVAL or call.status in begun

    @invariant()
    def each_call_is_handed_out_at_most_once(self) -> None:
        """Whatever is replayed."""
        assert all(count == 1 for count in self.handed_out.values()), self.handed_out

    @invariant()
    def no_turn_is_lost_or_over_too_early(self) -> None:
        """While the server works on it."""
        if not hasattr(self, "caller") or self.caller.turn.outcome is None:
            return
        outcome = self.caller.outcome
        assert outcome.end in {End.FINISHED, End.PAUSED}, outcome
        assert outcome.end is End.PAUSED or self.server.over, "the run goes on"

    def teardown(self) -> None:
        """Let everything come to its end: it is the server's."""
        if not hasattr(self, "caller"):
            return
        for _ in range(500):
            if self.caller.turn.outcome is not None and self.caller.outcome.end is End.FINISHED:
                break
            self.go_on()
            self.snapshots_only_go_forward()
            self.no_turn_is_lost_or_over_too_early()
        self.each_call_is_handed_out_at_most_once()
        assert self.caller.outcome.end is End.FINISHED
        last = self.server.form()
        assert (self.caller.final.id, self.caller.final.text) == (last["id"], self.server.replies[-1].text)
        assert not self.caller.final.pending_tool_calls
        for number, reply in enumerate(self.server.replies):
            snapshot = self.latest[f"reply-{number + 2}"]
            assert (snapshot.text, snapshot.status) == (reply.text, "ready")
        run = {call for call, step in self.handed_out if step is Step.RESULT}
        calls = {call for reply in self.server.replies for call in reply.calls}
        assert run <= calls
        assert {call for call in calls if call.startswith("call")} <= run
        assert all(self.server.is_approved(call) for call in run if call.startswith("ask")), "approved and then run"
        assert not any(call.startswith("app") for call in run), "the server runs them"

    def go_on(self) -> None:
        """The next thing that happens when nothing goes wrong any more."""
        if self.caller.turn.outcome is not None:
            self.server.step()  # it may have been about what somebody else has settled, and the server goes on
            self.a_pause_is_ended(approved=True, asks=True)
        elif self.caller.turn.wants_reread:
            self.the_chat_is_read()
        elif self.with_caller:
            self.answer(*self.with_caller[0])
        elif self.server.lines or self.server.tokens:
            self.deliver((self.server.lines or self.server.tokens).pop(0))
        elif not self.server.step():
            self.caller.passes(60)


TestTurnMachine = TurnMachine.TestCase
TestTurnMachine.settings = (
    settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None)
    if EXAMPLES
    else settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
)
