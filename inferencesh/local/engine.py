"""Runs the agent: takes messages and tool results in, drives the model, and tells each chat's feed what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attrs import define, field

from inferencesh.exception_text import typed_text

from .chats import Run
from .conversation import conversation_of
from .problems import ProblemError
from .records import Block, Message
from .tool_calls import add_call, finishing_call, result_messages
from .writer import MessageWriter, ModelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .agent_config import AgentConfig
    from .bodies import Post, ToolResult
    from .chats import Chat, RunState
    from .model import Conversation, Model, Piece
    from .records import Invocation
    from .store import Store

__all__ = ("Engine",)

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
