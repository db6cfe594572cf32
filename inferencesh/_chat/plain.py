"""Conversations without the extra ``cli``, in pipes, and as JSON lines: replies on stdout, the rest on stderr."""

from __future__ import annotations

import json
import sys

from inferencesh import Agent, InferenceError, Message, ToolCall, ToolCallStatus

from .text import describe, forget_keys, note, visible, write_stderr

__all__ = ["JsonFront", "PlainFront", "read"]


def read(question: str, *, ask: bool) -> str:
    """Read a line from stdin; the question goes to stderr unless both ends are a terminal."""
    if ask and sys.stdin.isatty() and sys.stdout.isatty():
        return input(question)
    if ask:
        write_stderr(question)
    return input()


class PlainFront:
    """Prints what each snapshot of a turn adds to the one before, and every tool call once."""

    def __init__(self) -> None:
        self._reset()

    def begin(self, _agent: Agent, /) -> None:
        """Begin to show a turn."""
        self._reset()

    def _reset(self) -> None:
        self._message_id = ""
        self._in_line = False  # whether the last line is not ended yet
        self._shown: set[str] = set()  # ids of tool calls

    def show(self, message: Message) -> None:
        """Show what is new in a snapshot; if the text does not continue the last one, show all of it on a new line."""
        if message.id != self._message_id or message.delta is None:
            self.end_line()
        self._message_id = message.id
        self._write(message.text if message.delta is None else message.delta)
        for call in message.tool_calls:
            if call.status != ToolCallStatus.PENDING and call.id not in self._shown:
                self._shown.add(call.id)
                if sys.stdout.isatty():
                    self.end_line()
                note(f"tool {describe(call)}")

    def finish(self, message: Message) -> None:
        """Show the addresses of the images and files of a complete message."""
        self.end_line()
        for block in message.content:
            if uri := block.image or block.file:
                self._write(f"[{' '.join(f'{block.type}: {uri}'.split())}]\n")

    def fail(self, _error: InferenceError, /) -> None:
        """End the output of a turn that has failed."""
        self.end_line()

    def end_line(self) -> None:
        """End the current line, if there is text in it."""
        if self._in_line:
            self._write("\n")

    def _write(self, text: str) -> None:
        if shown := visible(text):
            sys.stdout.write(shown)
            sys.stdout.flush()
            self._in_line = not shown.endswith("\n")

    def ask_result(self, call: ToolCall) -> str:
        """Ask for the result of a call."""
        note(f"the agent is waiting for the result of {describe(call)}")
        return self.read("result> ")

    def ask_approval(self, call: ToolCall) -> str:
        """Ask whether a call may run."""
        self.end_line()
        note(f"the agent asks to use {describe(call)}")
        return self.read("allow? [y/N, or the reason why not] ")

    def ask_confirmation(self, message: Message) -> str:
        """Ask whether the run may continue."""
        note(f"the agent asks for a confirmation{': ' if message.text else ''}{message.text}")
        return self.read("allow? [y/N] ")

    def read(self, question: str) -> str:
        """Read the answer to a question; what was typed before it was asked is no answer."""
        forget_keys()
        return read(question, ask=True)


class JsonFront(PlainFront):
    """Prints every snapshot as a line of JSON, with the events of ``inferencesh.web.ndjson``."""

    def show(self, message: Message) -> None:
        """Print a snapshot."""
        from inferencesh.web import snapshot

        self._event("message", snapshot(message))

    def finish(self, message: Message) -> None:
        """Print how the turn has ended or paused."""
        from inferencesh.web import snapshot

        paused = message.paused or not message.done
        name = "input_required" if paused else "done"
        self._event(name, {**snapshot(message, paused=paused), "delta": ""})

    def fail(self, error: InferenceError, /) -> None:
        """Print why the turn has failed."""
        from inferencesh.web import describe_error

        self._event("error", describe_error(error).as_dict())

    def _event(self, name: str, fields: dict[str, object]) -> None:
        # ASCII only: control characters of C1 and reversed text do not reach a terminal either.
        print(json.dumps({"event": name, **fields}, separators=(",", ":")), flush=True)
