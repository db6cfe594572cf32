"""The exceptions and warnings of this package.

Every exception derives from ``InferenceError``. This module imports nothing else of the package at run time, so that
every other module can import it.
"""

from __future__ import annotations

import copyreg
import functools
import os
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .models import Interrupt, Message, ToolCall
    from .task_models import Task

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "CallbackCancelledError",
    "ClaimStoreError",
    "ConfigurationError",
    "ConfigurationWarning",
    "ConflictError",
    "FileError",
    "InferenceError",
    "InputRequiredError",
    "InternalServerError",
    "LeaseHeldError",
    "LeaseLostError",
    "NotFoundError",
    "OutputError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequirementsNotMetError",
    "RunFailedError",
    "SessionExpiredError",
    "StreamError",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskTimeoutError",
    "WorkerLostError",
    "error_class",
    "exception_text",
    "no_attribute",
    "refusing",
    "short_tracebacks",
    "shorten_traceback",
    "typed_text",
]

T = TypeVar("T")


class InferenceError(Exception):
    """Base class of all errors of this package; catch it to handle any of them.

    Tracebacks have only that frame of this package that has raised the error; set the environment variable
    ``INFERENCESH_FULL_TRACEBACKS`` to see all of them.

    Attributes:
        message: The last snapshot received in the turn that this error ended, or None.
        chat_id: The chat the turn belongs to, or None.
        task: The last snapshot received of the task that this error is about, or None.

    Example:
        ```python
        try:
            message = agent.send_message("Tell me a story")
        except InferenceError as error:
            print(f"{type(error).__name__} in chat {error.chat_id}: {error}")
            if error.message is not None:
                print(error.message.text)  # the part of the reply that was received
        ```
    """

    message: Message | None = None
    chat_id: str | None = None
    task: Task | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # By default a copy is made by calling the class with `args`, which are not the arguments of every class here.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # not in typeshed


class ConfigurationError(InferenceError, ValueError):
    """A client, agent, tool or argument was set up in a way that cannot work.

    Nothing was sent. The text names the value that is wrong; correct it in the calling code. It is a ValueError too.

    Example:
        ```python
        try:
            tool("").build()
        except ConfigurationError as error:
            print(error)
        ```

        ```text
        the tool '' cannot be built: it has no name
        ```
    """


class ConfigurationWarning(UserWarning):
    """An agent's configuration has an unknown name, which is probably misspelt.

    The name is sent all the same, but the service may ignore it. The warning suggests the name that was probably meant;
    filter this category if the name is right.

    Example:
        ```python
        import warnings

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client.agent({"nmae": "guide"})
        print(caught[0].category.__name__)
        ```

        ```text
        ConfigurationWarning
        ```
    """


