"""The blocking client: the async classes, driven through a background event loop. It knows nothing of the protocol."""

from __future__ import annotations

import ssl as tls
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from .client import MAX_LINE_BYTES, AsyncInference, ClientOptions
from .config import Secret, Timeout
from .green_threads import check_threads
from .loop_thread import LoopThread
from .retry import Backoff
from .sync_agent import Agent
from .sync_resources import Agents, Chats, Files
from .sync_stream import MessageStream
from .uncopied import Uncopied

if TYPE_CHECKING:
    from .config_names import AgentConfig
    from .local import BackgroundRuntime, RuntimeOptions

__all__ = ["Agent", "Inference", "MessageStream", "inference"]

_DEFAULT_TIMEOUT = Timeout()
_DEFAULT_BACKOFF = Backoff()


class Inference(Uncopied):
    """The client for programs without an event loop; it also works inside one, for instance in a notebook.

    It may be used from several threads. Close it with ``with`` or ``close``; one that is never closed ends quietly with
    the interpreter. Where gevent or eventlet has replaced threads it raises a ConfigurationError.

    Args:
        api_key: The API key; ``INFERENCE_API_KEY`` when None.
        base_url: The service's address; ``INFERENCE_BASE_URL`` or https://api.inference.sh when None. Or an embedded
            runtime, which is started with the first request and stopped with the client; ``api_key`` and proxies are
            then ignored.
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
    ) -> None:
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
        """The account's files: uploads."""
        return Files(self._thread, self._client.files)

    @classmethod
    def local(cls, **runtime_options: Unpack[RuntimeOptions]) -> Self:
        """A client of an embedded runtime of its own: no key, no account, no network; as ``AsyncInference.local``.

        Args:
            runtime_options: Those of ``inferencesh.local.LocalRuntime``.

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
        config: str | AgentConfig | Mapping[str, Any],
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Agent:
        """Make an agent, which is one conversation; as ``AsyncInference.agent``.

        Example:
            ```python
            agent = client.agent(
                {"name": "guide", "system_prompt": "Answer in one sentence."},
                context={"city": "Paris"},
            )
            message = agent.send_message("Hello")
            same_chat = client.agent({"name": "guide"}, chat_id=message.chat_id)
            ```
        """
        return Agent(self._thread, self._client.agent(config, chat_id=chat_id, context=context))

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
        self._thread.let_go(self._client.aclose)
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
    """Make an Inference; it takes the same arguments.

    Example:
        ```python
        client = inference("inf_...", max_retries=5)
        ```
    """
    return Inference(api_key, **options)
