"""The command line: replies in pipes and terminals, refusals in one line, and the embedded runtime for others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, cast, get_args

import httpx
import pytest

from inferencesh import Inference, RunState, __version__, string, tool
from inferencesh import _cli as cli
from inferencesh.local._api.problems import Envelope
from inferencesh.local.approvals import ApprovedBy
from inferencesh.local.feed import Updates
from tests.faults.forms import KEY, call_of, chat, message
from tests.faults.script import Scenario, Script, after
from tests.faults.server import FaultServer

from .command_line import COMMAND, LIMIT, ROOT, Terminal, address, environment, piped, run, started
from .support import Gate, Served

END: Script = (chat("completed"),)
STAND_IN = "inferencesh: using the embedded runtime, an offline stand-in and not a language model"
CALCULATOR = tool("calculator").describe("Do math").param("expression", string("Expression")).build()


@pytest.fixture
def served() -> Iterator[Served]:
    """An embedded runtime with the demo model, for other processes."""
    with Served() as running:
        yield running


def variables(served: Served) -> dict[str, str]:
    """The environment variables that lead to a runtime."""
    return address(served.runtime.base_url, served.runtime.api_key)


def in_plain_terminal(command: Sequence[str], **variables: str) -> Terminal:
    """A terminal that shows only text, as without the extra ``cli``."""
    return Terminal(command, TERM="dumb", **variables)


def answered(*script: object) -> subprocess.CompletedProcess[str]:
    """What ``inferencesh chat`` makes of a stream."""
    with FaultServer(Scenario(streams=[cast("Script", script)])) as server:
        return run("chat", "--agent", "a/b", "Hi", **address(server.url, KEY))


# -- replies -----------------------------------------------------------------------------------------------------------


def test_without_a_key_the_embedded_runtime_replies() -> None:
    """The reply alone is on stdout; stderr says who replied, and why."""
    done = run("chat", "Tell me a story about a robot")
    assert done.returncode == 0
    assert done.stdout.startswith("When the railway closed")
    assert done.stdout.endswith("the roses by the clock were thirsty.\n")
    assert done.stdout.count("\n") == 1
    assert done.stderr == f"{STAND_IN}; set INFERENCE_API_KEY to use the service\n"


def test_with_a_key_the_service_replies(served: Served) -> None:
    """stderr names the address and how to go on."""
    done = run("chat", "Hello", **variables(served))
    assert done.returncode == 0
    assert done.stdout.startswith('You said: "Hello".')
    using, later = done.stderr.splitlines()
    assert using == f"inferencesh: using the service at {served.runtime.base_url}"
    assert re.fullmatch(r"inferencesh: continue this chat with --chat-id \w{26}", later)


def test_the_address_may_be_an_argument(served: Served) -> None:
    """--base-url goes before INFERENCE_BASE_URL."""
    elsewhere = address("http://127.0.0.1:9", served.runtime.api_key)
    done = run("chat", "--base-url", served.runtime.base_url, "Hello", **elsewhere)
    assert done.stdout.startswith('You said: "Hello".')


def test_local_goes_before_a_key() -> None:
    """Nothing is sent to the service with --local."""
    done = run("chat", "--local", "Hello", **address("http://127.0.0.1:9", KEY))
    assert done.stdout.startswith('You said: "Hello".')
    assert done.stderr == f"{STAND_IN}\n"


def test_a_chat_goes_on(served: Served) -> None:
    """--chat-id posts into the chat it names."""
    first = run("chat", "Hello", **variables(served))
    chat_id = first.stderr.split()[-1]
    second = run("chat", "--chat-id", chat_id, "Hello again", **variables(served))
    assert second.stderr.split()[-1] == chat_id
    with Inference(**served.address) as client:
        assert client.agent({}, chat_id=chat_id).wait().text == second.stdout.removesuffix("\n")


def test_an_agent_is_described_by_options() -> None:
    """The system prompt and the core app are sent as the agent's configuration."""
    with FaultServer(Scenario(streams=[(message("Hi", "ready"), *END)])) as server:
        options = ("--system-prompt", "Be kind", "--core-app", "ns/model")
        run("chat", *options, "Hi", **address(server.url, KEY))
        body = json.loads(server.seen("POST /agents/run")[0].body)
    assert body["agent_config"] == {"system_prompt": "Be kind", "core_app": {"ref": "ns/model"}}


