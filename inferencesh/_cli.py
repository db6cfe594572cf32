"""The command line: ``inferencesh chat`` talks to an agent, ``inferencesh serve`` runs the embedded runtime."""

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
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

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

__all__ = [
    "TerminatedError",
    "UploadBar",
    "complain",
    "converse",
    "log_to_stderr",
    "main",
    "note",
    "one_line",
    "show_pending",
    "show_turn",
    "tell",
]

_WIDEST = 40  # characters of the bar
_NARROWEST = 8
_UNITS = ("bytes", "KB", "MB", "GB", "TB")


class UploadBar:
    """The bar of one file; a context manager that ends its line, whatever happens.

    Args:
        name: The file's name.
    """

    def __init__(self, name: str) -> None:
        self._name = one_line(name)
        self._terminal = sys.stderr.isatty()
        self._drawn = ""

    def show(self, sent: int, total: int | None) -> None:
        """Show how many bytes of how many are on their way; for ``on_progress``."""
        size = sent if total is None else total
        if self._terminal:
            self._draw(sent / size if size else 1.0, size)

    def finish(self, size: int) -> None:
        """The file has arrived."""
        if not self._terminal:
            tell(f"inferencesh: uploaded {self._name} ({_amount(size)})\n")

    def _draw(self, share: float, size: int) -> None:
        columns = shutil.get_terminal_size().columns - 1  # a full line would wrap around
        facts = f" {share:4.0%} of {_amount(size)}"
        width = min(_WIDEST, columns - len(self._name) - len(facts) - 3)
        line = f"{self._name} [{_bar(share, width)}]{facts}" if width >= _NARROWEST else f"{self._name[-20:]}{facts}"
        line = line[: max(columns, 1)]
        if line != self._drawn:
            tell("\r" + line.ljust(len(self._drawn)))
            self._drawn = line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            tell("\n")


def _bar(share: float, width: int) -> str:
    full = int(share * width)
    return "#" * full + "-" * (width - full)


def _amount(size: float) -> str:
    """Bytes for people: 999 bytes, 1.2 MB."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == _UNITS[0] else f"{size:.1f} {unit}"


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


_SUCCESS, _FAILURE, _INTERRUPTED, _TERMINATED = 0, 1, 130, 143

_CHAT = """
Send a message to an agent and show its reply while it grows; without a message, have a conversation. With an API key in
the environment variable INFERENCE_API_KEY the agent runs at inference.sh, otherwise in the embedded runtime, an offline
stand-in that is no language model. Ctrl-C stops a reply; Ctrl-C or Ctrl-D at the prompt ends.
"""
_SERVE = """
Run the embedded runtime: a server that speaks the protocol of inference.sh, needs no account and no network, and
answers with a stand-in that is no language model. Chats and files live in memory, or in a file with --db. Ctrl-C ends
it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; those of the process when None.

    Returns:
        The exit status: 0, or 1 after an error, 130 when interrupted, or 143 when ``chat`` is ended by SIGTERM.

    Raises:
        SystemExit: The arguments are wrong (status 2), or asked for help or the version.
    """
    options = _parser().parse_args(arguments)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show or send is no reason to fail
    try:
        succeeded: bool = options.run(options)
        sys.stdout.flush()
    except InferenceError as error:
        complain(error)
        return _FAILURE
    except BrokenPipeError:  # nobody reads any more, as in «inferencesh chat ... | head»
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is unwritten goes there at exit
        return _FAILURE
    except TerminatedError:
        return _TERMINATED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _SUCCESS if succeeded else _FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="inferencesh", description="Talk to inference.sh agents.")
    parser.add_argument("--version", action="version", version=f"inferencesh {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_chat(commands.add_parser("chat", help="talk to an agent", description=_CHAT))
    _add_serve(commands.add_parser("serve", help="run the embedded runtime for other programs", description=_SERVE))
    return parser


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_chat)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the message; - reads it from standard input")
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        type=Path,
        dest="files",
        metavar="PATH",
        help="a file that goes with the message, or with the first of a conversation; may be repeated",
    )
    parser.add_argument("--agent", metavar="NAMESPACE/NAME", help="an agent stored at the service")
    parser.add_argument("--core-app", metavar="REF", help="the model of an agent that is described here")
    parser.add_argument("--system-prompt", metavar="TEXT", help="the instructions of an agent that is described here")
    parser.add_argument("--chat-id", metavar="ID", help="the chat to go on with")
    parser.add_argument("--base-url", metavar="URL", help="the service's address (or set INFERENCE_BASE_URL)")
    parser.add_argument("--local", action="store_true", help="use the embedded runtime even if a key is set")
    parser.add_argument("-v", "--verbose", action="store_true", help="log requests and reconnects to stderr")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=8420, help="the port; 0 picks a free one (%(default)s)")
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="the environment variable with the key to accept, instead of inf_local"
    )
    parser.add_argument(
        "--updates",
        choices=("both", "snapshots", "deltas"),
        default="both",
        help="how messages grow on a stream: as whole messages, token deltas, or both (%(default)s)",
    )
    parser.add_argument(
        "--envelope", choices=("v1", "v2", "v3"), default="v3", help="the form of response bodies (%(default)s)"
    )
    parser.add_argument(
        "--approvals",
        choices=("api_key", "sign_in"),
        default="api_key",
        help="who may allow or deny tool calls; sign_in refuses API keys, as the service does (%(default)s)",
    )
    parser.add_argument(
        "--pace", type=_seconds, default=0.02, metavar="SECONDS", help="the time between words (%(default)s)"
    )
    parser.add_argument(
        "--db",
        type=_file,
        metavar="FILE",
        help="the SQLite file that keeps chats and uploaded files; without it they end with it",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def _file(text: str) -> str:
    if text in {"", ":memory:"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file; leave --db out to keep chats in memory")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 60")
    return seconds


def _chat(options: argparse.Namespace) -> bool:
    log_to_stderr(verbose=options.verbose)
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if prompt is not None and not prompt.strip():
        raise ConfigurationError("the message is empty")
    config = _agent_config(options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_stopping_when_terminated())
        opened = [stack.enter_context(_opened(path)) for path in options.files]  # all, before anything is sent
        client, local = _client(options)
        stack.enter_context(client)
        agent = client.agent(config, chat_id=options.chat_id)
        files = [_upload(agent, path, file) for path, file in zip(options.files, opened, strict=True)]
        try:
            if agent.chat_id is not None:
                show_pending(agent)
            if prompt is None:
                return converse(agent, files)
            show_turn(agent, prompt, files)
            return True
        finally:
            if agent.chat_id is not None and not local:
                note(f"this chat goes on with --chat-id {agent.chat_id}")


@contextlib.contextmanager
def _stopping_when_terminated() -> Iterator[None]:
    """Have SIGTERM end what runs here as Ctrl-C does, so that the run is stopped and everything is closed."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set a handler
        yield
        return

    def terminate(_number: int, _frame: object) -> NoReturn:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    with file:
        yield file