class APIError(InferenceError):
    """The server answered a request with an error status.

    The subclasses stand for the statuses that callers handle differently. Requests that are safe to send again have
    been retried already. Quote ``request_id`` when reporting a problem to the service.

    Args:
        detail: What the server said, one line.
        status_code: The HTTP status.
        code: The machine-readable code, such as ``rate_limited``, or None.
        request_id: The server's id of the request, from ``X-Request-Id``, or None.
        body: The decoded body (JSON), or its first 500 characters, or None.
        retry_after: Seconds the server asked to wait, or None.

    Attributes:
        detail: As given (str).
        status_code: As given (int).
        code: As given (str or None).
        request_id: As given (str or None).
        body: As given.
        retry_after: As given (float or None).
        repetitions: The number of retries before this response (int).

    Example:
        ```python
        try:
            client.chats.get("no-such-chat")
        except APIError as error:
            print(error.status_code, error.code, error.request_id)
        ```

        ```text
        404 ...
        ```
    """

    repetitions: int = 0

    def __init__(
        self,
        detail: str,
        *,
        status_code: int,
        code: str | None = None,
        request_id: str | None = None,
        body: object = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status_code = status_code
        self.code = code
        self.request_id = request_id
        self.body = body
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = f"HTTP {self.status_code}" + (f", {self.code}" if self.code else "")
        reference = f"; request {self.request_id}" if self.request_id else ""
        return f"{self.detail} ({facts}{reference})"


class AuthenticationError(APIError):
    """401: the API key is missing, wrong or revoked.

    Check ``api_key=`` or the environment variable ``INFERENCE_API_KEY``; retrying does not help.
    """


class PermissionDeniedError(APIError):
    """403: the API key is valid but does not permit this request.

    Use a key with the permission, or one of the account that owns the chat, agent or app.
    """


class NotFoundError(APIError):
    """404: there is no such chat, agent, file or tool call.

    It was deleted, belongs to another account, or its id is misspelt.
    """


class ConflictError(APIError):
    """409: the chat, message or tool call is not in a state that allows this request.

    A tool call may have been answered already, for example. Read the chat again with ``agent.get_chat()`` to see its
    state.
    """


class RequirementsNotMetError(APIError):
    """412: the agent or app needs secrets, connections or scopes that are missing, or another input.

    Add what ``errors`` lists in the workspace's settings, then try again. Of an input that does not match the app's
    schema it lists each field that is wrong.

    Example:
        ```python
        try:
            agent.send_message("Hello")
        except RequirementsNotMetError as error:
            for missing in error.errors:
                print(missing["type"], missing["key"], missing["message"])
        ```
    """

    @property
    def errors(self) -> Sequence[Mapping[str, object]]:
        """Return what is missing, as listed by the server: ``type``, ``key``, ``message`` and maybe ``action``."""
        listed = self.body.get("errors") if isinstance(self.body, dict) else None
        return tuple(item for item in listed if isinstance(item, dict)) if isinstance(listed, list) else ()


class RateLimitError(APIError):
    """429: too many requests were sent, and the retries are used up or the server asked for too long a wait.

    Wait for ``retry_after`` seconds (None if the server did not say) before the next request.

    Example:
        ```python
        import time

        try:
            agent.send_message("Hello")
        except RateLimitError as error:
            time.sleep(error.retry_after or 1.0)  # seconds
        ```
    """


class InternalServerError(APIError):
    """5xx: the server failed to handle the request.

    The request was retried as far as that is safe. A message that was refused with 500 may still have been taken: read
    the chat before sending it again.
    """


class WorkerLostError(InternalServerError):
    """The worker of a session was lost, and the session's state with it.

    Begin a new session. If the loss ended a task, ``task`` is its last snapshot.
    """


class SessionExpiredError(APIError):
    """410: the session has expired or was ended, and its state is gone.

    ``code`` says which: ``SESSION_EXPIRED`` or ``SESSION_ENDED``. Begin a new session.

    Example:
        ```python
        with client.session("infsh/session-test") as session:
            session.run({"key": "a", "value": "1"}, function="set_value")
            client.sessions.end(session.id)
            try:
                session.run({"key": "a"}, function="get_value")
            except SessionExpiredError as error:
                print(error.code)
        ```

        ```text
        SESSION_ENDED
        ```
    """


class APIConnectionError(InferenceError):
    """The server could not be reached, or the connection was lost before the response was complete.

    If ``sent`` is False the request can be sent again safely; otherwise the server may have acted on it.

    Attributes:
        sent: Whether the request may have reached the server (bool).

    Example:
        ```python
        try:
            agent.send_message("Hello")
        except APIConnectionError as error:
            if not error.sent:
                agent.send_message("Hello")  # the first one was not sent
        ```
    """

    sent: bool = True


class APITimeoutError(APIConnectionError):
    """The server did not respond within a time limit.

    The limits are those of ``Timeout``, passed to the client as ``timeout=``. If ``sent`` is True the server may have
    acted on the request.
    """


class CallbackCancelledError(InferenceError):
    """A callback raised CancelledError although its turn was not cancelled; ``__cause__`` is the CancelledError.

    This happens when a task that the callback awaits is cancelled; handle CancelledError in the callback if that is
    expected. The CancelledError itself is not raised, because the caller's task would look cancelled without anybody
    having cancelled it. If a tool's handler raises it, the agent receives an error as the tool's result, as with any
    other exception.

    Example:
        ```python
        import asyncio


        async def on_message(text, done):
            raise asyncio.CancelledError  # as if it had awaited a task that somebody cancelled


        try:
            agent.send_message("Hello", on_message=on_message)
        except CallbackCancelledError as error:
            print(type(error.__cause__).__name__)
        ```

        ```text
        CancelledError
        ```
    """


class FileError(InferenceError, OSError):
    """A file to be uploaded does not exist, cannot be read, or changed; or a download cannot be written.

    The message or task that an uploaded file belongs to was not sent. It is an OSError too.

    Args:
        errno: The error number, as in the module ``errno``.
        strerror: The reason.
        filename: The file, or None for a file object without a name.

    Attributes:
        errno: As given (int).
        strerror: As given (str).
        filename: As given (str or None).

    Example:
        ```python
        from pathlib import Path

        try:
            agent.send_message("What is this?", files=[Path("missing.png")])
        except FileError as error:
            print(error.filename, error.strerror)
        ```

        ```text
        missing.png No such file or directory
        ```
    """

    _failure = "cannot be uploaded"

    def __init__(self, errno: int, strerror: str, filename: str | None = None) -> None:
        super().__init__(errno, strerror, filename)

    @classmethod
    def _of_download(cls, error: OSError, path: str) -> FileError:
        """Return the error for a download that cannot be written."""
        made = cls(error.errno or 0, error.strerror or str(error), path)
        made._failure = "cannot be written"
        return made

    def __str__(self) -> str:
        which = "the file object" if self.filename is None else f"the file {self.filename!r}"
        return f"{which} {self._failure}: {self.strerror}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.filename), self.__dict__


class StreamError(InferenceError):
    """The stream of a reply was lost and could not be resumed, or it had unreadable content.

    ``message`` is the last snapshot and ``__cause__`` the last failure. The run may still be in progress on the server:
    resume it with ``agent.wait()`` or ``agent.stream_messages()``.

    Example:
        ```python
        try:
            message = agent.send_message("Tell me a story")
        except StreamError:
            message = agent.wait()
        ```
    """


class LeaseHeldError(InferenceError):
    """Another worker still holds the lease of the turn.

    Raised by ``take_over(wait=seconds)`` if the other worker has renewed the lease for all that time. Call
    ``take_over`` again only if that worker fails later.

    Example:
        ```python
        try:
            message = agent.take_over(wait=0).get_final_message()
        except LeaseHeldError:
            print("another worker still has the turn")
        except InferenceError as error:
            print(f"there is nothing to take over: {error}")
        ```

        ```text
        there is nothing to take over: ...
        ```
    """


class LeaseLostError(InferenceError):
    """Another worker has taken over the turn, because this one did not renew its lease in time.

    This happens to a process that was suspended, or cut off from the claim store, for longer than the lease. The other
    worker continues the turn, so do not repeat it here. ``message`` is the last snapshot that was received here.
    """


class ClaimStoreError(InferenceError):
    """The claim store, such as Redis, could not be reached, or an operation on it failed.

    Nothing was claimed, so the tool call was not run, or the message was not sent. ``__cause__`` is the error of the
    store's own client. Pass ``on_claim_store_lost="run"`` to the client to continue without the store.
    """


class UnreadableError(StreamError):
    """The server, or a proxy in between, sent a response or an event that is not of the expected form.

    The text says what was expected. Check that ``base_url`` is the address of the service, and update this package if
    the service has changed.
    """


class RunFailedError(InferenceError):
    """The agent's run failed on the server.

    The message was received, but the run ended with an error. Whether sending it again helps depends on ``detail``.

    Attributes:
        message: The last snapshot of the reply (Message), or None if there was none.
        detail: The reason given by the server (str).

    Example:
        ```python
        try:
            agent.send_message("Tell me a story")
        except RunFailedError as error:
            print(error.detail)
        ```
    """

    def __init__(self, detail: str) -> None:
        super().__init__(f"the agent's run failed: {detail}")
        self.detail = detail


class TaskFailedError(InferenceError):
    """A task failed, or the service refused to run it.

    Attributes:
        task: The task (Task), with what it has logged and given out before.
        detail: The reason given by the server (str).

    Example:
        ```python
        try:
            client.tasks.run("demo/slow", {"steps": 2, "fail_at": 1})
        except TaskFailedError as error:
            print(error.detail)
            print(error.task.status, error.task.log)
        ```

        ```text
        The step 1 of 2 failed, as it was asked to.
        failed gave up at step 1 of 2
        ```
    """

    def __init__(self, detail: str, what: str = "the task failed") -> None:
        super().__init__(f"{what}: {detail}" if detail else what)
        self.detail = detail


class TaskCancelledError(TaskFailedError):
    """A task was cancelled, by this program or by another one, while its result was waited for.

    Attributes:
        task: The task (Task), with what it has logged and given out before.
        detail: The reason given by the server (str), or "".
    """


class TaskTimeoutError(InferenceError, TimeoutError):
    """A task did not end within the ``timeout`` of the call that waited for it. It goes on at the server.

    Wait for it again, or cancel it. It is a TimeoutError too.

    Attributes:
        task: The last snapshot (Task), or None if none was received.

    Example:
        ```python
        try:
            task = client.tasks.run("demo/slow", {"seconds": 60}, timeout=0.2)
        except TaskTimeoutError as error:
            client.tasks.cancel(error.task.id)
        ```
    """


class InputRequiredError(InferenceError):
    """The chat's run is waiting for input: the result of a tool, an approval, or a person's decision.

    ``run`` raises it when its run pauses before the output is complete: provide the input, resume with
    ``agent.wait()``, and read the output from ``agent.get_chat().output``. Every method that sends a message raises it
    if the chat is already waiting for input. The message was then not answered and, unless the error says otherwise,
    was withdrawn: provide the input, call ``wait``, then send the message again.

    Attributes:
        message: The message that is waiting (Message), or None if it is not known.
        pending_tool_calls: The calls waiting for ``submit_tool_result`` (tuple of ToolCall).
        pending_approvals: The calls waiting for ``approve_tool`` or ``reject_tool`` (tuple of ToolCall).
        pending_interrupts: The interrupts waiting for ``resolve_interrupt`` (tuple of Interrupt).

    Example:
        ```python
        try:
            agent.run("Publish the report")
        except InputRequiredError as error:
            for interrupt in error.pending_interrupts:
                agent.resolve_interrupt(interrupt, "allow")
            agent.wait()
            print(agent.get_chat().output)
        ```
    """

    pending_tool_calls: tuple[ToolCall, ...] = ()
    pending_approvals: tuple[ToolCall, ...] = ()
    pending_interrupts: tuple[Interrupt, ...] = ()


class OutputError(InferenceError):
    """The run completed, but its output is missing or does not match ``output_type``.

    Make the type more lenient, or describe the expected output in the system prompt.

    Args:
        text: What is wrong, and where in the output.
        output: The output.

    Attributes:
        output: The output of the agent, decoded from JSON; None if there is none.

    Example:
        ```python
        try:
            stars = agent.run("How many stars?", output_type=int)
        except OutputError as error:
            print(error, error.output)
        ```
    """

    def __init__(self, text: str, output: Any = None) -> None:
        super().__init__(text)
        self.output = output


_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: RequirementsNotMetError,
    429: RateLimitError,
}


