"""The engine that runs agents: it drives the model, writes its answers into messages and publishes every change.

A run alternates between steps of the model, each of which writes one assistant message, and pauses in which clients or
people answer the tool calls of that message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import attrs

from inferencesh._text import copied, encode_json, whole_characters
from inferencesh._types.encoding import dump_json
from inferencesh.errors import typed_text

from .chats import FINISH, StoredRun, usage_wire
from .errors import ProblemError
from .model import (
    Ask,
    Attachment,
    Conversation,
    ConversationMessage,
    Fail,
    Finish,
    PastCall,
    Reasoning,
    Text,
    ToolCall,
    Usage,
    Widget,
)
from .records import Arguments, Block, Invocation, StoredMessage, new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from .chats import AgentDefinition, ChatStore, RunState, StoredChat
    from .feed import Feed
    from .files import FileStore
    from .model import Model, Piece

__all__ = ["CLOSE_TIMEOUT", "INTERRUPTED", "MAX_STEPS", "THINKING", "Engine"]

MAX_STEPS = 32
"""The maximum number of steps of a run; a model that keeps calling tools is stopped."""

THINKING = 10
"""The delay before the first piece, as a multiple of the pace; it gives clients time to connect."""

CLOSE_TIMEOUT = 2.0
"""Seconds to wait for cancelled models when the runtime closes."""

INTERRUPTED = "The runtime ended while this run was under way, so that its answer is lost; send the message again."
"""The error of a run that was still active when it was stored."""

_logger = logging.getLogger("inferencesh.local")


@attrs.define
class Engine:
    """Drives the runs of all chats.

    The public methods change state at once, without awaiting anything; the model runs in one task per run.

    Args:
        store: The chats.
        model: The model that answers.
        pace: Seconds to wait after each piece of an answer.
        files: The files that messages refer to.
    """

    _store: ChatStore
    _model: Model
    _pace: float
    _files: FileStore
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)

    def post(
        self, chat: StoredChat, text: str, attachments: Sequence[Block], agent: AgentDefinition | None
    ) -> tuple[StoredMessage, StoredMessage | None]:
        """Add a user's message to a chat and start a run, or queue the message if a run is active.

        Args:
            chat: The chat.
            text: The text of the message.
            attachments: The attached files.
            agent: The definition that replaces the chat's, if any.

        Returns:
            The user's message and the new reply, which is None if the message was queued.
        """
        message = StoredMessage(
            chat_id=chat.id,
            role="user",
            order=chat.next_order(),
            status="queued" if chat.busy else "ready",
            blocks=[Block("text", text), *attachments],
        )
        chat.messages.append(message)
        chat.name = chat.name or text.strip().partition("\n")[0][:60]
        if chat.busy:
            chat.queue.append((message, agent))
            chat.feed.publish_message(message)
            return message, None
        return message, self._begin(chat, message, agent)

    def withdraw(self, chat: StoredChat, message: StoredMessage) -> None:
        """Cancel a queued message.

        Raises:
            ProblemError: 409 if it is not queued.
        """
        if message.status != "queued":
            raise ProblemError(409, f"The message is {message.status}; only a queued one can be withdrawn.")
        chat.queue.remove(next(each for each in chat.queue if each[0] is message))
        message.status = "cancelled"
        message.touch()
        chat.feed.publish_message(message)

    def answer(self, chat: StoredChat, invocation: Invocation, text: str, attachments: tuple[Block, ...]) -> None:
        """Add the result of a tool call; the run continues once all its calls have one.

        Args:
            chat: The chat.
            invocation: The call.
            text: The result.
            attachments: Files that belong to the result.

        Raises:
            ProblemError: 409 if the call waits for approval, or, with the code ``already_processed``, does not wait.
        """
        if invocation.waits_for == "tool_approval":
            detail = "The tool call waits for its approval; it takes a result once it is approved."
            raise ProblemError(409, detail)
        if not invocation.waits:
            detail = f"The tool call is {invocation.status}; it takes no result any more."
            raise ProblemError(409, detail, code="already_processed")
        invocation.attachments = attachments
        invocation.end("completed", text)
        self.resume(chat)

    def resume(self, chat: StoredChat) -> None:
        """Publish a changed tool call, and continue the run if no other call waits."""
        run, reply = chat.run, chat.reply
        assert run is not None
        assert reply is not None
        reply.touch()
        chat.feed.publish_message(reply)
        waiting = chat.waiting()
        run.waiting_for = waiting[0] if waiting else None
        if waiting:
            run.touch()
            self._publish(chat, run)
            return
        self._add_results(chat, reply)
        run.advance("working")
        self._publish(chat, run)
        self._reply(chat, run)
        self._start(chat, run)

    def stop(self, chat: StoredChat) -> None:
        """Cancel the current run, if any; the next queued message is then started."""
        run, reply, task = chat.run, chat.reply, chat.task
        if run is None or run.ended or reply is None:
            return
        if task is not None:  # a paused run read from the database has none
            task.cancel()
        for invocation in chat.waiting():
            invocation.end("cancelled")
        if not reply.ended:
            reply.status = "cancelled"
        self._end(chat, run, reply, "canceled")

    def recover(self, chat: StoredChat) -> None:
        """Continue with a chat read from the database: an active run has failed, a paused one stays paused."""
        if chat.run is not None and not chat.run.settled:
            self._fail(chat, chat.run, INTERRUPTED)

    def discard(self, chat: StoredChat) -> None:
        """Stop a chat that is about to be deleted, and end its streams."""
        chat.queue.clear()
        self.stop(chat)
        chat.feed.close()

    async def aclose(self) -> None:
        """Cancel all runs, end all streams, and wait at most ``CLOSE_TIMEOUT`` for the runs to end."""
        for chat in self._store.chats.values():
            chat.queue.clear()
            chat.feed.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
            if stuck:
                _logger.error("The model did not stop when cancelled; %d runs are left.", len(stuck))
                self._tasks -= stuck

    def _begin(self, chat: StoredChat, message: StoredMessage, agent: AgentDefinition | None) -> StoredMessage:
        chat.config = agent or chat.config
        run = StoredRun(
            chat_id=chat.id,
            agent_id=chat.agent_id,
            user_message_id=message.id,
            config=chat.config,
        )
        chat.run, chat.reply = run, None
        message.run_id = run.id
        chat.feed.publish_message(message)
        self._publish(chat, run)
        reply = self._reply(chat, run)
        self._start(chat, run)
        return reply

    def _reply(self, chat: StoredChat, run: StoredRun) -> StoredMessage:
        """Add the next assistant message of a run, still empty."""
        reply = StoredMessage(
            chat_id=chat.id,
            role="assistant",
            order=chat.next_order(),
            status="pending",
            run_id=run.id,
        )
        chat.messages.append(reply)
        chat.reply = reply
        chat.feed.publish_message(reply)
        return reply

    def _start(self, chat: StoredChat, run: StoredRun) -> None:
        task = asyncio.create_task(self._drive(chat, run), name=f"inferencesh.local run {run.id}")
        chat.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, chat: StoredChat, run: StoredRun) -> None:
        """Run steps of the model until the run has ended or is paused."""
        try:
            if run.state == "submitted":
                run.advance("working")
                self._publish(chat, run)
            while not run.settled:
                await self._step(chat, run)
        except _ModelError as failure:
            self._fail(chat, run, str(failure))
        except (Exception, SystemExit) as error:  # a program that ends itself does not end the runtime
            _logger.exception("The model raised; its run has failed.")
            self._fail(chat, run, typed_text(error))
        except asyncio.CancelledError:
            self._fail(chat, run, "The run was interrupted.")
            raise

    async def _step(self, chat: StoredChat, run: StoredRun) -> None:
        """Let the model write one message, then act on its tool calls."""
        reply = chat.reply
        assert reply is not None
        if run.steps == MAX_STEPS:
            raise _ModelError(f"The model has called tools {MAX_STEPS} times without an answer.")
        run.steps += 1
        writer = _MessageWriter(reply, chat.feed, run.config.may_finish)
        await asyncio.sleep(self._pace * THINKING)
        async with _pieces(self._model, _conversation(chat, run, self._files)) as pieces:
            async for piece in pieces:
                if run.ended:
                    break
                if isinstance(piece, Usage):
                    run.add_usage(piece.prompt_tokens, piece.completion_tokens)
                for _ in writer.write(piece):
                    await asyncio.sleep(self._pace)
        if run.ended:  # stopped, but the model ignores its cancellation
            return
        finish = _finishing_call(run, writer.calls)
        reply.status = "ready"
        reply.touch()
        for call in writer.calls:
            self._store.add_invocation(chat, _add_call(chat, run, reply, call))
        if finish is None and writer.calls:
            self._pause(chat, run, reply)
            return
        run.output = finish.arguments.text if finish is not None else None
        self._end(chat, run, reply, "completed")

    def _pause(self, chat: StoredChat, run: StoredRun, reply: StoredMessage) -> None:
        """Pause the run for the reply's tool calls, or continue if none of them waits."""
        chat.feed.publish_message(reply)
        waiting = chat.waiting()
        if waiting:
            run.waiting_for = waiting[0]
            run.advance("auth_required" if waiting[0].waits_for == "auth" else "input_required")
            self._publish(chat, run)
        else:
            self._add_results(chat, reply)
            self._reply(chat, run)

    def _add_results(self, chat: StoredChat, reply: StoredMessage) -> None:
        """Add and publish a tool message for each result, in the order of the calls."""
        for invocation in reply.invocations:
            result = StoredMessage(
                chat_id=chat.id,
                role="tool",
                order=chat.next_order(),
                status="ready",
                blocks=[Block("text", invocation.result), *invocation.attachments],
                run_id=invocation.run_id,
                tool_call_id=invocation.call_id,
            )
            chat.messages.append(result)
            chat.feed.publish_message(result)

    def _fail(self, chat: StoredChat, run: StoredRun, detail: str) -> None:
        reply = chat.reply
        if run.ended or reply is None:
            return
        run.error = whole_characters(detail)
        reply.status = "failed"
        reply.blocks.append(Block("text", error=run.error))
        self._end(chat, run, reply, "failed")

    def _end(self, chat: StoredChat, run: StoredRun, reply: StoredMessage, state: RunState) -> None:
        """End a run, publish it after its last message, and start the next queued message."""
        run.waiting_for = None
        run.advance(state)
        reply.touch()
        chat.feed.publish_message(reply)
        self._publish(chat, run)
        if chat.queue:
            message, agent = chat.queue.popleft()
            # The run has added messages since it was queued; it moves behind them.
            chat.messages.remove(message)
            message.order = chat.next_order()
            chat.messages.append(message)
            message.status = "ready"
            message.touch()
            self._begin(chat, message, agent)

    def _publish(self, chat: StoredChat, run: StoredRun) -> None:
        chat.touch()
        chat.feed.publish_run(run)
        chat.feed.publish_chat(chat)


