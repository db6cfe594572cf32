"""Convert the service's JSON to models, with one lenient cattrs converter.

Fields may be missing or of another type. Messages are by far the most frequent and have hand-written hooks; cattrs
generates the others. A value that cannot be read at all, such as a message without an id, raises UnreadableError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import attrs
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.orjson import make_converter

from inferencesh._text import decode_json, encode_json
from inferencesh.errors import UnreadableError
from inferencesh.models import (
    Chat,
    ChatTrace,
    Content,
    ContentType,
    FileRef,
    Interrupt,
    Message,
    MessageStatus,
    OpenEnum,
    Role,
    Run,
    ToolCall,
    ToolCallStatus,
    ToolType,
    Usage,
    read_time,
)

__all__ = [
    "UnreadableError",
    "converter",
    "decode_json",
    "read_arguments",
    "read_blocks",
    "read_items",
    "read_text",
    "read_usage",
    "read_whole",
    "structure",
]

T = TypeVar("T")
E = TypeVar("E", bound=OpenEnum)


converter = make_converter(detailed_validation=False)


def structure(data: object, cls: type[T]) -> T:
    """Read a decoded JSON value as one of the models.

    Args:
        data: The decoded value.
        cls: Message, Chat, ChatTrace, Run, ToolCall, Interrupt or FileRef.

    Returns:
        The model.

    Raises:
        UnreadableError: It cannot be read as that model, such as a message without an id.
    """
    if not isinstance(data, Mapping):
        raise UnreadableError(f"the server sent {_kind(data)} where a {cls.__name__.lower()} was expected")
    return converter.structure(data, cls)


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def read_text(value: object) -> str:
    """Convert any JSON value to a string."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    try:
        return encode_json(value).decode()
    except TypeError:
        raise UnreadableError("the server sent something that is nested too deeply") from None


def _optional_text(value: object) -> str | None:
    return None if value is None else read_text(value)


def read_whole(value: object) -> int:
    """Convert any JSON value to an int; 0 if it is not a number."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float | str):
        try:
            return int(float(value))
        except (ValueError, OverflowError):
            return 0
    return 0


def read_items(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in a list; what else is in it is skipped, and anything but a list stands for none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


class _Members(Generic[E]):
    """Convert values to members of an enum; a dict lookup is several times as fast as calling the enum.

    Args:
        cls: The enum.
        default: The member for null and "".
    """

    def __init__(self, cls: type[E], default: E) -> None:
        self._cls = cls
        self._default = default
        self._members = {member.value: member for member in cls}

    def __call__(self, value: object) -> E:
        try:
            return self._members[value]  # type: ignore[index]  # a non-string is not found, or not hashable
        except (KeyError, TypeError):
            return self._cls(read_text(value) or self._default)


_role = _Members(Role, Role.ASSISTANT)
_message_status = _Members(MessageStatus, MessageStatus.PENDING)
_content_type = _Members(ContentType, ContentType.TEXT)


def _read_message(data: Mapping[str, Any], _: object) -> Message:
    get = data.get
    message_id = get("id")
    if not message_id or not isinstance(message_id, str):
        raise UnreadableError("the server sent a message without an id")
    return Message(
        id=message_id,
        chat_id=read_text(get("chat_id")),
        role=_role(get("role")),
        status=_message_status(get("status")),
        content=read_blocks(get("content")),
        tool_calls=_read_calls(get("tool_invocations")),
        created_at=read_time(get("created_at")),
        order=read_whole(get("order")),
        run_id=read_text(get("agent_run_id")),
        raw=data,
        usage=read_usage(get("usage")),
    )


def read_usage(value: object) -> Usage | None:
    """Return the usage that a server reports with a message, a run or a delta; None if it reports none.

    Two forms are known: that of a model's output, and that of the ``usage.updated`` event.
    """
    if not isinstance(value, Mapping) or not value:
        return None
    get = value.get
    prompt, completion = read_whole(get("prompt_tokens")), read_whole(get("completion_tokens"))
    cost = next((each for each in (get("cost_usd"), get("cost")) if isinstance(each, int | float)), None)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=read_whole(get("total_tokens")) or prompt + completion,
        cached_tokens=read_whole(get("cached_tokens", get("cached_input_tokens"))),
        cache_write_tokens=read_whole(get("cache_write_tokens", get("cache_creation_tokens"))),
        reasoning_tokens=read_whole(get("reasoning_tokens")),
        cost=None if cost is None else float(cost),
        stop_reason=read_text(get("stop_reason")),
        raw=value,
    )


def read_blocks(value: object) -> tuple[Content, ...]:
    if isinstance(value, str):
        return (Content(text=value),) if value else ()
    return tuple([_read_block(block, Content) for block in read_items(value)])


def _read_block(data: Mapping[str, Any], _: object) -> Content:
    get = data.get
    return Content(
        type=_content_type(get("type")),
        text=read_text(get("text")),
        image=_optional_text(get("image")),
        file=_optional_text(get("file")),
        error=_optional_text(get("error")),
        raw=data,
    )


def _read_calls(value: object) -> tuple[ToolCall, ...]:
    if not value:  # nearly always
        return ()
    return tuple([_read_call(item, ToolCall) for item in read_items(value) if item.get("id")])


def _read_call(data: Mapping[str, Any], _: object) -> ToolCall:
    get = data.get
    function = get("function")
    function = function if isinstance(function, Mapping) else {}
    arguments = read_arguments(function.get("arguments"))
    status = ToolCallStatus(read_text(get("status")) or "pending")
    return ToolCall(
        id=read_text(get("id")),
        name=read_text(function.get("name")) or read_text(get("name")),
        arguments=arguments or {},
        status=status,
        type=ToolType(read_text(get("type")) or "client"),
        requires_approval=status == ToolCallStatus.AWAITING_APPROVAL or get("require_approval") is True,
        result=_optional_text(get("result")),
        data=_decoded(get("data")),
        widget=read_arguments(get("widget")) or None,
        undecoded_arguments=read_text(function.get("arguments")) if arguments is None else None,
        raw=data,
    )


def read_arguments(value: object) -> dict[str, Any] | None:
    """Return a tool call's arguments, sent as an object or as JSON text; None if the text is incomplete or invalid."""
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = decode_json(value)
        except UnreadableError:
            return None
    if isinstance(value, dict):
        return value
    return {} if value is None else None


