"""Serialization of records to database rows, and back.

All fields of a record class are stored, so that a new field needs no change here; cattrs reads their types, which the
module of the class must therefore import at run time. Objects that a record owns are part of its row, such as the tool
calls of a message; other records that it refers to are stored as their identifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_args, get_origin

import attrs
import orjson
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from inferencesh._text import decode_json, encode_json
from inferencesh.errors import UnreadableError
from inferencesh.local.chats import StoredChat, StoredRun
from inferencesh.local.feed import Feed
from inferencesh.local.files import StoredFile
from inferencesh.local.records import (
    Arguments,
    Block,
    Invocation,
    Record,
    StoredMessage,
)
from inferencesh.local.tasks import StoredSession, StoredTask

if TYPE_CHECKING:
    from inferencesh.local.records import Recorder

__all__ = ["DamagedRowError", "Loaded", "Row", "chat_of", "load", "to_row"]

T = TypeVar("T")
RecordT = TypeVar("RecordT", bound=Record)
Data: TypeAlias = dict[str, object]

# The classes with a row of their own; the names are stored in the column ``kind``.
_KINDS: dict[type[Record], str] = {
    StoredChat: "chat",
    StoredMessage: "message",
    StoredRun: "run",
    StoredFile: "file",
    StoredTask: "task",
    StoredSession: "session",
}


class DamagedRowError(Exception):
    """A row cannot be read; the text says which one."""


@attrs.frozen
class Row:
    """One stored record. ``data`` is a JSON object, ``chat_id`` the chat that the record belongs to, if any."""

    id: str
    kind: str
    chat_id: str | None
    data: str


@attrs.frozen
class Loaded:
    """All stored chats, files, tasks and sessions, in the order in which they were created."""

    chats: list[StoredChat]
    files: list[StoredFile]
    tasks: list[StoredTask]
    sessions: list[StoredSession]


def to_row(record: Record) -> Row:
    """Return the row for a record."""
    kind = type(record)
    data = _WRITERS[kind](record)
    return Row(record.id, _KINDS[kind], chat_of(record), encode_json(data).decode())


def chat_of(record: Record) -> str | None:
    """Return the identifier of the chat that a record belongs to, if any."""
    return getattr(record, "chat_id", None)


def load(rows: Iterable[Row], recorder: Recorder) -> Loaded:
    """Return the records of all rows, with their references to each other restored.

    Args:
        rows: The rows, in the order in which they were first stored.
        recorder: Records changes of the chats from now on.

    Raises:
        DamagedRowError: A row cannot be read.
    """
    return _Loader(recorder).load(rows)


def _is_open_json(kind: object) -> bool:
    """Whether a type stands for any JSON object, which is stored unchanged, however deep it is nested."""
    return get_origin(kind) in {dict, Mapping} and get_args(kind) == (str, object)


def _writers() -> dict[type[Record], Callable[[Record], Data]]:
    converter = Converter()
    converter.register_unstructure_hook_func(_is_open_json, _unchanged)
    converter.register_unstructure_hook(Arguments, lambda arguments: arguments.text)
    write_invocation = make_dict_unstructure_fn(Invocation, converter)
    for kind in (Invocation, StoredMessage, StoredRun):  # as fields of other records
        converter.register_unstructure_hook(kind, lambda record: record.id)
    owned = override(unstruct_hook=lambda calls: [write_invocation(each) for each in calls])
    # Messages have rows of their own; feed and task only exist while the runtime runs.
    omitted = override(omit=True)
    return {
        StoredChat: make_dict_unstructure_fn(StoredChat, converter, messages=omitted, feed=omitted, task=omitted),
        StoredMessage: make_dict_unstructure_fn(StoredMessage, converter, invocations=owned),
        StoredRun: make_dict_unstructure_fn(StoredRun, converter),
        StoredFile: make_dict_unstructure_fn(StoredFile, converter),
        StoredTask: make_dict_unstructure_fn(StoredTask, converter, feed=omitted, deleted=omitted),
        StoredSession: make_dict_unstructure_fn(StoredSession, converter, running=omitted),
    }


class _Loader:
    """Reads rows in the order in which records refer to each other, and keeps the records by identifier."""

    def __init__(self, recorder: Recorder) -> None:
        self._known: dict[str, Record] = {}
        converter = Converter()
        converter.register_structure_hook_func(_is_open_json, lambda value, _: value)
        converter.register_structure_hook(Arguments, lambda text, _: _read_arguments(text))
        read_block = make_dict_structure_fn(Block, converter)
        converter.register_structure_hook(Block, lambda data, kind: _with_fragments(read_block(data, kind)))
        read_invocation = make_dict_structure_fn(Invocation, converter)
        for kind in (Invocation, StoredMessage, StoredRun):
            converter.register_structure_hook(kind, self._find)
        owned = override(struct_hook=lambda calls, _: [self._keep(read_invocation(each, Invocation)) for each in calls])
        new_feed = override(struct_hook=lambda _, __: Feed(recorder))
        omitted = override(omit=True)
        self._readers: dict[type[Record], Callable[[Data, type], Record]] = {
            StoredChat: make_dict_structure_fn(StoredChat, converter, feed=new_feed, task=omitted),
            StoredMessage: make_dict_structure_fn(StoredMessage, converter, invocations=owned),
            StoredRun: make_dict_structure_fn(StoredRun, converter),
            StoredFile: make_dict_structure_fn(StoredFile, converter),
            StoredTask: make_dict_structure_fn(
                StoredTask, converter, feed=override(struct_hook=lambda _, __: Feed(recorder, "tasks")), deleted=omitted
            ),
            StoredSession: make_dict_structure_fn(StoredSession, converter, running=omitted),
        }

    def load(self, rows: Iterable[Row]) -> Loaded:
        by_kind: dict[str, list[Row]] = {kind: [] for kind in _KINDS.values()}
        for row in rows:
            if row.kind not in by_kind:
                raise DamagedRowError(f"record {row.id} is of an unknown kind, {row.kind!r}")
            by_kind[row.kind].append(row)
        messages: dict[str | None, list[StoredMessage]] = {}
        for row in by_kind["message"]:
            messages.setdefault(row.chat_id, []).append(self._read(row, StoredMessage))
        for row in by_kind["run"]:
            self._read(row, StoredRun)
        chats = [self._read(row, StoredChat, messages=[], feed=None) for row in by_kind["chat"]]
        for chat in chats:
            chat.messages = sorted(messages.get(chat.id, []), key=lambda message: message.order)
        return Loaded(
            chats,
            [self._read(row, StoredFile) for row in by_kind["file"]],
            [self._read(row, StoredTask, feed=None) for row in by_kind["task"]],
            [self._read(row, StoredSession) for row in by_kind["session"]],
        )

    def _read(self, row: Row, kind: type[RecordT], **more: object) -> RecordT:
        try:
            record = self._readers[kind](decode_json(row.data) | more, kind)
        except (BaseValidationError, UnreadableError, TypeError) as error:
            raise DamagedRowError(f"{row.kind} {row.id} is damaged") from error
        assert isinstance(record, kind)
        return self._keep(record)

    def _keep(self, record: RecordT) -> RecordT:
        self._known[record.id] = record
        return record

    def _find(self, identifier: object, kind: type[RecordT]) -> RecordT:
        record = self._known.get(identifier) if isinstance(identifier, str) else None
        if not isinstance(record, kind):
            raise TypeError(f"There is no {kind.__name__} {identifier!r}.")
        return record


def _unchanged(value: T) -> T:
    return value


def _read_arguments(text: object) -> Arguments:
    if not isinstance(text, str):
        raise TypeError("Arguments are stored as JSON text.")
    return Arguments.read(text)


def _with_fragments(block: Block) -> Block:
    """Return a block whose arguments are fragments again: they may be nested too deeply to be encoded."""
    for call in block.tool_calls:
        function = call.get("function")
        if isinstance(function, dict):
            function["arguments"] = orjson.Fragment(encode_json(function.get("arguments")))
    return block


_WRITERS = _writers()
