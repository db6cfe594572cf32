"""A conversation with an agent in a terminal.

The reply's text goes to stdout and everything else to stderr, so that a reply can be piped. What comes from a server is
shown without its control characters: it could otherwise rewrite the screen or worse.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Sequence

from . import (
    Agent,
    APIConnectionError,
    ChatStatus,
    FileRef,
    InferenceError,
    InputRequiredError,
    InternalServerError,
    InterruptReason,
    Message,
    RateLimitError,
    RunFailedError,
    RunState,
    StreamError,
    ToolCall,
    ToolCallStatus,
)

__all__ = [
    "TerminatedError",
    "complain",
    "converse",
    "log_to_stderr",
    "note",
    "one_line",
    "show_pending",
    "show_turn",
    "tell",
]

# After these the next message may well get its answer, so that a conversation in a terminal goes on.
_PASSING = (InputRequiredError, RunFailedError, StreamError, APIConnectionError, RateLimitError, InternalServerError)
# C0 and C1 control characters but newline and tab, and those that make text read in another order than it stands.
_UNSHOWN = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


class TerminatedError(BaseException):
    """The program was told to end by SIGTERM."""


def converse(agent: Agent, files: Sequence[FileRef] = ()) -> bool:
    """Read a message, show its reply, and so on until the input ends.

    Args:
        agent: The agent to talk to.
        files: What goes with the first message.

    Returns:
        Whether the last message got its reply.

    Raises:
        InferenceError: A turn failed, and nobody is there to decide what to do, or nothing that follows can succeed.
        KeyboardInterrupt: The same with Ctrl-C during a reply.
        TerminatedError: The program was told to end.
    """
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # not on every platform; input() can do without
            import readline  # noqa: F401 - gives input() line editing and a history
    replied = True
    while True:
        try:
            prompt = _read("> ", ask=terminal)
        except (EOFError, KeyboardInterrupt):
            if terminal:
                tell("\n")
            return replied
        if not prompt.strip():
            continue
        replied = True
        try:
            unsent, files = files, ()
            show_turn(agent, prompt, unsent)
        except KeyboardInterrupt:
            if not terminal:
                raise
        except _PASSING as error:
            if not terminal:
                raise
            complain(error)
            replied = False


def show_pending(agent: Agent) -> None:
    """Where the chat waits for input, say so, ask for it, and show how the turn goes on.

    Args:
        agent: An agent that takes up a chat.

    Raises:
        InferenceError, KeyboardInterrupt: As for ``show_turn``.
    """
    chat = agent.get_chat()
    state = chat.active_run.state if chat.active_run is not None else None
    if chat.status == ChatStatus.AWAITING_INPUT or state in {RunState.INPUT_REQUIRED, RunState.AUTH_REQUIRED}:
        note("this chat waits for input before it takes a message")
        _show(agent, None)


def show_turn(agent: Agent, prompt: str, files: Sequence[FileRef] = ()) -> None:
    """Send a message and show the reply while it grows; results of tools and approvals are asked for on the terminal.

    Args:
        agent: The agent to talk to.
        prompt: The message.
        files: What goes with it.

    Raises:
        InferenceError: The turn failed, or a tool's result was asked for and the input has ended.
        KeyboardInterrupt: It was interrupted; the run was stopped.
        TerminatedError: The same with SIGTERM.
    """
    _show(agent, prompt, files)


def _show(agent: Agent, prompt: str | None, files: Sequence[FileRef] = ()) -> None:
    """Show a turn; without a message the present one."""
    view = _View()

    def on_approval(call: ToolCall) -> bool | str | None:
        view.end_line()
        return _ask_approval(call)

    if prompt is None:
        stream = agent.stream_messages(on_approval=on_approval)
    else:
        stream = agent.send_message(prompt, stream=True, files=files, on_approval=on_approval)
    try:
        while True:
            for message in stream:
                view.show(message)
            if not _answer(agent, view.conclude(stream.message)):
                return
            stream = agent.stream_messages(on_approval=on_approval)
    except (KeyboardInterrupt, TerminatedError):
        stream.close()
        view.end_line()
        agent.stop()
        note("stopped")
        raise
    finally:
        view.end_line()


def _answer(agent: Agent, message: Message | None) -> bool:
    """Ask for what a turn waits for besides approvals; returns whether anything of it was given."""
    if message is None:
        return False
    for call in message.pending_tool_calls:
        agent.submit_tool_result(call, _ask_result(call))
    answered = bool(message.pending_tool_calls)
    for interrupt in message.pending_interrupts:
        if interrupt.reason == InterruptReason.CONFIRMATION and (allowed := _ask_decision(message)) is not None:
            agent.resolve_interrupt(interrupt, "allow" if allowed else "deny")
            answered = True
    if not answered:
        _say_what_waits(message)
    return answered


def _say_what_waits(message: Message) -> None:
    """Say what a turn is left to wait for."""
    for call in message.pending_approvals:
        note(f"the agent still waits for the approval of {_described(call)}")
    if (message.paused or not message.done) and not message.pending_approvals:
        note("the agent waits for something that cannot be given here, such as a sign-in")


class _View:
    """Shows what each snapshot of a turn has that the one before had not, and every tool call once."""

    def __init__(self) -> None:
        self._message_id = ""
        self._in_line = False  # whether the cursor stands behind text
        self._shown: set[str] = set()  # ids of tool calls

    def show(self, message: Message) -> None:
        """Show what is new in a snapshot; a message whose text was rewritten is shown again as a whole."""
        if message.id != self._message_id or message.delta is None:
            self.end_line()
        self._message_id = message.id
        self._write(message.text if message.delta is None else message.delta)
        for call in message.tool_calls:
            if call.status != ToolCallStatus.PENDING and call.id not in self._shown:
                self._shown.add(call.id)
                if sys.stdout.isatty():
                    self.end_line()
                note(f"tool {_described(call)}")

    def conclude(self, message: Message | None) -> Message | None:
        """Show what a reply has besides text; returns it."""
        if message is None:
            return None
        self.end_line()
        for block in message.content:
            if uri := block.image or block.file:
                self._write(f"[{one_line(f'{block.type}: {uri}')}]\n")
        return message

    def end_line(self) -> None:
        """Begin a new line, unless one has begun."""
        if self._in_line:
            self._write("\n")

    def _write(self, text: str) -> None:
        if shown := text.translate(_UNSHOWN):
            sys.stdout.write(shown)
            sys.stdout.flush()
            self._in_line = not shown.endswith("\n")


def _ask_result(call: ToolCall) -> str:
    note(f"the agent waits for the result of {_described(call)}")
    try:
        return _read("result> ", ask=True)
    except EOFError:
        raise InferenceError(f"the tool {call.name} has to be answered here, and the input has ended") from None


def _ask_approval(call: ToolCall) -> bool | str | None:
    """Ask whether a call may run: True, False, the reason why not, or None where nobody answers."""
    note(f"the agent asks to use {_described(call)}")
    try:
        answer = _read("allow? [y/N, or why not] ", ask=True).strip()
    except EOFError:
        return None
    return answer.lower() in {"y", "yes"} or (False if answer.lower() in {"", "n", "no"} else answer)


def _ask_decision(message: Message) -> bool | None:
    """Ask whether the run may go on; None where nobody answers."""
    note(f"the agent asks for a confirmation{': ' if message.text else ''}{message.text}")
    try:
        return _read("allow? [y/N] ", ask=True).strip().lower() in {"y", "yes"}
    except EOFError:
        return None


def _read(question: str, *, ask: bool) -> str:
    """Read a line; the question is kept out of piped output."""
    if ask and sys.stdin.isatty() and sys.stdout.isatty():
        return input(question)
    if ask:
        tell(question)
    return input()


def _described(call: ToolCall) -> str:
    return f"{call.name} {call.undecoded_arguments or json.dumps(call.arguments, ensure_ascii=False)}"


def one_line(text: str) -> str:
    """A text of anybody's in one line, without characters that control a terminal."""
    return " ".join(text.translate(_UNSHOWN).split())


def note(text: str) -> None:
    """Say something about the conversation, in one line on stderr."""
    tell(f"inferencesh: {one_line(text)}\n")


def tell(text: str) -> None:
    """Write to stderr at once."""
    sys.stderr.write(text)
    sys.stderr.flush()


def complain(error: InferenceError) -> None:
    """Say what went wrong, in one line on stderr."""
    note(f"error: {str(error) or type(error).__name__}")


class _OneLine(logging.Formatter):
    """Log records quote servers, too."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def log_to_stderr(*, verbose: bool) -> None:
    """Have the package's log shown as lines on stderr, or not at all."""
    handler: logging.Handler = logging.StreamHandler() if verbose else logging.NullHandler()
    handler.setFormatter(_OneLine("inferencesh: %(message)s"))
    logger = logging.getLogger("inferencesh")
    logger.addHandler(handler)
    if verbose:
        logger.setLevel(logging.DEBUG)