@asynccontextmanager
async def _pieces(model: Model, conversation: Conversation) -> AsyncIterator[AsyncIterable[Piece]]:
    """Yield the model's answer, and close the generator afterwards; how that ends does not matter to the run.

    Raises:
        TypeError: The model has answered with something else.
    """
    pieces: object = model.respond(conversation)
    if not isinstance(pieces, AsyncIterable):
        if isinstance(pieces, Coroutine):
            pieces.close()  # Python warns of one that is never awaited
        got = type(pieces).__name__
        raise TypeError(f"respond must be an async generator, which yields its pieces; it returned a {got}.")
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            try:
                await pieces.aclose()
            except Exception:
                _logger.exception("The model raised when it was closed.")


class _ModelError(Exception):
    """The model failed, or answered in a way that ends the run; the text says why."""


def _conversation(chat: StoredChat, run: StoredRun, files: FileStore) -> Conversation:
    """Return the conversation for the model, without messages that are queued, cancelled or incomplete."""
    return Conversation(
        messages=tuple(_model_message(message, files) for message in chat.messages if _is_shown(message)),
        system_prompt=run.config.system_prompt,
        tools=run.config.tools,
        context=chat.context,
        output_schema=run.config.output_schema,
        finishes=run.config.finishes,
        settings=copied(run.config.settings),
    )


