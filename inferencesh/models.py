"""The data of the service: messages, tool calls, runs, chats and files, as immutable classes.

They are read leniently: null and absent fields take their defaults, fields that this version does not know remain in
``raw``, and an unknown value of an enum becomes a member with that value. Decoded JSON (arguments, outputs, ``raw``) is
copied each time it is read, so that changing it affects neither the object nor other snapshots. Field names and enum
values come from the official Python, JavaScript and Swift SDKs.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

import attrs

from ._text import Form, GrowingText, TextLog, UndecodedMessage, block_of, copied, decoded, safe_markdown

__all__ = [
    "FINISH",
    "Chat",
    "ChatStatus",
    "ChatTrace",
    "Content",
    "ContentType",
    "Delta",
    "FileRef",
    "Interrupt",
    "InterruptReason",
    "InterruptStatus",
    "MappingView",
    "Message",
    "MessageStatus",
    "OpenEnum",
    "Role",
    "Run",
    "RunState",
    "ToolCall",
    "ToolCallStatus",
    "ToolType",
    "Usage",
    "is_finish",
    "json_output",
    "read_partial",
    "read_time",
    "type_output",
    "written_output",
]


class MappingView:
    """The base of objects that can also be read as the dict that the service sends.

    ``message["content"]``, ``message.get("content")``, ``"content" in message``, ``for key in message`` and
    ``dict(message)`` work as on the dict, and so do nested values, which are plain dicts and lists. The view is built
    each time it is used, and changing what it returns changes nothing else. The object does not become a mapping: it is
    equal to no dict, and is always true.

    Example:
        ```python
        message = agent.send_message("Hello")
        print(message["role"], message["content"][0]["text"])
        print("chat_id" in message, message.get("no_such_field", "none"))
        ```

        ```text
        assistant You said: "Hello". ...
        True none
        ```
    """

    __slots__ = ()

    def _wire(self) -> dict[str, Any]:
        """Return the object in the service's form; the caller may change it."""
        raise NotImplementedError  # and not abstract, for ``_NewMessage`` is instantiated without it

    def __getitem__(self, key: str) -> Any:
        return self._wire()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._wire()

    def __iter__(self) -> Iterator[str]:
        return iter(self._wire())

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a field, or ``default`` if the object has no such field."""
        return self._wire().get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the names of the fields."""
        return self._wire().keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the fields."""
        return self._wire().values()

    def items(self) -> ItemsView[str, Any]:
        """Return the names and values of the fields."""
        return self._wire().items()


class OpenEnum(StrEnum):
    """A string enum that accepts unknown values, which later versions of the server may send."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member


class Role(OpenEnum):
    """Who a message is from."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    INJECTION = "injection"
    COMPACTION = "compaction"
    EVENT = "event"


class MessageStatus(OpenEnum):
    """The status of a message; ready, failed and cancelled are final."""

    PENDING = "pending"
    QUEUED = "queued"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ContentType(OpenEnum):
    """The type of a block of a message's content."""

    TEXT = "text"
    REASONING = "reasoning"
    IMAGE = "image"
    FILE = "file"
    TOOL = "tool"
    EVENT = "event"


class ToolCallStatus(OpenEnum):
    """The status of a tool call; completed, failed and cancelled are final."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    AWAITING_INPUT = "awaiting_input"
    AWAITING_APPROVAL = "awaiting_approval"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ToolType(OpenEnum):
    """Who runs a tool; ``client`` tools are run by the program that uses this package."""

    APP = "app"
    AGENT = "agent"
    HOOK = "hook"
    HTTP = "http"
    CALL = "call"
    MCP = "mcp"
    CLIENT = "client"
    INTERNAL = "internal"
    HARNESS = "harness"


class RunState(OpenEnum):
    """The state of a run, the agent's work on one user message; UNKNOWN if the server did not report it."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class ChatStatus(OpenEnum):
    """The status of a chat; UNKNOWN if the server did not report it."""

    BUSY = "busy"
    IDLE = "idle"
    AWAITING_INPUT = "awaiting_input"
    WAITING = "waiting"
    COMPLETED = "completed"
    UNKNOWN = "unknown"


