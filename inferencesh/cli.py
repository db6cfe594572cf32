"""The command line: ``inferencesh chat`` talks to an agent, ``inferencesh serve`` runs the embedded runtime.

The reply's text goes to stdout and everything else to stderr, so that a reply can be piped. What comes from a server is
shown without its control characters: it could otherwise rewrite the screen or worse.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from . import (
    Agent,
    APIConnectionError,
    ConfigurationError,
    Inference,
    InferenceError,
    InternalServerError,
    Message,
    RateLimitError,
    RunFailedError,
    StreamError,
    ToolCall,
    ToolCallStatus,
    __version__,
)

__all__ = ["main"]

_DONE, _FAILED, _INTERRUPTED = 0, 1, 130
# After these the next message may well get its answer, so that a conversation in a terminal goes on.
_PASSING = (RunFailedError, StreamError, APIConnectionError, RateLimitError, InternalServerError)
# C0 and C1 control characters but newline and tab, and those that make text read in another order than it stands.
_UNSHOWN = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; those of the process when None.

    Returns:
        The exit status: 0, or 1 after an error, or 130 when interrupted.

    Raises:
        SystemExit: The arguments are wrong (status 2), or asked for help or the version.
    """
    options = _parser().parse_args(arguments)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show or send is no reason to fail
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except InferenceError as error:
        return _complain(error)
    except BrokenPipeError:  # nobody reads any more, as in «inferencesh chat ... | head»
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is unwritten goes there at exit
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="inferencesh", description="Talk to inference.sh agents.")
    parser.add_argument("--version", action="version", version=f"inferencesh {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_chat(commands.add_parser("chat", help="talk to an agent", description=_CHAT))
    _add_serve(commands.add_parser("serve", help="run the embedded runtime for other programs", description=_SERVE))
    return parser


_CHAT = """
Send a message to an agent and show its reply while it grows; without a message, have a conversation. With an API key in
the environment variable INFERENCE_API_KEY the agent runs at inference.sh, otherwise in the embedded runtime, an offline
stand-in that is no language model. Ctrl-C stops a reply; Ctrl-C or Ctrl-D at the prompt ends.
"""
_SERVE = """
Run the embedded runtime: a server that speaks the protocol of inference.sh, needs no account and no network, and
answers with a stand-in that is no language model. Chats live in memory. Ctrl-C ends it.
"""


def _add_chat(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_chat)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="the message; - reads it from standard input")
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
    parser.add_argument("--port", type=int, default=8420, help="the port; 0 picks a free one (%(default)s)")
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
        "--pace", type=_seconds, default=0.02, metavar="SECONDS", help="the time between words (%(default)s)"
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return seconds


# -- chat --------------------------------------------------------------------------------------------------------------


def _chat(options: argparse.Namespace) -> int:
    _log(verbose=options.verbose)
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if prompt is not None and not prompt.strip():
        raise ConfigurationError("the message is empty")
    config = _agent_config(options)
    client, local = _client(options)
    with client:
        agent = client.agent(config, chat_id=options.chat_id)
        try:
            if prompt is None:
                return _converse(agent)
            _Turn(agent).run(prompt)
            return _DONE
        finally:
            if agent.chat_id is not None and not local:
                _note(f"this chat goes on with --chat-id {agent.chat_id}")


def _client(options: argparse.Namespace) -> tuple[Inference, bool]:
    """The client to use, and whether it is one of the embedded runtime; says which."""
    has_key = bool(os.environ.get("INFERENCE_API_KEY", "").strip())
    if options.local and options.base_url is not None:
        raise ConfigurationError("--local and --base-url exclude each other")
    if options.base_url is not None and not has_key:
        raise ConfigurationError(f"an API key is needed for {options.base_url}: set INFERENCE_API_KEY")
    if has_key and not options.local:
        client = Inference(base_url=options.base_url)
        _note(f"using the service at {options.base_url or os.environ.get('INFERENCE_BASE_URL') or 'inference.sh'}")
        return client, False
    why = "" if options.local else ", because INFERENCE_API_KEY is not set"
    _note(f"using the embedded runtime, an offline stand-in and no language model{why}")
    return Inference.local(), True


def _agent_config(options: argparse.Namespace) -> str | dict[str, Any]:
    described = {
        **({"system_prompt": options.system_prompt} if options.system_prompt is not None else {}),
        **({"core_app": {"ref": options.core_app}} if options.core_app is not None else {}),
    }
    if options.agent is None:
        return described
    if described:
        raise ConfigurationError("--agent names an agent that has its own model and instructions; leave those out")
    return str(options.agent)


def _converse(agent: Agent) -> int:
    """A message, its reply, and so on until the input ends."""
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # not on every platform; input() can do without
            import readline  # noqa: F401 - gives input() line editing and a history
    status = _DONE
    while True:
        try:
            prompt = _read("> ", ask=terminal)
        except (EOFError, KeyboardInterrupt):
            if terminal:
                print(file=sys.stderr)
            return status
        if not prompt.strip():
            continue
        status = _DONE
        try:
            _Turn(agent).run(prompt)
        except KeyboardInterrupt:
            if not terminal:
                raise
        except _PASSING as error:
            if not terminal:
                raise
            status = _complain(error)