def _decoded(value: object) -> Any:
    """Decode the JSON text of an object or a list; return any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        decoded = decode_json(value)
    except UnreadableError:
        return value
    return decoded if isinstance(decoded, dict | list) else value


def _with_meta(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an interrupt with its ``meta`` decoded, which may be an object or JSON text."""
    return {**data, "meta": read_arguments(data.get("meta"))}


def _with_usage(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a run with its usage, which some servers report in ``metadata``."""
    metadata = data.get("metadata")
    told = metadata.get("usage") if isinstance(metadata, Mapping) else None
    return {**data, "usage": told} if told is not None and data.get("usage") is None else data


def _lenient_hook(cls: type[T], prepared: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda data: data) -> None:
    """Register a hook for ``cls`` that treats null as absent and keeps the JSON value in ``raw``."""
    has_raw = "raw" in attrs.fields_dict(cast("type[attrs.AttrsInstance]", cls))
    generated = make_dict_structure_fn(cls, converter, _cattrs_detailed_validation=False)

    def read(data: object, _: object) -> T:
        if not isinstance(data, Mapping):
            raise UnreadableError(f"the server sent {_kind(data)} where a {cls.__name__.lower()} was expected")
        present = {key: value for key, value in prepared(data).items() if value is not None}
        if has_raw:
            present["raw"] = data
        return generated(present, cls)

    converter.register_structure_hook(cls, read)


# Hooks are found by class, the nearest base first, so enums of strings use the hook of OpenEnum and not that of str.
converter.register_structure_hook(str, lambda value, _: read_text(value))
converter.register_structure_hook(int, lambda value, _: read_whole(value))
converter.register_structure_hook_func(lambda cls: cls == datetime | None, lambda value, _: read_time(value))
converter.register_structure_hook(OpenEnum, lambda value, cls: cls(read_text(value)))
converter.register_structure_hook_func(
    lambda cls: getattr(cls, "__origin__", None) is Mapping,
    lambda value, _: dict(value) if isinstance(value, Mapping) else {},
)
converter.register_structure_hook_func(
    lambda cls: cls == tuple[Interrupt, ...],
    lambda value, _: tuple(converter.structure(item, Interrupt) for item in read_items(value)),
)
converter.register_structure_hook_func(lambda cls: cls == Usage | None, lambda value, _: read_usage(value))
converter.register_structure_hook_func(
    lambda cls: cls == list[dict[str, Any]],
    lambda value, _: [dict(item) for item in read_items(value)],
)
converter.register_structure_hook(Content, _read_block)
converter.register_structure_hook(ToolCall, _read_call)
converter.register_structure_hook(Message, _read_message)
_lenient_hook(FileRef)
_lenient_hook(Interrupt, _with_meta)
_lenient_hook(Run, _with_usage)
_lenient_hook(Chat)
_lenient_hook(ChatTrace)