class InterruptReason(OpenEnum):
    """What an interrupted run waits for."""

    TOOL_APPROVAL = "tool_approval"
    CLIENT_TOOL = "client_tool"
    WIDGET = "widget"
    AUTH = "auth"
    CONFIRMATION = "confirmation"
    HOOK_GATE = "hook_gate"
    WAIT = "wait"
    UNKNOWN = "unknown"


class InterruptStatus(OpenEnum):
    """The status of an interrupt; only a pending one holds up its run."""

    PENDING = "pending"
    RESOLVED = "resolved"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_NUMBER_CHARS = "0123456789+-.eE"
_NUMBER_STARTS = "-0123456789"


def read_partial(text: str, *, over: bool = False) -> object:
    """Read the complete part of a JSON value whose text may break off anywhere.

    Args:
        text: The text so far.
        over: Whether the text is complete, so that a number at its end is.

    Returns:
        The value, whose objects and lists hold only complete entries: a string, number or literal that is still being
        written is left out. None if nothing is complete or the text is not JSON.
    """
    settled = text.rstrip(_NUMBER_CHARS)
    if text[len(settled) :].startswith(tuple(_NUMBER_STARTS)):
        if over and (whole := _read(text, partial=False)) is not None:
            return whole
        text = settled
    return _read(text, partial=True)


def _read(text: str, *, partial: bool) -> object:
    import jiter

    data = text.encode(errors="replace")
    try:
        value: object = jiter.from_json(data, partial_mode=partial, allow_inf_nan=False, cache_mode="none")
    except ValueError:  # nothing yet, or not JSON: a language model writes it
        return None
    return value


def read_time(text: object, zone: tzinfo | None = None) -> datetime | None:
    """Read an RFC 3339 time, which the service writes with ``Z`` or an offset.

    Args:
        text: The JSON value. Digits after the microseconds are dropped.
        zone: The zone of a time without an offset; None where such a time is not taken.

    Returns:
        The time with its offset; None if there is none, or if it is not a time.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.fromisoformat(text.upper())  # RFC 3339 allows t and z as well
    except ValueError:  # the text itself remains in ``raw``
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    return time if time.tzinfo is not None and time.year > 1 else None  # the year 1 is a time that Go has not set


ReadPartial: TypeAlias = Callable[[Any, bool], Any]

FINAL_MESSAGE = frozenset({MessageStatus.READY, MessageStatus.FAILED, MessageStatus.CANCELLED})
FINAL_CALL = frozenset({ToolCallStatus.COMPLETED, ToolCallStatus.FAILED, ToolCallStatus.CANCELLED})
# The JavaScript SDK takes in_progress for a call that waits for its client, the Python one awaiting_input.
AWAITS_CLIENT = frozenset({ToolCallStatus.AWAITING_INPUT, ToolCallStatus.IN_PROGRESS})


T = TypeVar("T")


class _CopiedWhenRead:
    """An attribute whose JSON value is copied each time it is read.

    Args:
        slot: The attribute's own descriptor.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else copied(self._slot.__get__(instance, owner))

    def __set__(self, instance: object, value: object) -> None:  # called once, by the constructor
        self._slot.__set__(instance, value)


def copied_when_read(*names: str) -> Callable[[type[T]], type[T]]:
    """Have attributes of an immutable class return a copy of their JSON value each time they are read."""

    def replace(cls: type[T]) -> type[T]:
        for name in names:
            setattr(cls, name, _CopiedWhenRead(cls.__dict__[name]))
        return cls

    return replace


@attrs.frozen
class FileRef(MappingView):
    """A file the service knows.

    Attributes:
        id: Its id, or "".
        uri: Its URI, which an attachment needs.
        filename: Its name, or "".
        content_type: Its MIME type, or "".
        size: Its size in bytes, or 0 if unknown.
        created_at: The time of its upload, with its offset; None if unknown.

    Example:
        ```python
        notes = client.files.upload(b"Buy milk.", filename="notes.txt")
        agent.send_message("What do they say?", files=[notes])
        elsewhere = FileRef(uri="https://files.example/photo.png", content_type="image/png")
        ```
    """

    id: str = ""
    uri: str = ""
    filename: str = ""
    content_type: str = ""
    size: int = 0
    created_at: datetime | None = attrs.field(default=None, eq=False)

    def _wire(self) -> dict[str, Any]:
        moment = None if self.created_at is None else self.created_at.isoformat().replace("+00:00", "Z")
        return {**attrs.asdict(self), "created_at": moment}