def _is_shown(message: StoredMessage) -> bool:
    if message.role == "assistant":
        return message.ended and bool(message.text or message.invocations)
    return message.status == "ready"


def _model_message(message: StoredMessage, files: FileStore) -> ConversationMessage:
    # Calls that were never answered, because the run was stopped, are left out: models need a result for every call.
    answered = [each for each in message.invocations if each.result is not None]
    return ConversationMessage(
        role=message.role,
        text=message.text or _output_of(message),
        tool_calls=tuple(PastCall(each.call_id, each.name, copied(each.arguments.values)) for each in answered),
        tool_call_id=message.tool_call_id,
        attachments=tuple(
            Attachment(block.uri, block.filename, block.content_type, block.size, files.reader(block.uri))
            for block in message.blocks
            if block.uri is not None
        ),
    )


def _output_of(message: StoredMessage) -> str:
    """Return the output a message finished with, as the text of a message that has no other."""
    return next((each.arguments.text for each in message.invocations if each.type == "internal"), "")


def _finishing_call(run: StoredRun, calls: Sequence[_WrittenCall]) -> _WrittenCall | None:
    """Return the call of the ``finish`` tool, or None if the run continues.

    Raises:
        _ModelError: There are other calls as well.
    """
    if not run.config.may_finish:
        return None
    finish = next((call for call in calls if call.name == FINISH and call.asks is None), None)
    if finish is not None and len(calls) > 1:
        raise _ModelError("The model finished and called tools in one step; the results of these calls would be lost.")
    return finish


