"""``inferencesh chat`` with the extra ``cli``: a terminal with Markdown, commands, keys and history; JSON lines."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from inferencesh import APIConnectionError, Inference, RunState, integer, string, tool
from inferencesh._chat.prompt import CommandCompleter
from inferencesh._chat.screen import split_blocks
from inferencesh.local import Reasoning, ToolCall
from tests.faults.forms import KEY, chat, message
from tests.faults.script import Scenario
from tests.faults.server import FaultServer

from .command_line import COMMAND, Screen, Terminal, address, run
from .support import Gate, Served, Step

READY = r"\x1b\[\?2004h"  # the terminal is told to mark what is pasted: keys may be pressed
HOSTILE = "\x1b]52;c;aGk=\x07\x1b]8;;http://evil\x1b\\x\x1b[2J\x9b1A\x1b[201~\u202e"
CONTROLLED = "\x1b[\\]\\\\]|\x07|\x9b|\x1b\\[2J|\x1b\\[201~|\u202e"  # what HOSTILE would make of the terminal
TOOLS = """
from inferencesh import tool

@tool
def multiply(a: int, b: int) -> int:
    "Multiply two numbers."
    return a * b

def helper() -> None:
    "No tool."
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory for the history."""
    return tmp_path / "state"


def opened(served: Served, home: Path, *arguments: str, **more: str) -> Terminal:
    """A conversation in a terminal."""
    variables = address(served.runtime.base_url, served.runtime.api_key)
    return Terminal([*COMMAND, "chat", *arguments], **variables, XDG_STATE_HOME=str(home), **more)


@pytest.fixture
def served() -> Iterator[Served]:
    """An embedded runtime with the demo model."""
    with Served() as running:
        yield running


def leave(terminal: Terminal) -> str:
    """Quit, check that it was a success, and return the rest of the output."""
    terminal.expect(READY)
    terminal.press("/quit\r")
    status, rest = terminal.end()
    assert status == 0, rest
    return rest


def say(terminal: Terminal, text: str) -> None:
    """Send a message."""
    terminal.expect(READY)
    terminal.press(f"{text}\r")


# -- replies -----------------------------------------------------------------------------------------------------------


def test_markdown_is_rendered_while_it_is_written_and_finished_blocks_are_not_drawn_again(home: Path) -> None:
    """The block before the last one is on the screen for good."""
    steps: list[Step] = [
        "First **bold** block.\n\nSec",
        first := Gate(),
        "ond",
        second := Gate(),
        " block.\n\n- item\n",
    ]
    with Served(steps) as served, opened(served, home) as terminal:
        say(terminal, "Hi")
        terminal.expect(r"First \x1b\[1mbold\x1b\[0m block.")
        first.open()
        rest = terminal.expect("Second")
        second.open()
        rest += terminal.expect("• ?(\x1b[^m]*m)*item")
        assert "First" not in rest
        leave(terminal)


def test_long_lines_are_wrapped_at_words(home: Path) -> None:
    """No line is longer than the terminal is wide."""
    with Served(["word " * 60]) as served, opened(served, home, NO_COLOR="1") as terminal:
        say(terminal, "Hi")
        shown = terminal.expect(READY)
        lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.partition("word")[2]).splitlines()
        assert max(map(len, lines)) <= 90
        assert not [line for line in lines if line.strip().endswith("wor")]
        terminal.press("\x04")
        assert terminal.end()[0] == 0


@pytest.mark.parametrize("kind", ["code", "table"])
def test_a_block_that_is_higher_than_the_screen_is_whole_in_the_end(home: Path, kind: str) -> None:
    """Each of its lines is there once, in order, also those that have left the screen at the top."""
    gates = [Gate() for _ in range(6)]
    lines = [f"line {number:02}" for number in range(30)]
    # The columns of the table grow with each row, so that all the rows above it change.
    rows = [f"{line}\n" if kind == "code" else f"| {line} | {'x' * n} |\n" for n, line in enumerate(lines)]
    begin, end = ("```\n", "```\n") if kind == "code" else ("| a | b |\n|---|---|\n", "")
    steps: list[Step] = [f"Before\n\n{begin}"]
    for number, gate in enumerate(gates):
        steps += ["".join(rows[number * 5 : number * 5 + 5]), gate]
    with Served([*steps, f"{end}\nAfter"]) as served, opened(served, home, COLUMNS="", LINES="") as terminal:
        terminal.resize(60, 12)
        say(terminal, "Hi")
        screen = Screen(12)
        for number, gate in enumerate(gates):
            screen.write(terminal.expect(f"line {number * 5 + 4:02}.*\n"))
            gate.open()
        screen.write(terminal.expect("After") + terminal.expect(READY))
        terminal.press("\x04")
        assert terminal.end()[0] == 0
    assert re.findall(r"Before|line \d+|After", screen.text) == ["Before", *lines, "After"]


@pytest.mark.parametrize(("columns", "wraps"), [(40, False), (40, True), (120, False)])
def test_a_reply_can_be_read_after_the_window_has_changed_its_size_in_the_middle(
    home: Path, columns: int, wraps: bool
) -> None:
    """All its words are there in order, and no line is longer than the window is wide.

    Where the terminal itself has wrapped lines, some of them may remain above the reply.
    """
    words = [f"word{number:02}" for number in range(60)]
    steps: list[Step] = [" ".join(words[:30]), gate := Gate(), " " + " ".join(words[30:])]
    with Served(steps) as served, opened(served, home, COLUMNS="", LINES="") as terminal:
        terminal.resize(80, 24)
        say(terminal, "Hi")
        screen = Screen(24)
        screen.write(terminal.expect("word29.*\n"))
        terminal.resize(columns, 20)
        screen.height = 20
        if wraps:
            screen.wrap(columns)
        gate.open()
        screen.write(terminal.expect("word59") + terminal.expect(READY))
        terminal.press("\x04")
        assert terminal.end()[0] == 0
    shown = re.findall(r"word\d+", screen.text)
    assert shown[-len(words) :] == words
    assert wraps or shown == words
    lines = [line for line in screen.text.splitlines() if "word" in line]
    assert columns - 8 <= max(map(len, lines)) <= columns


@pytest.mark.parametrize("no_color", ["", "1"])
def test_reasoning_is_dimmed_and_no_color_is_respected(home: Path, no_color: str) -> None:
    """With NO_COLOR nothing is coloured; weight and dimness remain."""
    steps: list[Step] = [Reasoning("Let me think."), "`code` and [link](http://a.example)"]
    variables = {"NO_COLOR": no_color} if no_color else {}
    with Served(steps) as served, opened(served, home, **variables) as terminal:
        say(terminal, "Hi")
        shown = terminal.expect(r"\x1b\[2;3mLet me think\.") + terminal.expect("a.example")
        assert bool(re.search(r"\x1b\[[\d;]*(3[0-7]|4[0-7]|38;5)[\d;]*m", shown)) is not bool(no_color)
        leave(terminal)


def test_nothing_that_a_model_writes_controls_the_terminal(home: Path) -> None:
    """Neither in text nor in reasoning, nor characters that Markdown decodes itself."""
    encoded = "<http://a.example/%1b%5d52;c;aGk=%07%9b> &#x202e;"
    steps: list[Step] = [
        Reasoning(f"thought {HOSTILE}"),
        f"text {HOSTILE} {encoded}\n\n```{HOSTILE}\n{HOSTILE}\n```\n\nThe end",
    ]
    with Served(steps) as served, opened(served, home) as terminal:
        say(terminal, f"Hi {HOSTILE[:3]}")
        shown = terminal.expect("The end") + terminal.expect(READY)
        assert "thought ]52;c;aGk=" in shown
        assert not re.search("\x1b[\\]\\\\]|\x07|\x9b|\x1b\\[2J|\x1b\\[201~|\u202e", shown)
        terminal.press("/chats\r")
        listed = terminal.expect(READY)
        assert not re.search("\x1b\\]|\x07|\x9b|\x1b\\[2J|\u202e", listed)
        terminal.press("\x04")
        assert terminal.end()[0] == 0


def test_tools_of_a_file_run_and_are_shown_with_arguments_and_result(
    served: Served, home: Path, tmp_path: Path
) -> None:
    """Only what @tool has made is a tool."""
    (tmp_path / "mine.py").write_text(TOOLS)
    with opened(served, home, "--tools", str(tmp_path / "mine.py")) as terminal:
        say(terminal, "What is 42 * 17?")
        terminal.expect("multiply · completed")
        terminal.expect('"a": 42')
        terminal.expect("→ 714")
        say(terminal, "/tools")
        assert "helper" not in terminal.expect("multiply: Multiply two numbers.")
        leave(terminal)


def test_an_approval_is_a_question_with_the_arguments(served: Served, home: Path) -> None:
    """What was typed before the question is no answer."""
    calculator = tool("calculator").param("expression", string("Expression")).require_approval().build()
    with Inference(**served.address) as client:
        agent = client.agent({"tools": [calculator]})
        agent.send_message("Hello")
    with opened(served, home, "--agent", "a/b", "--chat-id", str(agent.chat_id)) as terminal:
        say(terminal, "What's 42 * 17?")
        terminal.expect("calculator · the agent asks for your approval")
        terminal.expect('"expression": "42 \\* 17"')
        terminal.expect(READY)
        terminal.press("y\r")
        terminal.expect("calculator · the agent is waiting for a result")
        terminal.expect(READY)
        terminal.press("714\r")
        terminal.expect("42 \\* 17 is 714.")
        leave(terminal)


@pytest.mark.parametrize(("term", "ready"), [("xterm", READY), ("dumb", r"(> |why not\] )$")])
def test_keys_pressed_before_a_question_do_not_answer_it(home: Path, tmp_path: Path, term: str, ready: str) -> None:
    """Neither those that came together with the message nor those pressed during the reply."""
    (tmp_path / "mine.py").write_text(TOOLS.replace("@tool", "@tool(require_approval=True)"))
    steps: list[Step] = ["Once ", gate := Gate(), ToolCall("multiply", {"a": 6, "b": 7})]
    tools = ("--tools", str(tmp_path / "mine.py"))
    with Served(steps, ["All done"]) as served, opened(served, home, *tools, TERM=term) as terminal:
        terminal.expect(ready)
        terminal.press("Hi\ry\r")
        terminal.expect("Once")
        terminal.press("y\r")
        gate.open()
        terminal.expect("the agent asks ")
        terminal.expect(ready)
        terminal.press("not today\r")
        terminal.expect("All done")
        terminal.expect(ready)
        terminal.press("\x04")
        assert terminal.end()[0] == 0
        assert "not today" in served.script.asked[1].messages[-1].text


def test_names_arguments_and_results_of_tools_do_not_control_the_terminal(home: Path) -> None:
    """Neither in the panel of a call, nor where its approval or result is asked for, nor in a chat that is opened."""
    asks = tool(f"asks{HOSTILE}").param("key", string("Key")).require_approval().build()
    runs = tool(f"runs{HOSTILE}").param("key", string("Key")).handler(lambda key: f"{key} result{HOSTILE}").build()
    calls: list[list[Step]] = [[ToolCall(each.name, {"key": f"value{HOSTILE}"})] for each in (asks, runs)]
    with Served(*calls, ["The end"]) as served:
        with Inference(**served.address) as client:
            agent, other = client.agent({"tools": [asks]}), client.agent({"tools": [runs]})
            agent.send_message("Hi", on_approval=lambda _call: None)
            other.send_message("Hi")
        with opened(served, home, "--agent", "a/b", "--chat-id", str(agent.chat_id)) as terminal:
            shown = terminal.expect("asks for your approval") + terminal.expect(READY)
            terminal.press("y\r")
            shown += terminal.expect("is waiting for a result") + terminal.expect(READY)
            terminal.press("done\r")
            shown += terminal.expect("The end") + terminal.expect(READY)
            terminal.press(f"/open {other.chat_id}\r")
            shown += terminal.expect("The end") + terminal.expect(READY)
            terminal.press("\x04")
            assert terminal.end()[0] == 0
    for name in ("asks", "runs", "value", "result"):
        assert f"{name}]52;c;aGk=" in shown or f"{name}\\u001b]52;c;aGk=" in shown
    assert not re.search(CONTROLLED, shown)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_paste_of_several_lines_is_one_message_and_alt_enter_begins_a_line(served: Served, home: Path) -> None:
    """Enter alone sends."""
    with opened(served, home) as terminal:
        terminal.expect(READY)
        terminal.press("\x1b[200~one\ntwo\x1b[201~\x1b\rthree\r")
        terminal.expect("You said")
        leave(terminal)
    with Inference(**served.address) as client:
        (chat,) = client.chats.list()
        assert [m.text for m in client.chats.messages(chat.id) if m.role == "user"] == ["one\ntwo\nthree"]


def test_ctrl_c_clears_then_stops_then_leaves(home: Path) -> None:
    """In this order."""
    with Served(["Once ", gate := Gate(), "upon"]) as served, opened(served, home) as terminal:
        terminal.expect(READY)
        terminal.press("not this\x03")
        terminal.press("Hello\r")
        terminal.expect("Once")
        terminal.press("\x03")
        terminal.expect("inferencesh: stopped")
        gate.open()
        terminal.expect(READY)
        terminal.press("\x03")
        assert terminal.end()[0] == 0
        assert [message.text for message in served.script.asked[0].messages if message.role == "user"] == ["Hello"]
        with Inference(**served.address) as client:
            (chat,) = client.chats.list()
            run_of_chat = client.chats.get(chat.id).active_run
            assert run_of_chat is not None
            assert run_of_chat.state == RunState.CANCELED


def test_what_was_typed_is_remembered_in_a_private_file(served: Served, home: Path) -> None:
    """The next session begins with it; only the user may read it."""
    for keys in ("Hello there\r", "\x1b[A\x1b[A\r"):
        with opened(served, home) as terminal:
            terminal.expect(READY)
            terminal.press(keys)
            terminal.expect('You said: "Hello there"')
            leave(terminal)
    file = home / "inferencesh" / "history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_sigterm_ends_it_at_the_prompt(served: Served, home: Path) -> None:
    """With the status for it."""
    with opened(served, home) as terminal:
        terminal.expect(READY)
        terminal.expect("> ?")
        terminal.terminate()
        assert terminal.end()[0] == 143


def test_sigterm_ends_it_while_the_history_is_read(served: Served, home: Path) -> None:
    """Without a traceback, and without waiting for a key."""
    file = home / "inferencesh" / "history"
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    with opened(served, home) as terminal:
        with file.open("wb"):  # waits until the file is opened for reading
            terminal.terminate()
        status, shown = terminal.end()
    assert status == 143
    assert "Traceback" not in shown


# -- commands ----------------------------------------------------------------------------------------------------------


def test_commands(served: Served, home: Path, tmp_path: Path) -> None:
    """Each one does what /help says of it."""
    (tmp_path / "notes.txt").write_text("Buy milk.")
    saved = tmp_path / "chat.md"
    with opened(served, home) as terminal:
        say(terminal, "/help")
        shown = terminal.expect("or leaves")
        commands = ("help", "new", "chats", "open", "tools", "file", "model", "save", "stop", "quit")
        assert [name for name in commands if f"/{name} " not in shown] == []
        say(terminal, f"/file {tmp_path / 'notes.txt'}")
        terminal.expect("the file goes with the next message")
        say(terminal, "First chat")
        terminal.expect("I got notes.txt")
        say(terminal, f"/save {saved}")
        terminal.expect("saved as")
        say(terminal, f"/save {saved}")
        terminal.expect("was not saved: .*File exists")
        say(terminal, "/stop")
        terminal.expect("stopped")
        say(terminal, "/new")
        terminal.expect("a new chat begins")
        say(terminal, "Second one")
        terminal.expect("You said")
        say(terminal, "/chats")
        terminal.expect(r"\w{26}  ")
        say(terminal, "/model some/model")
        terminal.expect("the model is some/model")
        say(terminal, "/open nowhere")
        terminal.expect("there is no chat with the title or id nowhere")
        say(terminal, "/nonsense")
        terminal.expect("there is no command /nonsense")
        leave(terminal)
    assert saved.read_text().startswith("> First chat\n")
    with Inference(**served.address) as client:
        chats = list(client.chats.list())
    assert len(chats) == 2
    with opened(served, home) as terminal:
        say(terminal, f"/open {chats[1].id}")
        terminal.expect("> First chat")
        leave(terminal)


def test_the_title_of_a_chat_does_not_control_the_terminal(home: Path) -> None:
    """It is listed, completed and opened as it is shown."""
    with Served(["Hello"], ["The end"]) as served:
        with Inference(**served.address) as client:
            client.agent({"name": "a"}).send_message(f"Trip{HOSTILE} and more")
        with opened(served, home) as terminal:
            terminal.expect(READY)
            terminal.press("/chats\r")
            shown = terminal.expect("Trip.*\r\n")
            title = shown[shown.rindex("Trip") :].strip()
            assert title.startswith("Trip]52;c;aGk=]8;;http://evil")
            shown += terminal.expect(READY)
            terminal.press("/open T")
            shown += terminal.expect("rip")
            terminal.press(f"\x03/open {title}\r")
            shown += terminal.expect("Hello") + terminal.expect(READY)
            terminal.press("\x04")
            assert terminal.end()[0] == 0
    assert not re.search(CONTROLLED, shown)


def test_stop_ends_a_run_that_waits_or_goes_on_at_the_server(home: Path, tmp_path: Path) -> None:
    """Also a run that another program has started."""
    (tmp_path / "mine.py").write_text(TOOLS.replace("@tool", "@tool(require_approval=True)"))
    steps: list[Step] = [ToolCall("multiply", {"a": 6, "b": 7})]
    with Served(steps, ["Once ", Gate(), "upon"]) as served, Inference(**served.address) as client:
        with opened(served, home, "--tools", str(tmp_path / "mine.py")) as terminal:
            say(terminal, "Hi")
            terminal.expect("asks for your approval")
            terminal.expect(READY)
            terminal.press("\x04")
            terminal.expect("still waiting for the approval of multiply")
            (chat,) = client.chats.list()
            assert state_of(client, chat.id) == RunState.INPUT_REQUIRED
            say(terminal, "/stop")
            terminal.expect("inferencesh: stopped")
            assert state_of(client, chat.id) == RunState.CANCELED
            leave(terminal)
        agent = client.agent({"name": "other"})
        stream = agent.send_message("Tell me a story", stream=True)
        assert next(stream).text == "Once "
        with opened(served, home, "--chat-id", str(agent.chat_id)) as terminal:
            say(terminal, "/stop")
            terminal.expect("inferencesh: stopped")
            assert state_of(client, str(agent.chat_id)) == RunState.CANCELED
            leave(terminal)
        assert [message.text for message in stream][-1:] in ([], ["Once "])


def state_of(client: Inference, chat_id: str) -> RunState | None:
    """The state of a chat's run."""
    run_of_chat = client.chats.get(chat_id).active_run
    return RunState(run_of_chat.state) if run_of_chat is not None else None