@copied_when_read("raw")
@attrs.frozen
class Usage:
    """The tokens that a language model has used, and what they cost, as far as the service says.

    Attributes:
        prompt_tokens: The tokens that it read, those from a cache included.
        completion_tokens: The tokens that it wrote, those of its reasoning included.
        total_tokens: Both together.
        cached_tokens: Those of ``prompt_tokens`` that came from the provider's cache.
        cache_write_tokens: Those of ``prompt_tokens`` that were put into that cache.
        reasoning_tokens: Those of ``completion_tokens`` that were reasoning.
        cost: The cost in US dollars, or None if the service does not say.
        stop_reason: Why the model has stopped, in its provider's words, or "".
        raw: The usage as the server sent it.

    Example:
        ```python
        from inferencesh import Usage

        usages = [Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15), Usage(total_tokens=7, cost=0.25)]
        print(sum(usages, Usage()).total_tokens, sum(usages, Usage()).cost)
        ```

        ```text
        22 0.25
        ```
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    stop_reason: str = ""
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    def __add__(self, other: Usage) -> Usage:
        costs = [each for each in (self.cost, other.cost) if each is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost=sum(costs) if costs else None,
            stop_reason=other.stop_reason or self.stop_reason,
        )


@attrs.frozen(repr=False)
class Content(MappingView):
    """One block of a message: text, reasoning, an image, a file, or something newer.

    Attributes:
        type: The type of the block.
        image: The image's URI, or None.
        file: The file's URI, or None.
        error: What went wrong, or None.

    Example:
        ```python
        for block in agent.send_message("Hello").content:
            if block.type == ContentType.IMAGE:
                print(block.image)
            else:
                print(block.text)
        ```

        ```text
        You said: "Hello". ...
        ```
    """

    type: ContentType = ContentType.TEXT
    _text: str | GrowingText = attrs.field(default="", eq=str, hash=False)
    image: str | None = None
    file: str | None = None
    error: str | None = None
    _raw: Form | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def raw(self) -> Mapping[str, object]:
        """The block as the server sent it; empty where the text comes token by token."""
        block: Mapping[str, object] = copied(block_of(self._raw)) if self._raw is not None else {}
        return block

    @property
    def text(self) -> str:
        """Its text, for text and reasoning; "" for the rest."""
        return str(self._text)

    def _wire(self) -> dict[str, Any]:
        fields = {"error": self.error, "text": self.text or None, "image": self.image, "file": self.file}
        return {"tool_calls": None, **self.raw, "type": self.type.value, **fields}

    def __repr__(self) -> str:
        told = {"text": self.text, "image": self.image, "file": self.file, "error": self.error}
        shown = "".join(f", {name}={value!r}" for name, value in told.items() if value)
        return f"Content(type={self.type.value!r}{shown})"


@copied_when_read("arguments", "raw", "data", "widget")
@attrs.frozen
class ToolCall(MappingView):
    """One call of a tool by the agent.

    Attributes:
        id: The id that ``submit_tool_result`` takes.
        name: The tool's name.
        arguments: The arguments, always decoded. They come from a language model: check them before you act on them.
        status: Its status.
        type: Who runs it; ``client`` means your program.
        requires_approval: Whether it waits for a person's approval.
        result: What it returned, or None.
        undecoded_arguments: The arguments as they came, where they are not a JSON object (yet); None otherwise.
        raw: The tool invocation as the server sent it.
        data: What comes with the call besides its arguments, decoded, such as what a form asks for; None without.
        widget: The widget that the agent shows in the call, as the server describes it; None without.

    Example:
        ```python
        look_up = tool("look_up").describe("Look a word up").param("word", string()).build()
        agent = client.agent({"name": "librarian", "tools": [look_up]})
        for call in agent.send_message('Look up "pelican"').tool_calls:
            print(call.name, call.arguments, call.pending)
        ```

        ```text
        look_up {'word': 'pelican'} True
        ```
    """

    id: str
    name: str
    arguments: dict[str, Any] = attrs.field(factory=dict, hash=False)
    status: ToolCallStatus = ToolCallStatus.PENDING
    type: ToolType = ToolType.CLIENT
    requires_approval: bool = False
    result: str | None = attrs.field(default=None, repr=False)
    undecoded_arguments: str | None = attrs.field(default=None, repr=False)
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)
    data: Any = attrs.field(default=None, repr=False, hash=False)
    widget: Mapping[str, Any] | None = attrs.field(default=None, repr=False, hash=False)

    @property
    def args(self) -> dict[str, Any]:
        """The arguments, under the name of the official SDK's ``ToolCallInfo``; the same as ``arguments``."""
        return self.arguments

    def _wire(self) -> dict[str, Any]:
        raw = dict(self.raw)
        known = raw.get("function")
        arguments = self.undecoded_arguments if self.undecoded_arguments is not None else self.arguments
        function = {**(known if isinstance(known, Mapping) else {}), "name": self.name, "arguments": arguments}
        fields = {"id": self.id, "type": self.type.value, "status": self.status.value, "result": self.result}
        return {"data": None, "widget": None, **raw, **fields, "function": function}

    @property
    def pending(self) -> bool:
        """Whether it is a client tool's call that waits for its result."""
        return self.type == ToolType.CLIENT and self.status in AWAITS_CLIENT

    @property
    def waits(self) -> bool:
        """Whether it waits for input: its result, an approval, or the answer of a person."""
        if self.status == ToolCallStatus.AWAITING_INPUT:
            return not is_finish(self)
        return self.pending or self.status == ToolCallStatus.AWAITING_APPROVAL

    @property
    def done(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.status in FINAL_CALL


class _WeaklyReferable(MappingView):
    """The common base of ``Message`` and ``_NewMessage``, which must have the same layout."""

    # Not a field of attrs: a snapshot that is copied into another process has no need of the type.
    __slots__ = ("__weakref__", "_read_output")


@attrs.frozen
class Message(_WeaklyReferable):
    """A snapshot of a message, which never changes.

    Attributes:
        id: The message's id.
        chat_id: The chat it belongs to.
        role: Who it is from.
        status: Its status.
        content: Its blocks, in order.
        tool_calls: The tools the agent called in it.
        created_at: The time of its creation, with its offset; None if the server gave none that can be read.
        order: Its place in the chat; the sort key.
        run_id: The run it belongs to, or "".
        delta: What this snapshot added to the text of the one before it: "" when only the status or a tool changed,
            None when the text was rewritten. Of a first snapshot it is the whole text.
        pending_interrupts: What a person is asked, such as a confirmation or a sign-in, where this is the message at
            which a turn has paused; each is answered with ``resolve_interrupt``. Empty in all other snapshots. One
            without an id stands for a pause about which the server says no more.
        usage: The tokens that the model has used for it, where the server says so, or None.

    Example:
        ```python
        message = agent.send_message("Hello")
        print(message.role, message.status, message.done)
        print(message.text)
        ```

        ```text
        assistant ready True
        You said: "Hello". ...
        ```
    """

    id: str
    chat_id: str = ""
    role: Role = Role.ASSISTANT
    status: MessageStatus = MessageStatus.PENDING
    content: tuple[Content, ...] = attrs.field(default=(), hash=False)
    tool_calls: tuple[ToolCall, ...] = ()
    created_at: datetime | None = None
    order: int = 0
    run_id: str = ""
    delta: str | None = attrs.field(default=None, eq=False)
    _raw: Form = attrs.field(factory=dict, repr=False, eq=False)
    pending_interrupts: tuple[Interrupt, ...] = attrs.field(default=(), repr=False, eq=False)
    _length: int = attrs.field(default=0, repr=False, eq=False)  # of the text, where ``_stored`` is a log
    usage: Usage | None = attrs.field(default=None, repr=False, eq=False)
    # The slot of ``content``: the blocks, or the log of a text that grows.
    _stored: ClassVar[tuple[Content, ...] | TextLog]

    @property
    def raw(self) -> Mapping[str, object]:
        """The last whole form of it that the server sent."""
        form: Mapping[str, object] = copied(decoded(self._raw))
        return form

    def _wire(self) -> dict[str, Any]:
        calls = [call._wire() for call in self.tool_calls]
        fields = {
            "id": self.id,
            "chat_id": self.chat_id,
            "role": self.role.value,
            "status": self.status.value,
            "content": [block._wire() for block in self.content],
            "order": self.order,
            "tool_invocations": calls or None,
        }
        return {"agent_run_id": self.run_id or None, **self.raw, **fields}

    @property
    def text(self) -> str:
        """The whole text so far: its text blocks, joined."""
        content = self._stored
        return content.read(self._length) if isinstance(content, TextLog) else _joined(content, ContentType.TEXT)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, where the agent shows it."""
        content = self._stored
        return "" if isinstance(content, TextLog) else _joined(content, ContentType.REASONING)

    @property
    def done(self) -> bool:
        """Whether it is ready, failed or cancelled, so that its text is complete; the run may still go on."""
        return self.status in FINAL_MESSAGE

    @property
    def paused(self) -> bool:
        """Whether it waits for the result of a tool, an approval, or an answer of a person; the run has not ended.

        While a turn is streamed this also holds for a call whose handler is running here.
        """
        return bool(self.pending_interrupts) or any(call.waits for call in self.tool_calls)

    @property
    def pending_tool_calls(self) -> tuple[ToolCall, ...]:
        """The client tools' calls that wait for ``submit_tool_result``."""
        return tuple(call for call in self.tool_calls if call.pending)

    @property
    def pending_approvals(self) -> tuple[ToolCall, ...]:
        """The calls that wait until a person approves them: ``approve_tool`` or ``reject_tool``."""
        return tuple(call for call in self.tool_calls if call.status == ToolCallStatus.AWAITING_APPROVAL)

    @property
    def output(self) -> Any:
        """The agent's structured output as far as it is complete, read from its ``finish`` call; None before that.

        Objects and lists hold the entries that are complete so far: a string or number that is still being written is
        not there yet. It comes from a language model: check it before you act on it.

        What ``send_message(..., output_type=...)`` returns has it complete and as an instance of that type. So have the
        snapshots of its stream, as far as it is complete: a class when all of its required fields are. Until then, or
        where the output does not match the type, it is None.
        """
        written = json_output(self)
        read: ReadPartial | None = getattr(self, "_read_output", None)
        return written if read is None else read(written, self.done)

    def _repr_markdown_(self) -> str:
        """Return what a notebook shows: the text without raw HTML, and what the message waits for."""
        waiting = [f"`{call.name}` ({call.status})" for call in self.tool_calls if not call.done]
        state = [] if self.done else [self.status, *waiting]
        told = safe_markdown(", ".join(state))
        return safe_markdown(self.text) + (f"\n\n*{told}*" if told else "")


def json_output(message: Message) -> Any:
    """Return the output of a message as far as it is complete, as a JSON value whatever its type is."""
    written = written_output(message.tool_calls, message.content)
    return read_partial(written, over=message.done) if isinstance(written, str) else written


def type_output(message: Message, read: ReadPartial) -> None:
    """Have a function read the output of a message whenever ``output`` is read.

    Args:
        message: The message.
        read: Takes the JSON value so far, and whether the message is complete.
    """
    object.__setattr__(message, "_read_output", read)


def _joined(content: tuple[Content, ...], wanted: ContentType) -> str:
    if len(content) == 1:  # nearly always
        return content[0].text if content[0].type == wanted else ""
    return "".join(block.text for block in content if block.type == wanted)


class _ContentWhenRead(_CopiedWhenRead):
    """``Message.content``. Where the log of a growing text is stored instead, its block is made when it is read.

    So comparisons, copies, pickles and the functions of attrs get blocks, and never the log, which goes on growing.
    """

    __slots__ = ()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        content = instance._stored
        if not isinstance(content, TextLog):
            return content
        form = instance._raw if isinstance(instance._raw, UndecodedMessage) else None
        return (Content(ContentType.TEXT, content.read(instance._length), None, None, None, form),)


Message._stored = Message.__dict__["content"]
setattr(Message, "content", _ContentWhenRead(Message.__dict__["content"]))  # noqa: B010 - mypy refuses an assignment


# A frozen attrs class assigns its fields through object.__setattr__, which takes three times as long as a plain
# assignment, and snapshots of a growing message are by far the most frequent objects. So they are created as instances
# of a class with the same slots that is not frozen, and their class is changed before they are returned.
_NewMessage = attrs.make_class(
    "Message",
    [field.name for field in attrs.fields(Message)],
    bases=(_WeaklyReferable,),
    eq=False,
    repr=False,
    slots=True,
)


def with_text(seen: Message, log: TextLog, length: int, delta: str, form: Form) -> Message:
    """Return the snapshot that follows on another of a message with a single block of text.

    Args:
        seen: The snapshot before.
        log: The log of the text, with ``delta`` at its end.
        length: The length of the text, in characters.
        delta: The text that was added.
        form: The newest whole form of the message.
    """
    message: Message = _NewMessage(
        seen.id,
        seen.chat_id,
        seen.role,
        seen.status,
        log,
        seen.tool_calls,
        seen.created_at,
        seen.order,
        seen.run_id,
        delta,
        form,
        seen.pending_interrupts,
        length,
        seen.usage,
    )
    message.__class__ = Message
    return message


@attrs.frozen
class Delta:
    """What a snapshot has added to a message; the argument of ``on_delta``.

    To show a text while it is written, append ``text``; when ``rewritten`` is true, replace what is shown of
    ``message_id`` by it. Texts joined so are always the message's text. ``message_id``, ``delta``, ``output`` and
    ``seq`` are those of the official SDK's ``AgentDelta``.

    Attributes:
        text: What was added to the text, "" if only the reasoning grew; the whole text where ``rewritten`` is true.
        reasoning: What was added to the reasoning; all of it where ``rewritten`` is true.
        rewritten: Whether the message's earlier text is no longer valid, for instance because what was sent while a
            connection was lost differs from what was shown before.
        message: The snapshot.
        seq: The number of this delta within its message, from 1.

    Example:
        ```python
        def show(delta):
            print("\\n" if delta.rewritten else "", delta.text, sep="", end="", flush=True)


        message = agent.send_message("Hello", on_delta=show)
        ```

        ```text
        You said: "Hello". ...
        ```
    """

    text: str
    reasoning: str
    rewritten: bool
    message: Message
    seq: int = 1

    @property
    def message_id(self) -> str:
        """The id of the message."""
        return self.message.id

    @property
    def delta(self) -> dict[str, str]:
        """What was added, in the form of the service: ``response`` and ``reasoning``, each if there is any."""
        return {name: text for name, text in (("response", self.text), ("reasoning", self.reasoning)) if text}

    @property
    def output(self) -> dict[str, str]:
        """Everything so far, in the form of the service: ``response`` and ``reasoning``, each if there is any."""
        so_far = (("response", self.message.text), ("reasoning", self.message.reasoning))
        return {name: text for name, text in so_far if text}


@copied_when_read("output")
@attrs.frozen
class Run:
    """The agent's work on one user message.

    Attributes:
        id: Its id.
        chat_id: The chat it runs in, or "".
        state: Its state.
        user_message_id: The message it answers, or "".
        error: Why it failed, or "".
        interrupt_tool_id: The tool call it waits for, or "".
        output: The structured output, if the agent has one.
        usage: The tokens that the run has used, where the server says so, or None.

    Example:
        ```python
        agent.send_message("Hello")
        run = agent.get_chat().active_run
        print(run.state == RunState.COMPLETED, run.error)
        ```

        ```text
        True
        ```
    """

    id: str = ""
    chat_id: str = ""
    state: RunState = RunState.UNKNOWN
    user_message_id: str = ""
    error: str = ""
    interrupt_tool_id: str = ""
    output: Any = attrs.field(default=None, hash=False)
    usage: Usage | None = None


@copied_when_read("meta", "raw")
@attrs.frozen
class Interrupt(MappingView):
    """Something that holds up a run until somebody acts.

    Attributes:
        id: The id that ``resolve_interrupt`` takes.
        reason: What the run waits for: an approval, a client tool's result, a form, an authorization, a confirmation.
        status: Its status; only a pending interrupt holds up the run.
        resource_id: What it is about; for tools the id of the call.
        resource_type: What kind of thing that is, such as ``tool_invocation``.
        run_id: The run that is held up.
        chat_id: The chat of that run.
        meta: What the server says about it; for an approval ``tool_name`` and ``arguments``.
        raw: The interrupt as the server sent it.

    Example:
        ```python
        agent.send_message("Publish the report")
        for interrupt in agent.get_chat().pending_interrupts:
            if interrupt.reason == InterruptReason.CONFIRMATION:
                agent.resolve_interrupt(interrupt.id, "deny")
        ```
    """

    id: str = ""
    reason: InterruptReason = InterruptReason.UNKNOWN
    status: InterruptStatus = InterruptStatus.PENDING
    resource_id: str = ""
    resource_type: str = ""
    run_id: str = ""
    chat_id: str = ""
    meta: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    def _wire(self) -> dict[str, Any]:
        fields = ("id", "resource_id", "resource_type", "run_id", "chat_id", "meta")
        known = {name: getattr(self, name) for name in fields}
        return {**known, "reason": self.reason.value, "status": self.status.value, **self.raw, "meta": known["meta"]}


@copied_when_read("output", "context", "raw")
@attrs.frozen
class Chat(MappingView):
    """A conversation with an agent.

    Attributes:
        id: Its id; pass it as ``chat_id`` to continue the chat.
        status: Its status.
        name: Its title, or "".
        active_run: The current or last run, or None.
        pending_interrupts: What holds up the run at present.
        output: The structured output of the agent, if it has one.
        context: The variables given at its creation.
        created_at: The time of its creation, with its offset; None if the server gave none that can be read.
        updated_at: The time of its last change, likewise.
        raw: The last whole form of it that the server sent.

    Example:
        ```python
        agent.send_message("Hello")
        chat = agent.get_chat()
        print(chat.status, chat.active_run.state)
        ```

        ```text
        ... completed
        ```
    """

    id: str = ""
    status: ChatStatus = ChatStatus.UNKNOWN
    name: str = ""
    active_run: Run | None = None
    pending_interrupts: tuple[Interrupt, ...] = ()
    output: Any = attrs.field(default=None, hash=False)
    context: Mapping[str, object] = attrs.field(factory=dict, hash=False)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)

    def _wire(self) -> dict[str, Any]:
        known = {"id": self.id, "status": self.status.value, "name": self.name, "output": self.output}
        return {"active_run": None, "pending_interrupts": [], "context": self.context, **known, **self.raw}


