"""``Supervisor``: takes over the turns of workers that have died, given the ids of the chats."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable

import attrs

from ._loops.invoke import checked_await
from ._loops.threads import Uncopied, wait_for_end
from .agent import AsyncAgent
from .config import check_count, check_seconds
from .errors import InferenceError, LeaseHeldError, LeaseLostError, short_tracebacks
from .models import Message
from .stream import AsyncMessageStream

__all__ = ["Supervisor", "Takeover"]

logger = logging.getLogger("inferencesh")


@attrs.frozen
class Takeover:
    """The outcome of taking over a turn.

    Attributes:
        chat_id: The chat's id.
        message: The turn's final message, or the one that waits for input; the chat's last message if no turn was in
            progress. None if there was an error.
        error: The error, or None. ``LeaseHeldError`` and ``LeaseLostError`` mean that another worker has the turn.

    Example:
        ```python
        supervisor = Supervisor(lambda chat_id: client.agent({"name": "storyteller"}, chat_id=chat_id))
        message = await client.agent({"name": "storyteller"}).send_message("Hello")
        taken = [taken async for taken in supervisor.run([message.chat_id])]
        print(taken[0].error, taken[0].message.status)
        ```

        ```text
        None ready
        ```
    """

    chat_id: str
    message: Message | None = None
    error: InferenceError | None = None


@short_tracebacks
class Supervisor(Uncopied):
    """Takes over the turns of workers that have died, several concurrently.

    The program supplies the ids of chats with unfinished turns, for example from a job queue that redelivers the jobs
    of dead workers. Each turn is taken over with ``AsyncAgent.take_over``, which waits as long as another worker renews
    its lease on the turn.

    Args:
        make_agent: Called with a chat's id; returns the agent for the chat, with the handlers of its tools.
        follow: An async function that is called with each stream, to process the snapshots as the former worker would
            have done. None reads each stream to its end.
        at_once: The maximum number of concurrent turns; the next chat id is read when a turn ends.
        wait: Seconds to wait for the lease of each turn, as for ``take_over``.

    Raises:
        ConfigurationError: ``at_once`` is not a positive integer, or ``wait`` is not a number of seconds.

    Example:
        ```python
        def make_agent(chat_id: str) -> AsyncAgent:
            return client.agent({"name": "storyteller"}, chat_id=chat_id)


        async def show(stream: AsyncMessageStream) -> None:
            async for message in stream:
                print(message.text)


        supervisor = Supervisor(make_agent, show, at_once=8)
        ```
    """

    _instead = "create another one where it is needed"

    def __init__(
        self,
        make_agent: Callable[[str], AsyncAgent],
        follow: Callable[[AsyncMessageStream], Awaitable[object]] | None = None,
        *,
        at_once: int = 100,
        wait: float | None = None,
    ) -> None:
        self._make_agent = make_agent
        self._follow = follow
        self._at_once = check_count("at_once", at_once, 1)
        check_seconds("wait", wait, 0, optional=True)
        self._wait = wait

    async def take_over(self, chat_id: str) -> Message:
        """Take over one turn and run it to its end.

        Args:
            chat_id: The chat's id.

        Returns:
            The turn's final message, or the one that waits for input; the chat's last message if nothing is running.

        Raises:
            InferenceError: As for ``AsyncAgent.take_over``.
            CallbackCancelledError: ``follow`` raised CancelledError although nobody cancelled this call.
            TypeError: ``make_agent`` returned no AsyncAgent, or ``follow`` is not an async function.
            Exception: An exception of ``follow`` or of a callback.

        Example:
            ```python
            message = await client.agent({"name": "storyteller"}).send_message("Hello")
            supervisor = Supervisor(lambda chat_id: client.agent({"name": "storyteller"}, chat_id=chat_id))
            print((await supervisor.take_over(message.chat_id)).status)
            ```

            ```text
            ready
            ```
        """
        agent: object = self._make_agent(chat_id)
        if not isinstance(agent, AsyncAgent):
            raise TypeError(f"make_agent must return an AsyncAgent, not a {type(agent).__name__}")
        async with agent.take_over(wait=self._wait) as stream:
            if self._follow is not None:
                following: object = self._follow(stream)
                if not inspect.isawaitable(following):
                    raise TypeError("follow must be an async function: define it with async def")
                await checked_await(following)
            return await stream.get_final_message()

    async def run(self, chat_ids: AsyncIterable[str] | Iterable[str]) -> AsyncGenerator[Takeover, None]:
        """Take over the turns of many chats, as their ids arrive.

        An id that arrives again while its turn is in progress here does not start a second takeover. The outcome is
        still yielded once for each arrival of the id, so that each job can be acknowledged. Leaving the loop releases
        the leases of the turns in progress, and other workers may continue them.

        Args:
            chat_ids: The ids, such as a list or an async generator that reads them from a queue. At most ``at_once``
                turns are in progress; further ids are read as turns end.

        Returns:
            An async iterator of the outcomes, in the order in which the turns end.

        Raises:
            TypeError: ``chat_ids`` is a single str, or one of the ids is not a str.
            Exception: An exception of ``chat_ids`` or ``follow``. Errors of this package are in the Takeover instead.

        Example:
            ```python
            from collections.abc import AsyncGenerator


            async def unfinished() -> AsyncGenerator[str, None]:
                async for chat in client.chats.list():
                    if chat.status is ChatStatus.BUSY:
                        yield chat.id


            supervisor = Supervisor(lambda chat_id: client.agent({"name": "storyteller"}, chat_id=chat_id))
            async for taken in supervisor.run(unfinished()):
                print(taken.chat_id, taken.error)
            ```
        """
        if isinstance(chat_ids, str):
            raise TypeError("chat_ids must be an iterable of ids, not a str: pass [chat_id] for a single one")
        ids, reading = _each(chat_ids), None
        running: dict[asyncio.Task[Takeover], str] = {}
        given: Counter[str] = Counter()  # how often the id of each chat in progress has arrived
        try:
            ended = False
            while not ended or running:
                if reading is None and not ended and len(running) < self._at_once:
                    reading = asyncio.create_task(_next(ids), name="inferencesh supervisor")
                waiting = {*running, reading} if reading is not None else {*running}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    chat_id, reading = reading.result(), None
                    ended = chat_id is None
                    if chat_id is not None:
                        given[chat_id] += 1
                        if given[chat_id] == 1:
                            task = asyncio.create_task(self._one(chat_id), name="inferencesh supervisor")
                            running[task] = chat_id
                for task in [task for task in running if task.done()]:
                    for _ in range(given.pop(running.pop(task))):
                        yield task.result()
        finally:
            left = {*running, reading} if reading is not None else {*running}
            for each in left:
                each.cancel()
            try:
                await wait_for_end(left)
            finally:
                await ids.aclose()

    async def _one(self, chat_id: str) -> Takeover:
        try:
            return Takeover(chat_id, await self.take_over(chat_id))
        except InferenceError as error:
            if not isinstance(error, LeaseHeldError | LeaseLostError):
                logger.warning("chat %s: the turn that was taken over failed with %s", chat_id, type(error).__name__)
            return Takeover(chat_id, error=error)


async def _each(chat_ids: AsyncIterable[str] | Iterable[str]) -> AsyncGenerator[str, None]:
    if isinstance(chat_ids, AsyncIterable):
        async for chat_id in chat_ids:
            yield _checked(chat_id)
    else:
        for chat_id in chat_ids:
            yield _checked(chat_id)


def _checked(chat_id: object) -> str:
    if not isinstance(chat_id, str):
        raise TypeError(f"a chat id must be a str, not {chat_id!r}; an agent has none before its first message is sent")
    return chat_id


async def _next(ids: AsyncGenerator[str, None]) -> str | None:
    return await anext(ids, None)