def test_tools_run_for_a_stored_agent_in_a_chat_that_is_opened(served: Served, home: Path, tmp_path: Path) -> None:
    """As in the chat that it began with."""
    (tmp_path / "mine.py").write_text(TOOLS)
    calculates = tool("multiply").param("a", integer("A")).param("b", integer("B")).build()
    with Inference(**served.address) as client:
        agent = client.agent({"tools": [calculates]})
        agent.send_message("Hello")
    with opened(served, home, "--agent", "a/b", "--tools", str(tmp_path / "mine.py")) as terminal:
        say(terminal, f"/open {agent.chat_id}")
        terminal.expect("> Hello")
        say(terminal, "What is 42 * 17?")
        terminal.expect("→ 714")
        leave(terminal)


def test_model_shows_the_model_and_changes_it_from_the_next_message_on(home: Path) -> None:
    """In the same chat, with the rest of the configuration; a stored agent keeps its own."""
    replies = [(message(text, "ready"), chat("completed")) for text in ("Reply one", "Reply two")]
    with FaultServer(Scenario(streams=replies)) as server:
        where = {**address(server.url, KEY), "XDG_STATE_HOME": str(home)}
        with Terminal([*COMMAND, "chat", "--system-prompt", "Be kind."], **where) as terminal:
            say(terminal, "/model")
            terminal.expect("the model is the default one")
            say(terminal, "First")
            terminal.expect("Reply one")
            say(terminal, "/model some/model")
            terminal.expect("the model is some/model")
            say(terminal, "/model")
            terminal.expect("the model is some/model")
            say(terminal, "Second")
            terminal.expect("Reply two")
            leave(terminal)
        with Terminal([*COMMAND, "chat", "--agent", "a/b"], **where) as terminal:
            say(terminal, "/model some/model")
            terminal.expect("the stored agent a/b has its own model")
            leave(terminal)
        first, second = (json.loads(request.body) for request in server.seen("POST /agents/run"))
    assert first["agent_config"] == {"system_prompt": "Be kind."}
    assert second["agent_config"] == {"system_prompt": "Be kind.", "core_app": {"ref": "some/model"}}
    assert second["chat_id"] is not None


