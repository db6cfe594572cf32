"""The docstrings of the public names: each shows an example where one helps, and every example runs."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

from docs.__main__ import MODULES
from inferencesh.local import Ask, Conversation, DemoModel, Piece

from .command_line import LIMIT, address, environment
from .run_examples import is_async
from .support import Served
from .test_pages import pattern

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

_WORDS = "its members are words of the wire, which the examples of Message, Chat and ToolCall compare with"
_ERROR = "it is caught like the APIError that it is, whose example shows what it carries"
_PIECE = "it is yielded by models as in the examples of Model and its siblings"
_PART = "it is a part of a Conversation, whose example shows how models read it"
# The public classes and functions that show no example, and why.
WITHOUT_EXAMPLE = {
    **dict.fromkeys(["ChatStatus", "ContentType", "InterruptReason", "InterruptStatus", "MessageStatus"], _WORDS),
    **dict.fromkeys(["Role", "RunState", "ToolCallStatus", "ToolType"], _WORDS),
    **dict.fromkeys(["AuthenticationError", "ConflictError", "InternalServerError", "NotFoundError"], _ERROR),
    **dict.fromkeys(["PermissionDeniedError"], _ERROR),
    **dict.fromkeys(
        ["SessionStatus", "TaskStatus"], "their members are words of the wire, as the example of Task shows"
    ),
    **dict.fromkeys(["DeletedFiles", "TaskEvent", "TaskFile", "TaskLog", "TaskUsage"], "it is a part of a Task"),
    **dict.fromkeys(["TaskCancelledError", "WorkerLostError"], "it is caught like its base, whose example shows it"),
    **dict.fromkeys(["ClaimStoreError", "LeaseLostError"], "it is caught like LeaseHeldError, whose example shows it"),
    "claims.ClaimState": "the example of Claim shows a member",
    "APITimeoutError": "it is caught like the APIConnectionError that it is",
    "HookEvent": "the example of lifecycle_hook has one",
    "BuiltinHook": "learning_hooks makes the hooks that have one",
    **dict.fromkeys(["local.Text", "local.Reasoning", "local.Widget"], _PIECE),
    **dict.fromkeys(["local.Attachment", "local.ConversationMessage", "local.OfferedTool", "local.PastCall"], _PART),
    "local.LocalAddress": "the example of BackgroundRuntime has one",
    "local.RuntimeOptions": "it is a type for annotations",
}
# Beside the classes and functions: what people call most.
_MOST_CALLED = {
    "Inference": "agent local request paginate stream close",
    "Agent": "send_message stream_messages stream_events "
    "wait run submit_tool_result approve_tool reject_tool resolve_interrupt "
    "always_allow_tool interrupts set_agent upload_file stop get_chat history reset",
    "MessageStream": "get_final_message get_final_output stop close",
    "Agents": "create",
    "Chats": "list get messages delete update status cancel_message",
    "Files": "upload list get delete download",
    "Tasks": "run get stream wait cancel delete list files download delete_files",
    "TaskStream": "get_final_task get_output cancel",
    "Sessions": "list get keepalive end",
    "Session": "run get keepalive end",
}
MOST_CALLED = [(cls, member) for cls, members in _MOST_CALLED.items() for member in members.split()]


@attrs.frozen
class Example:
    """An example of a docstring.

    Attributes:
        name: What it stands at, such as ``inferencesh:Agent.run``.
        page: The module that people import this from.
        code: The example.
        shown: The output that stands behind it, or None; ``...`` stands for any text.
    """

    name: str
    page: str
    code: str
    shown: str | None

    @property
    def group(self) -> str:
        """Those of one group run in one process."""
        if re.match(r"(async )?def test_", self.code):
            return "pytest"
        return f"{self.page}, {'async' if is_async(self.name, self.code) else 'sync'}"


def documented() -> Iterator[tuple[str, str, str]]:
    """Name, page and docstring of everything public that has one; what two pages have is told once."""
    seen: set[int] = set()
    for page in MODULES:
        module = importlib.import_module(page)
        yield page, page, inspect.getdoc(module) or ""
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) in seen or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            seen.add(id(value))
            yield f"{page}:{name}", page, inspect.getdoc(value) or ""
            if inspect.isclass(value):
                yield from ((f"{page}:{name}.{member}", page, text) for member, text in members(value))


def members(cls: type) -> Iterator[tuple[str, str]]:
    """The public members that a class has of its own or from a base of this package, with their docstrings."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        text = inspect.getdoc(value)
        if not name.startswith("_") and text and callable(getattr(value, "__func__", getattr(value, "fget", value))):
            yield name, text