def _add_call(chat: StoredChat, run: StoredRun, reply: StoredMessage, call: _WrittenCall) -> Invocation:
    """Add a tool call to its message, and return it.

    A call of a client tool waits for approval or for its result, a question or widget waits for a person, and
    ``finish`` does not wait. A call of an unknown tool is answered with an error.
    """
    invocation = Invocation(
        chat_id=chat.id,
        run_id=run.id,
        message_id=reply.id,
        call_id=call.id,
        name=call.name,
        arguments=call.arguments,
    )
    tool = next((tool for tool in run.config.tools if tool.name == call.name), None)
    if call.asks is not None:
        invocation.type = "internal"
        invocation.widget = call.widget
        invocation.wait_for(call.asks)
    elif call.name == FINISH and run.config.may_finish:
        invocation.type = "internal"
        invocation.end("completed")
    elif tool is None:
        invocation.end("failed", f"Error: there is no tool named {call.name!r}.")
    elif tool.requires_approval and not (run.config.allow_all_tools or tool.name in chat.allowed_tools):
        invocation.wait_for("tool_approval")
    else:
        invocation.wait_for("client_tool")
    reply.invocations.append(invocation)
    return invocation


@attrs.frozen
class _WrittenCall:
    """A complete tool call of a message.

    ``asks`` is set for calls that wait for a person; ``widget`` is the widget that is shown, as JSON text.
    """

    name: str
    arguments: Arguments
    asks: Literal["confirmation", "auth", "widget"] | None = None
    widget: str | None = None
    id: str = attrs.field(factory=lambda: f"call_{new_id()}")


# Arguments are published in fragments of this many characters, like the tokens of a model.
_FRAGMENT = 12


@attrs.define
class _MessageWriter:
    """Writes a model's pieces into one message, and publishes each addition.

    ``may_finish`` is whether an output is taken.
    """

    message: StoredMessage
    feed: Feed
    may_finish: bool = False
    calls: list[_WrittenCall] = attrs.field(factory=list)

    def write(self, piece: object) -> Iterator[None]:
        """Add a piece to the message, and yield after each published event so that the caller can wait.

        Raises:
            _ModelError: The piece is a failure, or finishes although the agent has no ``finish`` tool.
            TypeError: It is not a ``Piece``; the message is unchanged.
            ValueError: It contains a value that JSON cannot represent; the message is unchanged.
        """
        match piece:
            case Text(text):
                yield from self._say("text", text)
            case Reasoning(text):
                yield from self._say("reasoning", text)
            case ToolCall(name, arguments):
                yield from self._call(_WrittenCall(name, Arguments.of(dict(arguments))))
            case Ask(question, reason):
                yield from self._call(_WrittenCall("ask", Arguments.of({"question": question}), asks=reason))
            case Widget(surface):
                widget = encode_json(dict(surface)).decode()
                yield from self._call(_WrittenCall("widget", Arguments.of({}), asks="widget", widget=widget))
            case Finish(output):
                if not self.may_finish:
                    raise _ModelError("The model finished with an output, but the agent has no finish tool or schema.")
                yield from self._call(_WrittenCall(FINISH, Arguments.read(dump_json(output).decode())))
            case Fail(detail):
                raise _ModelError(detail)
            case Usage(prompt, completion):
                self.feed.publish_delta(self.message, {"usage": usage_wire(prompt, completion)}, visible=False)
            case _:
                kind = type(piece).__name__
                raise TypeError(
                    f"A model yields Text, Reasoning, ToolCall, Ask, Widget, Finish, Fail or Usage, not {kind}."
                )

    def _say(self, kind: Literal["text", "reasoning"], text: str) -> Iterator[None]:
        text.encode()  # raises for lone surrogates, which JSON cannot represent
        if not text:
            return
        blocks = self.message.blocks
        if not blocks or blocks[-1].type != kind:
            blocks.append(Block(kind, text=""))
        blocks[-1].text = (blocks[-1].text or "") + text
        self.message.touch()
        self.feed.publish_delta(self.message, {"response" if kind == "text" else kind: text})
        yield

    def _call(self, call: _WrittenCall) -> Iterator[None]:
        call.name.encode()
        index = len(self.calls)
        head = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        self._grew_call(index, head, visible=False)
        yield
        text = call.arguments.text
        fragments = [text[at : at + _FRAGMENT] for at in range(0, len(text), _FRAGMENT)]
        for fragment in fragments[:-1]:
            self._grew_call(index, {"function": {"arguments": fragment}}, visible=False)
            yield
        self._finish_call(call)
        self._grew_call(index, {"function": {"arguments": fragments[-1]}}, visible=True)
        yield

    def _grew_call(self, index: int, fragment: Mapping[str, object], *, visible: bool) -> None:
        delta = {"tool_calls": [{"index": index, **fragment}]}
        self.feed.publish_delta(self.message, delta, visible=visible)

    def _finish_call(self, call: _WrittenCall) -> None:
        self.calls.append(call)
        blocks = self.message.blocks
        if not blocks or blocks[-1].type != "tool":
            blocks.append(Block("tool"))
        function = {"name": call.name, "arguments": call.arguments.wire}
        blocks[-1].tool_calls.append({"id": call.id, "type": "function", "function": function})
        self.message.touch()