def test_tab_completes_a_command(served: Served, home: Path) -> None:
    """In the terminal itself."""
    with opened(served, home) as terminal:
        terminal.expect(READY)
        terminal.press("/he")
        terminal.expect("show the commands and keys")
        terminal.press("\t")
        terminal.expect("lp")
        terminal.press("\r")
        terminal.expect("show the commands and keys\r\n/new")
        leave(terminal)


def completed(typed: str, *titles: str) -> list[str]:
    """What is proposed after some text."""
    completer = CommandCompleter({"/open": "open", "/file": "attach"}, lambda: titles)
    return [each.text for each in completer.get_completions(Document(typed, len(typed)), CompleteEvent())]


def test_paths_and_titles_are_completed(tmp_path: Path) -> None:
    """Paths after /file, titles after /open, without what would control the terminal."""
    (tmp_path / "notes.txt").touch()
    assert completed("/o") == ["/open"]
    assert completed(f"/file {tmp_path}/no") == ["tes.txt"]
    assert completed("/open tr", "Trip\x1b]52;c;x\x07", "Other") == ["Trip]52;c;x"]
    assert completed("Hello") == []


def test_chats_that_cannot_be_read_are_said_in_the_completion() -> None:
    """Instead of an error in the middle of typing."""

    def titles() -> list[str]:
        raise APIConnectionError("nobody listens")

    (told,) = CommandCompleter({}, titles).get_completions(Document("/open "), CompleteEvent())
    assert "nobody listens" in told.display_text


