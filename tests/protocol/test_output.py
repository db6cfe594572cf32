"""The finish call: a message's output while it is being written, and a call that never waits for this program."""

from __future__ import annotations

from typing import Any

import pytest

from inferencesh._protocol.message import LiveMessage
from inferencesh._protocol.outcome import End
from inferencesh._types.codec import structure
from inferencesh.models import Message

from .forms import Wire, chats, follow_up, message, old_reply, over, said, working

TEXT = '{"city": "Paris", "days": [1, 2], "note": "x"}'
OUTPUT = {"city": "Paris", "days": [1, 2], "note": "x"}


def finish(arguments: object = TEXT, status: str = "in_progress", **more: Any) -> Wire:
    """A call of the service's finish tool."""
    function = {"name": "finish", "arguments": arguments}
    return {"id": "finish-1", "type": "internal", "status": status, "function": function, **more}


def block(arguments: object) -> Wire:
    """A block of a message with the model's own call."""
    return {"type": "tool", "tool_calls": [{"id": "m1", "type": "function", "function": _named(arguments)}]}


def _named(arguments: object) -> Wire:
    return {"name": "finish", "arguments": arguments}


def fragment(arguments: str, *, first: bool = False, index: int = 0) -> Wire:
    """A delta of the call."""
    if first:
        return {"tool_calls": [{"index": index, "id": "m1", "type": "function", "function": _named(arguments)}]}
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def read(**more: Any) -> Message:
    """A message from its wire form."""
    return structure(message(**more), Message)


class Growing:
    """A message that grows, and the outputs of its snapshots."""

    def __init__(self) -> None:
        self.live = LiveMessage()
        self.outputs: list[object] = []
        self.seq = 0

    def whole(self, text: str = "", status: str = "pending", **more: Any) -> None:
        """A whole form on the stream."""
        self._note(self.live.take_whole(structure(message(text, status, **more), Message), in_stream=True))

    def delta(self, delta: Wire) -> None:
        """A delta."""
        self.seq += 1
        self._note(self.live.take_delta(delta, self.seq))

    def _note(self, snapshot: Message | None) -> None:
        if snapshot is not None:
            self.outputs.append(snapshot.output)


@pytest.mark.parametrize(
    "more",
    [
        {"tool_invocations": [finish(OUTPUT)]},
        {"tool_invocations": [finish(TEXT)]},
        {"tool_invocations": [finish("not JSON", "failed"), finish(TEXT, "completed")]},
        {"tool_invocations": [finish('{"city": 1}', "completed"), finish(TEXT, "completed")]},
        {"tool_invocations": [finish(TEXT, "completed"), finish('{"city": 1}', "failed")]},
        {"tool_invocations": [finish(""), finish(TEXT)]},
        {"content": [block(TEXT)]},
        {"content": [block(OUTPUT)]},
        {"content": [{"type": "text", "text": "Done."}, block(TEXT)], "tool_invocations": []},
    ],
)
@pytest.mark.parametrize("status", ["pending", "ready"])
def test_the_last_finish_call_is_the_output(more: Wire, status: str) -> None:
    """As an object or as JSON text, as an invocation or in a block of the content; refused ones do not count."""
    assert read(status=status, **more).output == OUTPUT


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tool_invocations": [finish("")]},
        {"tool_invocations": [finish(None)]},
        {"tool_invocations": [finish(TEXT, type="client")], "content": [block(TEXT)]},
        {"tool_invocations": [finish(TEXT) | {"function": {"name": "finished", "arguments": TEXT}}]},
        {"content": [{"type": "tool", "tool_calls": "x"}, {"type": "tool", "tool_calls": [1, {"function": 2}]}]},
        {"content": [{"type": "text", "text": TEXT}]},
    ],
)
def test_without_a_finish_call_there_is_no_output(more: Wire) -> None:
    """Neither in the text, nor in a call of a client's own tool that has the name."""
    assert read(**more).output is None


@pytest.mark.parametrize(("arguments", "output"), [("{}", {}), ({}, {}), ("[1, 2]", [1, 2]), ("12", 12), ('"x"', "x")])
def test_an_output_may_be_empty_or_no_object(arguments: object, output: object) -> None:
    """Whatever the server lets an agent give."""
    assert read(status="ready", tool_invocations=[finish(arguments, "completed")]).output == output


def test_the_output_grows_with_the_deltas() -> None:
    """A snapshot for each, and in each what is complete by then; the end has all of it."""
    growing = Growing()
    growing.whole()
    growing.delta(fragment("", first=True))
    for piece in ['{"city": "Pa', 'ris", ', '"days": [1', ", 2]", ', "note": "x"', "}"]:
        growing.delta(fragment(piece))
    growing.whole("", "ready", tool_invocations=[finish(OUTPUT, "completed")])
    city = {"city": "Paris"}
    assert growing.outputs == [
        None,
        {},
        city,
        city | {"days": []},
        city | {"days": [1, 2]},
        OUTPUT,
        OUTPUT,
        OUTPUT,
    ]


