"""Runs the agent: takes messages and tool results in, drives the model, and tells each chat's feed what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from attrs import define, field, frozen

from inferencesh._text import copied, decode_json, encode_json
from inferencesh.errors import typed_text

from .chats import Run
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
    Widget,
)
from .records import Arguments, Block, Invocation, Message, new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from ._api.bodies import Post, ToolResult
    from ._api.forms import AgentConfig
    from .chats import Chat, RunState
    from .feed import Feed
    from .model import Model, Piece
    from .store import Store

__all__ = [
    "FINISH",
    "Engine",
    "MessageWriter",
    "ModelError",
    "WrittenCall",
    "add_call",
    "conversation_of",
    "finishing_call",
    "result_messages",
]


def conversation_of(chat: Chat, run: Run) -> Conversation:
    """Return the conversation so far, without what is queued, withdrawn or still being written."""
    return Conversation(
        messages=tuple(_shown(message) for message in chat.messages if _counts(message)),
        system_prompt=run.config.system_prompt,
        tools=run.config.tools,
        context=chat.context,
        output_schema=run.config.output_schema,
        finishes=run.config.finishes,
    )


def _counts(message: Message) -> bool:
    if message.role == "assistant":
        return message.ended and bool(message.text or message.invocations)
    return message.status == "ready"


def _shown(message: Message) -> ConversationMessage:
    # A call that was never answered, because its run was stopped, is left out: models take a call only with its result.
    answered = [each for each in message.invocations if each.result is not None]
    return ConversationMessage(
        role=message.role,
        text=message.text or _output_of(message),
        tool_calls=tuple(PastCall(each.call_id, each.name, copied(each.arguments.values)) for each in answered),
        tool_call_id=message.tool_call_id,
        attachments=tuple(
            Attachment(block.uri, block.filename, block.content_type, block.size)
            for block in message.blocks
            if block.uri is not None
        ),
    )


def _output_of(message: Message) -> str:
    """Return what a message without words finished with: it is what was said, and no call that has a result."""
    return next((each.arguments.text for each in message.invocations if each.type == "internal"), "")


def finishing_call(run: Run, calls: Sequence[WrittenCall]) -> WrittenCall | None:
    """Return the call that ends the run with an output, or None when it goes on.

    Raises:
        ModelError: It is not the only call.
    """
    if not run.config.finishes:
        return None
    finish = next((call for call in calls if call.name == FINISH and call.asks is None), None)
    if finish is not None and len(calls) > 1:
        raise ModelError("The model finished and called tools in one step; nobody would wait for their results.")
    return finish


def add_call(chat: Chat, run: Run, reply: Message, call: WrittenCall) -> Invocation:
    """Turn a call into an invocation of its message.

    A tool of the agent waits for its approval, or right away for its result; a question waits for a person. Finishing
    needs neither. A tool that nobody offered is answered here, with an error.
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
    elif call.name == FINISH and run.config.finishes:
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


def result_messages(chat: Chat, reply: Message) -> list[Message]:
    """Return one new message per result, in the order of the calls."""
    first = chat.next_order()
    return [
        Message(
            chat_id=chat.id,
            role="tool",
            order=order,
            status="ready",
            blocks=[Block("text", invocation.result), *invocation.attachments],
            run_id=invocation.run_id,
            tool_call_id=invocation.call_id,
        )
        for order, invocation in enumerate(reply.invocations, first)
    ]


FINISH = "finish"
"""The name of the service's own tool that ends a run with an output."""

# Arguments grow in fragments of this many characters, as a model's tokens would.
_FRAGMENT = 12


class ModelError(Exception):
    """The model gave up by itself; the text says why."""


@frozen
class WrittenCall:
    """A tool call as it stands in the message.

    `asks` is set for one of the service's own that waits for a person; `widget` is what it shows, as JSON text.
    """

    id: str
    name: str
    arguments: Arguments
    asks: Literal["confirmation", "auth", "widget"] | None = None
    widget: str | None = None