# -- without it --------------------------------------------------------------------------------------------------------


def test_without_the_extra_the_output_is_plain_and_one_line_says_how_to_get_more(home: Path) -> None:
    """On a terminal only."""
    program = "import sys; sys.modules['rich'] = None; from inferencesh._cli import main; sys.exit(main(sys.argv[1:]))"
    with Served(["Some **bold**"]) as served:
        variables = address(served.runtime.base_url, served.runtime.api_key)
        with Terminal([sys.executable, "-c", program, "chat", "Hi"], **variables) as terminal:
            status, shown = terminal.end()
        assert status == 0
        assert shown.count("pip install 'inferencesh[cli]'") == 1
        assert "Some **bold**\r\n" in shown
        assert "inferencesh[cli]" not in run("chat", "Hi", **variables).stderr


def test_a_dumb_terminal_gets_plain_text(home: Path) -> None:
    """No escape sequence at all."""
    with Served(["Some **bold**"]) as served, opened(served, home, "Hi", TERM="dumb") as terminal:
        status, shown = terminal.end()
    assert (status, "\x1b" in shown) == (0, False)
    assert "Some **bold**\r\n" in shown
    assert "inferencesh[cli]" not in shown


# -- tools and JSON lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def plain(): ...", "defines no tool: write @tool above"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("from inferencesh import tool\na = tool('x').build()\nb = tool('x').build()", "x more than once"),
        (None, "is not a file"),
    ],
)
def test_a_file_without_usable_tools_is_one_line(tmp_path: Path, source: str | None, says: str) -> None:
    """It says what to do, and nothing is sent."""
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    done = run("chat", "--local", "--tools", str(path), "Hi")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert says in done.stderr


