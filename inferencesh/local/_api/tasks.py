"""The HTTP endpoints of apps, tasks and sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
from aiohttp import web

from inferencesh._text import copied, decode_json, encode_json
from inferencesh.local.apps import input_refused
from inferencesh.local.errors import ProblemError, invalid
from inferencesh.local.files import CONTENT_PATH
from inferencesh.local.observer import SentTask
from inferencesh.local.task_engine import NewTask
from inferencesh.local.tasks import TaskState

from .fields import Fields, read_body
from .filters import passes, read_filters
from .hosts import origin_of
from .paging import newest_page, page_wire, read_page_limit
from .problems import answer
from .streams import bare_tasks, choose_format, stream

if TYPE_CHECKING:
    from inferencesh.local.apps import AppRegistry
    from inferencesh.local.files import FileStore, StoredFile
    from inferencesh.local.records import Wire
    from inferencesh.local.task_engine import TaskEngine
    from inferencesh.local.tasks import StoredSession, StoredTask, TaskStore

    from .chats import Settings

__all__ = ["TaskApi"]

_LONGEST_SESSION = 3600  # seconds


@attrs.define
class TaskApi:
    """The request handlers."""

    _store: TaskStore
    _engine: TaskEngine
    _apps: AppRegistry
    _files: FileStore
    _settings: Settings
    open_streams: int = 0

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of all endpoints."""
        return [
            web.post("/apps/run", self.run),
            web.post("/run", self.run),
            web.post("/tasks/list", self.list_tasks),
            web.get("/tasks/{id}", self.get_task, allow_head=False),
            web.delete("/tasks/{id}", self.delete_task),
            web.get("/tasks/{id}/status", self.get_status, allow_head=False),
            web.get("/tasks/{id}/logs", self.get_logs, allow_head=False),
            web.get("/tasks/{id}/stream", self.stream_task, allow_head=False),
            web.post("/tasks/{id}/cancel", self.cancel_task),
            web.get("/tasks/{id}/files", self.list_files, allow_head=False),
            web.delete("/tasks/{id}/files", self.delete_files),
            web.get("/sessions", self.list_sessions, allow_head=False),
            web.get("/sessions/{id}", self.get_session, allow_head=False),
            web.post("/sessions/{id}/keepalive", self.keep_alive),
            web.delete("/sessions/{id}", self.end_session),
        ]

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Create a task; with ``wait`` the response is its end, with ``stream`` a stream of its states."""
        body = await read_body(request)
        new = self._read_task(body, origin_of(request))
        waits, streams = body.flag("wait"), body.flag("stream")
        if self._settings.observer is not None:
            sent = SentTask(new.app, new.function, copied(body.data.get("input")), copied(dict(body.data)))
            self._settings.observer(sent)
        if body.text("session") == "new":
            session = self._engine.create_session(new.app, body.count("session_timeout"))
            new = attrs.evolve(new, session=session)
        task = self._engine.submit(new)
        if streams:
            return await self._stream(request, task)
        if not waits:
            return self._answer(task.result_wire())
        await self._engine.wait(task)
        if task.status is not TaskState.COMPLETED:
            detail = task.error or f"The task was {task.status.name.lower()}."
            raise ProblemError(422, detail, code="task_failed", extra={"task": task.result_wire()})
        return self._answer(task.result_wire())

    async def list_tasks(self, request: web.Request) -> web.StreamResponse:
        """List the tasks, newest first: those for which all filters hold."""
        wanted = await read_body(request)
        filters = read_filters(wanted)
        tasks, following = newest_page(
            (task for task in self._store.tasks.values() if passes(task.wire, filters)),
            read_page_limit(wanted.count("limit")),
            wanted.text("cursor"),
        )
        return self._answer(page_wire([task.wire() for task in tasks], following))

    async def get_task(self, request: web.Request) -> web.StreamResponse:
        """Return a task."""
        return self._answer(self._task(request).wire())

    async def get_status(self, request: web.Request) -> web.StreamResponse:
        """Return only the status of a task, for polling."""
        task = self._task(request)
        status: Wire = {"id": task.id, "status": task.status, "updated_at": task.updated_at}
        return self._answer(status)

    async def get_logs(self, request: web.Request) -> web.StreamResponse:
        """Return the status changes and the logs of a task."""
        task = self._task(request)
        wire = task.wire()
        logs: Wire = {"task_id": task.id, **{name: wire[name] for name in ("status", "events", "logs")}}
        return self._answer(logs)

    async def stream_task(self, request: web.Request) -> web.StreamResponse:
        """Stream the states of a task until it ends or the reader disconnects."""
        return await self._stream(request, self._task(request))

    async def cancel_task(self, request: web.Request) -> web.StreamResponse:
        """Cancel a task, if it has not ended."""
        task = self._task(request)
        self._engine.cancel(task)
        return self._answer(task.wire())

    async def delete_task(self, request: web.Request) -> web.StreamResponse:
        """Cancel and delete a task, with ``files=true`` its files too; its streams end."""
        task = self._task(request)
        self._engine.discard(task)
        if request.query.get("files", "").lower() == "true":
            self._delete_files(task, None)
        return web.Response(status=204)

    async def list_files(self, request: web.Request) -> web.StreamResponse:
        """List the files of a task."""
        task = self._task(request)
        origin = origin_of(request)
        found = [_file_wire(role, file, origin) for role, file in self._files_of(task, _role(request))]
        return self._answer(found)

    async def delete_files(self, request: web.Request) -> web.StreamResponse:
        """Delete the files of a task, whatever else uses them."""
        deleted = self._delete_files(self._task(request), _role(request))
        done: Wire = {"deleted": deleted, "skipped": []}
        return self._answer(done)

    async def list_sessions(self, _request: web.Request) -> web.StreamResponse:
        """List the sessions, newest first."""
        for session in self._store.sessions.values():
            session.settle()
        return self._answer([session.wire() for session in reversed(self._store.sessions.values())])

    async def get_session(self, request: web.Request) -> web.StreamResponse:
        """Return a session."""
        return self._answer(self._session(request).wire())

    async def keep_alive(self, request: web.Request) -> web.StreamResponse:
        """Postpone the expiry of a session."""
        session = self._session(request)
        session.require_active()
        session.use()
        self._store.note(session)
        return self._answer(session.wire())

    async def end_session(self, request: web.Request) -> web.StreamResponse:
        """End a session; a task that runs in it goes on, and its changes of the state are lost."""
        session = self._session(request)
        if session.status == "active":
            session.close("ended")
            self._store.note(session)
        return web.Response(status=204)

    # -- requests

    def requested(self, task: StoredTask) -> NewTask:
        """Return the request of a task again.

        Raises:
            ProblemError: Its app, its session or a file in its input are gone.
        """
        body = {"app": task.app, "function": task.function, "session": task.session_id, "run_at": task.run_at}
        return self._read_task(Fields({**body, "input": decode_json(task.input)}), task.origin)

    def _read_task(self, body: Fields, origin: str) -> NewTask:
        """Parse a request to run an app; a new session is not created yet.

        Raises:
            ProblemError: 404 for an unknown app, 410 for a session that is over, 412 for a wrong input, 422 otherwise.
        """
        reference = body.text("app") or body.text("app_id")
        if reference is None:
            raise invalid("app", "is missing.")
        app, name, function = self._apps.find(reference, body.text("function"))
        session_id, idle = body.text("session"), body.count("session_timeout")
        if idle is not None and not 1 <= idle <= _LONGEST_SESSION:
            raise invalid("session_timeout", f"must be 1 to {_LONGEST_SESSION} seconds.")
        session = self._find_session(session_id, app) if session_id not in {None, "", "new"} else None
        given = body.data.get("input")
        value = {} if given is None else given
        arguments = function.bind(value)
        files = self._uploaded(value, app, origin)
        run_at = _read_moment(body.text("run_at"))
        text = encode_json(value).decode()
        return NewTask(app, name, function, arguments, text, files, origin, session, run_at)

    def _find_session(self, session_id: str | None, app: str) -> StoredSession:
        session = self._store.session(session_id or "")
        session.require_active()
        if session.app != app:
            raise ProblemError(409, f"The session {session.id} is one of the app {session.app}.", code="APP_MISMATCH")
        return session

    def _uploaded(self, value: object, app: str, origin: str) -> dict[str, StoredFile]:
        """Return the files of this runtime to which an input refers.

        Raises:
            ProblemError: 412 if one was deleted or never uploaded.
        """
        found: dict[str, StoredFile] = {}
        wrong: dict[str, str] = {}
        for path, text in _texts(value, ""):
            file = self._files.by_uri(text)
            if file is not None and file.content is not None:
                found[text] = file
            elif file is not None or text.startswith(f"{origin}{CONTENT_PATH}"):
                wrong[path or "input"] = "is a file that was deleted or never uploaded"
        if wrong:
            raise input_refused(wrong, app)
        return found

    def _files_of(self, task: StoredTask, role: str | None) -> Iterator[tuple[str, StoredFile]]:
        known = {file.id: file for file in self._files.all()}
        for name, ids in (("input", task.input_files), ("output", task.output_files)):
            if role in {None, name}:
                yield from ((name, known[each]) for each in ids if each in known)

    def _delete_files(self, task: StoredTask, role: str | None) -> list[str]:
        files = [file for _, file in self._files_of(task, role)]
        for file in files:
            self._files.delete(file)
        return [file.id for file in files]

    def _task(self, request: web.Request) -> StoredTask:
        return self._store.get(request.match_info["id"])

    def _session(self, request: web.Request) -> StoredSession:
        return self._store.session(request.match_info["id"])

    def _answer(self, data: object) -> web.Response:
        return answer(self._settings.envelope, data)

    async def _stream(self, request: web.Request, task: StoredTask) -> web.StreamResponse:
        subscription = task.feed.subscribe("snapshots", task, ())
        form = bare_tasks(choose_format(request))
        self.open_streams += 1
        try:
            return await stream(request, subscription, form, self._settings.heartbeat, task)
        finally:
            self.open_streams -= 1
            task.feed.unsubscribe(subscription)


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield the texts in an input, each with its place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")


def _role(request: web.Request) -> str | None:
    role = request.query.get("role") or None
    if role not in {None, "input", "output"}:
        raise invalid("role", "must be input or output.")
    return role


def _file_wire(role: str, file: StoredFile, origin: str) -> Wire:
    return {
        "id": file.id,
        "created_at": file.created_at,
        "role": role,
        "uri": file.uri(origin),
        "filename": file.filename,
        "content_type": file.content_type,
        "size": file.size,
    }


def _read_moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise invalid("run_at", "must be an RFC 3339 time.") from error