def examples() -> list[Example]:
    """All examples, each with the output that follows it."""
    found = []
    for name, page, text in documented():
        blocks = _BLOCK.findall(text)
        for (_, language, code), after in zip(blocks, [*blocks, ("", "", "")][1:], strict=True):
            if language == "python":
                shown = textwrap.dedent(after[2]) if after[1] == "text" else None
                found.append(Example(name, page, textwrap.dedent(code), shown))
    return found


class Publisher(DemoModel):
    """The demo model, but that it asks before it publishes something."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Ask where the user wants something published, answer everything else."""
        last = conversation.messages[-1]
        if last.role == "user" and last.text.startswith("Publish"):
            yield Ask("Publish it?")
            return
        async for piece in super().respond(conversation):
            yield piece


@pytest.fixture
def served() -> Iterator[Served]:
    """What ``Inference()`` finds in the environment: an embedded runtime."""
    with Served(model=Publisher()) as running:
        yield running


EXAMPLES = examples()
GROUPS = sorted({each.group for each in EXAMPLES} - {"pytest"})


@pytest.mark.parametrize("group", GROUPS)
def test_the_examples_run_and_print_what_they_show(group: str, served: Served, tmp_path: Path) -> None:
    """Those of a page and kind in one process, with warnings as errors; stderr stays empty."""
    chosen = [each for each in EXAMPLES if each.group == group]
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(Path(__file__).with_name("run_examples.py"))],
        check=False,
        input=json.dumps([attrs.asdict(each) for each in chosen]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        env=environment(address(served.runtime.base_url, served.runtime.api_key)),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    problems = [problem for each, result in zip(chosen, results, strict=True) for problem in wrong(each, result)]
    assert not problems, "\n\n".join(problems)


def wrong(example: Example, result: dict[str, str | None]) -> Iterator[str]:
    """What is wrong with an example that has run."""
    output = result["output"] or ""
    if result["failure"]:
        yield f"{example.name} fails:\n{result['failure']}"
    elif example.shown is not None and not (output and re.fullmatch(pattern(example.shown), output, re.DOTALL)):
        yield f"{example.name} prints {output!r}"


def test_the_examples_that_are_tests_pass(tmp_path: Path) -> None:
    """As pytest runs them for a user, with the plugin's fixtures."""
    chosen = [each for each in EXAMPLES if each.group == "pytest"]
    assert chosen
    for number, each in enumerate(chosen):
        (tmp_path / f"test_{number}.py").write_text(each.code, encoding="utf-8")
    settings = ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", *settings, "--rootdir", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path)
    assert f"{len(chosen)} passed" in done.stdout, done.stdout
    assert done.stderr == ""


def test_no_example_is_overlooked() -> None:
    """Neither because of how it is written, nor an output because of where it stands."""
    texts = [text for _, _, text in documented()]
    assert len(EXAMPLES) == sum(text.count("```python") for text in texts) >= 100
    assert sum(each.shown is not None for each in EXAMPLES) == sum(text.count("```text") for text in texts)
    sections = [text.partition("Example:\n")[2] for text in texts if "Example:\n" in text]
    assert all(section.lstrip().startswith("```python\n") for section in sections)


def test_examples_are_short() -> None:
    """A docstring is no tutorial."""
    limits = {each.name: 24 if each.page == "inferencesh.local" else 12 for each in EXAMPLES}
    assert [each.name for each in EXAMPLES if len(each.code.splitlines()) > limits[each.name]] == []


def test_every_public_class_and_function_shows_an_example() -> None:
    """Or is on the list of those that need none, which has nothing else."""
    shown = {each.name.replace("inferencesh.", "").replace("inferencesh:", "").replace(":", ".") for each in EXAMPLES}
    every = {
        name.replace("inferencesh.", "").replace("inferencesh:", "").replace(":", "."): text
        for name, _, text in documented()
        if "." not in name.partition(":")[2] and ":" in name
    }
    assert set(every) - shown == set(WITHOUT_EXAMPLE)


@pytest.mark.parametrize(("cls", "member"), MOST_CALLED)
def test_what_people_call_most_shows_an_example_in_both_clients(cls: str, member: str) -> None:
    """Each its own, as it is written there."""
    shown = {each.name for each in EXAMPLES}
    assert f"inferencesh:{cls}.{member}" in shown
    assert f"inferencesh:Async{cls}.{'aclose' if member == 'close' else member}" in shown
