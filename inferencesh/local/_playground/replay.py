"""Recorded events of a chat as the source of a test that replays them with ``inferencesh.testing``.

Everything that comes from the events stands in the source as a Python literal, so that it stays data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["write_test"]

_WORD = re.compile(r"\S+\s*|\s+")  # how a scripted text is cut into pieces
_WIDTH = 100  # characters in a line of a list

_HEAD = '''"""A recorded conversation, replayed by a scripted runtime."""

{imports}


def test_the_recorded_conversation() -> None:
    """The agent says what it said when this was recorded."""
    with ScriptedRuntime() as runtime:'''


@attrs.define
class _Call:
    name: str
    arguments: object
    result: str | None
    internal: bool


@attrs.define
class _Reply:
    """One message of the assistant."""

    pieces: list[str]
    calls: list[_Call]
    run_id: str
    failure: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def asked(self) -> list[_Call]:
        """The calls that the client answers."""
        return [call for call in self.calls if not call.internal]


@attrs.define
class _Turn:
    """A message of the user, and the replies to it."""

    text: str
    replies: list[_Reply] = attrs.field(factory=list)


def write_test(events: Iterable[Mapping[str, object]]) -> str:
    """Return the source of a test that sends the recorded messages and gets the recorded replies.

    Questions and widgets of the agent are left out, since a scripted runtime asks none; comments say where they were.

    Args:
        events: The events of a chat's stream, oldest first, each with ``event`` and ``data``.

    Returns:
        The source of a module with one test. Events that make no sense are left out.
    """
    turns = _read_turns(list(events))
    lines = [line for turn in turns for line in _script(turn)]
    names = sorted({call.name for turn in turns for reply in turn.replies for call in reply.asked})
    tools = [{"name": name, "type": "client", "client": {"input_schema": {"type": "object"}}} for name in names]
    lines += [
        "with Inference(runtime.api_key, base_url=runtime.base_url) as client:",
        "    tools = " + _listed([repr(tool) for tool in tools], 12),
        '    agent = client.agent({"name": "recorded", "tools": tools})',
    ]
    if not turns:
        lines.append('    assert agent.chat_id is None, "no message was recorded"')
    for turn in turns:
        lines += [f"    {line}" for line in _conversation(turn)]
    lines.append("assert runtime.unscripted == []")
    fails = any(reply.failure is not None for turn in turns for reply in turn.replies)
    imports = ["import pytest\n"] if fails else []
    imports.append(f"from inferencesh import Inference{', RunFailedError' if fails else ''}")
    imports.append("from inferencesh.testing import ScriptedRuntime")
    return "\n".join([_HEAD.format(imports="\n".join(imports)), *(f"        {line}" for line in lines), ""])


def _script(turn: _Turn) -> Iterator[str]:
    """Yield the statements that script the replies of a turn."""
    for reply in turn.replies:
        for call in reply.calls:
            if call.internal:
                yield f"# The agent called {call.name!r} with {call.arguments!r}, which cannot be scripted."
    for reply in _merged(turn.replies):
        words = reply.pieces == _WORD.findall(reply.text)
        given = [repr(reply.text)] if words else ["pieces=" + _listed(list(map(repr, reply.pieces)), 12)]
        if reply.asked:
            given.append(f"tool_calls={[(call.name, call.arguments) for call in reply.asked]!r}")
        if reply.failure is not None:
            given.append(f"fail={reply.failure!r}")
        yield f"runtime.reply({', '.join(given)})"


def _conversation(turn: _Turn) -> Iterator[str]:
    """Yield the statements that send a message, answer the agent's calls and check what it says."""
    step = f"agent.send_message({turn.text or '(files only)'!r})"
    for reply in _merged(turn.replies):
        if reply.failure is not None:
            yield "with pytest.raises(RunFailedError):"
            yield f"    {step}"
            return
        yield f"message = {step}"
        yield f"assert message.text == {reply.text!r}"
        if not reply.asked:
            return
        yield "calls = message.pending_tool_calls"
        yield f"assert [call.name for call in calls] == {[call.name for call in reply.asked]!r}"
        if any(call.result is None for call in reply.asked):
            yield "# The recording ends here, while the agent waits."
            return
        for index, call in enumerate(reply.asked):
            yield f"agent.submit_tool_result(calls[{index}], {call.result!r})"
        step = "agent.wait()"