def test_lines_of_a_pipe_are_messages() -> None:
    """Each line is a message of one conversation, empty ones are skipped, and no prompt gets into the output."""
    done = run("chat", stdin="Hello\n\nTell me a story about a cat")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith('You said: "Hello".')
    assert second.startswith("Every full moon")
    assert done.stderr.count("\n") == 1


def test_a_dash_reads_the_message_from_stdin() -> None:
    """All lines are one message."""
    assert run("chat", "-", stdin="one\ntwo\n").stdout.startswith('You said: "one two".')


def test_text_that_was_rewritten_is_shown_again() -> None:
    """Where a snapshot does not go on from the last one, the whole text follows on a line of its own."""
    done = answered(
        chat("working"), message("Helo wor"), message("Hello world"), message("Hello world!", "ready"), *END
    )
    assert done.stdout == "Helo wor\nHello world!\n"


def test_messages_of_one_turn_are_separate_lines() -> None:
    """A second message does not run into the first."""
    first = message("One", "ready", id="r1", order=12)
    second = message("Two", "ready", id="r2", order=13)
    assert answered(chat("working"), first, second, *END).stdout == "One\nTwo\n"


def test_tool_calls_and_files_are_shown() -> None:
    """Calls that the service runs are named once, with their arguments; images and files by their address."""
    calls = [call_of("in_progress", type="app", name="draw", arguments={"what": "a sunset"})]
    drawn = [call_of("completed", type="app", name="draw", arguments={"what": "a sunset"})]
    image = {"type": "image", "image": "https://files.invalid/sunset.png"}
    content = [{"type": "text", "text": "Here"}, image]
    done = answered(chat("working"), message("", calls=calls), message("", "ready", calls=drawn, content=content), *END)
    assert done.stdout == "Here\n[image: https://files.invalid/sunset.png]\n"
    assert done.stderr.splitlines()[1] == 'inferencesh: tool draw {"what": "a sunset"}'
    assert done.stderr.count("draw") == 1


def test_control_characters_of_a_server_are_not_printed() -> None:
    """Neither in text, nor in tools' names and arguments, nor in errors; newlines and tabs of the text are kept."""
    bad = "\x1b]0;title\x07\x1b[2J\x9b1A\r\x00\x7f\u202e"
    calls = [call_of("completed", type="app", name=f"dr{bad}aw\nmore", arguments={f"w{bad}": f"s{bad}"})]
    failed = chat("failed", active_run={"id": "run1", "chat_id": "chat1", "state": "failed", "error": f"no{bad}\nway"})
    done = answered(chat("working"), message(f"a{bad}b\n\tc", "ready", calls=calls), failed)
    assert done.returncode == 1
    assert done.stdout == "a]0;title[2J1Ab\n\tc\n"
    assert [line for line in done.stderr.splitlines() if not line.isprintable()] == []
    assert done.stderr.splitlines()[-1] == "inferencesh: error: the agent's run failed: no]0;title[2J1A way"


def test_a_reader_who_leaves_ends_the_program() -> None:
    """As in ``inferencesh chat ... | head -c 3``: quietly, and before the story is over."""
    with (
        Served(["Once ", gate := Gate(), "upon a time"]) as served,
        piped("chat", "Hi", **variables(served)) as process,
    ):
        out, err = cast("IO[str]", process.stdout), cast("IO[str]", process.stderr)
        assert out.read(4) == "Once"
        out.close()
        gate.open()
        assert process.wait(LIMIT) == 1
        assert "Traceback" not in (said := err.read())
        assert said.count("\n") == 2


# -- models ------------------------------------------------------------------------------------------------------------


class _Chat(BaseHTTPRequestHandler):
    """A server with the OpenAI chat-completions interface that answers with the key and the message it was sent."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = f"{self.headers['Authorization']}: {body['messages'][-1]['content']}"
        answer = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def model_url() -> Iterator[str]:
    """The base URL of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Chat) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_chat_asks_a_model_at_an_address(model_url: str, served: Served) -> None:
    """The embedded runtime is used, even if a key for the service is set."""
    options = ("--model-url", model_url, "--model-name", "m", "--model-key-env", "MODEL_KEY")
    done = run("chat", *options, "Hello", MODEL_KEY="sk-1", **variables(served))
    assert (done.returncode, done.stdout) == (0, "Bearer sk-1: Hello\n")
    place = model_url.removeprefix("http://").removesuffix("/v1")
    assert done.stderr == f"inferencesh: using the embedded runtime with the model m at {place}\n"


