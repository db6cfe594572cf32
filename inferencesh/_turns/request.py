"""What a caller asks of one turn: the message, its files and output type, and the callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

import attrs

from inferencesh._http.sources import FileSource, check_sources
from inferencesh._loops.invoke import check_callback
from inferencesh._types.output import OutputType
from inferencesh.errors import ConfigurationError
from inferencesh.models import Message, ToolCall

__all__ = [
    "OnApproval",
    "OnMessage",
    "OnToolCall",
    "OnToolProgress",
    "TurnCallbacks",
    "TurnOptions",
    "TurnRequest",
    "Until",
]

OnMessage: TypeAlias = Callable[[str, bool], Any]  # with the whole text so far, and whether it is final
OnToolCall: TypeAlias = Callable[[ToolCall], Any]
OnToolProgress: TypeAlias = Callable[[ToolCall, Any], Any]  # with the call, and a value that its handler has yielded
Until: TypeAlias = Literal["input", "end"]
OnApproval: TypeAlias = Callable[[ToolCall], Any]  # returns True, False, a reason to reject, or None; or an awaitable


class TurnCallbacks(TypedDict, total=False):
    """The keyword arguments of methods that follow a turn, documented at ``AsyncAgent.stream_messages``."""

    on_message: OnMessage | None
    on_tool_call: OnToolCall | None
    on_tool_progress: OnToolProgress | None
    on_approval: OnApproval | None
    conflate: bool


class TurnOptions(TurnCallbacks, total=False):
    """The keyword arguments of methods that begin a turn, documented at ``AsyncAgent.send_message``."""

    files: Sequence[FileSource]


@attrs.frozen
class TurnRequest:
    """The arguments of one turn.

    Attributes:
        text: The message to send, or None to attach to the current turn.
        files: The files that go with the message.
        output: The type of the turn's output, or None.
        on_message: As for ``AsyncAgent.send_message``.
        on_tool_call: As for ``AsyncAgent.send_message``.
        on_tool_progress: As for ``AsyncAgent.send_message``.
        on_approval: As for ``AsyncAgent.send_message``.
        conflate: As for ``AsyncAgent.send_message``.
        until: Whether the turn is followed until it pauses for input, or through pauses until the run ends.
        agent: The agent object, for handlers that ask for it.

    Raises:
        TypeError: A callback cannot be called, or is a generator function, the body of which would never run.
    """

    text: str | None = None
    files: Sequence[FileSource] = ()
    output: OutputType[Any] | None = None
    on_message: OnMessage | None = None
    on_tool_call: OnToolCall | None = None
    on_tool_progress: OnToolProgress | None = None
    on_approval: OnApproval | None = None
    conflate: bool = False
    until: Until = "input"
    agent: object = None

    def __attrs_post_init__(self) -> None:
        for name in TurnCallbacks.__annotations__.keys() - {"conflate"}:
            check_callback(name, getattr(self, name))

    @classmethod
    def of_message(cls, text: object, *, output_type: Any = None, **options: Unpack[TurnOptions]) -> TurnRequest:
        """Return the request of a turn that a message begins.

        Raises:
            TypeError: The message is not a str, or an item of ``files`` is not a file.
            ConfigurationError: ``output_type`` has no JSON Schema.
        """
        if not isinstance(text, str):
            raise TypeError(f"a message must be a str, not {type(text).__name__}")
        options["files"] = check_sources(options.get("files", ()))
        return cls(text, output=OutputType.of(output_type) if output_type is not None else None, **options)

    @classmethod
    def of_wait(cls, until: Until) -> TurnRequest:
        """Return the request of a wait for the current turn.

        Raises:
            ConfigurationError: ``until`` has another value.
        """
        if until not in ("input", "end"):
            raise ConfigurationError(f"until must be 'input' or 'end', not {until!r}")
        return cls(until=until)

    def read_output(self, output: object, message: Message | None, chat_id: str | None) -> Any:
        """Return the turn's output as an instance of the output type; unchanged if there is none.

        Raises:
            OutputError: There is no output, or it does not match the type.
        """
        return output if self.output is None else self.output.read(output, message, chat_id)
