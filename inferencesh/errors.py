"""What exceptions of the user's code say, where their own text may fail to come into being."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .models import Interrupt, Message, ToolCall

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "CallbackCancelledError",
    "ConfigurationError",
    "ConfigurationWarning",
    "ConflictError",
    "FileError",
    "InferenceError",
    "InputRequiredError",
    "InternalServerError",
    "NotFoundError",
    "OutputError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequirementsNotMetError",
    "RunFailedError",
    "StreamError",
    "UnreadableError",
    "error_class",
    "exception_text",
    "typed_text",
]


class InferenceError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: The last snapshot received in the turn that this error ended, or None.
        chat_id: The chat the turn belongs to, or None.

    Example:
        ```python
        try:
            message = agent.send_message("Tell me a story")
        except InferenceError as error:
            print(f"{type(error).__name__} in chat {error.chat_id}: {error}")
            if error.message is not None:
                print(error.message.text)  # what has come of the reply
        ```
    """

    message: Message | None = None
    chat_id: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # By default a copy is made by calling the class with `args`, which are not the arguments of every class here.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # not in typeshed


class ConfigurationError(InferenceError, ValueError):
    """A client, agent or tool was set up in a way that cannot work; nothing was sent.

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
    """A name in an agent's configuration is unknown, and probably misspelt; it is sent all the same.

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

    Args:
        detail: What the server said, one line.
        status_code: The HTTP status.
        code: The machine-readable code, such as ``rate_limited``, or None.
        request_id: The server's id of the request, from ``X-Request-Id``, or None.
        body: The decoded body (JSON), or its first 500 characters, or None.
        retry_after: Seconds the server asked to wait, or None.

    Attributes:
        repetitions: How often the request had been repeated when the server gave this answer.

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
    """401: the API key is missing, wrong or revoked."""


class PermissionDeniedError(APIError):
    """403: the API key may not do this."""


class NotFoundError(APIError):
    """404: there is no such chat, agent or tool call."""


class ConflictError(APIError):
    """409: the thing addressed is not in a state that allows this."""


class RequirementsNotMetError(APIError):
    """412: the agent needs secrets, connections or scopes that are missing; ``errors`` lists them.

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
        """The missing things, as the server lists them: ``type``, ``key``, ``message`` and maybe ``action``."""
        listed = self.body.get("errors") if isinstance(self.body, dict) else None
        return tuple(item for item in listed if isinstance(item, dict)) if isinstance(listed, list) else ()


class RateLimitError(APIError):
    """429: too many requests; ``retry_after`` has the seconds the server asked to wait, if it said.

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
    """5xx: the server failed."""


class APIConnectionError(InferenceError):
    """The server could not be reached, or the connection was lost before it had answered.

    Attributes:
        sent: Whether the request can have reached the server.

    Example:
        ```python
        try:
            agent.send_message("Hello")
        except APIConnectionError as error:
            if not error.sent:
                agent.send_message("Hello")  # the first one did not get there
        ```
    """

    sent: bool = True


class APITimeoutError(APIConnectionError):
    """The server did not answer in time."""


class CallbackCancelledError(InferenceError):
    """What a handler or callback was waiting for was cancelled, but not the turn; ``__cause__`` is the CancelledError.

    A callback that lets such a CancelledError out ends the turn with this error. It is not passed on as it is: the
    caller's task would look cancelled, which nobody asked for. A tool's handler that does so answers the agent with an
    error, as with any other exception.

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
    """A file to be uploaded is not there, cannot be read, or changed meanwhile.

    Args:
        errno: The system's number of what went wrong.
        strerror: What went wrong.
        filename: The file, or None for a file object without a name.

    Attributes:
        errno: As given.
        strerror: As given.
        filename: As given.

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

    def __init__(self, errno: int, strerror: str, filename: str | None = None) -> None:
        super().__init__(errno, strerror, filename)

    def __str__(self) -> str:
        which = "the file object" if self.filename is None else f"the file {self.filename!r}"
        return f"{which} cannot be uploaded: {self.strerror}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.filename), self.__dict__


class StreamError(InferenceError):
    """A reply's stream was lost for good, or sent what cannot be read.

    ``message`` holds the last snapshot and ``__cause__`` the last thing that went wrong. The run may still be going on
    at the server: ``agent.wait()`` or ``agent.stream_messages()`` takes it up again.

    Example:
        ```python
        try:
            message = agent.send_message("Tell me a story")
        except StreamError:
            message = agent.wait()
        ```
    """


class RunFailedError(InferenceError):
    """The agent's run failed on the server.

    Attributes:
        message: The last snapshot of the reply, or None when there was none.
        detail: Why it failed, in the server's words.

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


class InputRequiredError(InferenceError):
    """The chat's run waits for input: for a tool's result, an approval, a decision of a person.

    ``run`` raises it when its own run pauses instead of giving its output: once the input is given, ``agent.wait()``
    takes up the turn, and ``agent.get_chat().output`` has the output in the end. Everything that sends a message raises
    it when the chat waits for input already; the message was not answered, and unless the error says otherwise it was
    withdrawn: give the input, ``wait``, then send it again.

    Attributes:
        message: The message that waits, or None when it is not known.
        pending_tool_calls: The calls that wait for ``submit_tool_result``.
        pending_approvals: The calls that wait for ``approve_tool`` or ``reject_tool``.
        pending_interrupts: What waits for ``resolve_interrupt``.

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
    """The run ended without the output that was asked for: there is none, or it is of another shape.

    Args:
        text: What is wrong, and where in the output.
        output: The output.

    Attributes:
        output: The output as the agent gave it, decoded from JSON; None when there is none.

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


def error_class(status_code: int) -> type[APIError]:
    """The class for an error status.

    Args:
        status_code: An HTTP status that is not a success.

    Returns:
        The most specific subclass of APIError, or APIError itself.
    """
    if status_code >= 500:
        return InternalServerError
    return _BY_STATUS.get(status_code, APIError)


def exception_text(error: BaseException) -> str:
    """Return an exception's text; "" where it has none, or where making it fails.

    Args:
        error: The exception.
    """
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the text is made by code of the user, which may raise anything
        return ""


def typed_text(error: BaseException) -> str:
    """Return the name of an exception's class with its text, as in ``ValueError: no such city``.

    Args:
        error: The exception.
    """
    name, text = type(error).__name__, exception_text(error)
    return f"{name}: {text}" if text else name


class UnreadableError(StreamError):
    """The server sent something that cannot be read as what it should be."""