def test_serve_answers_with_a_model_at_an_address(model_url: str) -> None:
    """stderr says which one it is."""
    with piped("serve", "--port", "0", "--model-url", model_url, "--model-name", "m") as process:
        out, err = cast("IO[str]", process.stdout), cast("IO[str]", process.stderr)
        assert re.fullmatch(r"inferencesh: answering with the model m at 127\.0\.0\.1:\d+\n", err.readline())
        base_url = re.findall(r"http://\S+", out.readline())[0]
        with Inference("inf_local", base_url=base_url) as client:
            assert client.agent({"name": "x"}).send_message("Hello").text == "None: Hello"


def test_the_stand_in_can_be_asked_for(served: Served) -> None:
    """``--model demo`` is the default of the embedded runtime, which it chooses."""
    done = run("chat", "--model", "demo", "Hello", **variables(served))
    assert (done.returncode, done.stderr) == (0, f"{STAND_IN}\n")


@pytest.mark.parametrize("command", ["chat", "serve"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "/no/such.gguf"), "there is no model '/no/such.gguf': --model takes demo, llama or the path"),
        (("--model", "llama", "--model-url", "http://127.0.0.1:9/v1"), "--model and --model-url cannot be combined"),
        (("--model-url", "http://127.0.0.1:9/v1"), "--model-url needs --model-name"),
        (("--model-name", "m"), "--model-name and --model-key-env need --model-url"),
        (("--model-url", "nowhere", "--model-name", "m"), "base_url must look like"),
        (
            ("--model-url", "http://127.0.0.1:9/v1", "--model-name", "m", "--model-key-env", "NO_SUCH_KEY"),
            "the environment variable NO_SUCH_KEY is not set or empty",
        ),
    ],
)
def test_models_that_cannot_be_used_are_refused(command: str, arguments: tuple[str, ...], said: str) -> None:
    """In one line."""
    done = run(command, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"inferencesh: error: {said}")
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """Or the extra is missing, which is said first."""
    file = tmp_path / "notes.gguf"
    file.write_text("Dear diary")
    done = run("chat", "--model", str(file), "Hello")
    assert done.returncode == 1
    assert "is not a GGUF file" in done.stderr or "pip install 'inferencesh[llm]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_and_another_service_cannot_be_combined() -> None:
    """Only the embedded runtime has models."""
    done = run("chat", "--model", "demo", "--base-url", "http://127.0.0.1:9", "Hi", INFERENCE_API_KEY="k")
    assert done.stderr.startswith("inferencesh: error: --base-url cannot be combined with --local or a model")


