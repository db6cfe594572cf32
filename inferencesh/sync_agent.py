"""``Agent``: one conversation with an agent, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack, overload

from .agent import AsyncAgent
from .file_sources import FileSource
from .loop_thread import LoopThread
from .models import Chat, Interrupt, Message
from .sync_stream import MessageStream
from .turn_request import OnApproval, OnMessage, OnToolCall, OnToolProgress, TurnOptions, TurnRequest

__all__ = ["Agent"]


class Agent:
    """One conversation with an agent; made by ``Inference.agent``.

    The first message begins a chat, later ones continue it. Send one message at a time; for several conversations make
    several agents, which cost nothing.
    """

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
            StreamError: The reply was lost for good, or the message, queued behind another turn, was withdrawn.
            PermissionDeniedError: The server takes approvals from signed-in people only (code ``requires_sign_in``).
            TypeError: ``on_approval`` returned something else.
            APIError: The server refused the message, the stream or an approval.
            APIConnectionError: The server could not be reached.
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

    def stream_messages(
        self,
        *,
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> MessageStream:
        """Attach to the turn that is running or paused in this chat; as ``AsyncAgent.stream_messages``, blocking."""
        return self._open(
            TurnRequest(
                on_message=on_message,
                on_tool_call=on_tool_call,
                on_tool_progress=on_tool_progress,
                on_approval=on_approval,
                conflate=conflate,
            )
        )

    def wait(self) -> Message:
        """Wait until the current turn ends or needs input; as ``AsyncAgent.wait``, blocking."""
        return _finish(self.stream_messages())

    def submit_tool_result(self, tool_call_id: str, result: object) -> None:
        """Answer a tool call; as ``AsyncAgent.submit_tool_result``, blocking."""
        self._thread.call(self._agent.submit_tool_result(tool_call_id, result))

    def approve_tool(self, tool_call_id: str) -> None:
        """Approve a call that waits for a person's approval; as ``AsyncAgent.approve_tool``, blocking."""
        self._thread.call(self._agent.approve_tool(tool_call_id))

    def reject_tool(self, tool_call_id: str, reason: str = "") -> None:
        """Reject a call that waits for a person's approval; as ``AsyncAgent.reject_tool``, blocking."""
        self._thread.call(self._agent.reject_tool(tool_call_id, reason))

    def resolve_interrupt(self, interrupt_id: str, decision: Literal["allow", "deny"]) -> Interrupt:
        """Decide about something that holds the run up; as ``AsyncAgent.resolve_interrupt``, blocking."""
        return self._thread.call(self._agent.resolve_interrupt(interrupt_id, decision))

    def stop(self) -> None:
        """End the run on the server; as ``AsyncAgent.stop``, blocking."""
        self._thread.call(self._agent.stop())

    def get_chat(self) -> Chat:
        """Read the chat; as ``AsyncAgent.get_chat``, blocking."""
        return self._thread.call(self._agent.get_chat())

    def history(self) -> list[Message]:
        """Read all messages of the chat, oldest first; as ``AsyncAgent.history``, blocking."""
        return self._thread.call(self._agent.history())

    def reset(self) -> None:
        """Forget the chat: the next message begins a new one."""
        self._agent.reset()

    def _open(self, request: TurnRequest) -> MessageStream:
        return MessageStream(self._thread, self._agent, request)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(chat_id={self.chat_id!r})"


def _finish(stream: MessageStream) -> Message:
    """Consume a stream that nobody else sees, and leave nothing of it open."""
    try:
        return stream.get_final_message()
    finally:
        stream.leave()
