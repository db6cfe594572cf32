"""The command line: ``inferencesh chat`` talks to an agent, ``inferencesh serve`` runs the embedded runtime.

Replies go to stdout, everything else to stderr. The exit status is:

- 0: success;
- 1: an error, which is described in one line on stderr, or the reader of stdout has closed it;
- 2: wrong arguments;
- 130: ``chat`` was interrupted with Ctrl-C;
- 143: ``chat`` was terminated with SIGTERM.

``serve`` exits with 0 after Ctrl-C or SIGTERM, which are the normal ways to stop it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import io
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import (
    Agent,
    APIConnectionError,
    ChatStatus,
    ConfigurationError,
    FileError,
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
    ToolCall,
    ToolCallStatus,
    __version__,
)

__all__ = ["main"]

_SUCCESS, _FAILURE, _INTERRUPTED, _TERMINATED = 0, 1, 130, 143

_CHAT = """
Send a message to an agent and print its reply as it is written. Without a message, start a conversation: in a terminal
at a prompt, otherwise with one message per line of standard input. If the environment variable INFERENCE_API_KEY is
set, the agent runs at inference.sh; if not, in the embedded runtime, an offline stand-in that is not a language model.
Ctrl-C stops a reply; Ctrl-C or Ctrl-D at the prompt quits.
"""
_CHAT_STATUS = """
Exit status: 0 on success, 1 after an error, 2 for wrong arguments, 130 when interrupted with Ctrl-C, 143 when
terminated with SIGTERM.
"""
_SERVE = """
Run the embedded runtime: a local server with the API of inference.sh, for development and tests. It needs no account
and no network, and answers with a stand-in that is not a language model. Chats and files are kept in memory, or in a
file with --db. Its address opened in a browser is a page for trying agents. Press Ctrl-C to stop it.
"""
_SERVE_STATUS = "Exit status: 0 when stopped with Ctrl-C or SIGTERM, 1 after an error, 2 for wrong arguments."

# Errors after which the next message may well succeed, so that a conversation in a terminal continues.
_RECOVERABLE = (
    InputRequiredError,
    RunFailedError,
    StreamError,
    APIConnectionError,
    RateLimitError,
    InternalServerError,
)
# C0 and C1 control characters except newline and tab, and the characters that reverse the direction of text.
_HIDDEN = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; those of the process when None.

    Returns:
        The exit status; the module's docstring lists them.

    Raises:
        SystemExit: The arguments are wrong (status 2), or ask for help or the version.
    """
    options = _parser().parse_args(arguments)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the encoding lacks must not end the program
    try:
        succeeded: bool = options.run(options)
        sys.stdout.flush()
    except InferenceError as error:
        _report(error)
        return _FAILURE
    except BrokenPipeError:  # the reader has closed the pipe, as in "inferencesh chat ... | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return _FAILURE
    except _TerminatedError:
        return _TERMINATED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _SUCCESS if succeeded else _FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inferencesh",
        description="Talk to inference.sh agents from the command line.",
        epilog="Run 'inferencesh COMMAND --help' for the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"inferencesh {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chat = commands.add_parser("chat", help="talk to an agent", description=_CHAT, epilog=_CHAT_STATUS)
    serve = commands.add_parser(
        "serve", help="run the embedded runtime, a local server", description=_SERVE, epilog=_SERVE_STATUS
    )
    _add_chat(chat)
    _add_serve(serve)
    return parser


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_chat)
    parser.add_argument("prompt", nargs="?", metavar="MESSAGE", help="the message; - reads it from standard input")
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        type=Path,
        dest="files",
        metavar="PATH",
        help="attach a file to the message, or to the first message of a conversation; may be repeated",
    )
    parser.add_argument("--agent", metavar="NAMESPACE/NAME", help="use an agent stored at the service")
    parser.add_argument("--core-app", metavar="REF", help="use an agent with this model, such as namespace/name")
    parser.add_argument("--system-prompt", metavar="TEXT", help="use an agent with these instructions")
    parser.add_argument("--chat-id", metavar="ID", help="continue this chat instead of starting a new one")
    parser.add_argument(
        "--base-url", metavar="URL", help="the service's address (default: $INFERENCE_BASE_URL or inference.sh)"
    )
    parser.add_argument("--local", action="store_true", help="use the embedded runtime even if a key is set")
    parser.add_argument("-v", "--verbose", action="store_true", help="log requests and reconnects to stderr")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8420, help="the port; 0 picks a free one (default: %(default)s)")
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="the environment variable that holds the API key to accept (default: the key is inf_local)",
    )
    parser.add_argument(
        "--updates",
        choices=("both", "snapshots", "deltas"),
        default="both",
        help="how streams send a growing message: as snapshots of the whole message, as token deltas, or both "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--envelope",
        choices=("v1", "v2", "v3"),
        default="v3",
        help="the version of the API's response format (default: %(default)s)",
    )
    parser.add_argument(
        "--replay",
        action="store_true",
        help="begin each stream of a chat with all its messages (default: with the reply that is being written)",
    )
    parser.add_argument(
        "--cors-origin",
        type=_origin,
        action="append",
        default=[],
        dest="cors_origins",
        metavar="ORIGIN",
        help="let web pages of this origin, such as http://localhost:3000, use the runtime from a browser; may be "
        "repeated; * allows all",
    )
    parser.add_argument(
        "--approvals",
        choices=("api_key", "sign_in"),
        default="api_key",
        help="who may approve or reject tool calls: holders of an API key, or only people who have signed in, as at "
        "the service (default: %(default)s)",
    )
    parser.add_argument(
        "--playground",
        choices=("loopback", "everywhere", "off"),
        default="loopback",
        help="where the page for trying agents can be opened: on this machine only, wherever the runtime can be "
        "reached, or nowhere (default: %(default)s)",
    )
    parser.add_argument(
        "--pace",
        type=_seconds,
        default=0.02,
        metavar="SECONDS",
        help="the pause between two words of a reply (default: %(default)s)",
    )
    parser.add_argument(
        "--db",
        type=_file,
        metavar="FILE",
        help="the SQLite file to keep chats and uploaded files in (default: in memory, until the runtime stops)",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 60")
    return seconds


def _origin(text: str) -> str:
    from .local import LocalRuntime

    try:
        LocalRuntime(cors_origins=[text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _file(text: str) -> str:
    if text in {"", ":memory:"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file; omit --db to keep chats in memory")
    return text


def _chat(options: argparse.Namespace) -> bool:
    """Run ``inferencesh chat``; returns whether the last message was answered."""
    if options.verbose:
        _log_to_stderr()
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if prompt is not None and not prompt.strip():
        raise ConfigurationError("the message is empty")
    config = _agent_config(options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_raises())
        opened = [stack.enter_context(_open(path)) for path in options.files]  # all of them before anything is sent
        client, local = _choose_client(options)
        stack.enter_context(client)
        agent = client.agent(config, chat_id=options.chat_id)
        files = [_upload(agent, path, file) for path, file in zip(options.files, opened, strict=True)]
        try:
            waiting = agent.chat_id is not None and not _show_pending(agent)
            if waiting and prompt is not None:
                raise InferenceError("the message was not sent, because the chat still waits for input")
            if prompt is None:
                return _converse(agent, files)
            _show_turn(agent, prompt, files)
            return True
        finally:
            if agent.chat_id is not None and not local:
                _note(f"continue this chat with --chat-id {agent.chat_id}")


def _agent_config(options: argparse.Namespace) -> str | dict[str, Any]:
    described: dict[str, Any] = {}
    if options.system_prompt is not None:
        described["system_prompt"] = options.system_prompt
    if options.core_app is not None:
        described["core_app"] = {"ref": options.core_app}
    if options.agent is None:
        return described
    if described:
        raise ConfigurationError(
            "a stored agent has its own model and instructions: with --agent, omit --core-app and --system-prompt"
        )
    return str(options.agent)


def _choose_client(options: argparse.Namespace) -> tuple[Inference, bool]:
    """Return the client and whether it uses the embedded runtime, and tell the user which it is."""
    has_key = bool(os.environ.get("INFERENCE_API_KEY", "").strip())
    if options.local and options.base_url is not None:
        raise ConfigurationError("--local and --base-url cannot be combined")
    if options.base_url is not None and not has_key:
        raise ConfigurationError(f"an API key is needed for {options.base_url}: set INFERENCE_API_KEY")
    if has_key and not options.local:
        client = Inference(base_url=options.base_url)
        _note(f"using the service at {options.base_url or os.environ.get('INFERENCE_BASE_URL') or 'inference.sh'}")
        return client, False
    why = "" if options.local else "; set INFERENCE_API_KEY to use the service"
    _note(f"using the embedded runtime, an offline stand-in and not a language model{why}")
    return Inference.local(), True


class _TerminatedError(BaseException):
    """The process has received SIGTERM."""


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Have SIGTERM raise an exception, as Ctrl-C does, so that the run is stopped and everything is closed."""
    if threading.current_thread() is not threading.main_thread():  # no other thread may set a signal handler
        yield
        return

    def terminate(_number: int, _frame: object) -> NoReturn:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(options: argparse.Namespace) -> bool:
    """Run ``inferencesh serve``; returns True when it is stopped."""
    key = "inf_local"
    if options.api_key_env is not None:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise ConfigurationError(f"the environment variable {options.api_key_env} is not set or empty")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_until_stopped(options, key))
    return True


async def _serve_until_stopped(options: argparse.Namespace, key: str) -> None:
    from .local import LocalRuntime

    stopped = asyncio.Event()
    if sys.platform != "win32":  # which has no SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    runtime = LocalRuntime(
        api_keys=[key],
        host=options.host,
        port=options.port,
        updates=options.updates,
        envelope=options.envelope,
        replay=options.replay,
        cors_origins=options.cors_origins,
        approvals=options.approvals,
        pace=options.pace,
        db=options.db,
        playground=options.playground,
    )
    try:
        await runtime.start()
    except OSError as error:
        raise ConfigurationError(f"{error.strerror}; choose another --host or --port") from error
    except UnicodeError as error:
        raise ConfigurationError(f"{options.host!r} cannot be the name of a host; choose another --host") from error
    async with runtime:
        export = "set" if sys.platform == "win32" else "export"
        shown = key if options.api_key_env is None else f"${options.api_key_env}"
        page = "" if options.playground == "off" else "; open it in a browser to try agents"
        print(f"The embedded runtime listens on {runtime.base_url}{page} (Ctrl-C stops it). In another terminal, set:")
        print(f"{export} INFERENCE_BASE_URL={runtime.base_url}")
        print(f"{export} INFERENCE_API_KEY={shown}", flush=True)
        await stopped.wait()


def _converse(agent: Agent, files: Sequence[FileRef]) -> bool:
    """Read a message, show the reply, and so on until the input ends.

    Args:
        agent: The agent to talk to.
        files: The files to send with the first message.

    Returns:
        Whether the last message was answered.

    Raises:
        InferenceError: A turn failed, and either the input is not a terminal or later messages would fail too.
        KeyboardInterrupt: Ctrl-C was pressed during a reply, and the input is not a terminal.
        _TerminatedError: The process has received SIGTERM.
    """
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # not available on every platform, and not needed
            import readline  # noqa: F401 - gives input() line editing and a history
    answered = True
    while True:
        try:
            prompt = _read("> ", ask=terminal)
        except (EOFError, KeyboardInterrupt):
            if terminal:
                _write_stderr("\n")
            return answered
        if not prompt.strip():
            continue
        answered = True
        try:
            unsent, files = files, ()
            _show_turn(agent, prompt, unsent)
        except KeyboardInterrupt:
            if not terminal:
                raise
        except _RECOVERABLE as error:
            if not terminal:
                raise
            _report(error)
            answered = False


def _show_pending(agent: Agent) -> bool:
    """If an existing chat waits for input, ask for it and show the rest; returns whether nothing is pending now."""
    chat = agent.get_chat()
    state = chat.active_run.state if chat.active_run is not None else None
    if chat.status == ChatStatus.AWAITING_INPUT or state in {RunState.INPUT_REQUIRED, RunState.AUTH_REQUIRED}:
        _note("this chat is waiting for input, which comes before a new message")
        return _show_turn(agent, None)
    return True


def _show_turn(agent: Agent, prompt: str | None, files: Sequence[FileRef] = ()) -> bool:
    """Show the reply to a message as it grows, and ask for the results of tools and for approvals.

    Args:
        agent: The agent to talk to.
        prompt: The message; None to show the turn that is in progress.
        files: The files to send with the message.

    Returns:
        Whether the turn is over; False if it still waits for input.

    Raises:
        InferenceError: The turn failed, or it needs the result of a tool and the input has ended.
        KeyboardInterrupt: Ctrl-C was pressed; the run has been stopped.
        _TerminatedError: The same with SIGTERM.
    """
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
            if stream.message is None:
                return True
            view.show_files(stream.message)
            if not _answer(agent, stream.message):
                return not stream.message.paused
            stream = agent.stream_messages(on_approval=on_approval)
    except (KeyboardInterrupt, _TerminatedError):
        stream.close()
        view.end_line()
        agent.stop()
        _note("stopped")
        raise
    finally:
        view.end_line()


class _View:
    """Prints what each snapshot of a turn adds to the one before, and every tool call once."""

    def __init__(self) -> None:
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
                _note(f"tool {_describe(call)}")

    def show_files(self, message: Message) -> None:
        """Show the addresses of the images and files of a complete message."""
        self.end_line()
        for block in message.content:
            if uri := block.image or block.file:
                self._write(f"[{_one_line(f'{block.type}: {uri}')}]\n")

    def end_line(self) -> None:
        """End the current line, if there is text in it."""
        if self._in_line:
            self._write("\n")

    def _write(self, text: str) -> None:
        if shown := text.translate(_HIDDEN):
            sys.stdout.write(shown)
            sys.stdout.flush()
            self._in_line = not shown.endswith("\n")


def _answer(agent: Agent, message: Message) -> bool:
    """Ask for the results and confirmations that a paused turn waits for; returns whether any was given."""
    for call in message.pending_tool_calls:
        agent.submit_tool_result(call, _ask_result(call))
    answered = bool(message.pending_tool_calls)
    for interrupt in message.pending_interrupts:
        if interrupt.reason == InterruptReason.CONFIRMATION and (allowed := _ask_confirmation(message)) is not None:
            agent.resolve_interrupt(interrupt, "allow" if allowed else "deny")
            answered = True
    if not answered:
        for call in message.pending_approvals:
            _note(f"the agent is still waiting for the approval of {_describe(call)}")
        if (message.paused or not message.done) and not message.pending_approvals:
            _note("the agent is waiting for something that cannot be given here, such as a sign-in")
    return answered


def _ask_result(call: ToolCall) -> str:
    _note(f"the agent is waiting for the result of {_describe(call)}")
    try:
        return _read("result> ", ask=True)
    except EOFError:
        raise InferenceError(f"the result of the tool {call.name} is needed, and the input has ended") from None


def _ask_approval(call: ToolCall) -> bool | str | None:
    """Ask whether a call may run; returns True, False, the reason why not, or None at the end of the input."""
    _note(f"the agent asks to use {_describe(call)}")
    try:
        answer = _read("allow? [y/N, or the reason why not] ", ask=True).strip()
    except EOFError:
        return None
    return answer.lower() in {"y", "yes"} or (False if answer.lower() in {"", "n", "no"} else answer)


def _ask_confirmation(message: Message) -> bool | None:
    """Ask whether the run may continue; returns None at the end of the input."""
    _note(f"the agent asks for a confirmation{': ' if message.text else ''}{message.text}")
    try:
        return _read("allow? [y/N] ", ask=True).strip().lower() in {"y", "yes"}
    except EOFError:
        return None


def _read(question: str, *, ask: bool) -> str:
    """Read a line from stdin; the question goes to stderr unless both ends are a terminal."""
    if ask and sys.stdin.isatty() and sys.stdout.isatty():
        return input(question)
    if ask:
        _write_stderr(question)
    return input()


def _describe(call: ToolCall) -> str:
    return f"{call.name} {call.undecoded_arguments or json.dumps(call.arguments, ensure_ascii=False)}"


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    with file:
        yield file


def _upload(agent: Agent, path: Path, file: BinaryIO) -> FileRef:
    """Upload a file; shows a progress bar in a terminal, and otherwise one line when the file has been sent."""
    name = _one_line(path.name)
    if not sys.stderr.isatty():
        uploaded = agent.upload_file(file)
        _note(f"uploaded {name} ({_format_size(uploaded.size)})")
        return uploaded
    bar = _ProgressBar(name)
    try:
        return agent.upload_file(file, on_progress=bar.show)
    finally:
        bar.end()


class _ProgressBar:
    """A progress bar on stderr.

    Args:
        name: The name of the file.
    """

    _WIDEST, _NARROWEST = 40, 8  # characters

    def __init__(self, name: str) -> None:
        self._name = name
        self._drawn = ""

    def show(self, sent: int, total: int | None) -> None:
        """Draw the bar.

        Args:
            sent: The number of bytes sent so far.
            total: The number of bytes of the file, or None if it is not known.
        """
        size = sent if total is None else total
        share = sent / size if size else 1.0
        columns = shutil.get_terminal_size().columns - 1  # a full line would wrap
        facts = f" {share:4.0%} of {_format_size(size)}"
        width = min(self._WIDEST, columns - len(self._name) - len(facts) - 3)
        if width >= self._NARROWEST:
            line = f"{self._name} [{'#' * int(share * width):-<{width}}]{facts}"
        else:
            line = f"{self._name[-20:]}{facts}"
        line = line[: max(columns, 1)]
        if line != self._drawn:
            _write_stderr("\r" + line.ljust(len(self._drawn)))
            self._drawn = line

    def end(self) -> None:
        """End the line of the bar, if it has been drawn."""
        if self._drawn:
            _write_stderr("\n")


def _format_size(size: float) -> str:
    """Return a number of bytes as text such as ``999 bytes`` or ``1.2 MB``."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def _note(text: str) -> None:
    """Write one line about the conversation to stderr."""
    _write_stderr(f"inferencesh: {_one_line(text)}\n")


def _report(error: InferenceError) -> None:
    """Write one line about an error to stderr."""
    _note(f"error: {str(error) or type(error).__name__}")


def _write_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _one_line(text: str) -> str:
    """Return untrusted text as one line without the characters that control a terminal."""
    return " ".join(text.translate(_HIDDEN).split())


class _OneLineFormatter(logging.Formatter):
    """Formats log records, which may quote a server, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return _one_line(super().format(record))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter("inferencesh: %(message)s"))
    logger = logging.getLogger("inferencesh")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
