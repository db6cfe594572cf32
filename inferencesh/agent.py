"""``AsyncAgent``: one conversation with an agent."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

import attrs

from ._http.api import ChatAPI
from ._http.sources import FileSource, OnProgress
from ._http.transport import Transport
from ._http.uploads import check_result_files
from ._loops.invoke import Invoker, ThreadInvoker, invoke
from ._loops.threads import Uncopied
from ._turns.conversation import AgentSetup, Conversation
from ._turns.driver import AgentOptions, TurnDriver
from ._turns.request import OnApproval, OnDelta, OnMessage, OnToolCall, OnToolProgress, TurnOptions, TurnRequest, Until
from ._types.codec import structure
from ._types.encoding import encode_result, plain_result
from .config import AgentConfig
from .errors import ConfigurationError, refusing, short_tracebacks
from .events import AsyncEventStream
from .models import Chat, FileRef, Interrupt, Message, ToolCall
from .resources import AsyncFiles
from .stream import AsyncMessageStream

if TYPE_CHECKING:
    from .types import AgentNames

    class _AgentNames(AgentNames, Uncopied): ...

else:
    _AgentNames = Uncopied  # the methods of the base class come from ``__getattr__``

__all__ = ["AsyncAgent"]

T = TypeVar("T")


@short_tracebacks
class AsyncAgent(_AgentNames):
    """One conversation with an agent; made by ``AsyncInference.agent``.

    The first message begins a chat, and later messages continue it. Send one message at a time; for several
    conversations make several agents, which are cheap.

    Example:
        ```python
        agent = client.agent({"name": "greeter"})
        first = await agent.send_message("Hello")
        second = await agent.send_message("Hello again")
        print(first.chat_id == second.chat_id == agent.chat_id)
        ```

        ```text
        True
        ```
    """

    _instead = "keep its chat_id, and take the chat up where it is needed with client.agent(..., chat_id=...)"

    def __init__(
        self,
        transport: Transport,
        setup: AgentSetup,
        chat_id: str | None,
        context: Mapping[str, str] | None,
        options: AgentOptions,
    ) -> None:
        self._transport = transport
        self._options = options
        self._conversation = Conversation(ChatAPI(transport), setup, chat_id, context)

    @property
    def chat_id(self) -> str | None:
        """The chat's id, or None before the first message. It can be stored and passed to ``client.agent`` later."""
        return self._conversation.chat_id

    @overload
    def send_message(
        self, text: str, *, stream: Literal[True], output_type: type[T], **options: Unpack[TurnOptions]
    ) -> AsyncMessageStream[T]: ...

    @overload
    def send_message(
        self, text: str, *, stream: Literal[True], output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> AsyncMessageStream: ...

    @overload
    def send_message(
        self, text: str, *, stream: Literal[False] = False, output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> Coroutine[Any, Any, Message]: ...

    @overload
    def send_message(
        self, text: str, *, stream: bool, output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> AsyncMessageStream | Coroutine[Any, Any, Message]: ...

    def send_message(
        self,
        text: str,
        *,
        stream: bool = False,
        output_type: Any = None,
        files: Sequence[FileSource] = (),
        idempotency_key: str | None = None,
        on_message: OnMessage | None = None,
        on_delta: OnDelta | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> AsyncMessageStream | Coroutine[Any, Any, Message]:
        """Send a message and get the agent's reply.

        Calls of client tools that have a handler are run, and the turn goes on with their results. A call of a tool
        without a handler pauses the turn: the reply has it in ``pending_tool_calls``; answer it with
        ``submit_tool_result``, then ``wait``.

        A message that is sent while the chat is busy is queued. If the chat waits for input, or starts to while the
        message is queued, the message is withdrawn and InputRequiredError says what is pending. If only the result of a
        client tool is pending, which another program may be about to submit, this happens after two seconds.

        Args:
            text: The message.
            stream: Whether to return a stream of snapshots, each the whole message so far, instead of the final one.
            output_type: The type of the structured output that the agent is to give, as for ``run``: the reply has it
                as ``output``, a stream returns it from ``get_final_output``.
            files: The files that go with it, as for ``client.files.upload``; uploaded before the message is sent.
            idempotency_key: A unique key of this message, such as the id of a job that may be redelivered. A message
                with a key that was sent before, by this or another process with the same ``claims``, is not sent again.
                Its turn is returned instead: the rest of it once no other worker has it, or its end if it is over.
            on_message: Called as ``on_message(text, done)`` with the whole text so far: for each snapshot with
                ``done=False``, and once at the end with ``done=True``. A function that takes one argument only is
                called with each snapshot, a Message. Sync or async.
            on_delta: Called as ``on_delta(delta)`` with a Delta, what was added: for each snapshot in which the text or
                the reasoning has changed, before ``on_message``. Where the earlier text is no longer valid,
                ``delta.rewritten`` is true and ``delta.text`` is the whole text. Sync or async.
            on_tool_call: Called with each call of a client tool before its handler. Sync or async.
            on_tool_progress: Called as ``on_tool_progress(tool_call, value)`` with each value that a handler yields
                before its result. Sync or async.
            on_approval: Called once for each tool call that needs a person's approval, one call at a time. It returns
                True to approve the call, False or the reason as a str to reject it, or None to leave it to
                ``approve_tool`` and ``reject_tool``. If somebody else decides first, that decision counts. Sync or
                async.
            conflate: Whether a slow reader skips snapshots that a newer one of the same message has replaced.

        Returns:
            With ``stream=True`` an AsyncMessageStream, which needs no ``await``; otherwise a coroutine that returns the
            turn's final message, or the message that waits for input.

        Raises:
            RunFailedError: The run failed.
            InputRequiredError: The chat waits for a tool's result, an approval or the like; the message was withdrawn.
            ConfigurationError: ``output_type`` has no JSON Schema. Raised by the call itself; nothing is sent.
            OutputError: The run has ended without an output of the type ``output_type``.
            StreamError: The reply was lost for good; the message was withdrawn while it was queued; or it is not known
                whether an earlier attempt with this ``idempotency_key`` has started a chat.
            LeaseLostError: Another worker has taken over the turn, because this process was suspended for too long.
            ClaimStoreError: The claim store is unavailable, and a tool call or a message with a key needs a claim.
            FileError: A file cannot be read; the message was not sent.
            PermissionDeniedError: The server takes approvals from signed-in people only (code ``requires_sign_in``).
            TypeError: ``on_approval`` returned something else.
            APIError: The server refused the message, a file, the stream or an approval.
            APIConnectionError: The server could not be reached.

        Example:
            ```python
            async for message in agent.send_message("Tell me a story", stream=True):
                print(message.text)

            final = await agent.send_message("And another one")
            print(final.status)
            ```

            ```text
            ...
            ready
            ```
        """
        request = TurnRequest.of_message(
            text,
            output_type=output_type,
            files=files,
            idempotency_key=idempotency_key,
            on_message=on_message,
            on_delta=on_delta,
            on_tool_call=on_tool_call,
            on_tool_progress=on_tool_progress,
            on_approval=on_approval,
            conflate=conflate,
        )
        opened = self._open_stream(request)
        if stream:
            return opened
        reply = cast("CoroutineType[Any, Any, Message]", opened._result())
        reply.__qualname__ = self.send_message.__qualname__  # the name in the warning about a forgotten await
        return reply

    @overload
    def run(self, text: str, *, output_type: type[T], **options: Unpack[TurnOptions]) -> Coroutine[Any, Any, T]: ...

    @overload
    def run(
        self, text: str, *, output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> Coroutine[Any, Any, Any]: ...

    def run(
        self,
        text: str,
        *,
        output_type: Any = None,
        files: Sequence[FileSource] = (),
        idempotency_key: str | None = None,
        on_message: OnMessage | None = None,
        on_delta: OnDelta | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """Send a message and get the agent's structured output, once the run has ended.

        For this run the type's JSON Schema replaces the ``output_schema`` of the agent's configuration; an agent that
        is named instead of configured keeps its own. A type that is not a JSON object (``list[int]``, an enum) is
        wrapped in an object with the single property ``value``, and unwrapped again.

        Args:
            text: The message.
            output_type: The type of the output: an attrs class, dataclass, TypedDict, model of pydantic, enum, or
                anything made of builtin types. None returns the output as it is.
            files: As for ``send_message``.
            idempotency_key: As for ``send_message``.
            on_message: As for ``send_message``.
            on_delta: As for ``send_message``.
            on_tool_call: As for ``send_message``.
            on_tool_progress: As for ``send_message``.
            on_approval: As for ``send_message``.
            conflate: As for ``send_message``.

        Returns:
            A coroutine that returns the output: an instance of ``output_type``, or without one the JSON value that the
            agent gave to its ``finish`` tool, None when it gave none.

        Raises:
            ConfigurationError: ``output_type`` has no JSON Schema. Raised by the call itself; nothing is sent.
            OutputError: There is no output, or one that does not match the type; ``output`` has it as received.
            InputRequiredError: The run waits for a tool's result, an approval or the like instead of ending, or the
                chat did so before, as for ``send_message``.
            RunFailedError, StreamError, APIError, APIConnectionError: As for ``send_message``.

        Example:
            ```python
            output = await agent.run("Sarah gave it 5 of 5", output_type=dict[str, int])
            numbers = await agent.run("Add 3 and 4", output_type=list[int])
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
            idempotency_key=idempotency_key,
            on_message=on_message,
            on_delta=on_delta,
            on_tool_call=on_tool_call,
            on_tool_progress=on_tool_progress,
            on_approval=on_approval,
            conflate=conflate,
        )
        return self._open_stream(request).get_final_output()

    def stream_messages(
        self,
        *,
        on_message: OnMessage | None = None,
        on_delta: OnDelta | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> AsyncMessageStream:
        """Attach to the turn that is running or paused in this chat, and stream its new snapshots.

        Args:
            on_message: As for ``send_message``.
            on_delta: As for ``send_message``.
            on_tool_call: As for ``send_message``.
            on_tool_progress: As for ``send_message``.
            on_approval: As for ``send_message``.
            conflate: As for ``send_message``.

        Returns:
            A stream. If nothing is running it is empty, and the chat's last message is its result.

        Raises:
            InferenceError: There is no chat yet. Raised by the stream.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            async for message in stream:
                break  # the run goes on at the server

            async for message in agent.stream_messages():
                print(message.text)
            ```
        """
        return self._open_stream(
            TurnRequest(
                on_message=on_message,
                on_delta=on_delta,
                on_tool_call=on_tool_call,
                on_tool_progress=on_tool_progress,
                on_approval=on_approval,
                conflate=conflate,
            )
        )

    def take_over(
        self,
        *,
        wait: float | None = None,
        on_message: OnMessage | None = None,
        on_delta: OnDelta | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> AsyncMessageStream:
        """Take over the chat's turn from a worker that has died.

        A worker whose client has shared ``claims`` holds a lease on each turn that it streams, and renews it. Once that
        lease has expired or was released, this stream attaches to the turn as ``stream_messages`` does: it delivers the
        current message and all that follows, and runs the tool calls that have no result yet. No message is sent.
        Without shared claims it attaches at once. Another stream of this program that has the turn counts as another
        worker: close it first.

        Args:
            wait: Seconds to wait for the lease, 0 for a single attempt; None waits until it is free.
            on_message: As for ``send_message``.
            on_delta: As for ``send_message``.
            on_tool_call: As for ``send_message``.
            on_tool_progress: As for ``send_message``.
            on_approval: As for ``send_message``.
            conflate: As for ``send_message``.

        Returns:
            A stream. If nothing is running it is empty, and the chat's last message is its result.

        Raises:
            ConfigurationError: ``wait`` is not a number of seconds. Raised by the call itself.
            InferenceError: There is no chat yet. Raised by the stream, as are all that follow.
            LeaseHeldError: Another worker still holds the lease after ``wait`` seconds.
            LeaseLostError: Another worker has taken over the turn since, because this process was suspended too long.
            ClaimStoreError: The claim store is unavailable.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            async for message in stream:
                break  # as if the worker had died here

            same_chat = client.agent({"name": "storyteller"}, chat_id=agent.chat_id)
            message = await same_chat.take_over().get_final_message()
            print(message.status)
            ```

            ```text
            ready
            ```
        """
        return self._open_stream(
            TurnRequest.of_take_over(
                wait,
                on_message=on_message,
                on_delta=on_delta,
                on_tool_call=on_tool_call,
                on_tool_progress=on_tool_progress,
                on_approval=on_approval,
                conflate=conflate,
            )
        )

    def stream_events(self) -> AsyncEventStream:
        """Follow all events of the chat as the service sends them, for programs that want more than snapshots.

        Handlers and callbacks are not called, and tool calls are not answered: that is what ``stream_messages`` does.

        Returns:
            A stream, which goes on until it is left, whatever turns begin and end meanwhile; nothing is sent before it
            is iterated, entered or awaited.

        Raises:
            InferenceError: There is no chat yet.
            NotFoundError: From the stream, when there is no such chat, or not any more.
            StreamError: From the stream, when it was lost for good.
            APIError, APIConnectionError: From the stream, when it cannot be opened.

        Example:
            ```python
            await agent.send_message("Hello")
            async with agent.stream_events() as events:
                await agent.send_message("Hello again")
                async for event in events:
                    if event.message is not None and event.message.done:
                        print(event.message.text)
                        break
            ```

            ```text
            ...
            ```
        """
        return AsyncEventStream(self._transport, self._conversation.require_chat(), self._options.reconnects)

    async def wait(self, *, until: Until = "input") -> Message:
        """Wait until the current turn ends or needs input.

        Args:
            until: ``"input"`` returns when the turn pauses as well: then the message's ``paused`` is true, and
                ``pending_tool_calls``, ``pending_approvals`` and ``pending_interrupts`` say what is needed. ``"end"``
                waits through pauses, which somebody else has to end, until the run is over.

        Returns:
            The turn's final message, or the message that waits for input; the chat's last message if nothing is
            running.

        Raises:
            ConfigurationError: ``until`` is neither of these.
            InferenceError: There is no chat yet.
            RunFailedError, StreamError, APIError, APIConnectionError: As for ``send_message``.

        Example:
            ```python
            async for message in agent.send_message("Tell me a story", stream=True):
                break  # the run goes on at the server

            message = await agent.wait(until="end")
            print(message.done, message.paused)
            ```

            ```text
            True False
            ```
        """
        return await self._open_stream(TurnRequest.of_wait(until)).get_final_message()

    async def submit_tool_result(
        self, tool_call_id: str | ToolCall, result: object, *, files: Sequence[FileSource] = ()
    ) -> None:
        """Answer a tool call; the result is posted until the server has acknowledged it.

        Args:
            tool_call_id: The call, or its id.
            result: A string, or a value of any type that an argument of a tool may have, which is sent as JSON; images
                of PIL in it are uploaded as files.
            files: At most 20 files that go with it, as for ``client.files.upload``; the model sees images as images.

        Raises:
            TypeError: The result holds something that has no JSON form, which the error names, or an item of ``files``
                is not a file.
            FileError: A file cannot be read; the result was not sent.
            ConflictError: The call does not wait for a result.
            APIError, APIConnectionError: The server refused it or could not be reached.

        Example:
            ```python
            look_up = tool("look_up").describe("Look a word up").param("word", string()).build()
            agent = client.agent({"name": "librarian", "tools": [look_up]})
            message = await agent.send_message('Look up "pelican"')
            for call in message.pending_tool_calls:
                await agent.submit_tool_result(call, {"meaning": "a bird"})
            message = await agent.wait()
            print(message.text)
            ```

            ```text
            The look_up tool answered: {"meaning":"a bird"}
            ```
        """
        encoded = plain_result(result) or await invoke(ThreadInvoker(1), encode_result, lambda: encode_result(result))
        sources = check_result_files([*check_result_files(files), *encoded.images])
        uploaded = await self._conversation.upload(sources)
        await self._conversation.submit(_id_of(tool_call_id), encoded.text, files=uploaded)

    async def upload_file(
        self,
        source: FileSource,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileRef:
        """Upload a file, for instance to send it with several messages; as ``client.files.upload``.

        Args:
            source: As there.
            filename: As there.
            content_type: As there.
            on_progress: As there.

        Example:
            ```python
            notes = await agent.upload_file(b"Buy milk.", filename="notes.txt")
            message = await agent.send_message("What do they say?", files=[notes])
            ```
        """
        return await AsyncFiles(self._transport).upload(
            source, filename=filename, content_type=content_type, on_progress=on_progress
        )

    async def approve_tool(self, tool_call_id: str | ToolCall) -> None:
        """Approve a call that waits for a person's approval; ``wait`` or ``stream_messages`` continues the turn.

        The call of a client tool then waits for its result. If this agent has no handler for it, ``wait`` logs a
        warning and returns a message with the call in ``pending_tool_calls``: a program that has the tool may continue,
        or ``submit_tool_result`` answers the call.

        Args:
            tool_call_id: One of ``message.pending_approvals``, or its id.

        Raises:
            PermissionDeniedError: The server requires a signed-in person, not an API key (code ``requires_sign_in``).
            ConflictError: The call does not wait for an approval.
            APIError, APIConnectionError: The server refused it or could not be reached.

        Example:
            ```python
            delete = tool("delete").handler(lambda name: "deleted").param("name", string()).require_approval().build()
            agent = client.agent({"name": "janitor", "tools": [delete]})
            message = await agent.send_message('Delete "notes.txt"')
            for call in message.pending_approvals:
                print(call.name, call.arguments)
                await agent.approve_tool(call)
            message = await agent.wait()
            ```

            ```text
            delete {'name': 'notes.txt'}
            ```
        """
        await self._conversation.decide(_id_of(tool_call_id), approved=True)

    async def reject_tool(self, tool_call_id: str | ToolCall, reason: str = "") -> None:
        """Reject a call that waits for a person's approval; the agent continues without it.

        Args:
            tool_call_id: One of ``message.pending_approvals``, or its id.
            reason: The reason, which the agent is given.

        Raises:
            PermissionDeniedError, ConflictError, APIError, APIConnectionError: As for ``approve_tool``.

        Example:
            ```python
            delete = tool("delete").handler(lambda name: "deleted").param("name", string()).require_approval().build()
            agent = client.agent({"name": "janitor", "tools": [delete]})
            message = await agent.send_message('Delete "notes.txt"')
            for call in message.pending_approvals:
                await agent.reject_tool(call, "The notes are still needed")
            message = await agent.wait()
            ```
        """
        await self._conversation.decide(_id_of(tool_call_id), approved=False, reason=reason)

    async def resolve_interrupt(self, interrupt_id: str | Interrupt, decision: Literal["allow", "deny"]) -> Interrupt:
        """Allow or deny an interrupt that the run waits for, one of ``message.pending_interrupts``.

        The interrupt of a client tool or widget is answered with ``submit_tool_result`` instead.

        Args:
            interrupt_id: The interrupt, or its id.
            decision: ``"allow"`` or ``"deny"``.

        Returns:
            The interrupt after the decision.

        Raises:
            ConfigurationError: The decision is neither of these; nothing was sent.
            PermissionDeniedError, ConflictError, APIError, APIConnectionError: As for ``approve_tool``.

        Example:
            ```python
            message = await agent.send_message("Publish the report")
            for interrupt in message.pending_interrupts:
                print(interrupt.reason)
                await agent.resolve_interrupt(interrupt, "allow")
            message = await agent.wait()
            ```

            ```text
            confirmation
            ```
        """
        if decision not in ("allow", "deny"):
            raise ConfigurationError(f"the decision about an interrupt is 'allow' or 'deny', not {decision!r}")
        return await self._conversation.resolve(_id_of(interrupt_id), allow=decision == "allow")

    async def always_allow_tool(self, tool_call_id: str | ToolCall, option: str | None = None) -> None:
        """Approve a call that waits for approval, and later calls like it in this chat.

        ``wait`` or ``stream_messages`` continues the turn, as after ``approve_tool``.

        Args:
            tool_call_id: One of ``message.pending_approvals``, or its id.
            option: The key of one of the options that the server offers for this call
                (``GET /chats/{id}/tools/{call}/always-allow/options``). None allows every call of the tool.

        Raises:
            InferenceError: There is no chat yet.
            ConflictError: The call does not wait for an approval, or there is no such option any more.
            PermissionDeniedError, APIError, APIConnectionError: As for ``approve_tool``.

        Example:
            ```python
            delete = tool("delete").handler(lambda name: "deleted").param("name", string()).require_approval().build()
            agent = client.agent({"name": "janitor", "tools": [delete]})
            message = await agent.send_message('Delete "notes.txt"')
            for call in message.pending_approvals:
                await agent.always_allow_tool(call)
            await agent.wait()
            print((await agent.send_message('Delete "draft.txt"')).paused)
            ```

            ```text
            False
            ```
        """
        await self._conversation.always_allow(_id_of(tool_call_id), option)

    async def interrupts(self) -> list[Interrupt]:
        """Read what the current or last run has waited for, oldest first; ``status`` says which are still pending.

        Returns:
            The interrupts; an empty list if there were none.

        Raises:
            InferenceError: There is no chat yet.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            message = await agent.send_message("Publish the report")
            for interrupt in await agent.interrupts():
                print(interrupt.reason, interrupt.status)
                await agent.resolve_interrupt(interrupt, "allow")
            ```

            ```text
            confirmation pending
            ```
        """
        return await self._conversation.interrupts()

    async def set_agent(self, config: str | AgentConfig | Mapping[str, Any]) -> None:
        """Continue the conversation with another agent, which takes the next message.

        An agent that is stored at the service is set for the chat at once, also for other programs. A configuration is
        sent with the next message, whose tools are from then on those of the configuration.

        Args:
            config: As for ``client.agent``.

        Raises:
            ConfigurationError: The configuration cannot be sent.
            InferenceError: This was called from a handler or callback of a turn of this conversation.
            NotFoundError: There is no such agent; the present one remains.
            APIError, APIConnectionError: The server refused or could not be reached; the present agent remains.

        Example:
            ```python
            await agent.send_message("Hello")
            await agent.set_agent({"name": "editor", "system_prompt": "Improve what was written so far."})
            message = await agent.send_message("Go on")
            print(message.chat_id == agent.chat_id)
            ```

            ```text
            True
            ```
        """
        await self._conversation.set_agent(AgentSetup.read(config))

    async def stop(self) -> None:
        """End the run on the server; a stream of it ends normally. Does nothing if there is no chat yet.

        Example:
            ```python
            async for message in agent.send_message("Tell me a story", stream=True):
                if len(message.text) > 20:  # characters
                    await agent.stop()
            ```
        """
        if self.chat_id is not None:
            await self._conversation.api.stop(self.chat_id)

    async def get_chat(self) -> Chat:
        """Read the chat.

        Raises:
            InferenceError: There is no chat yet.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            await agent.send_message("Hello")
            chat = await agent.get_chat()
            print(chat.id == agent.chat_id, chat.status)
            ```

            ```text
            True ...
            ```
        """
        chat_id = self._conversation.require_chat()
        return structure(await self._conversation.api.read_chat(chat_id), Chat)

    async def history(self) -> list[Message]:
        """Read all messages of the chat, oldest first: the user's, the assistant's and the results of tools.

        Raises:
            InferenceError: There is no chat yet.
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            await agent.send_message("Hello")
            for message in await agent.history():
                print(message.role, message.text)
            ```

            ```text
            user Hello
            assistant You said: "Hello". ...
            ```
        """
        chat_id = self._conversation.require_chat()
        api = self._conversation.api
        messages = await api.read_messages(await api.read_chat(chat_id), chat_id, lambda _: False)
        return sorted((structure(data, Message) for data in messages), key=lambda message: message.order)

    def reset(self) -> None:
        """Forget the chat; the next message begins a new one.

        Example:
            ```python
            await agent.send_message("Hello")
            agent.reset()
            print(agent.chat_id)
            ```

            ```text
            None
            ```
        """
        self._conversation.reset()

    def _open_stream(self, request: TurnRequest, invoker: Invoker | None = None) -> AsyncMessageStream:
        """Make the stream of a turn; nothing is sent yet.

        Args:
            request: What is asked of the turn.
            invoker: Calls functions of the user that may block; worker threads by default.
        """
        if request.agent is None:
            request = attrs.evolve(request, agent=self)
        if invoker is None:
            invoker = ThreadInvoker(self._options.tools.at_once + 1)  # the handlers, and one callback
        driver = TurnDriver(self._transport, self._conversation, request, self._options, invoker)
        return AsyncMessageStream(driver)

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __await__ = refusing("an agent is not awaited: write «agent = client.agent(...)», then await its methods")
        __iter__ = __aiter__ = refusing(
            "an agent is not iterated: write «async for message in agent.send_message(text, stream=True)»"
        )
        __enter__ = __exit__ = __aenter__ = __aexit__ = refusing(
            "an agent has nothing to close: write «agent = client.agent(...)»; «async with» is for the client and for "
            "streams"
        )

        def __getattr__(self, name: str) -> Any:
            from .types import official_method

            return official_method(self, "agent", name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(chat_id={self.chat_id!r})"


def _id_of(thing: str | ToolCall | Interrupt) -> str:
    return thing.id if isinstance(thing, ToolCall | Interrupt) else thing