@define
class MessageWriter:
    """Grows one message, piece by piece; `finishes` says whether the agent has a `finish` tool."""

    message: Message
    feed: Feed
    finishes: bool = False
    calls: list[WrittenCall] = field(factory=list)

    def write(self, piece: object) -> Iterator[None]:
        """Apply what should be a `Piece`; yields after every event that readers may see, for the caller to pace them.

        Raises:
            ModelError: The piece says so, or finishes where nothing asks for an output.
            TypeError, ValueError: It is no piece, or holds what JSON cannot carry; the message is as it was.
        """
        match piece:
            case Text(text):
                yield from self._say("text", text)
            case Reasoning(text):
                yield from self._say("reasoning", text)
            case ToolCall(name, arguments):
                yield from self._call(_called(name, _checked(arguments)))
            case Ask(question, reason):
                yield from self._call(_called("ask", _checked({"question": question}), asks=reason))
            case Widget(surface):
                widget = _checked(surface).text
                yield from self._call(_called("widget", _checked({}), asks="widget", widget=widget))
            case Finish(output):
                if not self.finishes:
                    raise ModelError("The model finished with an output, but the agent has no finish tool.")
                yield from self._call(_called(FINISH, _checked_output(output)))
            case Fail(detail):
                raise ModelError(detail)
            case _:
                kind = type(piece).__name__
                raise TypeError(f"A model yields Text, Reasoning, ToolCall, Ask, Widget, Finish or Fail, not {kind}.")

    def _say(self, kind: Literal["text", "reasoning"], text: str) -> Iterator[None]:
        text.encode()  # half a surrogate pair is a str that no JSON can carry: better refused here
        if not text:
            return
        blocks = self.message.blocks
        if not blocks or blocks[-1].type != kind:
            blocks.append(Block(kind, text=""))
        blocks[-1].text = (blocks[-1].text or "") + text
        self.message.touch()
        self.feed.grew(self.message, {"response" if kind == "text" else kind: text})
        yield

    def _call(self, call: WrittenCall) -> Iterator[None]:
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
        self.feed.grew(self.message, delta, visible=visible)

    def _finish_call(self, call: WrittenCall) -> None:
        self.calls.append(call)
        blocks = self.message.blocks
        if not blocks or blocks[-1].type != "tool":
            blocks.append(Block("tool"))
        function = {"name": call.name, "arguments": call.arguments.wire}
        blocks[-1].tool_calls.append({"id": call.id, "type": "function", "function": function})
        self.message.touch()


def _called(
    name: str,
    arguments: Arguments,
    *,
    asks: Literal["confirmation", "auth", "widget"] | None = None,
    widget: str | None = None,
) -> WrittenCall:
    return WrittenCall(f"call_{new_id()}", name, arguments, asks, widget)


def _checked(arguments: Mapping[str, object]) -> Arguments:
    """Return the arguments detached from the model's own object, and known to be JSON."""
    text = encode_json(dict(arguments)).decode()
    return Arguments(decode_json(text), text)


def _checked_output(output: object) -> Arguments:
    """Return the output as the arguments of a call; only an object has any that can be read by name."""
    text = encode_json(output).decode()
    values = decode_json(text)
    return Arguments(values if isinstance(values, dict) else {}, text)


MAX_STEPS = 32
"""Answers a model may give in one run before it is taken to be going in circles."""

THINKING = 10
"""How many pieces' time passes before the first one, as with a real model; clients use it to connect."""

CLOSE_TIMEOUT = 2.0
"""Seconds a model has to end once it is cancelled."""

INTERRUPTED = "The runtime ended while this run was under way, so that its answer is lost; send the message again."
"""The error of a run that a runtime finds unfinished in its database."""

_logger = logging.getLogger("inferencesh.local")