@copied_when_read("nodes", "edges", "raw")
@attrs.frozen
class ChatTrace:
    """What has happened in a chat, step by step, as a graph.

    Attributes:
        graph_id: The id of the graph, or "".
        nodes: The steps, each as the server describes it.
        edges: Which step follows on which, each as the server describes it.
        total_steps: How many steps there are.
        completed_steps: How many of them have ended well.
        running_steps: How many are under way.
        failed_steps: How many have failed.
        raw: The trace as the server sent it.

    Example:
        ```python
        trace = ChatTrace(total_steps=3, completed_steps=2, failed_steps=1)  # what client.chats.trace(...) returns
        print(f"{trace.completed_steps} of {trace.total_steps} steps completed")
        ```

        ```text
        2 of 3 steps completed
        ```
    """

    graph_id: str = ""
    nodes: list[dict[str, Any]] = attrs.field(factory=list, hash=False)
    edges: list[dict[str, Any]] = attrs.field(factory=list, hash=False)
    total_steps: int = 0
    completed_steps: int = 0
    running_steps: int = 0
    failed_steps: int = 0
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False, eq=False)


FINISH = "finish"


def is_finish(call: ToolCall) -> bool:
    """Whether a call is one of the service's finish tool, and not of a client tool with that name."""
    return call.name == FINISH and call.type == ToolType.INTERNAL


def written_output(calls: Sequence[ToolCall], content: Sequence[Content]) -> object:
    """Return the agent's structured output in one message, as far as it is written.

    Args:
        calls: The message's tool calls.
        content: The message's blocks, since some servers put the calls only there.

    Returns:
        The value, or the JSON text so far as a ``str`` if it is not a complete object; None if there is none.
    """
    if any(call.name == FINISH for call in calls):
        found = [_written(call) for call in calls if is_finish(call) and call.status not in _REFUSED]
    else:
        found = list(_in_blocks(content)) if content else []
    return next((each for each in reversed(found) if each is not None), None)


def _written(call: ToolCall) -> object:
    if call.undecoded_arguments is not None:
        return call.undecoded_arguments
    arguments = call.arguments  # read once, since each read copies
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


_REFUSED = frozenset({ToolCallStatus.FAILED, ToolCallStatus.CANCELLED})
