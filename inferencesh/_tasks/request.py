"""What a caller asks of one task: the app and its input, or a task to follow, and the callbacks."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

import attrs

from inferencesh._http.sources import OnProgress
from inferencesh._http.tasks import check_input
from inferencesh._loops.invoke import check_callback
from inferencesh._types.output import OutputType
from inferencesh.config import check_seconds
from inferencesh.errors import ConfigurationError, InferenceError, OutputError
from inferencesh.task_models import Task

__all__ = ["OnUpdate", "RunOptions", "SessionRunOptions", "SessionSlot", "TaskRequest"]

OnUpdate: TypeAlias = Callable[[Task], Any]  # with each snapshot, the final one included

_LONGEST_SESSION = 3600  # seconds without use; the service's limit
_NAMES = frozenset(
    [
        "app",
        "app_id",
        "version_id",
        "input",
        "function",
        "setup",
        "infra",
        "workers",
        "webhook",
        "session",
        "session_timeout",
        "run_at",
        "metadata",
    ]
)


class SessionRunOptions(TypedDict, total=False):
    """The keyword arguments of methods that run an app in a session, documented at ``AsyncTasks.run``."""

    function: str | None
    setup: object
    on_update: OnUpdate | None
    on_upload: OnProgress | None
    timeout: float | None


class RunOptions(SessionRunOptions, total=False):
    """The keyword arguments of methods that run an app, documented at ``AsyncTasks.run``."""

    session: str | None
    session_timeout: int | None
    infra: str | None
    workers: Sequence[str] | None
    webhook: str | None
    run_at: datetime.datetime | str | None


class SessionSlot:
    """The session that the runs of one session object share, which the first of them creates.

    Args:
        timeout: Seconds without use after which the session is to expire, or None for the service's default.

    Attributes:
        id: The session's id, or None while it is not known.
        to_end: The id of the session while it has to be ended, or None.
        lost: Why the session is gone, or None.
        on_known: Called on the loop when the id becomes known, or None.
    """

    def __init__(self, timeout: int | None) -> None:
        self.id: str | None = None
        self.to_end: str | None = None
        self.lost: InferenceError | None = None
        self.on_known: Callable[[], None] | None = None
        self._timeout = timeout
        self._closed = False
        self._creating = False
        self._lock: asyncio.Lock | None = None

    def close(self) -> None:
        """Refuse further runs."""
        self._closed = True

    def require_id(self) -> str:
        """Return the id.

        Raises:
            InferenceError: It is not known.
        """
        if self.id is None:
            raise InferenceError("this session does not exist yet; its first run creates it")
        return self.id

    async def post(self, post: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """Post the request of a run in this session; the requests of others wait while the session is created.

        Args:
            post: Posts the request, with these fields added.

        Returns:
            The response.

        Raises:
            InferenceError: The session was ended, or is gone.
        """
        self._check()
        if self.id is None:
            self._lock = self._lock or asyncio.Lock()
            async with self._lock:
                self._check()
                if self.id is None:
                    return await self._create(post)
        return await post({"session": self.id})

    def note(self, session_id: str | None) -> None:
        """Take in the session's id from the state of a task."""
        if session_id and session_id != "new" and self.id is None:
            self.id = self.to_end = session_id
            if self.on_known is not None and not self._closed:
                self.on_known()

    async def _create(self, post: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        if self._creating:
            raise InferenceError(
                "the first run of this session has not said yet which session it is in; wait for its end before the "
                "next run"
            )
        extra = {"session_timeout": self._timeout} if self._timeout is not None else {}
        answer = await post({"session": "new", **extra})
        self._creating = True
        session_id = answer.get("session_id")
        self.note(session_id if isinstance(session_id, str) else None)
        return answer

    def _check(self) -> None:
        if self.lost is not None:
            raise self.lost
        if self._closed:
            raise InferenceError("this session was ended; make another one with client.session(...)")


@attrs.frozen
class TaskRequest:
    """The arguments with which a task is run, or followed.

    Attributes:
        body: The request that creates the task, without its input; None to follow ``task_id``.
        input: The input, with the files in it.
        task_id: The task to follow, or None.
        output: The type of the output, or None.
        on_update: As for ``AsyncTasks.run``.
        on_upload: As for ``AsyncTasks.run``.
        timeout: Seconds after which it is not waited for any longer, or None.
        slot: The session that the task is to run in, where a session object runs it.

    Raises:
        TypeError: A callback cannot be called, or is a generator function, the body of which would never run.
        ConfigurationError: The timeout is no positive number.
    """

    body: Mapping[str, Any] | None = None
    input: object = attrs.field(default=None, repr=False)
    task_id: str | None = None
    output: OutputType[Any] | None = None
    on_update: OnUpdate | None = None
    on_upload: OnProgress | None = None
    timeout: float | None = None
    slot: SessionSlot | None = None

    def __attrs_post_init__(self) -> None:
        check_callback("on_update", self.on_update)
        check_callback("on_upload", self.on_upload)
        check_seconds("timeout", self.timeout, optional=True)

    @classmethod
    def of_run(
        cls,
        app: object,
        value: object,
        *,
        function: str | None = None,
        session: str | None = None,
        session_timeout: int | None = None,
        setup: object = None,
        infra: str | None = None,
        workers: Sequence[str] | None = None,
        webhook: str | None = None,
        run_at: datetime.datetime | str | None = None,
        on_update: OnUpdate | None = None,
        on_upload: OnProgress | None = None,
        timeout: float | None = None,
        output_type: Any = None,
    ) -> TaskRequest:
        """Return the request of a task that is to be created.

        Raises:
            TypeError, ConfigurationError: An argument is of another type, or has a value that cannot be meant.
        """
        body, value = _body_of(app, value)
        if session_timeout is not None:
            _check_session_timeout(session_timeout, session or body.get("session"))
        if run_at is not None:
            run_at = _moment(run_at)
        if workers is not None and (isinstance(workers, str) or not all(isinstance(each, str) for each in workers)):
            raise TypeError("workers must be a list of the ids of workers")
        named = {
            "function": function,
            "session": session,
            "session_timeout": session_timeout,
            "setup": setup,
            "infra": infra,
            "workers": list(workers) if workers is not None else None,
            "webhook": webhook,
            "run_at": run_at,
        }
        body.update({name: value for name, value in named.items() if value is not None})
        check_input(value)
        output = OutputType.of(output_type, "task") if output_type is not None else None
        return cls(body, value, output=output, on_update=on_update, on_upload=on_upload, timeout=timeout)

    def in_session(self, slot: SessionSlot) -> TaskRequest:
        """Return the request of the same task in the session of a session object."""
        return attrs.evolve(self, slot=slot)

    def read_output(self, task: Task) -> Any:
        """Return a task's output as an instance of the output type; unchanged if there is none.

        Raises:
            OutputError: There is no output, or it does not match the type.
        """
        output = task.output
        if self.output is None:
            return output
        try:
            return self.output.read(output)
        except OutputError as error:
            error.task = task
            raise


def _body_of(app: object, value: object) -> tuple[dict[str, Any], object]:
    """Return the request that names an app, and the input; both may come in one mapping, as the official SDK has it."""
    if isinstance(app, Mapping):
        unknown = [name for name in app if name not in _NAMES]
        if unknown:
            raise ConfigurationError(f"a task has no parameter {unknown[0]!r}; known are {', '.join(sorted(_NAMES))}")
        if value is not None and app.get("input") is not None:
            raise ConfigurationError("the input was given twice: in the mapping and as an argument")
        body = {name: item for name, item in app.items() if name != "input" and item is not None}
        value = app.get("input") if value is None else value
    elif isinstance(app, str):
        body = {"app": app}
    else:
        raise TypeError(f"an app is named by text, as in 'namespace/name', not by {type(app).__name__}")
    if not any(isinstance(body.get(name), str) and body[name].strip() for name in ("app", "app_id")):
        raise ConfigurationError("no app is named; name one as in 'namespace/name'")
    return body, {} if value is None else value


def _check_session_timeout(seconds: object, session: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= _LONGEST_SESSION:
        raise ConfigurationError(f"session_timeout must be 1 to {_LONGEST_SESSION} whole seconds, not {seconds!r}")
    if session != "new":
        raise ConfigurationError("session_timeout goes with session='new': it is set when the session is created")


def _moment(run_at: object) -> str:
    if isinstance(run_at, datetime.datetime):
        if run_at.tzinfo is None:
            raise ConfigurationError("run_at has no time zone; use datetime.now(UTC) or astimezone()")
        return run_at.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if not isinstance(run_at, str):
        raise TypeError(f"run_at must be a datetime or RFC 3339 text, not {type(run_at).__name__}")
    return run_at
