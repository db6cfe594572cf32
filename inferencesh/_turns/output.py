"""Reads the structured output of a turn that is over.

The output stands in the run or in the chat, where the official SDKs read it; if neither is known, it is taken from the
arguments of the ``finish`` call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferencesh._http.api import ChatAPI
from inferencesh._protocol.outcome import End, Pause
from inferencesh._protocol.turn import Turn
from inferencesh._text import decode_json
from inferencesh.errors import OutputError, UnreadableError
from inferencesh.models import Message, MessageStatus, RunState, written_output

__all__ = ["read_output"]


async def read_output(turn: Turn, api: ChatAPI) -> Any:
    """Return the output of a turn.

    Args:
        turn: A turn that is over or paused.
        api: Reads the chat if the output is not known without it.

    Returns:
        The JSON value, or None when the agent has given no output.

    Raises:
        InputRequiredError: The turn is paused.
        OutputError: The run was cancelled, or the output is incomplete.
        APIError, APIConnectionError: The chat could not be read.
    """
    outcome = turn.outcome
    assert outcome is not None
    last = outcome.message
    if outcome.end is End.PAUSED:
        raise Pause(last, last.pending_interrupts if last is not None else ()).error(
            "the run", " instead of ending; answer first, call wait(), then read the output from get_chat()"
        )
    if turn.run.run.state == RunState.CANCELED or (last is not None and last.status == MessageStatus.CANCELLED):
        raise OutputError("the run was cancelled before it gave its output")
    output, part = turn.run.output, None
    if output is None:
        newest_first = sorted(turn.replies.current, key=lambda message: message.order, reverse=True)
        output, part = _written([last, *newest_first] if last is not None else newest_first)
    if output is None and turn.chat_id is not None:
        output = _of_chat(await api.read_chat(turn.chat_id), turn)
    if output is None and part is not None:
        raise OutputError("the agent's output was cut off: the arguments of its finish call are no whole JSON", part)
    return output


def _written(messages: Sequence[Message]) -> tuple[object, str | None]:
    """Return the arguments of the last finish call, or else their text if that is incomplete."""
    for message in messages:
        written = written_output(message.tool_calls, message.content)
        if isinstance(written, str):
            try:
                return decode_json(written), None
            except UnreadableError:
                return None, written
        if written is not None:
            return written, None
    return None, None


def _of_chat(chat: Mapping[str, Any], turn: Turn) -> object:
    """Return the output in a chat that was read, unless the chat's run shows that it is of an earlier run."""
    run = chat.get("active_run")
    asked_by = run.get("user_message_id") if isinstance(run, Mapping) else None
    if asked_by and turn.run.user_message_id not in {"", asked_by}:
        return None  # the chat went on
    if isinstance(run, Mapping) and turn.run.run.id in {"", run.get("id")}:
        if run.get("output") is not None:
            return run["output"]
        if "output" in run and not turn.run.began_chat:
            return None
    return chat.get("output")
