"""The endpoints of tasks and sessions, and the files in a task's input."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from inferencesh._types.encoding import by_msgspec
from inferencesh._types.tasks import as_objects, read_task
from inferencesh.errors import ConfigurationError, ConflictError, UnreadableError
from inferencesh.models import FileRef
from inferencesh.task_models import TaskFile

from .api import Pages, delete, path_segment, posted_pages
from .retry import Safety
from .sources import OnProgress, check_source
from .transport import Transport
from .uploads import upload_all

__all__ = ["SessionAPI", "TaskAPI", "check_input", "task_path", "upload_input"]


class TaskAPI:
    """Calls to the service about apps and tasks.

    Args:
        transport: The transport for the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def run(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create a task; the request is retried only if the server cannot have processed it."""
        answer = await self._transport.request("POST", "/apps/run", json=body, safety=Safety.ONCE)
        return _record(answer, "task")

    async def read(self, task_id: str) -> Mapping[str, Any]:
        """Read a task."""
        return _record(await self._transport.request("GET", task_path(task_id), safety=Safety.REPEATABLE), "task")

    async def cancel(self, task_id: str) -> None:
        """Cancel a task; some servers refuse that for one that has ended."""
        try:
            await self._transport.request(
                "POST", f"{task_path(task_id)}/cancel", safety=Safety.REPEATABLE, needed=False
            )
        except ConflictError:
            if not read_task(await self.read(task_id)).done:
                raise

    async def delete(self, task_id: str, *, files: bool) -> None:
        """Delete a task, maybe with its files."""
        await delete(self._transport, task_path(task_id), {"files": "true"} if files else None)

    async def files(self, task_id: str, role: str | None) -> list[Mapping[str, Any]]:
        """Read which files a task has."""
        params = {"role": role} if role else None
        path = f"{task_path(task_id)}/files"
        return as_objects(await self._transport.request("GET", path, params=params, safety=Safety.REPEATABLE))

    async def delete_files(self, task_id: str, role: str | None) -> object:
        """Delete the files of a task."""
        params = {"role": role} if role else None
        path = f"{task_path(task_id)}/files"
        return await self._transport.request("DELETE", path, params=params, safety=Safety.REPEATABLE)

    def pages(self, size: int) -> Pages:
        """Read the account's tasks a page at a time, the newest page first."""
        return posted_pages(self._transport, "/tasks/list", {"limit": size})


class SessionAPI:
    """Calls to the service about sessions.

    Args:
        transport: The transport for the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> list[Mapping[str, Any]]:
        """Read the account's sessions."""
        return as_objects(await self._transport.request("GET", "/sessions", safety=Safety.REPEATABLE))

    async def read(self, session_id: str) -> Mapping[str, Any]:
        """Read a session."""
        answer = await self._transport.request("GET", _session_path(session_id), safety=Safety.REPEATABLE)
        return _record(answer, "session")

    async def keep_alive(self, session_id: str) -> Mapping[str, Any]:
        """Postpone a session's expiry; return its new state."""
        path = f"{_session_path(session_id)}/keepalive"
        return _record(await self._transport.request("POST", path, safety=Safety.REPEATABLE), "session")

    async def end(self, session_id: str) -> None:
        """End a session."""
        await delete(self._transport, _session_path(session_id))


def task_path(task_id: str) -> str:
    """Return the path of a task; the id is checked and quoted."""
    return f"/tasks/{path_segment('task', task_id)}"


def _session_path(session_id: str) -> str:
    return f"/sessions/{path_segment('session', session_id)}"


def _record(answer: object, kind: str) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):  # such as a proxy's page with status 200
        raise UnreadableError(f"the response has no {kind}; check that base_url is the address of the service")
    return answer


# -- files in the input ------------------------------------------------------------------------------------------------