class _Turn:
    """Shows one turn of an agent: what each snapshot has that the one before had not, and every tool call once."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._message_id = ""
        self._in_line = False  # whether the cursor stands behind text
        self._shown: set[str] = set()  # ids of tool calls

    def run(self, prompt: str) -> None:
        """Send a message and show all that follows, results of tools asked for on the terminal included."""
        text = prompt.encode(errors="replace").decode()  # arguments may hold bytes that are no text
        stream = self._agent.send_message(text, stream=True)
        try:
            while True:
                for message in stream:
                    self._show(message)
                pending = self._conclude(stream.message)
                if not pending:
                    return
                for call in pending:
                    self._agent.submit_tool_result(call.id, _ask_result(call))
                stream = self._agent.stream_messages()
        except KeyboardInterrupt:
            stream.close()
            self._end_line()
            self._agent.stop()
            _note("stopped")
            raise
        finally:
            self._end_line()

    def _show(self, message: Message) -> None:
        if message.id != self._message_id or message.delta is None:
            self._end_line()
        self._message_id = message.id
        self._write(message.text if message.delta is None else message.delta)
        for call in message.tool_calls:
            if call.status != ToolCallStatus.PENDING and call.id not in self._shown:
                self._shown.add(call.id)
                if sys.stdout.isatty():
                    self._end_line()
                _note(f"tool {_described(call)}")

    def _conclude(self, message: Message | None) -> Sequence[ToolCall]:
        """Show what a reply has besides text; returns the calls that wait for a result."""
        if message is None:
            return ()
        self._end_line()
        for block in message.content:
            if uri := block.image or block.file:
                self._write(f"[{block.type}: {_one_line(uri)}]\n")
        pending = message.pending_tool_calls
        if not message.done and not pending:
            _note("the agent waits for something that cannot be given here, such as an approval")
        return pending

    def _write(self, text: str) -> None:
        if shown := text.translate(_UNSHOWN):
            sys.stdout.write(shown)
            sys.stdout.flush()
            self._in_line = not shown.endswith("\n")

    def _end_line(self) -> None:
        if self._in_line:
            self._in_line = False
            sys.stdout.write("\n")
            sys.stdout.flush()


def _ask_result(call: ToolCall) -> str:
    _note(f"the agent calls {_described(call)}, which has to be answered here")
    try:
        return _read(f"result of {_one_line(call.name)}> ", ask=True)
    except EOFError:
        raise InferenceError(
            f"the agent waits for the result of {_one_line(call.name)}, and there is no input to read it from"
        ) from None


def _read(question: str, *, ask: bool) -> str:
    """Read a line; the question is kept out of piped output."""
    if ask and sys.stdin.isatty() and sys.stdout.isatty():
        return input(question)
    if ask:
        print(question, end="", file=sys.stderr, flush=True)
    return input()


def _described(call: ToolCall) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return _one_line(f"{call.name} {call.undecoded_arguments or arguments}")


def _one_line(text: str) -> str:
    return " ".join(text.translate(_UNSHOWN).split())


def _note(text: str) -> None:
    print(f"inferencesh: {_one_line(text)}", file=sys.stderr, flush=True)


def _complain(error: Exception) -> int:
    _note(f"error: {str(error) or type(error).__name__}")
    return _FAILED


class _OneLine(logging.Formatter):
    """Log records quote servers, too."""

    def format(self, record: logging.LogRecord) -> str:
        return _one_line(super().format(record))


def _log(*, verbose: bool) -> None:
    handler: logging.Handler = logging.StreamHandler() if verbose else logging.NullHandler()
    handler.setFormatter(_OneLine("inferencesh: %(message)s"))
    logger = logging.getLogger("inferencesh")
    logger.addHandler(handler)
    if verbose:
        logger.setLevel(logging.DEBUG)


# -- serve -------------------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    key = "inf_local"
    if options.api_key_env is not None:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise ConfigurationError(f"the environment variable {options.api_key_env} holds no key")
    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(_serve_until_told(options, key))
        except OSError as error:
            place = f"{options.host} port {options.port}"
            raise ConfigurationError(f"cannot listen on {place}: {error.strerror}; try another --port") from error
    return _DONE


async def _serve_until_told(options: argparse.Namespace, key: str) -> None:
    from .local import LocalRuntime

    told = asyncio.Event()
    if sys.platform != "win32":  # there, nothing sends it
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with LocalRuntime(
        api_keys=[key],
        host=options.host,
        port=options.port,
        updates=options.updates,
        envelope=options.envelope,
        pace=options.pace,
    ) as runtime:
        export = "set" if sys.platform == "win32" else "export"
        shown = key if options.api_key_env is None else f"${options.api_key_env}"
        print(f"The embedded runtime listens on {runtime.base_url}; its key is {shown}. Ctrl-C ends it.")
        print(f"{export} INFERENCE_BASE_URL={runtime.base_url}")
        print(f"{export} INFERENCE_API_KEY={shown}", flush=True)
        await told.wait()