def test_json_prints_snapshots_as_lines() -> None:
    """The events of inferencesh.web.ndjson, in ASCII, so that a terminal is safe too."""
    with Served([f"Hello {HOSTILE}", " world"]) as served:
        done = run("chat", "--json", "Hi", **address(served.runtime.base_url, served.runtime.api_key))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"message"}
    assert (events[-1]["event"], events[-1]["status"], events[-1]["delta"]) == ("done", "ready", "")
    assert "".join(event["delta"] or "" for event in events) == events[-1]["text"] == f"Hello {HOSTILE} world"
    assert all(character == "\n" or " " <= character <= "~" for character in done.stdout)


def test_json_ends_with_an_error_or_with_what_is_waited_for(served: Served, tmp_path: Path) -> None:
    """As the last line; the exit status says which."""
    with Served([ValueError("broken")]) as broken:
        done = run("chat", "--json", "Hi", **address(broken.runtime.base_url, broken.runtime.api_key))
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["type"]) == (1, "run_failed")
    (tmp_path / "mine.py").write_text(TOOLS.replace("@tool", "@tool(require_approval=True)"))
    where = address(served.runtime.base_url, served.runtime.api_key)
    done = run("chat", "--json", "--tools", str(tmp_path / "mine.py"), "What is 42 * 17?", **where)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["event"], last["tool_calls"][0]["name"]) == (0, "input_required", "multiply")


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_only_the_last_block_of_markdown_can_still_change() -> None:
    """A list or a fenced block is one block, however many lines it has."""
    assert split_blocks("one\n\ntwo\nthree") == (["one\n\n"], "two\nthree")
    assert split_blocks("- a\n\n- b") == ([], "- a\n\n- b")
    assert split_blocks("x\n\n```\na\n\nb") == (["x\n\n"], "```\na\n\nb")