_BY_CODE: dict[str, type[APIError]] = {
    "SESSION_EXPIRED": SessionExpiredError,
    "SESSION_ENDED": SessionExpiredError,
    "WORKER_LOST": WorkerLostError,
}


def error_class(status_code: int, code: str | None = None) -> type[APIError]:
    """Return the exception class for an error status.

    Args:
        status_code: An HTTP status that is not a success.
        code: The machine-readable code, which is more specific than some statuses.

    Returns:
        The most specific subclass of APIError, or APIError itself.
    """
    by_code = _BY_CODE.get((code or "").upper())
    if by_code is not None:
        return by_code
    if status_code >= 500:
        return InternalServerError
    return _BY_STATUS.get(status_code, APIError)


def exception_text(error: BaseException) -> str:
    """Return an exception's text, or "" if it has none or its ``__str__`` raises.

    Args:
        error: The exception.
    """
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - __str__ may be the user's code, which can raise anything
        return ""


def typed_text(error: BaseException) -> str:
    """Return the name of an exception's class with its text, as in ``ValueError: no such city``.

    Args:
        error: The exception.
    """
    name, text = type(error).__name__, exception_text(error)
    return f"{name}: {text}" if text else name


def refusing(text: str) -> Callable[..., NoReturn]:
    """Return a method for a syntax that a class does not support, such as ``__await__``.

    Args:
        text: The text of the TypeError that it raises: what to write instead.
    """

    def refuse(*_: object) -> NoReturn:
        raise TypeError(text)

    return refuse


