"""Tool calls as token deltas bring them: a name here, a piece of the arguments there."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .converter import read_arguments
from .finish import FINISH, with_finish, written_output
from .growing_text import TextLog
from .models import Message, ToolCall, ToolType

__all__ = ["CallFragments"]


class CallFragments:
    """The tool calls of one message as far as deltas have brought them.

    They are for show, since their ids are the model's. The arguments of the finish call count all the same: they are
    the agent's output, of which the whole form may have less, or nothing.
    """

    __slots__ = ("_fragments",)

    def __init__(self) -> None:
        self._fragments: dict[int, _Fragment] = {}  # by their index

    def __len__(self) -> int:
        return len(self._fragments)

    def take(self, value: object) -> None:
        """Merge a delta's ``tool_calls``: by index; names and ids replace, arguments concatenate."""
        for item in value if isinstance(value, list) else ():
            fields = item if isinstance(item, Mapping) else {}
            index = fields.get("index")
            fragment = self._fragments.setdefault(index if isinstance(index, int) else 0, _Fragment())
            function = fields.get("function")
            function = function if isinstance(function, Mapping) else {}
            fragment.id = _string(fields.get("id")) or fragment.id
            fragment.name = _string(function.get("name")) or fragment.name
            fragment.arguments.append(_string(function.get("arguments")))

    def clear(self) -> None:
        """Forget them: a whole form holds what they said."""
        self._fragments.clear()

    def merged_with(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """The calls to show, given those of the whole form, which are the ones that can be answered."""
        if not self._fragments:  # nearly always
            return calls
        return with_finish(calls, self._calls()) if calls else self._calls()

    def complete(self, final: Message) -> Message:
        """The final form of the message, with the agent's output where it came in deltas alone."""
        if not self._fragments or written_output(final.tool_calls, final.content) is not None:
            return final
        return attrs.evolve(final, tool_calls=with_finish(final.tool_calls, self._calls()))

    def _calls(self) -> tuple[ToolCall, ...]:
        return tuple(fragment.call() for _, fragment in sorted(self._fragments.items()))


@attrs.define
class _Fragment:
    """One call, of which the deltas have brought a part."""

    id: str = ""
    name: str = ""
    arguments: TextLog = attrs.Factory(TextLog)

    def call(self) -> ToolCall:
        """The call as far as it is known."""
        text = self.arguments.read(self.arguments.length)
        # Decoding is not tried in vain: of a long call nearly every delta ends somewhere in the middle.
        arguments = read_arguments(text) if not text or text.rstrip().endswith("}") else None
        return ToolCall(
            id=self.id,
            name=self.name,
            arguments=arguments or {},
            type=ToolType.INTERNAL if self.name == FINISH else ToolType.CLIENT,  # deltas do not say
            undecoded_arguments=text if arguments is None else None,
        )


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
