"""``Agent``: one conversation with an agent, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

import attrs

from .agent import AsyncAgent
from .calling_thread import call_with_callbacks
from .file_sources import FileSource, OnProgress
from .loop_thread import LoopThread
from .models import Chat, FileRef, Interrupt, Message, ToolCall
from .sync_stream import MessageStream
from .turn_request import OnApproval, OnMessage, OnToolCall, OnToolProgress, TurnOptions, TurnRequest, Until
from .uncopied import Uncopied

__all__ = ["Agent"]

T = TypeVar("T")


class Agent(Uncopied):
    """One conversation with an agent; made by ``Inference.agent``.

    The first message begins a chat, later ones continue it. Send one message at a time; for several conversations make
    several agents, which cost nothing.

    Example:
        ```python
        agent = client.agent({"name": "greeter"})
        first = agent.send_message("Hello")
        second = agent.send_message("Hello again")
        print(first.chat_id == second.chat_id == agent.chat_id)
        ```

        ```text
        True
        ```
    """

    _instead = "keep its chat_id, and take the chat up where it is needed with client.agent(..., chat_id=...)"

    def __init__(self, thread: LoopThread, agent: AsyncAgent) -> None:
        self._thread = thread
        self._agent = agent

    @property
    def chat_id(self) -> str | None:
        """The chat's id, or None before the first message; it can be stored and passed to ``client.agent`` later."""
        return self._agent.chat_id

    @overload
    def send_message(self, text: str, *, stream: Literal[True], **options: Unpack[TurnOptions]) -> MessageStream: ...

    @overload
    def send_message(self, text: str, *, stream: Literal[False] = False, **options: Unpack[TurnOptions]) -> Message: ...

    @overload
    def send_message(self, text: str, *, stream: bool, **options: Unpack[TurnOptions]) -> MessageStream | Message: ...

    def send_message(
        self,
        text: str,
        *,
        stream: bool = False,
        files: Sequence[FileSource] = (),
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> MessageStream | Message:
        """Send a message and get the agent's reply; as ``AsyncAgent.send_message``, blocking.

        Sync callbacks and tool handlers run on the calling thread, so they may use the client themselves.

        Args:
            text: The message.
            stream: Whether to return a stream of snapshots, each the whole message so far, instead of the final one.
            files: What goes with it, as for ``client.files.upload``; uploaded before the message is sent.
            on_message: Called as ``on_message(text, done)`` with the whole text so far.
            on_tool_call: Called with each client tool's call before its handler.
            on_tool_progress: Called as ``on_tool_progress(tool_call, value)`` with what a handler yields.
            on_approval: Asked once about each call that needs a person's approval: True approves it, False or a text
                with the reason rejects it, None leaves it to ``approve_tool`` and ``reject_tool``.
            conflate: Whether a slow reader skips snapshots that a newer one of the same message has replaced.

        Returns:
            With ``stream=True`` a MessageStream; otherwise the turn's final message, or the one that waits for input.

        Raises:
            RunFailedError: The run failed.
            InputRequiredError: The chat waits for a tool's result, an approval or the like; the message was withdrawn.
            StreamError: The reply was lost for good, or the message, queued behind another turn, was withdrawn.
            FileError: A file cannot be read; the message was not sent.
            PermissionDeniedError: The server takes approvals from signed-in people only (code ``requires_sign_in``).
            TypeError: ``on_approval`` returned something else.
            APIError: The server refused the message, a file, the stream or an approval.
            APIConnectionError: The server could not be reached.

        Example:
            ```python
            for message in agent.send_message("Tell me a story", stream=True):
                print(message.text)

            final = agent.send_message("And another one")
            print(final.status)
            ```

            ```text
            ...
            ready
            ```
        """
        request = TurnRequest.of_message(
            text,
            files=files,
            on_message=on_message,
            on_tool_call=on_tool_call,
            on_tool_progress=on_tool_progress,
            on_approval=on_approval,
            conflate=conflate,
        )
        opened = self._open(request)
        return opened if stream else _finish(opened)

    @overload
    def run(self, text: str, *, output_type: type[T], **options: Unpack[TurnOptions]) -> T: ...

    @overload
    def run(self, text: str, *, output_type: Any = None, **options: Unpack[TurnOptions]) -> Any: ...

    def run(
        self,
        text: str,
        *,
        output_type: Any = None,
        files: Sequence[FileSource] = (),
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> Any:
        """Send a message and get the agent's structured output; as ``AsyncAgent.run``, blocking.

        Args:
            text: The message.
            output_type: What the output is to be: an attrs class, dataclass, TypedDict, enum, or anything of builtin
                types. None takes the output as it is.
            files: As for ``send_message``.
            on_message: As for ``send_message``.
            on_tool_call: As for ``send_message``.
            on_tool_progress: As for ``send_message``.
            on_approval: As for ``send_message``.
            conflate: As for ``send_message``.

        Returns:
            An ``output_type``; without one the JSON value that the agent gave to its ``finish`` tool, None when it gave
            none.

        Raises:
            ConfigurationError: ``output_type`` has no JSON Schema; nothing is sent.
            OutputError: There is no output, or one of another shape; ``output`` has it as it came.
            InputRequiredError: The run waits for a tool's result, an approval or the like instead of ending; or the
                chat did before, as for ``send_message``.
            RunFailedError, StreamError, APIError, APIConnectionError: As for ``send_message``.

        Example:
            ```python
            numbers = agent.run("Add 3 and 4", output_type=list[int])
            print(numbers)
            ```

            ```text
            [...]
            ```
        """
        request = TurnRequest.of_message(
            text,
            output_type=output_type,
            files=files,
            on_message=on_message,
            on_tool_call=on_tool_call,
            on_tool_progress=on_tool_progress,
            on_approval=on_approval,
            conflate=conflate,
        )
        stream = self._open(request)
        try:
            output = stream.get_final_output()
        finally:
            stream.leave()
        return request.read_output(output, stream.message, stream.chat_id)

    def stream_messages(
        self,
        *,
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> MessageStream:
        """Attach to the turn that is running or paused in this chat; as ``AsyncAgent.stream_messages``, blocking.

        Example:
            ```python
            for message in agent.send_message("Tell me a story", stream=True):
                break  # the run goes on at the server

            for message in agent.stream_messages():
                print(message.text)
            ```
        """
        return self._open(
            TurnRequest(
                on_message=on_message,
                on_tool_call=on_tool_call,
                on_tool_progress=on_tool_progress,
                on_approval=on_approval,
                conflate=conflate,
            )
        )

    def wait(self, *, until: Until = "input") -> Message:
        """Wait until the current turn ends or needs input; as ``AsyncAgent.wait``, blocking.

        Example:
            ```python
            for message in agent.send_message("Tell me a story", stream=True):
                break  # the run goes on at the server

            message = agent.wait(until="end")
            print(message.done, message.paused)
            ```

            ```text
            True False
            ```
        """
        return _finish(self._open(TurnRequest.of_wait(until)))

    def submit_tool_result(
        self, tool_call_id: str | ToolCall, result: object, *, files: Sequence[FileSource] = ()
    ) -> None:
        """Answer a tool call; as ``AsyncAgent.submit_tool_result``, blocking.

        Example:
            ```python
            look_up = tool("look_up").describe("Look a word up").param("word", string()).build()
            agent = client.agent({"name": "librarian", "tools": [look_up]})
            message = agent.send_message('Look up "pelican"')
            for call in message.pending_tool_calls:
                agent.submit_tool_result(call, {"meaning": "a bird"})
            print(agent.wait().text)
            ```

            ```text
            The look_up tool answered: {"meaning":"a bird"}
            ```
        """
        self._thread.call(self._agent.submit_tool_result(tool_call_id, result, files=files))

    def upload_file(
        self,
        source: FileSource,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileRef:
        """Upload a file; as ``AsyncAgent.upload_file``, blocking. A sync ``on_progress`` runs on the calling thread.

        Example:
            ```python
            notes = agent.upload_file(b"Buy milk.", filename="notes.txt")
            message = agent.send_message("What do they say?", files=[notes])
            ```
        """
        return call_with_callbacks(
            self._thread,
            lambda relay: self._agent.upload_file(
                source, filename=filename, content_type=content_type, on_progress=relay(on_progress)
            ),
        )

    def approve_tool(self, tool_call_id: str | ToolCall) -> None:
        """Approve a call that waits for a person's approval; as ``AsyncAgent.approve_tool``, blocking.

        Example:
            ```python
            delete = tool("delete").handler(lambda name: "deleted").param("name", string()).require_approval().build()
            agent = client.agent({"name": "janitor", "tools": [delete]})
            message = agent.send_message('Delete "notes.txt"')
            for call in message.pending_approvals:
                print(call.name, call.arguments)
                agent.approve_tool(call)
            message = agent.wait()
            ```

            ```text
            delete {'name': 'notes.txt'}
            ```
        """
        self._thread.call(self._agent.approve_tool(tool_call_id))

    def reject_tool(self, tool_call_id: str | ToolCall, reason: str = "") -> None:
        """Reject a call that waits for a person's approval; as ``AsyncAgent.reject_tool``, blocking.

        Example:
            ```python
            delete = tool("delete").handler(lambda name: "deleted").param("name", string()).require_approval().build()
            agent = client.agent({"name": "janitor", "tools": [delete]})
            message = agent.send_message('Delete "notes.txt"')
            for call in message.pending_approvals:
                agent.reject_tool(call, "The notes are still needed")
            message = agent.wait()
            ```
        """
        self._thread.call(self._agent.reject_tool(tool_call_id, reason))

    def resolve_interrupt(self, interrupt_id: str | Interrupt, decision: Literal["allow", "deny"]) -> Interrupt:
        """Decide about something that holds the run up; as ``AsyncAgent.resolve_interrupt``, blocking.

        Example:
            ```python
            message = agent.send_message("Publish the report")
            for interrupt in message.pending_interrupts:
                print(interrupt.reason)
                agent.resolve_interrupt(interrupt, "allow")
            message = agent.wait()
            ```

            ```text
            confirmation
            ```
        """
        return self._thread.call(self._agent.resolve_interrupt(interrupt_id, decision))

    def stop(self) -> None:
        """End the run on the server; as ``AsyncAgent.stop``, blocking.

        Example:
            ```python
            for message in agent.send_message("Tell me a story", stream=True):
                if len(message.text) > 20:  # characters
                    agent.stop()
            ```
        """
        self._thread.call(self._agent.stop())

    def get_chat(self) -> Chat:
        """Read the chat; as ``AsyncAgent.get_chat``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            chat = agent.get_chat()
            print(chat.id == agent.chat_id, chat.status)
            ```

            ```text
            True ...
            ```
        """
        return self._thread.call(self._agent.get_chat())

    def history(self) -> list[Message]:
        """Read all messages of the chat, oldest first; as ``AsyncAgent.history``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            for message in agent.history():
                print(message.role, message.text)
            ```

            ```text
            user Hello
            assistant You said: "Hello". ...
            ```
        """
        return self._thread.call(self._agent.history())

    def reset(self) -> None:
        """Forget the chat: the next message begins a new one.

        Example:
            ```python
            agent.send_message("Hello")
            agent.reset()
            print(agent.chat_id)
            ```

            ```text
            None
            ```
        """
        self._agent.reset()

    def _open(self, request: TurnRequest) -> MessageStream:
        return MessageStream(self._thread, self._agent, attrs.evolve(request, agent=self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(chat_id={self.chat_id!r})"


def _finish(stream: MessageStream) -> Message:
    """Consume a stream that nobody else sees, and leave nothing of it open."""
    try:
        return stream.get_final_message()
    finally:
        stream.leave()
