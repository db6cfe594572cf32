"""A model of a server that answers one message: what it knows, what it sends, and what a connection loses of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from inferencesh._protocol.wire import Event

from .forms import CHAT, RUN, Wire, chat, chats, event, invocation, old_reply, old_run, piece, run, runs, said, user


@attrs.frozen
class Reply:
    """One assistant message of the turn, as it will be in the end.

    Attributes:
        thoughts: The pieces of its reasoning, which come first.
        pieces: The pieces of its text.
        calls: The ids of the calls in it, which come last: "call-..." of client tools, "ask-..." of client tools that
            need an approval, "app-..." of tools that the server runs once they are approved.
    """

    thoughts: Sequence[str] = ()
    pieces: Sequence[str] = ()
    calls: Sequence[str] = ()

    @property
    def text(self) -> str:
        """Its whole text."""
        return "".join(self.pieces)


@attrs.frozen
class Habits:
    """What kind of server it is.

    Attributes:
        follow_up: Whether the chat has had a turn before.
        wholes: After how many changes a whole message is sent; 0 for only its placeholder and its end.
        deltas: Whether it sends deltas.
        first_seq: The number of the first delta of a message.
        states: How it says what the run does: "chats", "agent_runs", "both" or "neither".
        awaiting: The status of a call that waits for its client.
        partial: Whether the end of a message is an update of its status alone.
        in_order: Whether what it sends is in order; if not, deltas and whole messages overtake each other, and resumed
            deltas begin anywhere.
    """

    follow_up: bool = False
    wholes: int = 1
    deltas: bool = True
    first_seq: int = 1
    states: str = "chats"
    awaiting: str = "awaiting_input"
    partial: bool = False
    in_order: bool = True


class ModelServer:
    """A server that works on one message, step by step.

    Args:
        habits: What kind of server it is.
        replies: What it will answer.
    """

    def __init__(self, habits: Habits, replies: Sequence[Reply]) -> None:
        self.habits = habits
        self.replies = replies
        self.run_state = "submitted"
        self.over = False
        self._forms: list[Wire] = []  # of each reply begun, its present form
        self._thoughts: list[str] = []  # of the newest reply, what it has said so far
        self._text: list[str] = []
        self._waiting: set[str] = set()
        self._unapproved: set[str] = set()
        self._approved: set[str] = set()
        self._seq: dict[str, int] = {}
        self._since_whole = 0
        self._plan = self._steps()
        self._log: list[Event] = []  # all that was sent since the turn began
        self.lines: list[Event] = []  # of the present connection: states and whole messages, or all that is in order
        self.tokens: list[Event] = []  # and deltas, where they have a way of their own
        self._begin_reply()

    # -- what it does ----------------------------------------------------------------------------------------------

    def _steps(self) -> list[tuple[str, str]]:
        steps = [("run", "working")]
        for number, reply in enumerate(self.replies):
            steps += [("reply", "")] if number else []
            steps += [("thought", text) for text in reply.thoughts]
            steps += [("text", text) for text in reply.pieces]
            steps += [("call", call) for call in reply.calls]
            steps += [("await", call) for call in reply.calls]
            steps += [("results", "")] if reply.calls else []
            steps += [("ready", "")]
        return [*steps, ("run", "completed")]

    def step(self) -> bool:
        """Do the next thing; returns whether there was one that could be done."""
        if not self._plan or (self._plan[0][0] == "results" and self._waiting):
            return False
        kind, value = self._plan.pop(0)
        actions: dict[str, Callable[[str], None]] = {
            "run": self._set_run,
            "reply": lambda _: self._begin_reply(),
            "thought": lambda text: self._say("reasoning", text),
            "text": lambda text: self._say("response", text),
            "call": self._begin_call,
            "await": self._await,
            "results": lambda _: self._set_run("working"),
            "ready": lambda _: self._finish_reply(),
        }
        actions[kind](value)
        return True

    def is_approved(self, call_id: str) -> bool:
        """Whether a call was approved."""
        return call_id in self._approved

    def decide(self, call_id: str, *, approved: bool) -> bool:
        """Take in the decision about a call that waits for approval; returns whether it counts, being the first."""
        if call_id not in self._unapproved:
            return False
        self._unapproved.discard(call_id)
        if approved:
            self._approved.add(call_id)
        if approved and call_id.startswith("ask"):
            self._change_calls(call_id, self.habits.awaiting)
        else:
            self._waiting.discard(call_id)
            self._change_calls(call_id, "completed" if approved else "cancelled")
        return True

    def answer(self, call_id: str) -> None:
        """Take in the result of a call."""
        assert call_id not in self._unapproved, "a call was run before it was approved"
        self._waiting.discard(call_id)
        self._change_calls(call_id, "completed")

    def _change_calls(self, call_id: str, status: str) -> None:
        for form in self._forms:
            for call in form["tool_invocations"]:
                if call["id"] == call_id:
                    self._change_call(form, call_id, status)

    def _begin_reply(self) -> None:
        number = len(self._forms)
        self._forms.append(
            {
                "id": f"reply-{number + 2}",
                "chat_id": CHAT,
                "role": "assistant",
                "status": "pending",
                "order": 4 + number,
                "agent_run_id": RUN,
                "content": [],
                "tool_invocations": [],
            }
        )
        self._thoughts, self._text = [], []
        self._send(said(self.form()))

    def _say(self, what: str, text: str) -> None:
        (self._thoughts if what == "reasoning" else self._text).append(text)
        form = self._forms[-1]
        blocks = (("reasoning", self._thoughts), ("text", self._text))
        form["content"] = [{"type": kind, "text": "".join(said_so)} for kind, said_so in blocks if said_so]
        if self.habits.deltas:
            seq = self._seq.get(form["id"], self.habits.first_seq - 1) + 1
            self._seq[form["id"]] = seq
            self._send(piece({what: text}, seq, form["id"]))
        self._since_whole += 1
        if self.habits.wholes and self._since_whole >= self.habits.wholes:
            self._send_whole()

    def _begin_call(self, call_id: str) -> None:
        kind = "app" if call_id.startswith("app") else "client"
        begun = self._forms[-1]["tool_invocations"]
        self._forms[-1]["tool_invocations"] = [*begun, invocation("pending", call_id, type=kind)]
        self._send_whole()

    def _await(self, call_id: str) -> None:
        self._waiting.add(call_id)
        if call_id.startswith("call"):
            self._change_call(self._forms[-1], call_id, self.habits.awaiting)
        else:
            self._unapproved.add(call_id)
            self._change_call(self._forms[-1], call_id, "awaiting_approval")
        self._set_run("input_required")

    def _change_call(self, form: Wire, call_id: str, status: str) -> None:
        calls = form["tool_invocations"]
        form["tool_invocations"] = [{**call, "status": status} if call["id"] == call_id else call for call in calls]
        self._send(said(dict(form)))

    def _finish_reply(self) -> None:
        form = self._forms[-1]
        form["status"] = "ready"
        if self.habits.partial and (self.habits.deltas or self.habits.wholes == 1):  # else it would never tell its text
            self._send(said({"id": form["id"], "status": "ready"}, ["status"]))
        else:
            self._send_whole()

    def _set_run(self, state: str) -> None:
        self.run_state = state
        self.over = state == "completed"
        if self.habits.states in {"chats", "both"}:
            self._send(chats(self.chat()))
        if self.habits.states in {"agent_runs", "both"}:
            self._send(runs(run(state)))

    def _send_whole(self) -> None:
        self._since_whole = 0
        self._send(said(self.form()))

    def _send(self, sent: Event) -> None:
        self._log.append(sent)
        (self.tokens if sent["event"] == "delta" and not self.habits.in_order else self.lines).append(sent)

    # -- what it answers -------------------------------------------------------------------------------------------

    def form(self, number: int = -1) -> Wire:
        """A reply's present form."""
        return dict(self._forms[number])

    def chat(self) -> Wire:
        """The chat as it is now."""
        status = {"completed": "idle", "input_required": "awaiting_input"}.get(self.run_state, "busy")
        return chat(status, run(self.run_state))

    def messages(self) -> list[Wire]:
        """The chat's messages as they are now, the newest first."""
        before = [old_reply(), user(id="user-1", order=1)] if self.habits.follow_up else []
        return [*reversed([dict(form) for form in self._forms]), user(), *before]

    # -- connections -----------------------------------------------------------------------------------------------

    def connect(self, how: str, resume: int) -> None:
        """Begin a connection; what the one before had not delivered is lost with it.

        Args:
            how: "present": it begins with the present forms of everything; "replay": with all that was sent since the
                turn began; "nothing": it goes on with what comes.
            resume: How many of the last deltas are sent again, where deltas have a way of their own.
        """
        self.lines, self.tokens = [], []
        if how == "replay":
            self.lines = [sent for sent in self._log if self.habits.in_order or sent["event"] != "delta"]
        elif how == "present":
            self.lines = [chats(self.chat()), *(said(dict(form)) for form in self._forms)]
        if not self.habits.in_order:
            deltas = [sent for sent in self._log if sent["event"] == "delta"]
            self.tokens = deltas if how == "replay" else deltas[len(deltas) - resume :]

    def noise(self) -> list[Event]:
        """What a chat's stream also carries, at any time, and what says nothing about this turn."""
        stale = [said(old_reply()), runs(old_run())] if self.habits.follow_up else []
        return [
            said(user()),
            said({**old_reply(status="pending"), "id": "elsewhere", "chat_id": "another-chat"}),
            chats(chat("idle", id="another-chat")),
            chats({"id": CHAT, "name": "A title"}, ["name"]),
            piece({"response": "astray"}, 1, None),
            event("usage", {"total": 1}),
            *stale,
        ]