def _merged(replies: Sequence[_Reply]) -> list[_Reply]:
    """Return the replies that can be scripted: one that only asks a person is continued by the next one."""
    merged: list[_Reply] = []
    for reply in replies:
        if merged and not merged[-1].asked and merged[-1].failure is None:
            last = merged[-1]
            merged[-1] = _Reply(last.pieces + reply.pieces, reply.calls, reply.run_id, reply.failure)
        else:
            merged.append(reply)
    if merged and merged[-1].asked and all(call.result is not None for call in merged[-1].asked):
        merged.append(_Reply([], [], ""))  # the reply to the results had not begun
    return merged or [_Reply([], [], "")]


def _listed(items: list[str], indent: int) -> str:
    """Return the source of a list, in lines of a bearable length."""
    if sum(map(len, items)) < _WIDTH // 2:
        return f"[{', '.join(items)}]"
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) > _WIDTH - indent:
            lines.append("")
        lines[-1] += f"{item}, "
    space = " " * indent
    return "[\n" + "".join(f"{space}{line.rstrip()}\n" for line in lines if line) + " " * (indent - 4) + "]"


# -- reading the events ------------------------------------------------------------------------------------------------


def _read_turns(events: Sequence[Mapping[str, object]]) -> list[_Turn]:
    messages = {_text(data, "id"): data for data in _named(events, "chat_messages")}
    failed = [run for run in _named(events, "agent_runs") if run.get("state") == "failed"]
    failures = {_text(run, "id"): _text(run, "error") or "The run failed." for run in failed}
    pieces: dict[str, list[str]] = {}
    for data in _named(events, "delta"):
        if piece := _text(_mapping(data.get("delta")), "response"):
            pieces.setdefault(_text(data, "resource_id"), []).append(piece)
    turns: list[_Turn] = []
    for message in sorted(messages.values(), key=_order):
        if message.get("role") == "user" and message.get("status") != "cancelled":
            turns.append(_Turn(_joined_text(message)))
        elif message.get("role") == "assistant" and turns:
            turns[-1].replies.append(_read_reply(message, pieces.get(_text(message, "id"), [])))
    for turn in turns:
        if turn.replies:
            turn.replies[-1].failure = failures.get(turn.replies[-1].run_id)
    return turns


def _named(events: Sequence[Mapping[str, object]], name: str) -> list[Mapping[str, object]]:
    return [_mapping(event.get("data")) for event in events if event.get("event") == name]


def _read_reply(message: Mapping[str, object], pieces: list[str]) -> _Reply:
    text = _joined_text(message)
    if "".join(pieces) != text:  # the recording began later, or the text was rewritten
        pieces = _WORD.findall(text)
    calls = [_read_call(each) for each in _mappings(message.get("tool_invocations"))]
    return _Reply(pieces, calls, _text(message, "agent_run_id"))


def _read_call(invocation: Mapping[str, object]) -> _Call:
    function = _mapping(invocation.get("function"))
    result = invocation.get("result")
    return _Call(
        name=_text(function, "name"),
        arguments=dict(_mapping(function.get("arguments"))),
        result=result if isinstance(result, str) else None,
        internal=invocation.get("type") != "client",
    )


def _joined_text(message: Mapping[str, object]) -> str:
    return "".join(_text(block, "text") for block in _mappings(message.get("content")) if block.get("type") == "text")


def _order(message: Mapping[str, object]) -> int:
    order = message.get("order")
    return order if isinstance(order, int) else 0


def _text(data: Mapping[str, object], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> Iterator[Mapping[str, object]]:
    return (each for each in (value if isinstance(value, list) else ()) if isinstance(each, dict))
