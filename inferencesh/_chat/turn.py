"""One turn of a conversation, shown by a front, and plain conversations of many."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from inferencesh import (
    Agent,
    APIConnectionError,
    ChatStatus,
    FileRef,
    Inference,
    InferenceError,
    InputRequiredError,
    InternalServerError,
    InterruptReason,
    Message,
    RateLimitError,
    RunFailedError,
    RunState,
    StreamError,
    Tool,
    ToolCall,
)

from .plain import read
from .text import describe, note, report, write_stderr

__all__ = ["RECOVERABLE", "Front", "TerminatedError", "converse", "make_agent", "show_pending", "show_turn"]

# Errors after which the next message may well succeed, so that a conversation in a terminal continues.
RECOVERABLE = (
    InputRequiredError,
    RunFailedError,
    StreamError,
    APIConnectionError,
    RateLimitError,
    InternalServerError,
)


class TerminatedError(BaseException):
    """The process has received SIGTERM."""


class Front(Protocol):
    """What shows turns and asks questions. Questions raise an EOFError at the end of the input."""

    def begin(self, agent: Agent, /) -> None:
        """Begin to show a turn of an agent."""

    def show(self, message: Message) -> None:
        """Show a snapshot."""

    def finish(self, message: Message) -> None:
        """Show the message with which a turn has ended or paused."""

    def fail(self, error: InferenceError, /) -> None:
        """Show that a turn has failed, apart from the error itself."""

    def end_line(self) -> None:
        """Complete what is shown, so that other output may follow."""

    def ask_result(self, call: ToolCall) -> str:
        """Ask for the result of a call."""

    def ask_approval(self, call: ToolCall) -> str:
        """Ask whether a call may run."""

    def ask_confirmation(self, message: Message, /) -> str:
        """Ask whether the run may continue."""


def make_agent(client: Inference, config: str | dict[str, Any], tools: Sequence[Tool], chat_id: str | None) -> Agent:
    """Return an agent whose tools run here.

    Args:
        client: The client.
        config: What the agent is: the name of a stored one, or its configuration with the tools.
        tools: The tools that run here.
        chat_id: The chat to continue; None for a new one.
    """
    if isinstance(config, str) and tools:
        return client.agent(config, chat_id=chat_id, tools=tools)
    return client.agent(config, chat_id=chat_id)


def converse(agent: Agent, files: Sequence[FileRef], front: Front) -> bool:
    """Read a message, show the reply, and so on until the input ends.

    Args:
        agent: The agent to talk to.
        files: The files to send with the first message.
        front: What shows the replies.

    Returns:
        Whether the last message was answered.

    Raises:
        InferenceError: A turn failed, and either the input is not a terminal or later messages would fail too.
        KeyboardInterrupt: Ctrl-C was pressed during a reply, and the input is not a terminal.
        TerminatedError: The process has received SIGTERM.
    """
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # not available on every platform, and not needed
            import readline  # noqa: F401 - gives input() line editing and a history
    answered = True
    while True:
        try:
            prompt = read("> ", ask=terminal)
        except (EOFError, KeyboardInterrupt):
            if terminal:
                write_stderr("\n")
            return answered
        if not prompt.strip():
            continue
        answered = True
        try:
            unsent, files = files, ()
            show_turn(agent, prompt, unsent, front)
        except KeyboardInterrupt:
            if not terminal:
                raise
        except RECOVERABLE as error:
            if not terminal:
                raise
            report(error)
            answered = False


def show_pending(agent: Agent, front: Front) -> bool:
    """If an existing chat waits for input, ask for it and show the rest; returns whether nothing is pending now."""
    chat = agent.get_chat()
    state = chat.active_run.state if chat.active_run is not None else None
    if chat.status == ChatStatus.AWAITING_INPUT or state in {RunState.INPUT_REQUIRED, RunState.AUTH_REQUIRED}:
        note("this chat is waiting for input, which comes before a new message")
        return show_turn(agent, None, (), front)
    return True


def show_turn(agent: Agent, prompt: str | None, files: Sequence[FileRef], front: Front) -> bool:
    """Show the reply to a message as it grows, and ask for the results of tools and for approvals.

    Args:
        agent: The agent to talk to.
        prompt: The message; None to show the turn that is in progress.
        files: The files to send with the message.
        front: What shows the reply and asks.

    Returns:
        Whether the turn is over; False if it still waits for input.

    Raises:
        InferenceError: The turn failed, or it needs the result of a tool and the input has ended.
        KeyboardInterrupt: Ctrl-C was pressed; the run has been stopped.
        TerminatedError: The same with SIGTERM.
    """
    front.begin(agent)

    def on_approval(call: ToolCall) -> bool | str | None:
        return _decide(front, call)

    stream = None
    try:
        if prompt is None:
            stream = agent.stream_messages(on_approval=on_approval)
        else:
            stream = agent.send_message(prompt, stream=True, files=files, on_approval=on_approval)
        while True:
            for message in stream:
                front.show(message)
            if stream.message is None:
                return True
            front.finish(stream.message)
            if not _answer(agent, stream.message, front):
                return not stream.message.paused
            stream = agent.stream_messages(on_approval=on_approval)
    except (KeyboardInterrupt, TerminatedError):
        front.end_line()
        if stream is not None:
            stream.close()
            agent.stop()
            note("stopped")
        raise
    except InferenceError as error:
        front.fail(error)
        raise
    finally:
        front.end_line()


def _answer(agent: Agent, message: Message, front: Front) -> bool:
    """Ask for the results and confirmations that a paused turn waits for; returns whether any was given."""
    for call in message.pending_tool_calls:
        try:
            result = front.ask_result(call)
        except EOFError:
            raise InferenceError(f"the result of the tool {call.name} is needed, and the input has ended") from None
        agent.submit_tool_result(call, result)
    answered = bool(message.pending_tool_calls)
    for interrupt in message.pending_interrupts:
        if interrupt.reason == InterruptReason.CONFIRMATION and (allowed := _confirm(front, message)) is not None:
            agent.resolve_interrupt(interrupt, "allow" if allowed else "deny")
            answered = True
    if not answered:
        for call in message.pending_approvals:
            note(f"the agent is still waiting for the approval of {describe(call)}")
        if (message.paused or not message.done) and not message.pending_approvals:
            note("the agent is waiting for something that cannot be given here, such as a sign-in")
    return answered


def _decide(front: Front, call: ToolCall) -> bool | str | None:
    """Ask whether a call may run; returns True, False, the reason why not, or None at the end of the input."""
    try:
        answer = front.ask_approval(call).strip()
    except EOFError:
        return None
    return answer.lower() in {"y", "yes"} or (False if answer.lower() in {"", "n", "no"} else answer)


def _confirm(front: Front, message: Message) -> bool | None:
    """Ask whether the run may continue; returns None at the end of the input."""
    try:
        return front.ask_confirmation(message).strip().lower() in {"y", "yes"}
    except EOFError:
        return None
