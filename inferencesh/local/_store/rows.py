"""Records as rows of a database, and back.

Fields are found by reflection, so that one that is added to a record is stored without a word here. What one record
owns is part of its row, as tool calls are of their message; what it only points to is an identifier there.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_args, get_origin

import attrs
import orjson
from attrs import frozen
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from inferencesh import errors
from inferencesh._text import decode_json, encode_json
from inferencesh.local._api.forms import AgentConfig
from inferencesh.local.chats import Chat, Run
from inferencesh.local.feed import Feed
from inferencesh.local.files import StoredFile
from inferencesh.local.model import OfferedTool
from inferencesh.local.records import Arguments, Block, Invocation, Message, Record

if TYPE_CHECKING:
    from .journal import Recorder

__all__ = ["Loaded", "Row", "UnreadableError", "load", "to_row"]

RecordT = TypeVar("RecordT", bound=Record)
Data: TypeAlias = dict[str, object]
_KINDS: dict[str, type[Record]] = {"chat": Chat, "message": Message, "run": Run, "file": StoredFile}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class UnreadableError(Exception):
    """A row does not hold what it should; the text says which."""


@frozen
class Row:
    """One record as it is stored."""

    id: str
    kind: str
    chat_id: str | None
    data: str


@frozen
class Loaded:
    """Everything that was stored, in the order in which it was made."""

    chats: list[Chat]
    files: list[StoredFile]


def to_row(record: Record) -> Row:
    """Return a record as it is to be stored."""
    data = _WRITERS[type(record)](record)
    chat_id = getattr(record, "chat_id", None)
    return Row(record.id, _NAMES[type(record)], chat_id, encode_json(data).decode())


def load(rows: Iterable[Row], recorder: Recorder) -> Loaded:
    """Return the records of all rows, joined as they were.

    Args:
        rows: In the order in which the records were first stored.
        recorder: Told from now on about changes of the chats.

    Raises:
        UnreadableError: A row is damaged.
    """
    return _Loader(recorder).load(rows)


def _is_open_json(kind: object) -> bool:
    """Whether a field holds JSON of any shape: it is stored as it is, however deep."""
    return get_origin(kind) in {dict, Mapping} and get_args(kind) == (str, object)


def _same(value: object) -> object:
    return value


def _resolve_types() -> None:
    """Make the types of all fields known; some are imported for type checkers alone where the classes are."""
    names: Data = {"asyncio": asyncio, "Callable": Callable, "deque": deque, "Mapping": Mapping, "Sequence": Sequence}
    for kind in (AgentConfig, OfferedTool, Chat, Message):
        names |= vars(sys.modules[kind.__module__])
    names["Feed"] = Feed
    for value in list(names.values()):
        if isinstance(value, type) and attrs.has(value) and value.__module__.startswith("inferencesh.local."):
            attrs.resolve_types(value, localns=names)


def _writers() -> dict[type[Record], Callable[[Record], Data]]:
    converter = Converter()
    converter.register_unstructure_hook_func(_is_open_json, _same)
    converter.register_unstructure_hook(Arguments, lambda arguments: arguments.text)
    write_invocation = make_dict_unstructure_fn(Invocation, converter)
    for kind in (Invocation, Message, Run):  # where they are fields of others
        converter.register_unstructure_hook(kind, lambda record: record.id)
    owned = override(unstruct_hook=lambda calls: [write_invocation(each) for each in calls])
    # Messages have rows of their own; feed and task live as long as the process.
    elsewhere = override(omit=True)
    return {
        Chat: make_dict_unstructure_fn(Chat, converter, messages=elsewhere, feed=elsewhere, task=elsewhere),
        Message: make_dict_unstructure_fn(Message, converter, invocations=owned),
        Run: make_dict_unstructure_fn(Run, converter),
        StoredFile: make_dict_unstructure_fn(StoredFile, converter),
    }


class _Loader:
    """Reads rows in the order in which records point to each other, and keeps what was read under its identifier."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: dict[str, Record] = {}
        converter = Converter()
        converter.register_structure_hook_func(_is_open_json, lambda value, _: value)
        converter.register_structure_hook(Arguments, lambda text, _: _read_arguments(text))
        read_block = make_dict_structure_fn(Block, converter)
        converter.register_structure_hook(Block, lambda data, kind: _with_fragments(read_block(data, kind)))
        read_invocation = make_dict_structure_fn(Invocation, converter)
        for kind in (Invocation, Message, Run):
            converter.register_structure_hook(kind, self._find)
        owned = override(struct_hook=lambda calls, _: [self._keep(read_invocation(each, Invocation)) for each in calls])
        self._readers: dict[str, Callable[[Data, type], Record]] = {
            "message": make_dict_structure_fn(Message, converter, invocations=owned),
            "run": make_dict_structure_fn(Run, converter),
            "chat": make_dict_structure_fn(
                Chat,
                converter,
                feed=override(struct_hook=lambda _, __: Feed(recorder)),
                task=override(omit=True),
            ),
            "file": make_dict_structure_fn(StoredFile, converter),
        }

    def load(self, rows: Iterable[Row]) -> Loaded:
        by_kind: dict[str, list[Row]] = {kind: [] for kind in self._readers}
        for row in rows:
            if row.kind not in by_kind:
                raise UnreadableError(f"record {row.id} is of an unknown kind, {row.kind!r}")
            by_kind[row.kind].append(row)
        messages: dict[str | None, list[Message]] = {}
        for row in by_kind["message"]:
            messages.setdefault(row.chat_id, []).append(self._read(row, Message))
        for row in by_kind["run"]:
            self._read(row, Run)
        found = [self._read(row, Chat, messages=[], feed=None) for row in by_kind["chat"]]
        for chat in found:
            chat.messages = sorted(messages.get(chat.id, []), key=lambda message: message.order)
        return Loaded(found, [self._read(row, StoredFile) for row in by_kind["file"]])

    def _read(self, row: Row, kind: type[RecordT], **more: object) -> RecordT:
        try:
            record = self._readers[row.kind](decode_json(row.data) | more, kind)
        except (BaseValidationError, errors.UnreadableError, TypeError) as error:
            raise UnreadableError(f"{row.kind} {row.id} is damaged") from error
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


def _read_arguments(text: object) -> Arguments:
    if not isinstance(text, str):
        raise TypeError("Arguments are stored as JSON text.")
    values = decode_json(text)
    return Arguments(values if isinstance(values, dict) else {}, text)


def _with_fragments(block: Block) -> Block:
    """Return a block whose calls can be sent: as parts of an answer their arguments may be too deep to be encoded."""
    for call in block.tool_calls:
        function = call.get("function")
        if isinstance(function, dict):
            function["arguments"] = orjson.Fragment(encode_json(function.get("arguments")))
    return block


_resolve_types()
_WRITERS = _writers()
