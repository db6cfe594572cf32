"""What a caller asks of one turn: the message, its files and output type, and the callbacks."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

import attrs

from inferencesh._http.sources import FileSource, check_sources
from inferencesh._loops.invoke import Callback, check_callback
from inferencesh._types.output import OutputType
from inferencesh.config import check_seconds
from inferencesh.errors import ConfigurationError
from inferencesh.models import Delta, Message, ToolCall

__all__ = [
    "Decision",
    "OnApproval",
    "OnDelta",
    "OnMessage",
    "OnToolCall",
    "OnToolProgress",
    "Reports",
    "TurnCallbacks",
    "TurnOptions",
    "TurnRequest",
    "Until",
]

# With the whole text so far, and whether it is final; or with the snapshot, as the official SDK calls it.
OnMessage: TypeAlias = Callable[[str, bool], Any] | Callable[[Message], Any]
OnDelta: TypeAlias = Callable[[Delta], Any]
OnToolCall: TypeAlias = Callable[[ToolCall], Any]
OnToolProgress: TypeAlias = Callable[[ToolCall, Any], Any]  # with the call, and a value that its handler has yielded
Until: TypeAlias = Literal["input", "end"]
Decision: TypeAlias = bool | str | None  # True approves, False or a reason rejects, None leaves it to somebody else
OnApproval: TypeAlias = Callable[[ToolCall], Decision | Awaitable[Decision]]


class TurnCallbacks(TypedDict, total=False):
    """The keyword arguments of methods that follow a turn, documented at ``AsyncAgent.stream_messages``."""

    on_message: OnMessage | None
    on_delta: OnDelta | None
    on_tool_call: OnToolCall | None
    on_tool_progress: OnToolProgress | None
    on_approval: OnApproval | None
    conflate: bool


class TurnOptions(TurnCallbacks, total=False):
    """The keyword arguments of methods that begin a turn, documented at ``AsyncAgent.send_message``."""

    files: Sequence[FileSource]
    idempotency_key: str | None


@attrs.frozen
class TurnRequest:
    """The arguments of one turn.

    Attributes:
        text: The message to send, or None to attach to the current turn.
        files: The files that go with the message.
        output: The type of the turn's output, or None.
        on_message: As for ``AsyncAgent.send_message``.
        on_delta: As for ``AsyncAgent.send_message``.
        on_tool_call: As for ``AsyncAgent.send_message``.
        on_tool_progress: As for ``AsyncAgent.send_message``.
        on_approval: As for ``AsyncAgent.send_message``.
        conflate: As for ``AsyncAgent.send_message``.
        until: Whether the turn is followed until it pauses for input, or through pauses until the run ends.
        agent: The agent object, for handlers that ask for it.
        idempotency_key: As for ``AsyncAgent.send_message``.
        takes_over: Whether to attach only once no other worker has the turn.
        wait: Seconds to wait for that, or None.

    Raises:
        TypeError: A callback cannot be called, or is a generator function, the body of which would never run.
    """

    text: str | None = None
    files: Sequence[FileSource] = ()
    output: OutputType[Any] | None = None
    on_message: OnMessage | None = None
    on_delta: OnDelta | None = None
    on_tool_call: OnToolCall | None = None
    on_tool_progress: OnToolProgress | None = None
    on_approval: OnApproval | None = None
    conflate: bool = False
    until: Until = "input"
    agent: object = None
    idempotency_key: str | None = None
    takes_over: bool = False
    wait: float | None = None

    def __attrs_post_init__(self) -> None:
        for name in TurnCallbacks.__annotations__.keys() - {"conflate"}:
            check_callback(name, getattr(self, name))

    @classmethod
    def of_message(cls, text: object, *, output_type: Any = None, **options: Unpack[TurnOptions]) -> TurnRequest:
        """Return the request of a turn that a message begins.

        Raises:
            TypeError: The message is not a str, or an item of ``files`` is not a file.
            ConfigurationError: ``output_type`` has no JSON Schema, or ``idempotency_key`` is not a text.
        """
        if not isinstance(text, str):
            raise TypeError(f"a message must be a str, not {type(text).__name__}")
        key: object = options.get("idempotency_key")
        if key is not None and (not isinstance(key, str) or not key):
            raise ConfigurationError(f"idempotency_key must be a text that is not empty, not {key!r}")
        options["files"] = check_sources(options.get("files", ()))
        return cls(text, output=OutputType.of(output_type) if output_type is not None else None, **options)

    @classmethod
    def of_take_over(cls, wait: float | None, **callbacks: Unpack[TurnCallbacks]) -> TurnRequest:
        """Return the request to take a turn over.

        Raises:
            ConfigurationError: ``wait`` is neither None nor a number of seconds.
        """
        check_seconds("wait", wait, 0, optional=True)
        return cls(takes_over=True, wait=wait, **callbacks)

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


class Reports:
    """The calls of ``on_message`` and ``on_delta`` for the snapshots of one turn, in order.

    Args:
        on_message: As for ``AsyncAgent.send_message``, or None.
        on_delta: As for ``AsyncAgent.send_message``, or None.
    """

    def __init__(self, on_message: OnMessage | None, on_delta: OnDelta | None) -> None:
        self._on_message = Callback(on_message) if on_message is not None else None
        self._on_delta = Callback(on_delta) if on_delta is not None else None
        self._takes_message = on_message is not None and _takes_one_argument(on_message)
        self._seen: dict[str, tuple[str, int]] = {}  # by message id, while it grows: its reasoning, and its deltas

    @classmethod
    def of(cls, request: TurnRequest) -> Reports | None:
        """Return the reports that a caller has asked for, or None for none."""
        if request.on_message is None and request.on_delta is None:
            return None
        return cls(request.on_message, request.on_delta)

    def calls(self, message: Message, *, done: bool) -> Iterator[tuple[Callback, tuple[object, ...]]]:
        """Return what is to be called for a snapshot, and with which arguments.

        Args:
            message: The snapshot.
            done: Whether the turn is over; then the snapshot has been reported once.
        """
        if self._on_delta is not None and not done and (delta := self._delta(message)) is not None:
            yield self._on_delta, (delta,)
        if self._on_message is not None and not self._takes_message:
            yield self._on_message, (message.text, done)
        elif self._on_message is not None and not done:
            yield self._on_message, (message,)

    def _delta(self, message: Message) -> Delta | None:
        """Return what a snapshot has added to the one before; None if that is nothing."""
        before, seq = self._seen.get(message.id, ("", 0))
        text, reasoning = message.delta, message.reasoning
        rewritten = text is None or not reasoning.startswith(before)
        delta = Delta(
            text=message.text if rewritten or text is None else text,
            reasoning=reasoning if rewritten else reasoning[len(before) :],
            rewritten=rewritten,
            message=message,
            seq=seq + 1,
        )
        if not rewritten and not delta.text and not delta.reasoning:
            return None
        self._seen[message.id] = (reasoning, seq + 1)
        if message.done:
            self._seen.pop(message.id, None)
        return delta


def _takes_one_argument(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with one argument and not with two."""
    try:
        signature = inspect.signature(function)
        signature.bind(None)
    except (TypeError, ValueError):  # it takes another number of arguments, or does not say how many
        return False
    try:
        signature.bind(None, None)
    except TypeError:
        return True
    return False