def _upload(agent: Agent, path: Path, file: BinaryIO) -> FileRef:
    with UploadBar(path.name) as bar:
        uploaded = agent.upload_file(file, on_progress=bar.show)
        bar.finish(uploaded.size)
        return uploaded


def _agent_config(options: argparse.Namespace) -> str | dict[str, Any]:
    described: dict[str, Any] = {}
    if options.system_prompt is not None:
        described["system_prompt"] = options.system_prompt
    if options.core_app is not None:
        described["core_app"] = {"ref": options.core_app}
    if options.agent is None:
        return described
    if described:
        raise ConfigurationError("--agent names an agent that has its own model and instructions; leave those out")
    return str(options.agent)


def _client(options: argparse.Namespace) -> tuple[Inference, bool]:
    """The client to use, and whether it is one of the embedded runtime; says which."""
    has_key = bool(os.environ.get("INFERENCE_API_KEY", "").strip())
    if options.local and options.base_url is not None:
        raise ConfigurationError("--local and --base-url exclude each other")
    if options.base_url is not None and not has_key:
        raise ConfigurationError(f"an API key is needed for {options.base_url}: set INFERENCE_API_KEY")
    if has_key and not options.local:
        client = Inference(base_url=options.base_url)
        note(f"using the service at {options.base_url or os.environ.get('INFERENCE_BASE_URL') or 'inference.sh'}")
        return client, False
    why = "" if options.local else ", because INFERENCE_API_KEY is not set"
    note(f"using the embedded runtime, an offline stand-in and no language model{why}")
    return Inference.local(), True


def _serve(options: argparse.Namespace) -> bool:
    key = "inf_local"
    if options.api_key_env is not None:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise ConfigurationError(f"the environment variable {options.api_key_env} holds no key")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_until_told(options, key))
    return True


async def _serve_until_told(options: argparse.Namespace, key: str) -> None:
    from .local import LocalRuntime

    told = asyncio.Event()
    if sys.platform != "win32":  # there, nothing sends it
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    runtime = LocalRuntime(
        api_keys=[key],
        host=options.host,
        port=options.port,
        updates=options.updates,
        envelope=options.envelope,
        approvals=options.approvals,
        pace=options.pace,
        db=options.db,
    )
    try:
        await runtime.start()
    except OSError as error:
        raise ConfigurationError(f"{error.strerror}; choose another --host or --port") from error
    async with runtime:
        export = "set" if sys.platform == "win32" else "export"
        shown = key if options.api_key_env is None else f"${options.api_key_env}"
        print(f"The embedded runtime listens on {runtime.base_url}; its key is {shown}. Ctrl-C ends it.")
        print(f"{export} INFERENCE_BASE_URL={runtime.base_url}")
        print(f"{export} INFERENCE_API_KEY={shown}", flush=True)
        await told.wait()