@pytest.mark.llm
@pytest.mark.timeout(180)
def test_the_language_model_streams_within_ten_seconds() -> None:
    """From the start of the process, once its files have been read before."""
    started_at = time.monotonic()
    with piped("chat", "--model", "llama", "Tell me a story") as process:
        first = cast("IO[str]", process.stdout).read(1)
        seconds = time.monotonic() - started_at
        process.send_signal(signal.SIGINT)
    assert first
    assert seconds < 10


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--chat-id", "nowhere", "Hi"), "(HTTP 404, not_found;"),
        (("--agent", "nobody", "Hi"), "namespace/name"),
        (("",), "the message is empty"),
        (("-",), "the message is empty"),
        (("--base-url", "http://127.0.0.1:9", "Hi"), "set INFERENCE_API_KEY"),
        (("--base-url", "http://127.0.0.1:9", "--local", "Hi"), "cannot be combined"),
        (("--agent", "a/b", "--core-app", "c/d", "Hi"), "omit --core-app and --system-prompt"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], says: str) -> None:
    """On stderr, with exit status 1 and nothing on stdout."""
    done = run("chat", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    error = done.stderr.splitlines()[-1]
    assert error.startswith("inferencesh: error: ")
    assert says in error
    assert done.stderr.replace(STAND_IN, "").count("\n") <= 2


def test_a_wrong_key_is_refused_in_one_line(served: Served) -> None:
    """With the status, and without the key."""
    done = run("chat", "Hi", **address(served.runtime.base_url, "inf_wrong_key"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[1].startswith("inferencesh: error: ")
    assert "HTTP 401" in done.stderr
    assert done.stderr.count("\n") == 2
    assert "inf_wrong_key" not in done.stderr


def test_a_key_never_goes_to_another_machine_unencrypted() -> None:
    """Refused before anything is sent, and before anything else is said."""
    done = run("chat", "Hi", **address("http://192.0.2.1", KEY))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "https" in done.stderr


def test_nobody_listening_is_one_line() -> None:
    """A connection that cannot be made, after its repetitions."""
    done = run("chat", "Hi", **address("http://127.0.0.1:9", KEY))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 2)
    assert "no connection could be made" in done.stderr


def test_warnings_are_shown_when_asked_for() -> None:
    """What the package logs disturbs no reply, and -v shows it: one line each, without the key or the text."""
    lines: Script = (chat("working"), b"not JSON\x1b[2J\n", message("Well", "ready"), *END)
    quiet = answered(*lines)
    assert (quiet.stdout, quiet.stderr.count("\n")) == ("Well\n", 2)
    with FaultServer(Scenario(streams=[lines])) as server:
        loud = run("chat", "-v", "--agent", "a/b", "Hi", **address(server.url, KEY))
    assert loud.stdout == "Well\n"
    assert "inferencesh: POST /agents/run answered 200" in loud.stderr
    assert not re.search(rf"{KEY}|Well|\x1b", loud.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("talk",),
        ("chat", "--key", "inf_x"),
        ("serve", "--port", "70000"),
        ("serve", "--pace", "soon"),
        ("serve", "--cors-origin", "localhost"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    """With the usage and status 2; there is no option for a key, which every user of the machine could read."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: inferencesh")


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run(number: signal.Signals, status: int) -> None:
    """A signal during the reply ends the program with 128 and its number, and the run at the server."""
    with Served(["Once ", gate := Gate(), "upon"]) as served, piped("chat", "Hi", **variables(served)) as process:
        check_that_it_stops_the_run(process, number, status, served)
        gate.open()


def test_sigterm_stops_the_run_when_ctrl_c_is_ignored() -> None:
    """As in the background of a shell script."""
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND, "chat", "Hi"]
    with Served(["Once ", gate := Gate(), "upon"]) as served, started(command, **variables(served)) as process:
        check_that_it_stops_the_run(process, signal.SIGTERM, 143, served)
        gate.open()


def check_that_it_stops_the_run(
    process: subprocess.Popen[str], number: signal.Signals, status: int, served: Served
) -> None:
    """Send a signal in the middle of a reply."""
    assert cast("IO[str]", process.stdout).read(4) == "Once"
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out.strip()) == (status, "")
    assert [line for line in err.splitlines() if not line.startswith("inferencesh: ")] == []
    with Inference(**served.address) as client:
        run_of_chat = client.agent({}, chat_id=err.split()[-1]).get_chat().active_run
    assert run_of_chat is not None
    assert run_of_chat.state == RunState.CANCELED


# -- a conversation in a terminal --------------------------------------------------------------------------------------


def test_a_conversation() -> None:
    """Prompt, reply, prompt, until Ctrl-D."""
    with in_plain_terminal([*COMMAND, "chat"]) as terminal:
        assert "embedded runtime" in terminal.expect("> ")
        terminal.press("Hello\r")
        terminal.expect('You said: "Hello"')
        terminal.expect("\r\n> ")
        terminal.press("Tell me a story about a dragon\r")
        terminal.expect('second edition\\?"\r\n> ')
        terminal.press("\x04")
        assert terminal.end() == (0, "\r\n")


def test_sigterm_ends_a_conversation() -> None:
    """At the prompt and during a reply."""
    for prompt in ("", "Hello\r"):
        with (
            Served(["Once ", gate := Gate(), "upon"]) as served,
            in_plain_terminal([*COMMAND, "chat"], **variables(served)) as terminal,
        ):
            terminal.expect("> ")
            if prompt:
                terminal.press(prompt)
                terminal.expect("Once ")
                terminal.terminate()
            else:
                terminal.terminate_prompt()
            assert terminal.end()[0] == 143
            gate.open()


def test_ctrl_c_during_a_reply_leads_back_to_the_prompt() -> None:
    """The reply is stopped, the conversation goes on, and Ctrl-C at the prompt ends it."""
    with (
        Served(["Once ", gate := Gate(), "upon"], ["Again"]) as served,
        in_plain_terminal([*COMMAND, "chat"], **variables(served)) as terminal,
    ):
        terminal.expect("> ")
        terminal.press("Hello\r")
        terminal.expect("\nOnce ")
        terminal.press("\x03")
        terminal.expect("inferencesh: stopped\r\n> ")
        gate.open()
        terminal.press("Hello\r")
        terminal.expect("\nAgain\r\n> ")
        terminal.interrupt_prompt()
        status, rest = terminal.end()
        assert status == 0
        assert "continue this chat with --chat-id" in rest


def test_a_failed_turn_leads_back_to_the_prompt() -> None:
    """At a terminal the error is shown and the next message may be sent."""
    with (
        Served([ValueError("broken model")], ["Better"]) as served,
        in_plain_terminal([*COMMAND, "chat"], **variables(served)) as terminal,
    ):
        terminal.expect("> ")
        terminal.press("Hello\r")
        terminal.expect("inferencesh: error: the agent's run failed: [^\r]*broken model\r\n> ")
        terminal.press("Hello\r")
        terminal.expect("\nBetter\r\n> ")
        terminal.press("\x04")
        assert terminal.end()[0] == 0


def test_what_cannot_get_better_ends_the_conversation(served: Served) -> None:
    """A wrong key stays wrong."""
    with in_plain_terminal([*COMMAND, "chat"], **address(served.runtime.base_url, "inf_wrong")) as terminal:
        terminal.expect("> ")
        terminal.press("Hello\r")
        terminal.expect("HTTP 401")
        assert terminal.end()[0] == 1


def test_a_failed_turn_ends_a_conversation_in_a_pipe() -> None:
    """Nobody is there to decide what to do; what follows is not sent."""
    with Served([ValueError("broken model")], ["Better"]) as served:
        done = run("chat", stdin="Hello\nHello\n", **variables(served))
        assert (done.returncode, done.stdout) == (1, "")
        assert len(served.script.asked) == 1


@pytest.mark.parametrize(
    ("closed", "message", "status"),
    [("<&-", ("Hello",), 0), ("<&-", (), 0), ("<&-", ("-",), 1), (">&-", ("Hello",), 0), ("2>&-", ("Hello",), 0)],
    ids=str,
)
def test_a_standard_stream_may_be_closed(served: Served, closed: str, message: tuple[str, ...], status: int) -> None:
    """As by some daemons that start programs: it is like the null device."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, "chat", *message]
    with started(command, **variables(served)) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == status, err
    assert out.startswith("You said") == (message == ("Hello",) and closed != ">&-")
    assert [line for line in err.splitlines() if not line.startswith("inferencesh: ")] == []


def test_output_that_cannot_be_written_is_an_error_in_one_line(served: Served) -> None:
    """A full disk, for example."""
    with started(["sh", "-c", 'exec "$@" >/dev/full', "sh", *COMMAND, "chat", "Hello"], **variables(served)) as process:
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "No space left on device" in err
    assert [line for line in err.splitlines() if not line.startswith("inferencesh: ")] == []


# -- tools that are answered by hand -----------------------------------------------------------------------------------


@pytest.fixture
def calculating(served: Served) -> tuple[str, ...]:
    """The arguments that lead to a chat whose agent has a tool without a handler."""
    with Inference(**served.address) as client:
        agent = client.agent({"tools": [CALCULATOR]})
        agent.send_message("Hello")
    return ("chat", "--agent", "tests/calculator", "--chat-id", str(agent.chat_id))


def test_a_result_is_asked_for_on_the_terminal(served: Served, calculating: tuple[str, ...]) -> None:
    """Name and arguments are shown, and the turn goes on with what was typed."""
    with in_plain_terminal([*COMMAND, *calculating, "What's 42 * 17?"], **variables(served)) as terminal:
        terminal.expect('calculator {"expression": "42 \\* 17"}')
        terminal.expect("result> ")
        terminal.press("714\r")
        terminal.expect("\n42 \\* 17 is 714.\r\n")
        assert terminal.end()[0] == 0


def test_a_result_may_come_from_a_pipe(served: Served, calculating: tuple[str, ...]) -> None:
    """The question goes to stderr, so that stdout has the reply alone."""
    done = run(*calculating, "What's 42 * 17?", stdin="714\n", **variables(served))
    assert (done.returncode, done.stdout) == (0, "42 * 17 is 714.\n")
    assert 'inferencesh: the agent is waiting for the result of calculator {"expression": "42 * 17"}' in done.stderr


def test_without_a_result_the_turn_cannot_go_on(served: Served, calculating: tuple[str, ...]) -> None:
    """The input has ended: an error, and no hang."""
    done = run(*calculating, "What's 42 * 17?", **variables(served))
    assert done.returncode == 1
    assert "inferencesh: error: the result of the tool calculator is needed, and the input has ended" in done.stderr


def test_a_pause_that_cannot_be_answered_here_is_said() -> None:
    """For a sign-in there is nothing to type; the program says so and ends."""
    calls = [call_of("in_progress", type="app", name="pay")]
    done = answered(chat("working"), message("Sign in first.", calls=calls), chat("auth_required"))
    assert (done.returncode, done.stdout) == (0, "Sign in first.\n")
    assert "such as a sign-in" in done.stderr


# -- approvals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def careful(served: Served) -> tuple[str, ...]:
    """The arguments that lead to a chat whose agent may use its tool only when somebody allows it."""
    allowed = tool("calculator").param("expression", string("Expression")).require_approval().build()
    with Inference(**served.address) as client:
        agent = client.agent({"tools": [allowed]})
        agent.send_message("Hello")
    return ("chat", "--agent", "tests/calculator", "--chat-id", str(agent.chat_id))


def test_an_approval_is_asked_for_on_the_terminal(served: Served, careful: tuple[str, ...]) -> None:
    """Only a yes is one; the tool's result is asked for after it."""
    with in_plain_terminal([*COMMAND, *careful, "What's 42 * 17?"], **variables(served)) as terminal:
        terminal.expect('the agent asks to use calculator {"expression": "42 \\* 17"}')
        terminal.expect(r"why not\] ")
        terminal.press("y\r")
        terminal.expect("result> ")
        terminal.press("714\r")
        terminal.expect("\n42 \\* 17 is 714.\r\n")
        assert terminal.end()[0] == 0


@pytest.mark.parametrize(("typed", "reason"), [("\n", "rejected"), ("No\n", "rejected"), ("not today\n", "not today")])
def test_what_is_not_approved_is_rejected(served: Served, careful: tuple[str, ...], typed: str, reason: str) -> None:
    """Enter is a no, and any other text the reason that the agent is told."""
    done = run(*careful, "What's 42 * 17?", stdin=typed, **variables(served))
    assert done.returncode == 0
    assert done.stdout.startswith("I could not work out 42 * 17")
    assert reason in done.stdout


def test_where_nobody_answers_nothing_is_decided(served: Served, careful: tuple[str, ...]) -> None:
    """The input has ended: the call waits for somebody else, and the program says that it waits."""
    done = run(*careful, "What's 42 * 17?", **variables(served))
    assert (done.returncode, done.stdout) == (0, "")
    assert "the agent asks to use calculator" in done.stderr
    with Inference(**served.address) as client:
        assert client.agent("tests/calculator", chat_id=careful[-1]).wait().pending_approvals


# -- a chat that waits ------------------------------------------------------------------------------------------------


@pytest.fixture
def left(served: Served, careful: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments that lead to a chat that somebody has left while it waits for an approval."""
    with Inference(**served.address) as client:
        client.agent("tests/calculator", chat_id=careful[-1]).send_message("What's 42 * 17?")
    return careful


def test_what_a_chat_waits_for_is_asked_for_before_the_conversation_goes_on(
    served: Served, left: tuple[str, ...]
) -> None:
    """The approval, then the result; then the reply, and the prompt."""
    with in_plain_terminal([*COMMAND, *left], **variables(served)) as terminal:
        terminal.expect("this chat is waiting for input")
        terminal.expect('the agent asks to use calculator {"expression": "42 \\* 17"}')
        terminal.expect(r"why not\] ")
        terminal.press("y\r")
        terminal.expect("result> ")
        terminal.press("714\r")
        terminal.expect("\n42 \\* 17 is 714.\r\n")
        terminal.expect("> ")
        terminal.press("Hello\r")
        terminal.expect("You said")
        terminal.expect("> ")
        terminal.press("\x04")
        assert terminal.end()[0] == 0


def test_what_a_chat_waits_for_may_come_from_a_pipe(served: Served, left: tuple[str, ...]) -> None:
    """Before the message of the command line."""
    done = run(*left, "Hello", stdin="not today\n", **variables(served))
    assert done.returncode == 0
    first, second = done.stdout.splitlines()[:2]
    assert "not today" in first
    assert second.startswith('You said: "Hello"')


def test_a_message_is_not_left_behind_what_nobody_answers(served: Served, left: tuple[str, ...]) -> None:
    """The input has ended: what is pending is named, and the message is not sent."""
    done = run(*left, "Good morning", **variables(served))
    assert (done.returncode, done.stdout) == (1, "")
    assert "still waiting for the approval of calculator" in done.stderr
    assert "error: the message was not sent, because the chat still waits for input" in done.stderr
    with Inference(**served.address) as client:
        assert "Good morning" not in [message.text for message in client.chats.messages(left[-1])]


def test_a_confirmation_is_asked_for() -> None:
    """A yes from the pipe lets the run go on."""
    asking = chat("input_required", pending_interrupts=[{"id": "int1", "reason": "confirmation", "status": "pending"}])
    script: Script = (
        chat("working"),
        message("Shall I?", "ready"),
        asking,
        after("POST /interrupts/int1/resolve"),
        chat("working"),
        message("Done.", "ready", id="reply2", order=14),
        *END,
    )
    with FaultServer(Scenario(streams=[script])) as server:
        done = run("chat", "--agent", "a/b", "Hi", stdin="y\n", **address(server.url, KEY))
        (resolved,) = server.seen("POST /interrupts/int1/resolve")
    assert resolved.json == {"decision": "allow"}
    assert (done.returncode, done.stdout) == (0, "Shall I?\nDone.\n")
    assert "asks for a confirmation: Shall I?" in done.stderr


# -- serve -------------------------------------------------------------------------------------------------------------


def hear_address(process: subprocess.Popen[str]) -> dict[str, str]:
    """The variables that a starting runtime tells its users to set."""
    out = cast("IO[str]", process.stdout)
    assert "The embedded runtime listens on http://127.0.0.1:" in out.readline()
    lines = [out.readline().split() for _ in range(2)]
    assert [line[0] for line in lines] == ["export", "export"]
    return dict(cast("tuple[str, str]", tuple(line[1].split("=", 1))) for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_is_used_by_another_process_and_ends_when_told(number: signal.Signals) -> None:
    """What it prints is all that a client needs; Ctrl-C and SIGTERM end it cleanly, with a stream open as well."""
    with piped("serve", "--port", "0", "--pace", "0.001") as process:
        where = hear_address(process)
        done = run("chat", "Tell me a story about a robot", **where)
        assert done.stdout.startswith("When the railway closed")
        with (
            Inference(where["INFERENCE_API_KEY"], base_url=where["INFERENCE_BASE_URL"]) as client,
            client.agent("a/b").send_message("Tell me a story", stream=True) as stream,
        ):
            next(iter(stream))
            process.send_signal(number)
            assert process.communicate(timeout=LIMIT) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(("arguments", "status"), [((), 200), (("--playground", "off"), 401)])
def test_serve_shows_a_page_unless_told_not_to(arguments: tuple[str, ...], status: int) -> None:
    """It is at the address that is printed, and no key is needed to open it."""
    with piped("serve", "--port", "0", *arguments) as process:
        line = cast("IO[str]", process.stdout).readline()
        assert ("Open it in a browser to try agents" in line) is (status == 200)
        address = re.search(r"http://[\d.:]*\d", line)
        assert address is not None
        assert httpx.get(address[0], trust_env=False).status_code == status
        process.terminate()
        process.communicate(timeout=LIMIT)


def test_serve_ends_when_ctrl_c_is_ignored() -> None:
    """As in the background of a shell script, where SIGINT is ignored: SIGTERM still ends it."""
    script = 'trap "" INT; exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, "-W", "error", "-m", "inferencesh", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        hear_address(process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=LIMIT) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_serve_takes_its_key_from_a_variable_it_is_told() -> None:
    """That key is accepted, the usual one is not, and it is not printed."""
    with piped("serve", "--port", "0", "--api-key-env", "MY_KEY", MY_KEY="inf_private") as process:
        where = hear_address(process)
        assert where["INFERENCE_API_KEY"] == "$MY_KEY"
        assert run("chat", "Hello", **{**where, "INFERENCE_API_KEY": "inf_private"}).returncode == 0
        assert run("chat", "Hello", **{**where, "INFERENCE_API_KEY": "inf_local"}).returncode == 1
    nothing = run("serve", "--api-key-env", "MY_KEY")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)


def test_serve_speaks_as_it_is_told() -> None:
    """--envelope, --updates and --approvals reach the runtime."""
    told = ("--envelope", "v1", "--updates", "deltas", "--approvals", "sign_in", "--pace", "0")
    with piped("serve", "--port", "0", *told) as process:
        where = hear_address(process)
        done = run("chat", "Tell me a story about a robot", **where)
        request = urllib.request.Request(
            f"{where['INFERENCE_BASE_URL']}/chats/{done.stderr.split()[-1]}",
            headers={"Authorization": f"Bearer {where['INFERENCE_API_KEY']}"},
        )
        with urllib.request.urlopen(request) as answer:
            body = json.load(answer)
        approval = urllib.request.Request(
            f"{where['INFERENCE_BASE_URL']}/tools/nothing/invoke",
            headers={"Authorization": f"Bearer {where['INFERENCE_API_KEY']}"},
            method="POST",
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(approval)
        with refused.value as refusal:
            assert json.load(refusal)["error"]["code"] == "requires_sign_in"
    assert body["success"] is True
    assert done.stdout.endswith("thirsty.\n")


def test_serve_replays_and_lets_pages_in_when_it_is_told() -> None:
    """--replay and --cors-origin, which may be repeated, reach the runtime; without them nothing of it happens."""
    pages = ["http://localhost:3000", "https://app.example"]
    for told in ((), ("--replay", *(word for page in pages for word in ("--cors-origin", page)))):
        with piped("serve", "--port", "0", "--pace", "0", *told) as process:
            where = hear_address(process)
            with Inference(where["INFERENCE_API_KEY"], base_url=where["INFERENCE_BASE_URL"]) as client:
                chat_id = client.agent("a/b").send_message("Hello").chat_id
            url = f"{where['INFERENCE_BASE_URL']}/chats/{chat_id}/stream"
            headers = {"Authorization": f"Bearer {where['INFERENCE_API_KEY']}", "Accept": "application/x-ndjson"}
            for page in pages:
                request = urllib.request.Request(url, headers={**headers, "Origin": page})
                with urllib.request.urlopen(request) as stream:
                    assert stream.headers.get("Access-Control-Allow-Origin") == (page if told else None)
                    assert json.loads(stream.readline())["event"] == "chats"
                    if told:
                        assert json.loads(stream.readline())["data"]["role"] == "user"
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=LIMIT) == ("", "")


def test_a_port_that_is_taken_is_one_line(served: Served) -> None:
    """The runtime does not start, and says what to do."""
    port = served.runtime.base_url.rpartition(":")[2]
    done = run("serve", "--port", port)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "choose another --host or --port" in done.stderr


def test_a_malformed_host_is_one_line() -> None:
    """It cannot even be looked up."""
    done = run("serve", "--host", "a..b")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "choose another --host" in done.stderr


def test_the_choices_of_serve_are_those_of_the_runtime() -> None:
    """They are written down twice, so that the command line starts without the server's libraries."""
    usage = run("serve", "--help").stdout
    assert [set(choice.split(",")) for choice in re.findall(r"\{([\w,]+)\}", usage)[:3]] == [
        set(get_args(Updates)),
        set(get_args(Envelope)),
        set(get_args(ApprovedBy)),
    ]


# -- the program itself ------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The installed command, ``python -m inferencesh`` and ``main`` say the same."""
    script = Path(sysconfig.get_path("scripts")) / "inferencesh"
    installed = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    expected = f"inferencesh {__version__}\n"
    assert [installed.stdout, run("--version").stdout, capsys.readouterr().out] == [expected] * 3


@pytest.mark.parametrize(("command", "statuses"), [("chat", ("0", "1", "2", "130", "143")), ("serve", ("0", "1", "2"))])
def test_the_help_lists_the_exit_statuses(command: str, statuses: tuple[str, ...]) -> None:
    """For scripts that use the command."""
    done = run(command, "--help")
    assert tuple(re.findall(r"\d+", done.stdout.partition("Exit status:")[2])) == statuses


def test_the_command_line_starts_without_aiohttp() -> None:
    """Importing it and showing its help cost next to nothing."""
    program = "import sys, inferencesh._cli as cli\ntry: cli.main(['--help'])\nfinally: print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("False\n")


def test_what_a_terminal_cannot_show_is_replaced() -> None:
    """A reply with other characters than the output's encoding has is no error."""
    with Served(["snow ☃"]) as served:
        done = run("chat", "Hi", **variables(served), PYTHONIOENCODING="ascii:strict", PYTHONUTF8="0")
    assert (done.returncode, done.stdout) == (0, "snow ?\n")


def test_bytes_that_are_no_text_do_not_fail() -> None:
    """An argument may hold any bytes; what is no text arrives as a replacement character."""
    command = [os.fsencode(part) for part in (sys.executable, "-m", "inferencesh", "chat", "--local")]
    variables = environment({"PYTHONIOENCODING": "utf-8"})
    done = subprocess.run([*command, b"Hello \xff"], check=False, capture_output=True, cwd=ROOT, env=variables)
    assert done.stdout.decode().startswith('You said: "Hello \N{REPLACEMENT CHARACTER}".')