def check_input(value: object) -> None:
    """Check the files in a task's input before anything is sent; nothing is opened.

    Raises:
        TypeError: Something in it looks like a file and cannot be uploaded, such as a file that is open for text.
        ConfigurationError: It contains itself.
    """
    for source in _files_in(value, ()):
        if not isinstance(source, TaskFile):
            check_source(source)


async def upload_input(transport: Transport, value: object, on_progress: OnProgress | None) -> object:
    """Upload the files in a task's input, and return the input with their URIs in their places.

    Args:
        transport: The transport for the requests.
        value: The input, from ``check_input``.
        on_progress: Called with the bytes sent of all files, and with the sum of their sizes.

    Raises:
        FileError: A file cannot be read.
        APIError, APIConnectionError: A file could not be uploaded.
    """
    found = {id(source): source for source in _files_in(value, ())}
    known = {key: _uri_of(each) for key, each in found.items() if isinstance(each, FileRef | TaskFile)}
    sources = {key: each for key, each in found.items() if key not in known}
    if sources:
        refs = await upload_all(transport, list(sources.values()), on_progress)
        known.update(zip(sources, map(_uri_of, refs), strict=True))
    return _replaced(value, known) if known else value


def _uri_of(file: FileRef | TaskFile) -> str:
    if not file.uri:
        raise ConfigurationError(f"the file {file.filename or file.id!r} has no URI, which an app's input needs")
    return file.uri


def _is_file(value: object) -> bool:
    if isinstance(value, FileRef | TaskFile | bytes | bytearray | memoryview | os.PathLike):
        return True
    return callable(getattr(value, "read", None)) and not isinstance(value, type | Mapping)


def _parts_of(value: object) -> Mapping[str, Any] | Sequence[Any] | None:
    """Return the items of a list and the like, or what is in an object, by its names in JSON; None for anything else.

    Objects are those of attrs classes, dataclasses, pydantic's models and msgspec's structs; the latter two are
    recognized by their attributes, so that nothing is imported for them.
    """
    kind: Any = type(value)
    if isinstance(value, Mapping | list | tuple):
        return value
    if isinstance(value, set | frozenset | deque):
        return list(value)
    fields_of: Any = attrs.fields if attrs.has(kind) else dataclasses.fields if dataclasses.is_dataclass(kind) else None
    if fields_of is not None:
        fields = fields_of(kind)
        return {each.name: getattr(value, each.name) for each in fields if each.init or not each.name.startswith("_")}
    if hasattr(kind, "__struct_encode_fields__"):
        struct: Any = by_msgspec(value)
        return struct  # type: ignore[no-any-return]  # a dict or a list
    if getattr(kind, "__pydantic_root_model__", False):
        return _parts_of(vars(value)["root"])
    if hasattr(kind, "__pydantic_serializer__") and isinstance(value, Iterable):  # over names and values
        aliases = {name: field.serialization_alias or name for name, field in kind.model_fields.items()}
        return {aliases.get(name, name): part for name, part in value}
    return None


def _files_in(value: object, inside: tuple[int, ...]) -> Iterator[Any]:
    """Yield the files in a value, at any depth. Texts are never files, not even the names of existing ones."""
    if value is None or isinstance(value, str | int | float):
        return
    if _is_file(value):
        yield value
        return
    if id(value) in inside:
        raise ConfigurationError("the input contains itself")
    parts = _parts_of(value) or ()
    for part in parts.values() if isinstance(parts, Mapping) else parts:
        yield from _files_in(part, (*inside, id(value)))


def _replaced(value: object, uris: Mapping[int, str]) -> Any:
    """Return a value with the URIs of its files in their places; what holds no file stays as it is."""
    if id(value) in uris:
        return uris[id(value)]
    if not any(True for _ in _files_in(value, ())):
        return value
    parts = _parts_of(value)
    if isinstance(parts, Mapping):
        return {name: _replaced(part, uris) for name, part in parts.items()}
    return [_replaced(part, uris) for part in parts or ()]
