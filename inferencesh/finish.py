"""The service's own ``finish`` tool: an agent with an output schema gives its output as the arguments of that call.

The call ends the run. It is made and answered by the service, so it never waits for this program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from .enums import ContentType, ToolCallStatus, ToolType

if TYPE_CHECKING:  # models imports this module; the names are needed for typing alone
    from .models import Content, ToolCall

__all__ = ["FINISH", "has_less_output", "is_finish", "with_finish", "written_output"]

FINISH = "finish"

_REFUSED = frozenset({ToolCallStatus.FAILED, ToolCallStatus.CANCELLED})


def is_finish(call: ToolCall) -> bool:
    """Whether a call is one of the service's finish tool, and not of a client's tool with that name."""
    return call.name == FINISH and call.type == ToolType.INTERNAL


def written_output(calls: Sequence[ToolCall], content: Sequence[Content]) -> object:
    """What the agent has written of its output in one message.

    Args:
        calls: The message's tool calls.
        content: Its blocks, which some servers alone put the model's calls into.

    Returns:
        The value, or the JSON text so far as a ``str`` where it is not a whole object; None when there is none.
    """
    if any(call.name == FINISH for call in calls):
        found = [_written(call) for call in calls if is_finish(call) and call.status not in _REFUSED]
    else:
        found = list(_in_blocks(content)) if content else []
    return next((each for each in reversed(found) if each is not None), None)


def has_less_output(form: object, seen: object) -> bool:
    """Whether one form of a message has less of the output than another, both as ``written_output`` returns it."""
    if not isinstance(seen, str):
        return False
    return form is None or (isinstance(form, str) and len(form) < len(seen) and seen.startswith(form))


def with_finish(calls: tuple[ToolCall, ...], fragments: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """Complete the tool calls of a message's whole form with what deltas have brought of the finish call since.

    Args:
        calls: Those of the whole form.
        fragments: Those of the deltas.
    """
    newer = next((call for call in fragments if is_finish(call)), None)
    if newer is None:
        return calls
    known = next((call for call in calls if call.name == FINISH), None)
    if known is None:
        return (*calls, newer)
    if not is_finish(known) or known.done or (known.arguments and known.undecoded_arguments is None):
        return calls
    text = newer.undecoded_arguments
    if text is not None and len(text) <= len(known.undecoded_arguments or ""):
        return calls
    grown = attrs.evolve(known, arguments=newer.arguments, undecoded_arguments=text)
    return tuple(grown if call is known else call for call in calls)


def _written(call: ToolCall) -> object:
    if call.undecoded_arguments is not None:
        return call.undecoded_arguments
    arguments = call.arguments  # read once: each time is a copy
    if arguments:
        return arguments
    function = call.raw.get("function")
    stated = function.get("arguments") if isinstance(function, Mapping) else None
    begun = bool(stated.strip()) if isinstance(stated, str) else stated is not None
    return arguments if begun else None


def _in_blocks(content: Sequence[Content]) -> Iterator[object]:
    for block in content:
        calls = block.raw.get("tool_calls") if block.type == ContentType.TOOL else None
        for item in calls if isinstance(calls, list) else ():
            function = item.get("function") if isinstance(item, Mapping) else None
            if isinstance(function, Mapping) and function.get("name") == FINISH:
                yield function.get("arguments") or None