@define
class Engine:
    """Drives the runs of all chats. Its methods change state at once; only the model is waited for, in tasks.

    Args:
        store: Where tool calls are made known.
        model: Who answers.
        pace: Seconds to pause after each piece of an answer.
    """

    _store: Store
    _model: Model
    _pace: float
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    def post(self, chat: Chat, post: Post) -> tuple[Message, Message | None]:
        """Take a user's message in: returns it and the reply that begins, or no reply when it has to queue."""
        message = Message(
            chat_id=chat.id,
            role="user",
            order=chat.next_order(),
            status="queued" if chat.busy else "ready",
            blocks=[Block("text", post.text), *post.attachments],
        )
        chat.messages.append(message)
        chat.name = chat.name or post.text.strip().partition("\n")[0][:60]
        if chat.busy:
            chat.queue.append((message, post.config))
            chat.feed.message(message)
            return message, None
        return message, self._begin(chat, message, post.config)

    def withdraw(self, chat: Chat, message: Message) -> None:
        """Take a queued message out of the queue.

        Raises:
            ProblemError: 409 when it is not waiting there.
        """
        if message.status != "queued":
            raise ProblemError(409, f"The message is {message.status}; only a queued one can be withdrawn.")
        chat.queue.remove(next(each for each in chat.queue if each[0] is message))
        message.status = "cancelled"
        message.touch()
        chat.feed.message(message)

    def answer(self, chat: Chat, invocation: Invocation, result: ToolResult) -> None:
        """Take a tool's result in; with the last one that is missing, the run goes on.

        Raises:
            ProblemError: 409 when it waits for an approval, and `already_processed` when nobody waits for it.
        """
        if invocation.waits_for == "tool_approval":
            detail = "The tool call waits for its approval; it takes a result once it is approved."
            raise ProblemError(409, detail)
        if not invocation.waits:
            detail = f"The tool call is {invocation.status}; it takes no result any more."
            raise ProblemError(409, detail, code="already_processed")
        invocation.attachments = result.attachments
        invocation.end("completed", result.text)
        self.resume(chat)

    def resume(self, chat: Chat) -> None:
        """Tell of a call that has changed, and go on with the run when none of its calls waits any more."""
        run, reply = chat.run, chat.reply
        assert run is not None
        assert reply is not None
        reply.touch()
        chat.feed.message(reply)
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

    def stop(self, chat: Chat) -> None:
        """End the present run, if any, as canceled; a message that queued behind it has its turn then."""
        run, reply, task = chat.run, chat.reply, chat.task
        if run is None or run.ended or reply is None:
            return
        if task is not None:  # a run that was stored while it waited has none
            task.cancel()
        for invocation in chat.waiting():
            invocation.end("cancelled")
        if not reply.ended:
            reply.status = "cancelled"
        self._end(chat, run, reply, "canceled")

    def recover(self, chat: Chat) -> None:
        """Take up a chat of an earlier process: what was under way there has failed, what waits goes on waiting."""
        if chat.run is not None and not chat.run.settled:
            self._fail(chat, chat.run, INTERRUPTED)

    def discard(self, chat: Chat) -> None:
        """End everything about a chat that is being deleted."""
        chat.queue.clear()
        self.stop(chat)
        chat.feed.close()

    async def aclose(self) -> None:
        """Stop everything and wait, `CLOSE_TIMEOUT` at most, until it has stopped."""
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

    def _begin(self, chat: Chat, message: Message, config: AgentConfig | None) -> Message:
        chat.config = config or chat.config
        run = Run(
            chat_id=chat.id,
            agent_id=chat.agent_id,
            user_message_id=message.id,
            config=chat.config,
        )
        chat.run, chat.reply = run, None
        message.run_id = run.id
        chat.feed.message(message)
        self._publish(chat, run)
        reply = self._reply(chat, run)
        self._start(chat, run)
        return reply

    def _reply(self, chat: Chat, run: Run) -> Message:
        """Open the next assistant message of a run, still empty."""
        reply = Message(
            chat_id=chat.id,
            role="assistant",
            order=chat.next_order(),
            status="pending",
            run_id=run.id,
        )
        chat.messages.append(reply)
        chat.reply = reply
        chat.feed.message(reply)
        return reply

    def _start(self, chat: Chat, run: Run) -> None:
        task = asyncio.create_task(self._drive(chat, run), name=f"inferencesh.local run {run.id}")
        chat.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, chat: Chat, run: Run) -> None:
        """Let the model answer until it is done, fails, or calls a tool that a client has to run."""
        try:
            if run.state == "submitted":
                run.advance("working")
                self._publish(chat, run)
            while not run.settled:
                await self._step(chat, run)
        except ModelError as failure:
            self._fail(chat, run, str(failure))
        except Exception as error:
            _logger.exception("The model raised; its run has failed.")
            self._fail(chat, run, typed_text(error))
        except asyncio.CancelledError:
            self._fail(chat, run, "The run was interrupted.")
            raise

    async def _step(self, chat: Chat, run: Run) -> None:
        """Have the model write one message, and act on the calls in it."""
        reply = chat.reply
        assert reply is not None
        if run.steps == MAX_STEPS:
            raise ModelError(f"The model has called tools {MAX_STEPS} times without an answer.")
        run.steps += 1
        writer = MessageWriter(reply, chat.feed, run.config.finishes)
        await asyncio.sleep(self._pace * THINKING)
        async with _pieces(self._model, conversation_of(chat, run)) as pieces:
            async for piece in pieces:
                if run.ended:  # stopped, and the model goes on regardless
                    return
                for _ in writer.write(piece):
                    await asyncio.sleep(self._pace)
        finish = finishing_call(run, writer.calls)
        reply.status = "ready"
        reply.touch()
        for call in writer.calls:
            self._store.add_invocation(chat, add_call(chat, run, reply, call))
        if finish is None and writer.calls:
            self._pause(chat, run, reply)
            return
        run.output = finish.arguments.text if finish is not None else None
        self._end(chat, run, reply, "completed")

    def _pause(self, chat: Chat, run: Run, reply: Message) -> None:
        """Wait for those who have to answer the reply's calls, if there is anybody."""
        chat.feed.message(reply)
        waiting = chat.waiting()
        if waiting:
            run.waiting_for = waiting[0]
            run.advance("auth_required" if waiting[0].waits_for == "auth" else "input_required")
            self._publish(chat, run)
        else:
            self._add_results(chat, reply)
            self._reply(chat, run)

    def _add_results(self, chat: Chat, reply: Message) -> None:
        for result in result_messages(chat, reply):
            chat.messages.append(result)
            chat.feed.message(result)

    def _fail(self, chat: Chat, run: Run, detail: str) -> None:
        reply = chat.reply
        if run.ended or reply is None:
            return
        # What a model raises may hold anything; JSON cannot carry half a surrogate pair.
        run.error = detail.encode(errors="replace").decode()
        reply.status = "failed"
        reply.blocks.append(Block("text", error=run.error))
        self._end(chat, run, reply, "failed")

    def _end(self, chat: Chat, run: Run, reply: Message, state: RunState) -> None:
        """Say that a run is over, its last message first, and begin with what queued behind it."""
        run.waiting_for = None
        run.advance(state)
        reply.touch()
        chat.feed.message(reply)
        self._publish(chat, run)
        if chat.queue:
            message, config = chat.queue.popleft()
            # It was written while the last run still added messages; its place is after them.
            chat.messages.remove(message)
            message.order = chat.next_order()
            chat.messages.append(message)
            message.status = "ready"
            message.touch()
            self._begin(chat, message, config)

    def _publish(self, chat: Chat, run: Run) -> None:
        chat.touch()
        chat.feed.run(run)
        chat.feed.chat(chat)


@asynccontextmanager
async def _pieces(model: Model, conversation: Conversation) -> AsyncIterator[AsyncIterator[Piece]]:
    """Ask the model, and close its generator however the answer ends."""
    pieces = model.respond(conversation)
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
