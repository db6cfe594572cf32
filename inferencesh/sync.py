"""The blocking client: the async classes, run on an event loop in a background thread.

Each class here wraps its async counterpart and has the same methods with the same arguments; the async class does the
work, and documents in full what is said here in short. On the caller's thread run its own callbacks and tool handlers
while it waits, and the iteration over a batch of snapshots that the loop has handed over.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack, overload

import attrs

from ._loops.threads import Uncopied, check_threads
from .client import AsyncInference
from .config import MAX_LINE_BYTES, Backoff, Secret, Timeout
from .errors import no_attribute, refusing, short_tracebacks, shorten_traceback

# What a client, a stream or a turn needs is imported when the first is made, so that importing this costs little.
if TYPE_CHECKING:
    import os
    import ssl as tls
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from ._http.downloads import RemoteFile
    from ._http.sources import FileSource, OnProgress
    from ._loops.invoke import Callback
    from ._loops.loop_thread import LoopThread, Pump
    from ._tasks.request import OnUpdate, RunOptions, SessionRunOptions, TaskRequest
    from ._turns.leases import OnStoreLost
    from ._turns.request import (
        OnApproval,
        OnDelta,
        OnMessage,
        OnToolCall,
        OnToolProgress,
        TurnOptions,
        TurnRequest,
        Until,
    )
    from .agent import AsyncAgent
    from .claims import ClaimStore
    from .client import AsyncAgents, ClientOptions
    from .config import AgentConfig, AgentFields
    from .endpoints import AsyncItemStream, AsyncResponseStream
    from .events import AsyncEventStream, Event  # noqa: F401 - named in a string
    from .local import BackgroundRuntime, RuntimeOptions
    from .models import Chat, ChatStatus, ChatTrace, FileRef, Interrupt, Message, ToolCall
    from .resources import AsyncChats, AsyncFiles
    from .sessions import AsyncSession, AsyncSessions
    from .stream import AsyncMessageStream, AsyncStream, BaseAsyncStream, OutputT
    from .task_models import AppSession, DeletedFiles, Task, TaskFile
    from .tasks import AsyncTasks
    from .types import AgentNames, ClientNames

    class _ClientNames(ClientNames, Uncopied): ...

    class _AgentNames(AgentNames, Uncopied): ...

else:
    OutputT = TypeVar("OutputT")
    _ClientNames = _AgentNames = Uncopied  # the methods of the base classes come from ``__getattr__``

__all__ = [
    "Agent",
    "Agents",
    "Chats",
    "EventStream",
    "Files",
    "Inference",
    "MessageStream",
    "ResponseStream",
    "Session",
    "Sessions",
    "TaskStream",
    "Tasks",
    "inference",
]

S = TypeVar("S")
T = TypeVar("T")

_DEFAULT_TIMEOUT = Timeout()
_DEFAULT_BACKOFF = Backoff()


@short_tracebacks
class Inference(_ClientNames):
    """The client for programs without an event loop; it also works inside one, for instance in a notebook.

    It may be used from several threads. Close it with ``with`` or ``close``; one that is never closed ends quietly with
    the interpreter. Where gevent or eventlet has replaced threads it raises a ConfigurationError.

    Args:
        api_key: The API key; ``INFERENCE_API_KEY`` when None.
        base_url: The service's address; ``INFERENCE_BASE_URL`` or https://api.inference.sh when None. Or an embedded
            runtime, which is started with the first request and stopped with the client; ``api_key`` and proxies are
            then ignored.
        timeout: Time limits: a Timeout, or seconds for all of them, or None for none.
        max_retries: How often a failed request is retried, if that is safe.
        max_reconnects: How many connections of a stream in a row may bring nothing new before the turn is given up.
        backoff: The waits before retries and reconnects.
        proxy: An http proxy's URL; that of the environment when None.
        trust_env: Whether the environment's proxies count.
        ssl: A TLS context, for private certificates; the system's when None.
        tool_timeout: Seconds a tool handler may take, or None.
        max_parallel_tools: How many handlers of one turn run at once.
        max_line_bytes: The longest line of a stream, in bytes.
        claims: The store of the claims on tool calls, messages and turns. None keeps them in this client, which runs
            each tool call at most once. With ``RedisClaims``, several workers share them, and one can take over when
            another dies.
        on_claim_store_lost: What to do while the store is unavailable: ``"fail"`` raises ClaimStoreError for new
            claims, ``"run"`` logs a warning and continues without the store. Work that was claimed before continues in
            either case.

    Raises:
        ConfigurationError: There is no API key, or an argument is invalid.

    Example:
        ```python
        with Inference("inf_...", timeout=Timeout(total=60)) as client:
            agent = client.agent("acme/support@v2")
        ```
    """

    _instead = "make another client where it is needed"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | BackgroundRuntime | None = None,
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
        claims: ClaimStore | None = None,
        on_claim_store_lost: OnStoreLost = "fail",
    ) -> None:
        from ._loops.loop_thread import LoopThread

        check_threads("the blocking client")
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
            claims=claims,
            on_claim_store_lost=on_claim_store_lost,
        )
        self._thread = LoopThread("inferencesh")

    @property
    def agents(self) -> Agents:
        """``client.agents.create(...)`` is the same as ``client.agent(...)``."""
        return Agents(self._thread, self._client.agents)

    @property
    def chats(self) -> Chats:
        """The chats of the account."""
        return Chats(self._thread, self._client.chats)

    @property
    def files(self) -> Files:
        """The files of the account."""
        return Files(self._thread, self._client.files)

    @property
    def tasks(self) -> Tasks:
        """The tasks of the account, and the way to run apps."""
        return Tasks(self._thread, self._client.tasks)

    @property
    def sessions(self) -> Sessions:
        """The sessions of the account."""
        return Sessions(self._thread, self._client.sessions)

    def session(self, app: str, *, session_timeout: int | None = None) -> Session:
        """Make a session of an app; as ``AsyncInference.session``.

        Example:
            ```python
            with client.session("infsh/session-test", session_timeout=120) as session:
                session.run({"key": "name", "value": "Ada"}, function="set_value")
            ```
        """
        return Session(self._thread, self._client.session(app, session_timeout=session_timeout))

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[True],
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[RunOptions],
    ) -> TaskStream: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: type[T],
        **options: Unpack[RunOptions],
    ) -> T: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: None = None,
        **options: Unpack[RunOptions],
    ) -> Task: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: bool,
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[RunOptions],
    ) -> Any: ...

    def run(self, app: str | Mapping[str, Any], input: object = None, **options: Any) -> Any:  # noqa: A002
        """Run an app; the short name of ``client.tasks.run``, with the same arguments.

        Example:
            ```python
            task = client.run("demo/text", {"template": "Hello {name}!", "values": {"name": "Ada"}})
            print(task.output["text"])
            ```

            ```text
            Hello Ada!
            ```
        """
        return self.tasks.run(app, input, **options)

    @classmethod
    def local(cls, **runtime_options: Unpack[RuntimeOptions]) -> Self:
        """Make a client with an embedded runtime of its own: no key, no account, no network.

        As ``AsyncInference.local``.

        Args:
            runtime_options: The arguments of ``inferencesh.local.LocalRuntime``.

        Example:
            ```python
            with Inference.local(pace=0) as client:  # seconds between words
                agent = client.agent({"name": "storyteller"})
                print(agent.send_message("Tell me a story").text)
            ```

            ```text
            The ...
            ```
        """
        from .local import BackgroundRuntime

        return cls(base_url=BackgroundRuntime(**runtime_options))

    def agent(
        self,
        config: str | AgentConfig | Mapping[str, Any] | None = None,
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
        **fields: Unpack[AgentFields],
    ) -> Agent:
        """Make an agent, which is one conversation; as ``AsyncInference.agent``.

        Example:
            ```python
            def weather(city: str) -> str:
                "Tell the weather."
                return f"Rain in {city}"


            agent = client.agent(name="guide", system_prompt="Answer in one sentence.", tools=[weather])
            message = agent.send_message("Hello")
            same_chat = client.agent(chat_id=message.chat_id)
            stored = client.agent("acme/guide", tools=[weather], context={"city": "Paris"})
            ```
        """
        return Agent(self._thread, self._client.agent(config, chat_id=chat_id, context=context, **fields))

    @overload
    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: type[T],
        idempotent: bool | None = None,
    ) -> T: ...

    @overload
    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        idempotent: bool | None = None,
    ) -> Any: ...

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        idempotent: bool | None = None,
    ) -> Any:
        """Make a request to any endpoint; as ``AsyncInference.request``, blocking.

        Example:
            ```python
            chat = client.request("POST", "/chats", json={"agent": "acme/support"}, cast_to=Chat)
            renamed = client.request("POST", f"/chats/{chat.id}", json={"name": "Notes"})
            print(renamed["name"])
            ```

            ```text
            Notes
            ```
        """
        return self._thread.call(
            self._client.request(method, path, json=json, params=params, cast_to=cast_to, idempotent=idempotent)
        )

    @overload
    def paginate(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: type[T],
        page_size: int | None = None,
    ) -> Iterator[T]: ...

    @overload
    def paginate(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        page_size: int | None = None,
    ) -> Iterator[Any]: ...

    def paginate(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        page_size: int | None = None,
    ) -> Iterator[Any]:
        """Read the items of a list from any endpoint that answers in pages; as ``AsyncInference.paginate``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            for chat in client.paginate("POST", "/chats/list", cast_to=Chat, page_size=100):
                print(chat.id, chat.name)
            ```
        """
        items = self._client.paginate(method, path, json=json, params=params, cast_to=cast_to, page_size=page_size)
        return _BlockingItems(self._thread, items)

    @overload
    def stream(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: type[T],
        idempotent: bool | None = None,
    ) -> ResponseStream[T]: ...

    @overload
    def stream(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        idempotent: bool | None = None,
    ) -> ResponseStream[Any]: ...

    def stream(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        idempotent: bool | None = None,
    ) -> ResponseStream[Any]:
        """Make a request to any endpoint whose response is a stream; as ``AsyncInference.stream``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            with client.stream("GET", f"/chats/{agent.chat_id}/stream", cast_to=str) as stream:
                print(stream.headers["content-type"])
            ```

            ```text
            application/x-ndjson
            ```
        """
        return ResponseStream(
            self._thread,
            self._client.stream(method, path, json=json, params=params, cast_to=cast_to, idempotent=idempotent),
        )

    def close(self) -> None:
        """Close all connections and streams and stop the background loop. May be called more than once.

        Example:
            ```python
            client = Inference.local(pace=0)
            try:
                print(client.agent({"name": "greeter"}).send_message("Hello").text)
            finally:
                client.close()
            ```

            ```text
            You said: "Hello". ...
            ```
        """
        self._thread.call_close(self._client.aclose)
        self._thread.close()

    def __enter__(self) -> Self:
        if self._client._agent_options.leases.shared:
            try:
                self._thread.call(self._client.__aenter__())
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __aenter__ = __aexit__ = refusing(
            "this client is blocking: write «with Inference(...) as client», or use AsyncInference"
        )

        def __getattr__(self, name: str) -> Any:
            from .types import official_method

            return official_method(self, "client", name)

    def __repr__(self) -> str:
        return repr(self._client).replace(type(self._client).__name__, type(self).__name__)


def inference(api_key: str | None = None, **options: Unpack[ClientOptions]) -> Inference:
    """Make an ``Inference``, which takes the same arguments.

    Example:
        ```python
        client = inference("inf_...", max_retries=5)
        ```
    """
    return Inference(api_key, **options)


@short_tracebacks
class Agent(_AgentNames):
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
    def send_message(
        self, text: str, *, stream: Literal[True], output_type: type[T], **options: Unpack[TurnOptions]
    ) -> MessageStream[T]: ...

    @overload
    def send_message(
        self, text: str, *, stream: Literal[True], output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> MessageStream: ...

    @overload
    def send_message(
        self, text: str, *, stream: Literal[False] = False, output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> Message: ...

    @overload
    def send_message(
        self, text: str, *, stream: bool, output_type: Any = None, **options: Unpack[TurnOptions]
    ) -> MessageStream | Message: ...

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
    ) -> MessageStream | Message:
        """Send a message and get the agent's reply; as ``AsyncAgent.send_message``, blocking.

        Sync callbacks and tool handlers run on the calling thread, so they may use the client themselves.

        Args:
            text: The message.
            stream: Whether to return a stream of snapshots, each the whole message so far, instead of the final one.
            output_type: The type of the structured output that the agent is to give, as for ``run``: the reply has it
                as ``output``, a stream returns it from ``get_final_output``.
            files: What goes with it, as for ``client.files.upload``; uploaded before the message is sent.
            idempotency_key: A unique key of this message, such as a job id. A message with a key that was sent before
                is not sent again; the rest or the end of its turn is returned.
            on_message: Called as ``on_message(text, done)`` with the whole text so far; a function that takes one
                argument only is called with each snapshot.
            on_delta: Called with a Delta, what was added; ``delta.rewritten`` says that its text replaces the text
                before.
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
            ConfigurationError: ``output_type`` has no JSON Schema; nothing is sent.
            OutputError: The run has ended without an output of the type ``output_type``.
            StreamError: The reply was lost for good; the message was withdrawn while it was queued; or it is not known
                whether an earlier attempt with this ``idempotency_key`` has started a chat.
            LeaseLostError, ClaimStoreError: As for ``AsyncAgent.send_message``.
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
        from ._turns.request import TurnRequest

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
        idempotency_key: str | None = None,
        on_message: OnMessage | None = None,
        on_delta: OnDelta | None = None,
        on_tool_call: OnToolCall | None = None,
        on_tool_progress: OnToolProgress | None = None,
        on_approval: OnApproval | None = None,
        conflate: bool = False,
    ) -> Any:
        """Send a message and get the agent's structured output; as ``AsyncAgent.run``, blocking.

        Args:
            text: The message.
            output_type: What the output is to be: an attrs class, dataclass, TypedDict, model of pydantic, enum, or
                anything of builtin types. None takes the output as it is.
            files: As for ``send_message``.
            idempotency_key: As for ``send_message``.
            on_message: As for ``send_message``.
            on_delta: As for ``send_message``.
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
        from ._turns.request import TurnRequest

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
        stream = self._open(request)
        try:
            return stream.get_final_output()
        finally:
            stream._leave()

    def stream_messages(
        self,
        *,
        on_message: OnMessage | None = None,
        on_delta: OnDelta | None = None,
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
        from ._turns.request import TurnRequest

        return self._open(
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
    ) -> MessageStream:
        """Take over the chat's turn from a worker that has died; as ``AsyncAgent.take_over``, blocking.

        Example:
            ```python
            for message in agent.send_message("Tell me a story", stream=True):
                break  # as if the worker had died here

            same_chat = client.agent({"name": "storyteller"}, chat_id=agent.chat_id)
            for message in same_chat.take_over(wait=60):
                print(message.text)
            ```
        """
        from ._turns.request import TurnRequest

        return self._open(
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

    def stream_events(self) -> EventStream:
        """Follow all events of the chat as the service sends them; as ``AsyncAgent.stream_events``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            with agent.stream_events() as events:
                agent.send_message("Hello again")
                for event in events:
                    if event.message is not None and event.message.done:
                        print(event.message.text)
                        break
            ```

            ```text
            ...
            ```
        """
        return EventStream(self._thread, self._agent.stream_events())

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
        from ._turns.request import TurnRequest

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
        return self._thread.call_with_callbacks(
            lambda relay: self._agent.upload_file(
                source, filename=filename, content_type=content_type, on_progress=relay(on_progress)
            )
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
        """Allow or deny what the run has stopped to ask for; as ``AsyncAgent.resolve_interrupt``, blocking.

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

    def always_allow_tool(self, tool_call_id: str | ToolCall, option: str | None = None) -> None:
        """Approve a call and later calls like it; as ``AsyncAgent.always_allow_tool``, blocking.

        Example:
            ```python
            delete = tool("delete").handler(lambda name: "deleted").param("name", string()).require_approval().build()
            agent = client.agent({"name": "janitor", "tools": [delete]})
            message = agent.send_message('Delete "notes.txt"')
            for call in message.pending_approvals:
                agent.always_allow_tool(call)
            agent.wait()
            print(agent.send_message('Delete "draft.txt"').paused)
            ```

            ```text
            False
            ```
        """
        self._thread.call(self._agent.always_allow_tool(tool_call_id, option))

    def interrupts(self) -> list[Interrupt]:
        """Read what the current or last run has waited for; as ``AsyncAgent.interrupts``, blocking.

        Example:
            ```python
            message = agent.send_message("Publish the report")
            for interrupt in agent.interrupts():
                print(interrupt.reason, interrupt.status)
                agent.resolve_interrupt(interrupt, "allow")
            ```

            ```text
            confirmation pending
            ```
        """
        return self._thread.call(self._agent.interrupts())

    def set_agent(self, config: str | AgentConfig | Mapping[str, Any]) -> None:
        """Continue the conversation with another agent; as ``AsyncAgent.set_agent``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            agent.set_agent({"name": "editor", "system_prompt": "Improve what was written so far."})
            message = agent.send_message("Go on")
            print(message.chat_id == agent.chat_id)
            ```

            ```text
            True
            ```
        """
        self._thread.call(self._agent.set_agent(config))

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

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __await__ = refusing("this agent is blocking: its methods need no await; for asyncio use AsyncInference")
        __iter__ = __aiter__ = refusing(
            "an agent is not iterated: write «for message in agent.send_message(text, stream=True)»"
        )
        __enter__ = __exit__ = __aenter__ = __aexit__ = refusing(
            "an agent has nothing to close: write «agent = client.agent(...)»; «with» is for the client and for streams"
        )

        def __getattr__(self, name: str) -> Any:
            from .types import official_method

            return official_method(self, "agent", name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(chat_id={self.chat_id!r})"


def _finish(stream: MessageStream) -> Message:
    """Return the result of a stream that nobody else reads; its connection is closed whatever happens."""
    try:
        return stream._result()
    finally:
        stream._leave()


class _BaseStream(Uncopied, ABC, Generic[S]):
    """What blocking streams have in common: ``with``, and that dropping one closes its connection.

    Args:
        thread: The loop.
        pump: Hands over what is read.
        source: The async stream.
    """

    def __init__(self, thread: LoopThread, pump: Pump[S], source: BaseAsyncStream[S]) -> None:
        self._thread = thread
        self._pump = pump
        self._source = source
        pump.source = source._next_batch
        self._batch: Iterator[S] = iter(())  # what is left of the batch that was handed over last
        self._entered = False

    @abstractmethod
    def close(self) -> None:
        """Close the connection. May be called more than once."""

    def __enter__(self) -> Self:
        self._entered = True
        try:
            self._thread.call(self._source._open())
        except BaseException:  # __exit__ is not called
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __await__ = __aenter__ = __aexit__ = refusing(
            "this stream is blocking: leave «await» and «async» out; for asyncio use AsyncInference"
        )
        __aiter__ = refusing(
            "this stream is blocking: write «for message in ...» instead of «async for message in ...», or use "
            "AsyncInference"
        )

    def __del__(self) -> None:
        if hasattr(self, "_entered"):
            self._pump.cancel()
            self._leave()

    def _leave(self) -> None:
        """Close the connection at once, from any thread."""
        self._source._leave()


class _Stream(_BaseStream[S]):
    """A stream of snapshots for a plain ``for`` loop; the base of the streams of messages and of tasks.

    Args:
        thread: The loop.
        pump: Hands the snapshots over.
        stream: The async stream, which calls no callback.
        reports: Whether callbacks of the user are called with the snapshots.
    """

    _source: AsyncStream[S]

    def __init__(self, thread: LoopThread, pump: Pump[S], stream: AsyncStream[S], *, reports: bool) -> None:
        from .stream import OneReader

        super().__init__(thread, pump, stream)
        self._last: S | None = None
        self._reports = reports
        self._reader = OneReader(threading.current_thread, lambda thread: not thread.is_alive())
        self._ended = False

    def __iter__(self) -> Iterator[S]:
        return _Loop(self, leaves=not self._entered)

    def __next__(self) -> S:
        self._reader.check()
        return self._next()

    def _next(self) -> S:
        snapshot = next(self._batch, None)
        if snapshot is None:
            with self._reader:  # an error in a second thread; the first one goes on, so the stream stays open
                snapshot = self._take()
        try:
            if snapshot is not None:
                self._last = snapshot
                self._report(snapshot, done=False)
                return snapshot
            self._reader.end_all()
            self._finish()
        except BaseException:
            self._leave()  # not left to __del__: the traceback keeps this stream alive as long as the exception
            raise
        raise StopIteration

    def _take(self) -> S | None:
        """Return the first snapshot of the next batch, for which this waits, or None at the end."""
        snapshot = next(self._batch, None)  # not None if another thread has just taken a batch
        if snapshot is None:
            try:
                self._batch = iter(self._pump.take())
            except BaseException:
                self._leave()
                raise
            snapshot = next(self._batch, None)
        return snapshot

    def close(self) -> None:
        """Close the connection; what is streamed goes on at the server. May be called more than once.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            try:
                print(next(iter(stream)).text)
            finally:
                stream.close()
            ```
        """
        self._batch = iter(())
        self._pump.cancel()
        self._reader.end_all()
        self._thread.call_close(self._source.aclose)

    def _finish(self) -> None:
        """Do what is to be done when the last snapshot was delivered."""

    @abstractmethod
    def _report(self, snapshot: S, *, done: bool) -> None:
        """Call the callback."""

    def _call_back(
        self, calls: Iterable[tuple[Callback, tuple[object, ...]]], context: AbstractContextManager[None]
    ) -> None:
        """Call callbacks in a context, each with its arguments, and leave the stream when one raises."""
        try:
            with context:
                for callback, arguments in calls:
                    self._thread.call_back(callback.function, *arguments)
        except BaseException:
            self._pump.cancel()
            self._thread.clean_up(self._source._leave_and_wait())
            raise


@short_tracebacks
class MessageStream(_Stream["Message"], Generic[OutputT]):
    """The snapshots of one turn's assistant messages, each the whole message so far, for a plain ``for`` loop.

    Callbacks and sync tool handlers run on the thread that iterates, async ones on the background loop. Leaving the
    loop early or dropping the stream closes the connection at once; the run goes on at the server, and iterating again
    resumes where the loop was left. Inside ``with`` the connection stays open until the end of the block. A stream has
    one reader: a second thread that reads it gets an InferenceError, and the first goes on.

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
        from ._loops.loop_thread import Pump
        from ._turns.request import Reports

        pump: Pump[Message] = Pump(thread)
        self._stream: AsyncMessageStream[OutputT] = agent._open_stream(
            attrs.evolve(request, on_message=None, on_delta=None), pump
        )
        self._callbacks = Reports.of(request)
        super().__init__(thread, pump, self._stream, reports=self._callbacks is not None)

    @property
    def message(self) -> Message | None:
        """The latest snapshot, or None."""
        return self._last

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            from .stream import MESSAGE_NAMES

            advice = f"its messages have it, as in «for message in stream: message.{name}»; or write "
            advice += "«message = agent.send_message(...)», without stream=True"
            raise no_attribute(self, name, advice if name in MESSAGE_NAMES else "")

    def _repr_markdown_(self) -> str | None:
        """Return what a notebook shows: the latest snapshot; None before the first."""
        return None if self._last is None else self._last._repr_markdown_()

    @property
    def chat_id(self) -> str | None:
        """The chat's id, known once the stream was opened."""
        return self._stream.chat_id

    @property
    def fencing_token(self) -> int | None:
        """A number that grows with each worker that has the turn; as ``AsyncMessageStream.fencing_token``."""
        return self._stream.fencing_token

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

    def get_final_output(self) -> OutputT:
        """Consume the rest of the stream and return the agent's structured output.

        Returns:
            An instance of the ``output_type`` that was given; without one the JSON value that the agent gave to its
            ``finish`` tool, None if it ended without calling it.

        Raises:
            InputRequiredError: The run waits for input instead of ending.
            OutputError: The run was cancelled, the output is incomplete, or it does not match ``output_type``.
            RunFailedError, StreamError, APIError, APIConnectionError: As for ``get_final_message``.

        Example:
            ```python
            stream = agent.send_message("It gets 4 stars", stream=True, output_type=dict[str, int])
            for message in stream:
                print(message.output)  # what is complete so far
            print(stream.get_final_output())
            ```

            ```text
            ...
            {...}
            ```
        """
        for _ in self:
            continue
        return self._thread.call(self._stream.get_final_output())

    def _result(self) -> Message:
        """Return the turn's result, with its output as the type that was asked for, if one was."""
        for _ in self:
            continue
        return self._thread.call(self._stream._result())

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

    def _finish(self) -> None:
        final = self._stream.message
        if final is not None and not self._ended:
            self._ended = True
            self._last = final
            self._report(final, done=True)

    def _report(self, snapshot: Message, *, done: bool) -> None:
        if self._callbacks is not None:
            self._call_back(self._callbacks.calls(snapshot, done=done), self._stream._reporting(snapshot, done=done))


class TaskStream(_Stream["Task"]):
    """The snapshots of one task, each its whole state so far, for a plain ``for`` loop; as ``AsyncTaskStream``.

    Leaving the loop early or dropping the stream closes the connection at once; the task goes on at the server, and
    iterating again resumes where the loop was left.

    Example:
        ```python
        with client.tasks.run("demo/slow", {"steps": 3}, stream=True) as stream:
            for task in stream:
                print(task.status, task.progress)
            print(stream.get_final_task().output)
        ```

        ```text
        ...
        completed 1.0
        {'steps': 3}
        ```
    """

    _instead = "keep its tasks, which can be copied, and their id, which tasks.stream() takes"

    def __init__(self, thread: LoopThread, tasks: AsyncTasks, request: TaskRequest) -> None:
        from ._loops.invoke import Callback
        from ._loops.loop_thread import Pump

        pump: Pump[Task] = Pump(thread)
        self._stream = tasks._open_stream(attrs.evolve(request, on_update=None), pump)
        self._callback = Callback(request.on_update) if request.on_update is not None else None
        super().__init__(thread, pump, self._stream, reports=request.on_update is not None)

    @property
    def task(self) -> Task | None:
        """The latest snapshot, or None."""
        return self._last

    @property
    def task_id(self) -> str | None:
        """The task's id, known once the stream was opened."""
        return self._stream.task_id

    def get_final_task(self) -> Task:
        """Consume the rest of the stream and return the completed task; as ``AsyncTaskStream.get_final_task``.

        Example:
            ```python
            stream = client.tasks.run("demo/slow", {"steps": 2}, stream=True)
            print(stream.get_final_task().status)
            ```

            ```text
            completed
            ```
        """
        for _ in self:
            continue
        return self._thread.call(self._stream._final_task(self._last))

    def get_output(self) -> Any:
        """Consume the rest of the stream and return the task's output; as ``AsyncTaskStream.get_output``.

        Example:
            ```python
            stream = client.tasks.run("demo/slow", {"steps": 2}, stream=True, output_type=dict[str, int])
            print(stream.get_output())
            ```

            ```text
            {'steps': 2}
            ```
        """
        return self._stream._read_output(self.get_final_task())

    def cancel(self) -> None:
        """Cancel the task on the server; a stream that is still read then raises TaskCancelledError.

        Example:
            ```python
            stream = client.tasks.run("demo/slow", {"seconds": 60}, stream=True)
            try:
                for task in stream:
                    stream.cancel()
            except TaskCancelledError as error:
                print(error.task.status)
            ```

            ```text
            cancelled
            ```
        """
        self._thread.call(self._stream.cancel())

    def _created(self) -> Task:
        """Create the task, and return its first snapshot without following it."""
        try:
            for task in self:
                return task
            return self.get_final_task()  # raises why there is none
        finally:
            self.close()

    def _report(self, snapshot: Task, *, done: bool) -> None:
        if self._callback is not None and not done:
            self._call_back([(self._callback, (snapshot,))], self._stream._reporting(snapshot))


class _Loop(Uncopied, Generic[S]):
    """The iterator of one ``for`` loop over a stream, which is deleted as soon as the loop ends or is left."""

    _instead = "keep the snapshots, which can be copied"
    _claim: object | None = None
    _leaves = False

    def __init__(self, stream: _Stream[S], *, leaves: bool) -> None:
        self._stream = stream
        self._leaves = leaves

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> S:
        stream = self._stream
        if self._claim is None:
            self._claim = stream._reader.begin()
        # The fast path: with a snapshot left in the batch, and without a callback, this call is all that one costs.
        if not stream._reports and (snapshot := next(stream._batch, None)) is not None:
            stream._last = snapshot
            return snapshot
        try:
            return stream._next()
        except Exception as error:
            shorten_traceback(error)
            raise

    def __del__(self) -> None:
        if self._claim is not None:
            self._stream._reader.end(self._claim)
            if self._leaves:
                self._stream._leave()


@short_tracebacks
class Agents(Uncopied):
    """The other way to make agents; ``client.agents``.

    Example:
        ```python
        agent = client.agents.create({"name": "greeter"})
        message = agent.send_message("Hello")
        ```
    """

    def __init__(self, thread: LoopThread, agents: AsyncAgents) -> None:
        self._thread = thread
        self._agents = agents

    def create(
        self,
        config: str | AgentConfig | Mapping[str, Any] | None = None,
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
        **fields: Unpack[AgentFields],
    ) -> Agent:
        """Make an agent; as ``Inference.agent``.

        Example:
            ```python
            agent = client.agents.create("acme/support@v2", context={"language": "fr"})
            ```
        """
        return Agent(self._thread, self._agents.create(config, chat_id=chat_id, context=context, **fields))


@short_tracebacks
class Chats(Uncopied):
    """The chats of the account; ``client.chats``.

    Example:
        ```python
        agent.send_message("Hello")
        for chat in client.chats.list():
            print(chat.id, chat.name, chat.status)
        ```
    """

    def __init__(self, thread: LoopThread, chats: AsyncChats) -> None:
        self._thread = thread
        self._chats = chats

    def list(self, *, search: str | None = None, page_size: int = 50) -> Iterator[Chat]:
        """List chats, the newest first; as ``AsyncChats.list``, blocking.

        Example:
            ```python
            for chat in client.chats.list(search="invoice", page_size=100):
                print(chat.created_at, chat.name)
            ```
        """
        return _BlockingItems(self._thread, self._chats.list(search=search, page_size=page_size))

    def get(self, chat_id: str) -> Chat:
        """Read a chat; as ``AsyncChats.get``, blocking.

        Example:
            ```python
            message = agent.send_message("Hello")
            chat = client.chats.get(message.chat_id)
            print(chat.status)
            ```
        """
        return self._thread.call(self._chats.get(chat_id))

    def messages(self, chat_id: str, *, page_size: int = 50) -> Iterator[Message]:
        """Read a chat's messages, the newest first; as ``AsyncChats.messages``, blocking.

        Example:
            ```python
            agent.send_message("Hello")
            for message in client.chats.messages(agent.chat_id):
                print(message.role, message.text)
            ```

            ```text
            assistant You said: "Hello". ...
            user Hello
            ```
        """
        return _BlockingItems(self._thread, self._chats.messages(chat_id, page_size=page_size))

    def delete(self, chat_id: str) -> None:
        """Delete a chat; as ``AsyncChats.delete``, blocking.

        Example:
            ```python
            message = agent.send_message("Hello")
            client.chats.delete(message.chat_id)
            ```
        """
        self._thread.call(self._chats.delete(chat_id))

    def update(self, chat_id: str, *, name: str | None = None, visibility: str | None = None) -> Chat:
        """Change a chat; as ``AsyncChats.update``, blocking.

        Example:
            ```python
            message = agent.send_message("Hello")
            chat = client.chats.update(message.chat_id, name="First steps")
            print(chat.name)
            ```

            ```text
            First steps
            ```
        """
        return self._thread.call(self._chats.update(chat_id, name=name, visibility=visibility))

    def status(self, chat_id: str) -> ChatStatus:
        """Read only the status of a chat; as ``AsyncChats.status``, blocking.

        Example:
            ```python
            message = agent.send_message("Hello")
            if client.chats.status(message.chat_id) == ChatStatus.BUSY:
                print("The agent is still at work.")
            ```
        """
        return self._thread.call(self._chats.status(chat_id))

    def trace(self, chat_id: str) -> ChatTrace:
        """Read what has happened in a chat, step by step; as ``AsyncChats.trace``, blocking."""
        return self._thread.call(self._chats.trace(chat_id))

    def cancel_message(self, message_id: str) -> None:
        """Withdraw a queued message; as ``AsyncChats.cancel_message``, blocking.

        Example:
            ```python
            reply = agent.send_message("Hello")
            for message in client.chats.messages(reply.chat_id):
                if message.status == MessageStatus.QUEUED:
                    client.chats.cancel_message(message.id)
            ```
        """
        self._thread.call(self._chats.cancel_message(message_id))


@short_tracebacks
class Files(Uncopied):
    """The account's files; ``client.files``.

    Example:
        ```python
        photo = client.files.upload(b"GIF89a...", filename="photo.gif")
        message = agent.send_message("What is this?", files=[photo])
        ```
    """

    def __init__(self, thread: LoopThread, files: AsyncFiles) -> None:
        self._thread = thread
        self._files = files

    def upload(
        self,
        source: FileSource,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileRef:
        """Upload a file; as ``AsyncFiles.upload``, blocking. A sync ``on_progress`` runs on the calling thread.

        Example:
            ```python
            def on_progress(sent, total):
                print(f"{sent} of {total} bytes")


            notes = client.files.upload(b"Buy milk.", filename="notes.txt", on_progress=on_progress)
            print(notes.filename, notes.content_type, notes.size)
            ```

            ```text
            0 of 9 bytes
            9 of 9 bytes
            notes.txt text/plain 9
            ```
        """
        return self._thread.call_with_callbacks(
            lambda relay: self._files.upload(
                source, filename=filename, content_type=content_type, on_progress=relay(on_progress)
            )
        )

    @overload
    def download(self, file: RemoteFile, to: None = None, *, on_progress: OnProgress | None = None) -> bytes: ...

    @overload
    def download(
        self, file: RemoteFile, to: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> Path: ...

    def download(
        self, file: RemoteFile, to: str | os.PathLike[str] | None = None, *, on_progress: OnProgress | None = None
    ) -> bytes | Path:
        """Download a file; as ``AsyncFiles.download``, blocking. A sync ``on_progress`` runs on the calling thread.

        Example:
            ```python
            notes = client.files.upload(b"Buy milk.", filename="notes.txt")
            print(client.files.download(notes))
            path = client.files.download(notes, "copy.txt")
            print(path.name, path.stat().st_size)
            ```

            ```text
            b'Buy milk.'
            copy.txt 9
            ```
        """
        from ._loops.invoke import check_callback

        check_callback("on_progress", on_progress)
        return self._thread.call_with_callbacks(lambda relay: self._files._download(file, to, relay(on_progress)))

    def list(self, *, page_size: int = 50) -> Iterator[FileRef]:
        """List the account's files, the newest first; as ``AsyncFiles.list``, blocking.

        Example:
            ```python
            client.files.upload(b"Buy milk.", filename="notes.txt")
            for file in client.files.list():
                print(file.filename, file.size)
                break
            ```

            ```text
            notes.txt 9
            ```
        """
        return _BlockingItems(self._thread, self._files.list(page_size=page_size))

    def get(self, file_id: str | FileRef) -> FileRef:
        """Read what the service knows of a file; as ``AsyncFiles.get``, blocking.

        Example:
            ```python
            notes = client.files.upload(b"Buy milk.", filename="notes.txt")
            print(client.files.get(notes.id).filename)
            ```

            ```text
            notes.txt
            ```
        """
        return self._thread.call(self._files.get(file_id))

    def delete(self, file_id: str | FileRef) -> None:
        """Delete a file; as ``AsyncFiles.delete``, blocking.

        Example:
            ```python
            notes = client.files.upload(b"Buy milk.", filename="notes.txt")
            client.files.delete(notes)
            ```
        """
        self._thread.call(self._files.delete(file_id))


class Tasks(Uncopied):
    """The tasks of the account, and the way to run apps; ``client.tasks``.

    Example:
        ```python
        task = client.tasks.run("demo/text", {"template": "Hello {name}!", "values": {"name": "Ada"}})
        print(task.output)
        ```

        ```text
        {'text': 'Hello Ada!'}
        ```
    """

    def __init__(self, thread: LoopThread, tasks: AsyncTasks) -> None:
        self._thread = thread
        self._tasks = tasks

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[True],
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[RunOptions],
    ) -> TaskStream: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: type[T],
        **options: Unpack[RunOptions],
    ) -> T: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: None = None,
        **options: Unpack[RunOptions],
    ) -> Task: ...

    @overload
    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,
        *,
        stream: bool,
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[RunOptions],
    ) -> Any: ...

    def run(
        self,
        app: str | Mapping[str, Any],
        input: object = None,  # noqa: A002
        *,
        stream: bool = False,
        wait: bool = True,
        output_type: Any = None,
        function: str | None = None,
        session: str | None = None,
        session_timeout: int | None = None,
        setup: object = None,
        infra: str | None = None,
        workers: Sequence[str] | None = None,
        webhook: str | None = None,
        run_at: Any = None,
        on_update: OnUpdate | None = None,
        on_upload: OnProgress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run an app: create a task, and wait for its end; as ``AsyncTasks.run``, blocking.

        A sync ``on_update`` and ``on_upload`` run on the calling thread, so they may use the client themselves.

        Example:
            ```python
            def on_update(task):
                print(task.status, task.progress)


            task = client.tasks.run("demo/slow", {"steps": 4}, on_update=on_update)
            print(task.output, task.log.splitlines()[-1])
            ```

            ```text
            ...
            {'steps': 4} step 4 of 4
            ```
        """
        from ._tasks.request import TaskRequest

        request = TaskRequest.of_run(
            app,
            input,
            function=function,
            session=session,
            session_timeout=session_timeout,
            setup=setup,
            infra=infra,
            workers=workers,
            webhook=webhook,
            run_at=run_at,
            on_update=on_update,
            on_upload=on_upload,
            timeout=timeout,
            output_type=output_type,
        )
        return _run(TaskStream(self._thread, self._tasks, request), request, stream=stream, wait=wait)

    def get(self, task_id: str) -> Task:
        """Read a task, whatever its state; as ``AsyncTasks.get``, blocking.

        Example:
            ```python
            created = client.tasks.run("demo/slow", {"steps": 2}, wait=False)
            task = client.tasks.get(created.id)
            print(task.status, task.queue_position)
            ```
        """
        return self._thread.call(self._tasks.get(task_id))

    def stream(self, task_id: str, *, on_update: OnUpdate | None = None, timeout: float | None = None) -> TaskStream:
        """Follow a task that exists; as ``AsyncTasks.stream``.

        Example:
            ```python
            created = client.tasks.run("demo/slow", {"steps": 2}, wait=False)
            for task in client.tasks.stream(created.id):
                print(task.status, task.progress)
            ```

            ```text
            ...completed 1.0
            ```
        """
        from .tasks import following

        return TaskStream(self._thread, self._tasks, following(task_id, on_update, timeout))

    def wait(self, task_id: str, *, on_update: OnUpdate | None = None, timeout: float | None = None) -> Task:
        """Wait until a task has completed; as ``AsyncTasks.wait``, blocking.

        Example:
            ```python
            created = client.tasks.run("demo/slow", {"steps": 2}, wait=False)
            task = client.tasks.wait(created.id, timeout=30)  # seconds
            print(task.output)
            ```

            ```text
            {'steps': 2}
            ```
        """
        stream = self.stream(task_id, on_update=on_update, timeout=timeout)
        try:
            return stream.get_final_task()
        finally:
            stream._leave()

    def cancel(self, task_id: str) -> None:
        """Cancel a task; as ``AsyncTasks.cancel``, blocking.

        Example:
            ```python
            created = client.tasks.run("demo/slow", {"seconds": 60}, wait=False)
            client.tasks.cancel(created.id)
            ```
        """
        self._thread.call(self._tasks.cancel(task_id))

    def delete(self, task_id: str, *, files: bool = False) -> None:
        """Delete a task; as ``AsyncTasks.delete``, blocking.

        Example:
            ```python
            task = client.tasks.run("demo/image", {"width": 8, "height": 8})
            client.tasks.delete(task.id, files=True)
            ```
        """
        self._thread.call(self._tasks.delete(task_id, files=files))

    def list(self, *, page_size: int = 50) -> Iterator[Task]:
        """List tasks, the newest first; as ``AsyncTasks.list``, blocking.

        Example:
            ```python
            for task in client.tasks.list():
                print(task.created_at, task.app, task.status)
            ```
        """
        return _BlockingItems(self._thread, self._tasks.list(page_size=page_size))

    def files(self, task_id: str, *, role: Literal["input", "output"] | None = None) -> Sequence[TaskFile]:
        """Read which files a task has; as ``AsyncTasks.files``, blocking.

        Example:
            ```python
            task = client.tasks.run("demo/image", {"width": 8, "height": 8})
            for file in client.tasks.files(task.id, role="output"):
                print(file.filename, file.content_type)
                content = client.files.download(file)
            ```

            ```text
            image.png image/png
            ```
        """
        return self._thread.call(self._tasks.files(task_id, role=role))

    def download(
        self, task_id: str, to: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> Sequence[Path]:
        """Download the files that a task has made; as ``AsyncTasks.download``, blocking.

        Example:
            ```python
            task = client.tasks.run("demo/image", {"width": 8, "height": 8})
            for path in client.tasks.download(task.id, "pictures"):
                print(path.name)
            ```

            ```text
            image.png
            ```
        """
        from ._loops.invoke import check_callback

        check_callback("on_progress", on_progress)
        return self._thread.call_with_callbacks(
            lambda relay: self._tasks.download(task_id, to, on_progress=relay(on_progress))
        )

    def delete_files(self, task_id: str, *, role: Literal["input", "output"] | None = None) -> DeletedFiles:
        """Delete the files of a task; as ``AsyncTasks.delete_files``, blocking.

        Example:
            ```python
            task = client.tasks.run("demo/image", {"width": 8, "height": 8})
            done = client.tasks.delete_files(task.id, role="output")
            print(len(done.deleted), len(done.skipped))
            ```

            ```text
            1 0
            ```
        """
        return self._thread.call(self._tasks.delete_files(task_id, role=role))


def _run(opened: TaskStream, request: TaskRequest, *, stream: bool, wait: bool) -> Any:
    """Return what ``run`` returns for the stream of a task."""
    if stream:
        return opened
    if not wait:
        return opened._created()
    try:
        return opened.get_output() if request.output is not None else opened.get_final_task()
    finally:
        opened._leave()


class Sessions(Uncopied):
    """The sessions of the account; ``client.sessions``.

    Example:
        ```python
        for session in client.sessions.list():
            print(session.id, session.status, session.call_count)
        ```
    """

    def __init__(self, thread: LoopThread, sessions: AsyncSessions) -> None:
        self._thread = thread
        self._sessions = sessions

    def list(self) -> Sequence[AppSession]:
        """Read the sessions of the account; as ``AsyncSessions.list``, blocking.

        Example:
            ```python
            active = [each for each in client.sessions.list() if each.status == SessionStatus.ACTIVE]
            ```
        """
        return self._thread.call(self._sessions.list())

    def get(self, session_id: str) -> AppSession:
        """Read a session; as ``AsyncSessions.get``, blocking.

        Example:
            ```python
            task = client.tasks.run("infsh/session-test:get_all", session="new")
            session = client.sessions.get(task.session_id)
            print(session.status, session.call_count)
            ```

            ```text
            active 1
            ```
        """
        return self._thread.call(self._sessions.get(session_id))

    def keepalive(self, session_id: str) -> AppSession:
        """Postpone a session's expiry; as ``AsyncSessions.keepalive``, blocking.

        Example:
            ```python
            task = client.tasks.run("infsh/session-test:get_all", session="new", session_timeout=120)
            session = client.sessions.keepalive(task.session_id)
            print(session.idle_timeout)
            ```

            ```text
            120
            ```
        """
        return self._thread.call(self._sessions.keepalive(session_id))

    def end(self, session_id: str) -> None:
        """End a session; as ``AsyncSessions.end``, blocking.

        Example:
            ```python
            task = client.tasks.run("infsh/session-test:get_all", session="new")
            client.sessions.end(task.session_id)
            ```
        """
        self._thread.call(self._sessions.end(session_id))


class Session(Uncopied):
    """One session of an app, which keeps the app's state between runs; made by ``client.session``.

    The first run creates it. Inside ``with`` it is kept alive, and however the block is left, it is ended.

    Example:
        ```python
        with client.session("infsh/session-test") as session:
            session.run({"key": "name", "value": "Ada"}, function="set_value")
            task = session.run({"key": "name"}, function="get_value")
            print(task.output["value"])
        ```

        ```text
        Ada
        ```
    """

    _instead = "keep its id, which tasks.run(session=...) takes"

    def __init__(self, thread: LoopThread, session: AsyncSession) -> None:
        self._thread = thread
        self._session = session

    @property
    def id(self) -> str | None:
        """The session's id, or None before the first run."""
        return self._session.id

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: Literal[True],
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[SessionRunOptions],
    ) -> TaskStream: ...

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: type[T],
        **options: Unpack[SessionRunOptions],
    ) -> T: ...

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: Literal[False] = False,
        wait: bool = True,
        output_type: None = None,
        **options: Unpack[SessionRunOptions],
    ) -> Task: ...

    @overload
    def run(
        self,
        input: object = None,
        *,
        stream: bool,
        wait: bool = True,
        output_type: Any = None,
        **options: Unpack[SessionRunOptions],
    ) -> Any: ...

    def run(
        self,
        input: object = None,  # noqa: A002 - the wire's own name
        *,
        function: str | None = None,
        stream: bool = False,
        wait: bool = True,
        output_type: Any = None,
        setup: object = None,
        on_update: OnUpdate | None = None,
        on_upload: OnProgress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run the app in this session; as ``AsyncSession.run``, blocking.

        Example:
            ```python
            with client.session("infsh/session-test") as session:
                task = session.run({"key": "visits", "amount": 2}, function="increment")
                print(task.output["current"])
            ```

            ```text
            2
            ```
        """
        request = self._session._request(
            input,
            function=function,
            output_type=output_type,
            setup=setup,
            on_update=on_update,
            on_upload=on_upload,
            timeout=timeout,
        )
        return _run(TaskStream(self._thread, self._session._tasks, request), request, stream=stream, wait=wait)

    def get(self) -> AppSession:
        """Read the session; as ``AsyncSession.get``, blocking.

        Example:
            ```python
            with client.session("infsh/session-test") as session:
                session.run(function="get_all")
                print(session.get().call_count)
            ```

            ```text
            1
            ```
        """
        return self._thread.call(self._session.get())

    def keepalive(self) -> AppSession:
        """Postpone the session's expiry; as ``AsyncSession.keepalive``, blocking.

        Example:
            ```python
            session = client.session("infsh/session-test")
            session.run(function="get_all")
            print(session.keepalive().status)
            session.end()
            ```

            ```text
            active
            ```
        """
        return self._thread.call(self._session.keepalive())

    def end(self) -> None:
        """End the session; as ``AsyncSession.end``, blocking.

        Example:
            ```python
            session = client.session("infsh/session-test")
            session.run(function="get_all")
            session.end()
            ```
        """
        self._thread.call(self._session.end())

    def __enter__(self) -> Self:
        self._thread.call(self._session.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.call_close(lambda: self._session.__aexit__(kind, error, traceback))


class _ItemStream(_BaseStream[T]):
    """A stream that is opened when it is first read; its connection is closed when its reader leaves."""

    _instead = "open another stream where it is needed"

    def __init__(self, thread: LoopThread, stream: AsyncItemStream[T]) -> None:
        from ._loops.loop_thread import Pump

        super().__init__(thread, Pump(thread), stream)

    def __iter__(self) -> Iterator[T]:
        return _ItemLoop(self, leaves=not self._entered)

    def __next__(self) -> T:
        for item in self._batch:
            return item
        try:
            self._batch = iter(self._pump.take())
        except BaseException:
            self._source._leave()
            raise
        for item in self._batch:
            return item
        raise StopIteration

    def close(self) -> None:
        """Close the connection. May be called more than once.

        Example:
            ```python
            agent.send_message("Hello")
            stream = client.stream("GET", f"/chats/{agent.chat_id}/stream")
            try:
                print(next(stream)["event"])
            finally:
                stream.close()
            ```

            ```text
            chats
            ```
        """
        self._batch = iter(())
        self._pump.cancel()
        self._thread.call_close(self._source.aclose)

    def _leave(self) -> None:
        self._pump.cancel()
        super()._leave()


class _ItemLoop(Uncopied, Generic[T]):
    """The iterator of one ``for`` loop over a stream, which is deleted as soon as the loop ends or is left."""

    _instead = _ItemStream._instead

    def __init__(self, stream: _ItemStream[T], *, leaves: bool) -> None:
        self._stream = stream
        self._leaves = leaves

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return next(self._stream)

    def __del__(self) -> None:
        if self._leaves:
            self._stream._leave()


class ResponseStream(_ItemStream[T]):
    """The response of ``client.stream``, as it arrives; as ``AsyncResponseStream``, for a plain ``for`` loop.

    Example:
        ```python
        agent.send_message("Hello")
        for event in client.stream("GET", f"/chats/{agent.chat_id}/stream"):
            print(event["event"], event["data"]["status"])
            break
        ```

        ```text
        chats ...
        ```
    """

    _source: AsyncResponseStream[T]

    def __init__(self, thread: LoopThread, stream: AsyncResponseStream[T]) -> None:
        super().__init__(thread, stream)

    @property
    def status_code(self) -> int:
        """The HTTP status, once the stream is open; 0 before."""
        return self._source.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case, once the stream is open; empty before."""
        return self._source.headers


class EventStream(_ItemStream["Event"]):
    """All events of a chat as the service sends them; as ``AsyncEventStream``, for a plain ``for`` loop.

    Example:
        ```python
        agent.send_message("Hello")
        for event in agent.stream_events():
            print(event.name)
            break
        ```

        ```text
        chats
        ```
    """

    _source: AsyncEventStream

    def __init__(self, thread: LoopThread, stream: AsyncEventStream) -> None:
        super().__init__(thread, stream)

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and opened again."""
        return self._source.reconnects


@short_tracebacks
class _BlockingItems(Uncopied, Generic[T]):
    """The items of an async iterator, for a plain ``for`` loop; no connection stays open between two of them."""

    def __init__(self, thread: LoopThread, items: AsyncIterator[T]) -> None:
        self._thread = thread
        self._items = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self._thread.call(self._next_item())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next_item(self) -> T:
        return await anext(self._items)

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __await__ = __aiter__ = __getitem__ = refusing(
            "a list is read while it is iterated, page by page: write «for item in ...», or «items = list(...)»"
        )
