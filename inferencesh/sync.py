"""The blocking client: the async classes, driven through a background event loop. It knows nothing of the protocol."""

from __future__ import annotations

import inspect
import ssl as tls
from collections import deque
from collections.abc import Awaitable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from .agent import AsyncAgent
from .client import MAX_LINE_BYTES, AsyncInference, ClientOptions
from .config import Secret, Timeout
from .loop_thread import LoopThread, Pump
from .models import Chat, Message
from .retry import Backoff
from .stream import AsyncMessageStream, OnMessage
from .tool_runner import OnToolCall

if TYPE_CHECKING:
    from .local import RuntimeOptions

__all__ = ["Agent", "Inference", "MessageStream", "inference"]

T = TypeVar("T")

_DEFAULT_TIMEOUT = Timeout()
_DEFAULT_BACKOFF = Backoff()


class MessageStream:
    """The snapshots of one turn's assistant messages, each the whole message so far, for a plain ``for`` loop.

    Callbacks and sync tool handlers run on the thread that iterates, async ones on the background loop. Leaving the
    loop early or dropping the stream closes the connection at once; the run goes on at the server, and iterating again
    takes it up where it was left. Inside ``with`` the connection is kept until the block is left. Not for several
    threads at once.

    Attributes:
        message: The latest snapshot, or None.
    """

    def __init__(
        self,
        thread: LoopThread,
        agent: AsyncAgent,
        text: str | None,
        *,
        on_message: OnMessage | None,
        on_tool_call: OnToolCall | None,
        conflate: bool,
    ) -> None:
        self.message: Message | None = None
        self._thread = thread
        self._on_message = on_message
        self._pump: Pump[Message] = Pump(thread)
        self._stream: AsyncMessageStream = agent.open_stream(
            text, on_message=None, on_tool_call=on_tool_call, conflate=conflate, invoker=self._pump
        )
        self._pump.source = self._stream.next_batch
        self._waiting: deque[Message] = deque()
        self._entered = False
        self._ended = False

    @property
    def chat_id(self) -> str | None:
        """The chat's id, known once the stream was opened."""
        return self._stream.chat_id

    def __iter__(self) -> Iterator[Message]:
        return self if self._entered else _Loop(self)

    def __next__(self) -> Message:
        batch = self._waiting or self._pump.take()
        if not batch:
            final = self._stream.message
            if final is not None and not self._ended:
                self._ended = True
                self.message = final
                self._report(final, done=True)
            raise StopIteration
        if batch is not self._waiting:
            self._waiting.extend(batch)
        message = self.message = self._waiting.popleft()
        self._report(message, done=False)
        return message

    def get_final_message(self) -> Message:
        """Consume the rest of the stream and return its result.

        Returns:
            The turn's final message, or the one that waits for input.

        Raises:
            RunFailedError: The run failed.
            StreamError: The stream was lost, or was closed before its end.
            APIError, APIConnectionError: A request failed.
        """
        for _ in self:
            continue
        return self._thread.call(self._stream.get_final_message())

    def stop(self) -> None:
        """End the run on the server; a stream that is still read then ends normally."""
        self._thread.call(self._stream.stop())

    def close(self) -> None:
        """Close the connection; the run goes on at the server. May be called more than once."""
        self._waiting.clear()
        self._pump.cancel()
        if not self._thread.closed:  # otherwise the client has closed it
            self._thread.call(self._stream.aclose())

    def leave(self) -> None:
        """Close the connection at once, from any thread; iterating again would take the turn up where it is."""
        self._stream.leave()

    def __enter__(self) -> Self:
        self._entered = True
        self._thread.call(_awaited(self._stream))
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
        result = callback(message.text, done)
        if inspect.isawaitable(result):
            self._thread.call(_awaited(result))


