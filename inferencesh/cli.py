"""The command line: ``inferencesh chat`` talks to an agent, ``inferencesh serve`` runs the embedded runtime."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import Agent, ConfigurationError, FileError, FileRef, Inference, InferenceError, __version__
from .terminal import TerminatedError, complain, converse, log_to_stderr, note, show_pending, show_turn
from .upload_bar import UploadBar

__all__ = ["main"]

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