def test_the_output_grows_with_whole_messages() -> None:
    """Where invocations come while they are written, and where only the blocks of the content do."""
    for form in ("tool_invocations", "content"):
        growing = Growing()
        for end in (1, 10, 20, 33, len(TEXT)):
            part = TEXT[:end]
            more: Wire = {form: [finish(part) if form == "tool_invocations" else block(part)]}
            growing.whole(**more)
        assert growing.outputs == [{}, {}, {"city": "Paris"}, {"city": "Paris", "days": [1, 2]}, OUTPUT], form


def test_the_output_never_goes_back() -> None:
    """A replayed form that has less of it brings no snapshot; one that has as much brings none either."""
    for form, make in (("tool_invocations", finish), ("content", block)):
        growing = Growing()
        for end in (20, 33, 20, 33, 5):
            more: Wire = {form: [make(TEXT[:end])]}
            growing.whole(**more)
        assert growing.outputs == [{"city": "Paris"}, {"city": "Paris", "days": [1, 2]}]


def test_deltas_complete_a_call_that_a_whole_form_has_begun() -> None:
    """Also beside calls of other tools."""
    other = {"id": "call-1", "type": "app", "status": "completed", "function": {"name": "search", "arguments": {}}}
    for calls in ([finish("", "pending")], [other], [other, finish("", "pending")]):
        growing = Growing()
        growing.whole(tool_invocations=calls)
        growing.delta(fragment('{"city": ', first=True, index=1))
        growing.delta(fragment('"Paris"', index=1))
        growing.delta(fragment("x", index=2))  # of a call that is not known
        growing.whole(tool_invocations=calls)  # behind the deltas
        growing.delta(fragment(', "days": [1, 2], "note": "x"}', index=1))
        growing.whole("", "ready", tool_invocations=[other, finish(OUTPUT, "completed")])
        assert growing.outputs == [None, {}, {"city": "Paris"}, OUTPUT, OUTPUT]


def test_an_update_of_another_call_leaves_the_output_as_it_is() -> None:
    """A form whose text is behind the deltas brings the news of its calls, and takes nothing back."""
    search = {"id": "call-1", "type": "app", "status": "pending", "function": {"name": "search", "arguments": {}}}
    growing = Growing()
    growing.whole(tool_invocations=[search])
    growing.delta({"response": "Hello"})
    growing.delta(fragment(TEXT, first=True, index=1))
    growing.whole("Hel", tool_invocations=[search | {"status": "completed"}])
    assert growing.outputs == [None, None, OUTPUT, OUTPUT]


def test_a_last_form_without_the_call_keeps_what_the_deltas_brought() -> None:
    """The output of the final snapshot is the whole one."""
    growing = Growing()
    growing.whole()
    growing.delta(fragment(TEXT, first=True))
    growing.whole("", "ready")
    assert growing.outputs == [OUTPUT, OUTPUT]


def test_a_cut_off_output_is_what_was_complete() -> None:
    """Of a cancelled message, say."""
    assert read(status="cancelled", tool_invocations=[finish(TEXT[:33], "cancelled")]).output is None
    assert read(status="cancelled", tool_invocations=[finish(TEXT[:33])]).output == {"city": "Paris", "days": [1, 2]}


@pytest.mark.parametrize("status", ["pending", "in_progress", "awaiting_input"])
def test_a_finish_call_never_waits_for_this_program(status: str) -> None:
    """It is not handed out, does not pause the turn, and is none of the pending calls."""
    caller = follow_up()
    calls = [finish(TEXT, status)]
    [snapshot] = caller.take(chats(working()), said(message("", tool_invocations=calls)))
    assert snapshot.pending_tool_calls == ()
    assert not caller.calls
    caller.passes(1.5)
    assert caller.turn.outcome is None
    caller.take(said(message("", "ready", tool_invocations=[finish(TEXT, "completed")])), chats(over()))
    assert caller.outcome.end is End.FINISHED
    assert caller.final.output == OUTPUT


def test_the_runs_output_is_that_of_this_run() -> None:
    """What a chat says counts only where the chat began with the turn."""
    caller = follow_up()
    caller.take(chats(working() | {"output": "old"}), said(old_reply()))
    assert caller.turn.run.output is None
    caller.take(said(message("", "ready")), chats(over(output="new")))
    assert caller.turn.run.output == "new"
