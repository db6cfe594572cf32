"""``AsyncInference``: the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack, overload

from ._http.retry import RetryPolicy
from ._loops.threads import Uncopied
from .config import MAX_LINE_BYTES, Backoff, Secret, Timeout, check_count, check_seconds, read_api_key, read_base_url
from .errors import ConfigurationError, refusing, short_tracebacks

# What the first client needs is imported by its constructor: importing the class is to cost as little as possible.
if TYPE_CHECKING:
    import ssl as tls
    from types import TracebackType

    from ._http.transport import Address
    from ._tasks.request import RunOptions
    from ._turns.leases import OnStoreLost
    from .agent import AsyncAgent
    from .claims import ClaimStore
    from .config import AgentConfig, AgentFields
    from .endpoints import AsyncResponseStream, Endpoints
    from .local import BackgroundRuntime, RuntimeOptions
    from .resources import AsyncChats, AsyncFiles
    from .sessions import AsyncSession, AsyncSessions
    from .task_models import Task
    from .tasks import AsyncTasks, AsyncTaskStream
    from .types import ClientNames

    class _ClientNames(ClientNames, Uncopied): ...

else:
    _ClientNames = Uncopied  # the methods of the base class come from ``__getattr__``

__all__ = ["MAX_LINE_BYTES", "AsyncAgents", "AsyncInference", "ClientOptions", "async_inference"]


T = TypeVar("T")


@short_tracebacks
class AsyncAgents(Uncopied):
    """Makes agents, under the name that the official SDKs use: ``client.agents``.

    Example:
        ```python
        agent = client.agents.create({"name": "greeter"})
        message = await agent.send_message("Hello")
        ```
    """

    def __init__(self, client: AsyncInference) -> None:
        self._client = client

    def create(
        self,
        config: str | AgentConfig | Mapping[str, Any] | None = None,
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
        **fields: Unpack[AgentFields],
    ) -> AsyncAgent:
        """Make an agent; as ``AsyncInference.agent``.

        Example:
            ```python
            agent = client.agents.create("acme/support@v2", context={"language": "fr"})
            ```
        """
        return self._client.agent(config, chat_id=chat_id, context=context, **fields)


_DEFAULT_TIMEOUT = Timeout()
_DEFAULT_BACKOFF = Backoff()


@short_tracebacks
class AsyncInference(_ClientNames):
    """The client for asyncio programs.

    It may be made anywhere, also at import time, and used from any event loop: nothing is bound to a loop before the
    first request, and each loop gets its own connections. Close it with ``async with`` or ``aclose``; the connections
    of a client that is never closed are closed with their loop.

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
        async with AsyncInference("inf_...", timeout=Timeout(total=60)) as client:
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
        from ._http.events import Reconnects
        from ._http.transport import Address, Transport, TransportOptions
        from ._turns.driver import AgentOptions
        from ._turns.leases import Leases
        from ._turns.tools import ToolLimits

        _check_options(backoff, proxy, ssl)
        if base_url is None or isinstance(base_url, str):
            key = read_api_key(api_key)
            del api_key  # lest a traceback with local variables shows it
            self._runtime: BackgroundRuntime | None = None
            get_address = _fixed(Address(read_base_url(base_url), key))
        else:
            self._runtime = _check_runtime(base_url)
            get_address = _locator(self._runtime)
            proxy, trust_env = None, False
        self._transport = Transport(
            get_address,
            TransportOptions(
                timeout=Timeout.of(timeout),
                retry=RetryPolicy(max_retries=check_count("max_retries", max_retries, 0), backoff=backoff),
                proxy=proxy,
                trust_env=trust_env,
                ssl=ssl,
                max_line_bytes=check_count("max_line_bytes", max_line_bytes, 1024),
            ),
        )
        check_seconds("tool_timeout", tool_timeout, optional=True)
        self._agent_options = AgentOptions(
            reconnects=Reconnects(most=check_count("max_reconnects", max_reconnects, 0), backoff=backoff),
            tools=ToolLimits(
                at_once=check_count("max_parallel_tools", max_parallel_tools, 1),
                timeout=tool_timeout,
            ),
            leases=Leases(claims, on_claim_store_lost),
        )

    @classmethod
    def local(cls, **runtime_options: Unpack[RuntimeOptions]) -> Self:
        """Make a client with an embedded runtime of its own, which needs no key, account or network.

        The runtime starts with the first request, in a thread, and is stopped by ``aclose``. A stand-in for a language
        model answers, unless another ``model`` is given. A subclass is called with the runtime as ``base_url`` and no
        other argument.

        Args:
            runtime_options: The options of ``inferencesh.local.LocalRuntime``.

        Example:
            ```python
            async with AsyncInference.local(pace=0) as client:  # seconds between words
                agent = client.agent({"name": "storyteller"})
                message = await agent.send_message("Tell me a story")
                print(message.text)
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
    ) -> AsyncAgent:
        """Make an agent, which holds one conversation; nothing is sent yet.

        Args:
            config: ``namespace/name[@version]`` of an agent stored at the service, or the description of one, such as
                ``{"system_prompt": ..., "core_app": {"ref": ...}, "tools": [...]}``. Handlers of tools are not sent.
            chat_id: An existing chat to continue; None begins a new one.
            context: The variables of a new chat: texts by name.
            fields: The names of the configuration by keyword, instead of a mapping or in addition to it. With the name
                of a stored agent only ``tools``: the handlers of the tools that it has.

        Raises:
            TypeError: A keyword is not a name of the configuration.
            ConfigurationError: The configuration cannot be sent, or a name is given twice.

        Example:
            ```python
            def weather(city: str) -> str:
                "Tell the weather."
                return f"Rain in {city}"


            agent = client.agent(name="guide", system_prompt="Answer in one sentence.", tools=[weather])
            message = await agent.send_message("Hello")
            same_chat = client.agent(chat_id=message.chat_id)
            stored = client.agent("acme/guide", tools=[weather], context={"city": "Paris"})
            ```
        """
        from ._turns.conversation import AgentSetup, read_context
        from .agent import AsyncAgent

        setup = AgentSetup.read(config, fields, chat_id)
        return AsyncAgent(self._transport, setup, chat_id, read_context(context), self._agent_options)

    @property
    def agents(self) -> AsyncAgents:
        """The namespace of ``client.agents.create(...)``, which is the same as ``client.agent(...)``."""
        return AsyncAgents(self)

    @property
    def chats(self) -> AsyncChats:
        """The chats of the account."""
        from ._http.api import ChatAPI
        from .resources import AsyncChats

        return AsyncChats(ChatAPI(self._transport))

    @property
    def files(self) -> AsyncFiles:
        """The files of the account."""
        from .resources import AsyncFiles

        return AsyncFiles(self._transport)

    @property
    def tasks(self) -> AsyncTasks:
        """The tasks of the account, and the way to run apps."""
        from .tasks import AsyncTasks

        return AsyncTasks(self._transport, self._agent_options.reconnects)

    @property
    def sessions(self) -> AsyncSessions:
        """The sessions of the account."""
        from .sessions import AsyncSessions

        return AsyncSessions(self._transport)

    def session(self, app: str, *, session_timeout: int | None = None) -> AsyncSession:
        """Make a session of an app, which keeps the app's state between runs; nothing is sent yet.

        Args:
            app: The app, as ``namespace/name[@version]``.
            session_timeout: Seconds without use after which it expires, 1 to 3600; None for the service's default.

        Raises:
            ConfigurationError: An argument is invalid.

        Example:
            ```python
            async with client.session("infsh/session-test", session_timeout=120) as session:
                await session.run({"key": "name", "value": "Ada"}, function="set_value")
            ```
        """
        from .sessions import AsyncSession

        return AsyncSession(self.tasks, self._transport, app, session_timeout)

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
    ) -> AsyncTaskStream: ...

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
    ) -> Coroutine[Any, Any, T]: ...

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
    ) -> Coroutine[Any, Any, Task]: ...

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
    ) -> AsyncTaskStream | Coroutine[Any, Any, Any]: ...

    def run(self, app: str | Mapping[str, Any], input: object = None, **options: Any) -> Any:  # noqa: A002
        """Run an app; the short name of ``client.tasks.run``, with the same arguments.

        Args:
            app: As for ``AsyncTasks.run``.
            input: As for ``AsyncTasks.run``.
            options: As for ``AsyncTasks.run``.

        Returns:
            As ``AsyncTasks.run``.

        Example:
            ```python
            task = await client.run("demo/text", {"template": "Hello {name}!", "values": {"name": "Ada"}})
            print(task.output["text"])
            ```

            ```text
            Hello Ada!
            ```
        """
        return self.tasks.run(app, input, **options)

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
    ) -> Coroutine[Any, Any, T]: ...

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
    ) -> Coroutine[Any, Any, Any]: ...

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        idempotent: bool | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Make a request to any endpoint, with the client's retries, errors and time limits.

        Args:
            method: GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.
            path: The path below the client's base URL, such as ``"/chats/list"``. Requests go nowhere else.
            json: The body, anything with a JSON form; None for no body.
            params: The query: texts, numbers and booleans by name. None is left out, lists and mappings become JSON.
            cast_to: What to make of the response. None returns the decoded data without its envelope, ``bytes`` the
                body, and ``Response`` all of it. Message, Chat, Run, FileRef and the like are read as everywhere in
                this package; any other class or type hint is read strictly.
            idempotent: Whether making the request twice does no more than making it once, so that it may be retried
                after any failure that may pass. None says so of GET, HEAD, OPTIONS, PUT and DELETE. Other requests are
                retried only if the server cannot have processed them.

        Returns:
            A coroutine that returns what ``cast_to`` says; None where the response has no data, or where the repetition
            of a DELETE found nothing more to delete.

        Raises:
            ConfigurationError: The method, the path or ``cast_to`` cannot be used; nothing was sent.
            TypeError: The body or the query has no JSON form; nothing was sent.
            APIError: The server refused it.
            APIConnectionError: The server could not be reached or did not answer.
            InferenceError: The response is not what ``cast_to`` says.

        Example:
            ```python
            chat = await client.request("POST", "/chats", json={"agent": "acme/support"}, cast_to=Chat)
            renamed = await client.request("POST", f"/chats/{chat.id}", json={"name": "Notes"})
            print(renamed["name"])
            ```

            ```text
            Notes
            ```
        """
        return self._endpoints.request(method, path, json, params, cast_to, again=idempotent)

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
    ) -> AsyncIterator[T]: ...

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
    ) -> AsyncIterator[Any]: ...

    def paginate(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        page_size: int | None = None,
    ) -> AsyncIterator[Any]:
        """Read the items of a list from any endpoint that answers in pages; pages are read as they are needed.

        Args:
            method: GET, whose cursor goes into the query, or POST, whose cursor goes into the body.
            path: As for ``request``.
            json: The body, a mapping; such as ``{"search": "invoice"}``.
            params: As for ``request``.
            cast_to: What to make of each item, as for ``request``; None leaves it a dict.
            page_size: How many items are read with one request; None leaves it to the server.

        Returns:
            An async iterator. It raises when a page cannot be read, and tries that page again when it is asked again.

        Raises:
            ConfigurationError: As for ``request``, or ``page_size`` is not a positive whole number.
            TypeError: As for ``request``.
            APIError, APIConnectionError, InferenceError: From the iterator, as for ``request``.

        Example:
            ```python
            await agent.send_message("Hello")
            async for chat in client.paginate("POST", "/chats/list", cast_to=Chat, page_size=100):
                print(chat.id, chat.name)
            ```
        """
        return self._endpoints.paginate(method, path, json, params, cast_to, page_size)

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
    ) -> AsyncResponseStream[T]: ...

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
    ) -> AsyncResponseStream[Any]: ...

    def stream(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        cast_to: Any = None,
        idempotent: bool | None = None,
    ) -> AsyncResponseStream[Any]:
        """Make a request to any endpoint whose response is a stream, and read it as it arrives.

        Opening it is retried as for ``request``. A stream that is lost raises an error and is not opened again; for the
        events of a chat ``agent.stream_events`` does that.

        Args:
            method: As for ``request``.
            path: As for ``request``.
            json: As for ``request``.
            params: As for ``request``.
            cast_to: What to return: ``bytes`` pieces of the body, ``str`` lines of text; with None the JSON value of
                each line or server-sent event, and with a type each value read as that. Heartbeats are left out of
                values. A server-sent event with a name is ``{"event": name, "data": value}``.
            idempotent: As for ``request``.

        Returns:
            An async iterator and context manager; nothing is sent before it is iterated, entered or awaited.

        Raises:
            ConfigurationError, TypeError: As for ``request``.
            APIError, APIConnectionError: From the stream, as for ``request``.
            InferenceError: From the stream: a line cannot be read.

        Example:
            ```python
            await agent.send_message("Hello")
            async with client.stream("GET", f"/chats/{agent.chat_id}/stream", cast_to=str) as stream:
                print(stream.headers["content-type"])
            ```

            ```text
            application/x-ndjson
            ```
        """
        return self._endpoints.stream(method, path, json, params, cast_to, again=idempotent)

    @property
    def _endpoints(self) -> Endpoints:
        from .endpoints import Endpoints

        return Endpoints(self._transport)

    async def aclose(self) -> None:
        """Close all connections and streams, and cancel the tool handlers that run. May be called more than once.

        Example:
            ```python
            client = AsyncInference.local(pace=0)
            try:
                print((await client.agent({"name": "greeter"}).send_message("Hello")).text)
            finally:
                await client.aclose()
            ```

            ```text
            You said: "Hello". ...
            ```
        """
        async with AsyncExitStack() as closing:  # last in, first out, and all of it even if this task is cancelled
            if self._runtime is not None:
                from ._loops.invoke import start_in_thread

                # Begun even if this task has been cancelled: a handler that closes the client ends with its own turn.
                closing.push_async_callback(start_in_thread, self._runtime.stop)
            closing.push_async_callback(self._agent_options.leases.aclose)
            closing.push_async_callback(self._close_runners)
            closing.push_async_callback(self._transport.aclose)

    async def _close_runners(self) -> None:
        async with AsyncExitStack() as closing:
            for runner in self._agent_options.runners:
                closing.push_async_callback(runner.aclose)

    async def __aenter__(self) -> Self:
        try:
            await self._agent_options.leases.check()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __enter__ = __exit__ = refusing(
            "this client is asynchronous: write «async with AsyncInference(...) as client», or use Inference"
        )

        def __getattr__(self, name: str) -> Any:
            from .types import official_method

            return official_method(self, "client", name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'local' if self._runtime is not None else 'api_key=***'})"


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of a client, for functions that pass them on."""

    base_url: str | BackgroundRuntime | None
    timeout: float | Timeout | None
    max_retries: int
    max_reconnects: int
    backoff: Backoff
    proxy: str | None
    trust_env: bool
    ssl: tls.SSLContext | None
    tool_timeout: float | None
    max_parallel_tools: int
    max_line_bytes: int
    claims: ClaimStore | None
    on_claim_store_lost: OnStoreLost


def async_inference(api_key: str | None = None, **options: Unpack[ClientOptions]) -> AsyncInference:
    """Make an AsyncInference; it takes the same arguments.

    Example:
        ```python
        client = async_inference("inf_...", max_retries=5)
        ```
    """
    return AsyncInference(api_key, **options)


def _check_options(backoff: object, proxy: object, ssl: object) -> None:
    if not isinstance(backoff, Backoff):
        raise ConfigurationError(f"backoff must be a Backoff, not {type(backoff).__name__}")
    if proxy is not None and not (isinstance(proxy, str) and proxy):
        raise ConfigurationError("proxy must be a URL such as http://proxy.example:3128, or None for the environment's")
    if ssl is not None:
        import ssl as tls

        if not isinstance(ssl, tls.SSLContext):
            raise ConfigurationError(f"ssl must be an ssl.SSLContext or None, not {ssl!r}")


def _fixed(address: Address) -> Callable[[], Awaitable[Address]]:
    async def get_address() -> Address:
        return address

    return get_address


def _check_runtime(given: object) -> BackgroundRuntime:
    from .local import BackgroundRuntime

    if not isinstance(given, BackgroundRuntime):
        raise ConfigurationError(f"base_url must be text or a BackgroundRuntime, not {type(given).__name__}")
    return given


def _locator(runtime: BackgroundRuntime) -> Callable[[], Awaitable[Address]]:
    """Return a function that returns an embedded runtime's address; its first call starts the runtime."""
    import anyio.to_thread

    from ._http.transport import Address

    known: list[Address] = []

    async def get_address() -> Address:
        if not known:
            started = await anyio.to_thread.run_sync(runtime.start)
            known.append(Address(started.base_url, Secret(started.api_key)))
        return known[0]

    return get_address