class _Loop:
    """The iterator of one ``for`` loop over a stream: when the loop lets go of it, the loop was left."""

    __slots__ = ("_stream",)

    def __init__(self, stream: MessageStream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        return next(self._stream)

    def __del__(self) -> None:
        self._stream.leave()


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
    def send_message(
        self,
        text: str,
        *,
        stream: Literal[True],
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        conflate: bool = False,
    ) -> MessageStream: ...

    @overload
    def send_message(
        self,
        text: str,
        *,
        stream: Literal[False] = False,
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        conflate: bool = False,
    ) -> Message: ...

    @overload
    def send_message(
        self,
        text: str,
        *,
        stream: bool,
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        conflate: bool = False,
    ) -> MessageStream | Message: ...

    def send_message(
        self,
        text: str,
        *,
        stream: bool = False,
        on_message: OnMessage | None = None,
        on_tool_call: OnToolCall | None = None,
        conflate: bool = False,
    ) -> MessageStream | Message:
        """Send a message and get the agent's reply; as ``AsyncAgent.send_message``, blocking.

        Sync callbacks and tool handlers run on the calling thread, so they may use the client themselves.

        Args:
            text: The message.
            stream: Whether to return a stream of snapshots, each the whole message so far, instead of the final one.
            on_message: Called as ``on_message(text, done)`` with the whole text so far.
            on_tool_call: Called with each client tool's call before its handler.
            conflate: Whether a slow reader skips snapshots that a newer one of the same message has replaced.

        Returns:
            With ``stream=True`` a MessageStream; otherwise the turn's final message, or the one that waits for input.

        Raises:
            RunFailedError: The run failed.
            StreamError: The reply was lost for good.
            APIError: The server refused the message or the stream.
            APIConnectionError: The server could not be reached.
        """
        if not isinstance(text, str):
            raise TypeError(f"a message is a str, not {type(text).__name__}")
        opened = self._open(text, on_message=on_message, on_tool_call=on_tool_call, conflate=conflate)
        return opened if stream else _finish(opened)

    def stream_messages(
        self, *, on_message: OnMessage | None = None, on_tool_call: OnToolCall | None = None, conflate: bool = False
    ) -> MessageStream:
        """Attach to the turn that is running or paused in this chat; as ``AsyncAgent.stream_messages``, blocking."""
        return self._open(None, on_message=on_message, on_tool_call=on_tool_call, conflate=conflate)

    def wait(self) -> Message:
        """Wait until the current turn ends or needs input; as ``AsyncAgent.wait``, blocking."""
        return _finish(self.stream_messages())

    def submit_tool_result(self, tool_call_id: str, result: object) -> None:
        """Answer a tool call; as ``AsyncAgent.submit_tool_result``, blocking."""
        self._thread.call(self._agent.submit_tool_result(tool_call_id, result))

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

    def _open(
        self, text: str | None, *, on_message: OnMessage | None, on_tool_call: OnToolCall | None, conflate: bool
    ) -> MessageStream:
        return MessageStream(
            self._thread, self._agent, text, on_message=on_message, on_tool_call=on_tool_call, conflate=conflate
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(chat_id={self.chat_id!r})"


class Inference:
    """The client for programs without an event loop; it also works inside one, for instance in a notebook.

    It may be used from several threads. Close it with ``with`` or ``close``; one that is never closed ends quietly with
    the interpreter.

    Args:
        api_key: The API key; ``INFERENCE_API_KEY`` when None.
        base_url: The service's address; ``INFERENCE_BASE_URL`` or https://api.inference.sh when None.
        timeout: Time limits: a Timeout, or seconds for all of them, or None for none.
        max_retries: How often a failed request is repeated, where that is safe.
        max_reconnects: How many connections of a stream in a row may bring nothing new before the turn is given up.
        backoff: The waits before repetitions and reconnects.
        proxy: An http proxy's URL; that of the environment when None.
        trust_env: Whether the environment's proxies count.
        ssl: A TLS context, for private certificates; the system's when None.
        tool_timeout: Seconds a tool handler may take, or None.
        max_parallel_tools: How many handlers of one turn run at once.
        max_line_bytes: The longest line of a stream, in bytes.

    Raises:
        ConfigurationError: There is no API key, or an argument cannot work.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float | Timeout | None = _DEFAULT_TIMEOUT,
        max_retries: int = 2,
        max_reconnects: int = 5,
        backoff: Backoff = _DEFAULT_BACKOFF,
        proxy: str | None = None,
        trust_env: bool = True,
        ssl: tls.SSLContext | None = None,
        tool_timeout: float | None = None,
        max_parallel_tools: int = 16,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        key = Secret(api_key) if api_key is not None else None
        del api_key  # lest a traceback with local variables shows it
        self._client = AsyncInference(
            key.reveal() if key is not None else None,
            base_url=base_url,
            timeout=timeout,
            max_retries=max_retries,
            max_reconnects=max_reconnects,
            backoff=backoff,
            proxy=proxy,
            trust_env=trust_env,
            ssl=ssl,
            tool_timeout=tool_timeout,
            max_parallel_tools=max_parallel_tools,
            max_line_bytes=max_line_bytes,
        )
        self._thread = LoopThread("inferencesh")

    @classmethod
    def local(cls, **runtime_options: Unpack[RuntimeOptions]) -> Self:
        """A client of an embedded runtime of its own: no key, no account, no network.

        Args:
            runtime_options: Those of ``inferencesh.local.LocalRuntime``.
        """
        client = cls.__new__(cls)
        client._client = AsyncInference.local(**runtime_options)
        client._thread = LoopThread("inferencesh")
        return client

    def agent(
        self,
        config: str | Mapping[str, Any],
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Agent:
        """Make an agent, which is one conversation; as ``AsyncInference.agent``."""
        return Agent(self._thread, self._client.agent(config, chat_id=chat_id, context=context))

    def close(self) -> None:
        """Close all connections and streams and stop the background loop. May be called more than once."""
        if not self._thread.closed:
            self._thread.call(self._client.aclose())
            self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._client).replace(type(self._client).__name__, type(self).__name__)


def inference(api_key: str | None = None, **options: Unpack[ClientOptions]) -> Inference:
    """Make an Inference; it takes the same arguments."""
    return Inference(api_key, **options)


def _finish(stream: MessageStream) -> Message:
    """Consume a stream that nobody else sees, and leave nothing of it open."""
    try:
        return stream.get_final_message()
    finally:
        stream.leave()


async def _awaited(awaitable: Awaitable[object]) -> None:
    await awaitable