def no_attribute(thing: object, name: str, advice: str = "") -> AttributeError:
    """Return the error about an attribute that an object does not have.

    Args:
        thing: The object.
        name: The attribute.
        advice: What to write instead, or "".
    """
    text = f"{type(thing).__name__!r} object has no attribute {name!r}" + (f": {advice}" if advice else "")
    return AttributeError(text, name=name, obj=thing)


_PACKAGE = __name__.partition(".")[0]
_COROUTINE = 0x80  # a flag of the code of async functions; the module inspect takes long to import
_ENTRIES = frozenset(
    {"__init__", "__anext__", "__next__", "__aenter__", "__aexit__", "__enter__", "__exit__", "_open", "_result"}
)


def shorten_traceback(error: BaseException) -> None:
    """Leave this package's frames out of an exception's traceback, except for the one that has raised it.

    So the caller's own line is at the top, and that of a callback which has failed is next to it. The environment
    variable ``INFERENCESH_FULL_TRACEBACKS`` keeps all frames.
    """
    entries, entry = [], error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    if len(entries) < 2 or os.environ.get("INFERENCESH_FULL_TRACEBACKS"):
        return
    shortened = None
    for each in reversed(entries):
        if shortened is None or each.tb_frame.f_globals.get("__name__", "").partition(".")[0] != _PACKAGE:
            shortened = TracebackType(shortened, each.tb_frame, each.tb_lasti, each.tb_lineno)
    error.__traceback__ = shortened


def short_tracebacks(cls: type[T]) -> type[T]:
    """Have the public methods of a class raise exceptions with short tracebacks; for use as a decorator."""
    for name, member in list(vars(cls).items()):
        if isinstance(member, FunctionType) and (name in _ENTRIES or not name.startswith("_")):
            setattr(cls, name, _shortening(member))
    return cls


def _shortening(function: FunctionType) -> Callable[..., Any]:
    @functools.wraps(function)
    def shortening(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            shorten_traceback(error)
            raise

    @functools.wraps(function)
    async def shortening_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except Exception as error:
            shorten_traceback(error)
            raise

    return shortening_async if function.__code__.co_flags & _COROUTINE else shortening
