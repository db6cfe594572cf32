"""``MessageStream``: an async message stream for a plain ``for`` loop."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Iterator
from types import TracebackType
from typing import Any, Self

import attrs

from .agent import AsyncAgent
from .invoke import awaited, called
from .loop_thread import LoopThread, Pump
from .models import Message
from .one_reader import OneReader
from .stream import AsyncMessageStream
from .turn_request import TurnRequest
from .uncopied import Uncopied

__all__ = ["MessageStream"]


class MessageStream(Uncopied):
    """The snapshots of one turn's assistant messages, each the whole message so far, for a plain ``for`` loop.

    Callbacks and sync tool handlers run on the thread that iterates, async ones on the background loop. Leaving the
    loop early or dropping the stream closes the connection at once; the run goes on at the server, and iterating again
    takes it up where it was left. Inside ``with`` the connection is kept until the block is left. A stream has one
    reader: a second thread that reads it gets an InferenceError, and the first goes on.

    Attributes:
        message: The latest snapshot, or None.

    Example:
        ```python
        with agent.send_message("Tell me a story", stream=True) as stream:
            for message in stream:
                print(message.text)
            final = stream.get_final_message()
        ```
    """

    _instead = "keep its messages, which can be copied, and its chat_id, with which another agent can take the chat up"

    def __init__(self, thread: LoopThread, agent: AsyncAgent, request: TurnRequest) -> None:
        self.message: Message | None = None
        self._thread = thread
        self._on_message = request.on_message
        self._pump: Pump[Message] = Pump(thread)
        self._stream: AsyncMessageStream = agent.open_stream(attrs.evolve(request, on_message=None), self._pump)
        self._pump.source = self._stream.next_batch
        self._waiting: deque[Message] = deque()
        self._entered = False
        self._reader = OneReader(threading.current_thread, lambda thread: not thread.is_alive())
        self._ended = False

    @property
    def chat_id(self) -> str | None:
        """The chat's id, known once the stream was opened."""
        return self._stream.chat_id

    def __iter__(self) -> Iterator[Message]:
        return _Loop(self, leaves=not self._entered)

    def __next__(self) -> Message:
        self._reader.check()
        return self._next()

    def _next(self) -> Message:
        if self._waiting:
            return self._following()
        with self._reader:
            return self._following()

    def _following(self) -> Message:
        try:
            if not self._waiting:
                self._waiting.extend(self._pump.take())
            if self._waiting:
                message = self.message = self._waiting.popleft()
                self._report(message, done=False)
                return message
            self._finish()
        except BaseException:
            self.leave()  # at once, and not when the exception, which holds this stream, is forgotten
            raise
        raise StopIteration

    def _finish(self) -> None:
        self._reader.end_all()
        final = self._stream.message
        if final is not None and not self._ended:
            self._ended = True
            self.message = final
            self._report(final, done=True)

    def get_final_message(self) -> Message:
        """Consume the rest of the stream and return its result.

        Returns:
            The turn's final message, or the one that waits for input.

        Raises:
            RunFailedError: The run failed.
            StreamError: The stream was lost, or was closed before its end.
            APIError, APIConnectionError: A request failed.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            message = stream.get_final_message()
            print(message.status)
            ```

            ```text
            ready
            ```
        """
        for _ in self:
            continue
        return self._thread.call(self._stream.get_final_message())

    def get_final_output(self) -> Any:
        """Consume the rest of the stream and return the agent's structured output.

        Returns:
            What the agent gave to its ``finish`` tool, as JSON has it; None when it ended without that.

        Raises:
            InputRequiredError: The run waits for input instead of ending.
            OutputError: The run was cancelled, or only a part of the output came.
            RunFailedError, StreamError, APIError, APIConnectionError: As for ``get_final_message``.

        Example:
            ```python
            agent = client.agent({"name": "rater", "output_schema": obj({"stars": integer()})})
            stream = agent.send_message("It gets 4 stars", stream=True)
            for message in stream:
                print(message.output)  # what is complete so far
            print(stream.get_final_output())
            ```

            ```text
            ...
            {'stars': 4}
            ```
        """
        for _ in self:
            continue
        return self._thread.call(self._stream.get_final_output())

    def stop(self) -> None:
        """End the run on the server; a stream that is still read then ends normally.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            for message in stream:
                if len(message.text) > 20:  # characters
                    stream.stop()
            ```
        """
        self._thread.call(self._stream.stop())

    def close(self) -> None:
        """Close the connection; the run goes on at the server. May be called more than once.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            try:
                print(next(iter(stream)).text)
            finally:
                stream.close()
            ```
        """
        self._waiting.clear()
        self._pump.cancel()
        self._reader.end_all()
        self._thread.let_go(self._stream.aclose)

    def leave(self) -> None:
        """Close the connection at once, from any thread; iterating again would take the turn up where it is."""
        self._stream.leave()

    def __enter__(self) -> Self:
        self._entered = True
        try:
            self._thread.call(_awaited(self._stream))
        except BaseException:  # then nobody leaves the block
            self.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ended"):
            self._pump.cancel()
            self.leave()

    def _report(self, message: Message, *, done: bool) -> None:
        callback = self._on_message
        if callback is None:
            return
        try:
            with self._stream.reporting(message, done=done):
                result = called(lambda: callback(message.text, done))
                if inspect.isawaitable(result):
                    self._thread.call(awaited(result))
        except BaseException:
            self._pump.cancel()
            self._thread.clean_up(self._stream.leave_and_wait())
            raise


class _Loop(Uncopied):
    """The iterator of one ``for`` loop over a stream: when the loop lets go of it, the loop was left."""

    _instead = MessageStream._instead
    _claim: object | None = None
    _leaves = False

    def __init__(self, stream: MessageStream, *, leaves: bool) -> None:
        self._stream = stream
        self._leaves = leaves

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        if self._claim is None:
            self._claim = self._stream._reader.begin()
        return self._stream._next()

    def __del__(self) -> None:
        if self._claim is not None:
            self._stream._reader.end(self._claim)
            if self._leaves:
                self._stream.leave()


async def _awaited(awaitable: Awaitable[object]) -> None:
    await awaitable
