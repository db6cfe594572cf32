"""The chats of the soak's server: their state, and the stream lines that report it."""

from __future__ import annotations

import asyncio
import contextlib

import orjson

from .payloads import chat_form, message_form
from .soak_plan import REFUSALS, TOOL, Fault, plan_of

__all__ = ["Chat", "encode"]

Form = dict[str, object]


def encode(line: object) -> bytes:
    """Return a line as it is sent."""
    return orjson.dumps(line) + b"\n"


class Chat:
    """One chat. Of its turns only the last one may be going on.

    Args:
        seed: The seed of the soak.
        chat_id: The chat's id.
    """

    def __init__(self, seed: int, chat_id: str) -> None:
        self.id = chat_id
        self.faults: list[tuple[Fault, int]] = []
        self._moved = asyncio.Event()  # replaced whenever something was posted
        self.turn = -1
        self.over: list[Form] = []  # messages of earlier turns
        self._seed = seed

    def begin(self) -> None:
        """Begin a turn: a message was posted."""
        if self.turn >= 0:
            self.over += self.messages()
        self.turn += 1
        self.plan = plan_of(self._seed, self.id, self.turn)
        self.pieces = self.plan.all_pieces(self.id)
        self.faults = list(self.plan.faults)
        self.failing = self.plan.requests
        self.at = 0  # pieces sent so far
        self.result: str | None = None
        self._notify()

    def take_result(self, result: str) -> None:
        """Go on with the turn: the tool's result was posted."""
        self.result = result
        self._notify()

    async def wait(self, seconds: float) -> None:
        """Wait until something is posted, at most for some seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), seconds)

    def next_fault(self, *, opening: bool = False) -> tuple[Fault | None, int]:
        """Return the next fault, and after how many lines it comes.

        Args:
            opening: Whether the stream is just being opened, so that it can still be refused.
        """
        if not self.faults or (self.faults[0][0] in REFUSALS and not opening) or self.done:
            return None, 0
        return self.faults.pop(0)

    def _notify(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def waits(self) -> bool:
        """Whether the turn waits for the tool's result."""
        return self.plan.tool_at is not None and self.at == self.plan.tool_at and self.result is None

    @property
    def done(self) -> bool:
        """Whether the turn is over."""
        return self.turn < 0 or self.at == len(self.pieces)

    @property
    def call_id(self) -> str:
        """The id of the turn's tool call."""
        return f"{self.id}-{self.turn}"

    def advance(self, count: int = 1) -> None:
        """Advance by some pieces, or by fewer where the turn ends or waits."""
        for _ in range(count):
            if not self.done and not self.waits:
                self.at += 1

    def chat(self) -> Form:
        """Return the chat."""
        state = "completed" if self.done else "input_required" if self.waits else "working"
        run = {"id": f"{self.id}-run{self.turn}", "chat_id": self.id, "state": state}
        run["user_message_id"] = f"{self.id}-u{self.turn}"
        status = {"completed": "idle", "input_required": "awaiting_input", "working": "busy"}[state]
        return chat_form(state) | {"id": self.id, "status": status, "active_run": run if self.turn >= 0 else None}

    def asked(self) -> Form:
        """Return the user's message of the last turn."""
        return self._form("Hi", "ready", "u") | {"role": "user", "order": 2 * self.turn + 1}

    def reply(self) -> Form:
        """Return the reply of the last turn as far as it is written."""
        form = self._form("".join(self.pieces[: self.at]), "ready" if self.done else "pending", "a")
        if self.plan.tool_at is not None and self.at >= self.plan.tool_at:
            call = {"name": TOOL, "arguments": {"argument": self.id}}
            status = "awaiting_input" if self.result is None else "completed"
            form["tool_invocations"] = [
                {"id": self.call_id, "type": "client", "status": status, "function": call, "result": self.result}
            ]
        return form | {"order": 2 * self.turn + 2}

    def placeholder(self) -> Form:
        """Return the reply as the response to a post has it."""
        return self.reply() | {"content": [], "status": "pending", "tool_invocations": None}

    def messages(self) -> list[Form]:
        """Return all messages, the newest first."""
        return [self.reply(), self.asked(), *self.over] if self.turn >= 0 else []

    def state_lines(self) -> list[bytes]:
        """Return the lines with which a stream begins: the present state."""
        if self.turn < 0:
            return [encode({"event": "chats", "data": self.chat()})]
        return [
            encode({"event": "chats", "data": self.chat()}),
            encode({"event": "chat_messages", "data": self.reply()}),
        ]

    def step_lines(self) -> list[bytes]:
        """Advance by one piece and return the lines that report it."""
        if self.waits:
            return []
        seq, resumed = self.at, self.result is not None and self.at == self.plan.tool_at
        lines = []
        if resumed:
            lines.append(encode({"event": "chat_messages", "data": self.reply()}))
            lines.append(encode({"event": "chats", "data": self.chat()}))
        self.advance()
        if self.plan.mode != "snapshots":
            delta = {"delta": {"response": self.pieces[seq]}, "seq": seq, "resource_id": f"{self.id}-a{self.turn}"}
            lines.append(encode({"event": "delta", "data": delta}))
        whole = self.plan.mode == "snapshots" or (self.plan.mode == "both" and seq % 5 == 0)
        if whole or self.done or self.waits:
            lines.append(encode({"event": "chat_messages", "data": self.reply()}))
        if self.done or self.waits:
            lines.append(encode({"event": "chats", "data": self.chat()}))
        return lines

    def _form(self, text: str, status: str, role: str) -> Form:
        own = {"id": f"{self.id}-{role}{self.turn}", "chat_id": self.id, "agent_run_id": f"{self.id}-run{self.turn}"}
        return message_form(text, status) | own
