"""``BackgroundRuntime``: a runtime on an event loop in a background thread."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypedDict

import attrs

from inferencesh._loops.threads import check_threads

from .runtime import LocalRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import TracebackType
    from typing import Unpack

    from ._api.problems import Envelope
    from ._playground.access import PlaygroundAccess
    from .approvals import ApprovedBy
    from .feed import Updates
    from .model import Model
    from .observer import Observer

__all__ = ["BackgroundRuntime", "LocalAddress", "RuntimeOptions"]

_STOP_TIMEOUT = 5.0


class RuntimeOptions(TypedDict, total=False):
    """The options of ``LocalRuntime``, for functions that pass them on."""

    model: Model | None
    api_keys: Collection[str]
    host: str
    port: int
    envelope: Envelope
    updates: Updates
    pace: float | None
    heartbeat: float
    replay: bool
    cors_origins: Collection[str]
    db: str | os.PathLike[str] | None
    max_file_bytes: int
    approvals: ApprovedBy
    observer: Observer | None
    playground: PlaygroundAccess
    apps: Mapping[str, Callable[..., Any]] | None
    max_tasks: int


@attrs.frozen
class LocalAddress:
    """The base URL of a runtime and a key that it accepts.

    Attributes:
        base_url: The base URL, such as ``http://127.0.0.1:8000``.
        api_key: The key.
    """

    base_url: str
    api_key: str


class BackgroundRuntime:
    """Runs one ``LocalRuntime`` on an event loop in a daemon thread.

    A ``with`` statement starts it, gives its address, and stops it. So do ``start`` and ``stop``, from any thread.
    A runtime that is not stopped ends when the interpreter exits. A forked child process can use the parent's runtime
    while the parent runs it; ``stop`` does nothing in the child.

    Args:
        options: Those of ``LocalRuntime``.

    Raises:
        TypeError: There is no such option.
        ValueError: An option is invalid, or gevent or eventlet has patched the threading module.

    Example:
        ```python
        with (
            BackgroundRuntime(pace=0) as address,
            Inference(address.api_key, base_url=address.base_url) as client,
        ):
            print(client.agent({"name": "greeter"}).send_message("Hello").text)
        ```

        ```text
        You said: "Hello". ...
        ```
    """

    def __init__(self, **options: Unpack[RuntimeOptions]) -> None:
        check_threads("an embedded runtime")
        if unknown := options.keys() - RuntimeOptions.__annotations__.keys():
            name, known = min(unknown), ", ".join(RuntimeOptions.__annotations__)
            raise TypeError(
                f"an embedded runtime has no option {name!r}; it has {known}. Options of a client go beside it: "
                f"Inference(base_url=BackgroundRuntime(...), {name}=...)"
            )
        self._runtime = LocalRuntime(**options)
        self._pid = os.getpid()
        # Reentrant: a signal handler that runs inside ``start`` may call ``stop``.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._address: LocalAddress | None = None
        self._started: Future[None] = Future()
        self._stopping: Future[None] = Future()

    @property
    def runtime(self) -> LocalRuntime:
        """The runtime, for code that runs on its event loop, such as its model."""
        return self._runtime

    def start(self) -> LocalAddress:
        """Start the runtime if it is not running, wait until it listens, and return its address.

        Raises:
            DatabaseError: The file ``db`` cannot be used.
            OSError: The address cannot be used.
            RuntimeError: The runtime was stopped, or an earlier start failed.
        """
        if os.getpid() != self._pid:
            if self._address is not None:
                return self._address
            # Not started before the fork: it belongs to the child now. A thread of the parent may have held the lock.
            self._pid, self._lock = os.getpid(), threading.RLock()
            self._runtime._forget_start()
        with self._lock:
            if self._stopping.done():
                raise RuntimeError("The runtime was stopped; make a new one.")
            if self._address is None:
                self._address = self._launch()
            return self._address

    def stop(self) -> None:
        """Stop the runtime and wait until it has ended, at most a few seconds. It may be called more than once."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            thread = self._thread
            if not self._stopping.done():
                self._stopping.set_result(None)
                atexit.unregister(self.stop)
        # The runtime's own thread calls this if code that runs on it drops the last reference to a client.
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_TIMEOUT)

    def __enter__(self) -> LocalAddress:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self) -> LocalAddress:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name="inferencesh.local", daemon=True)
        thread.start()
        self._thread = thread
        # A daemon thread does not keep the program alive, but is not joined at exit either: stop it in an orderly way.
        atexit.register(self.stop)
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise
        return LocalAddress(self._runtime.base_url, self._runtime.api_key)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(self._serve())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            # asyncio.run would also start a thread to shut down the executor, which fails while the interpreter exits.
            loop.close()

    async def _serve(self) -> None:
        try:
            await self._runtime.start()
        except BaseException as error:  # noqa: BLE001 - ``start`` raises it
            self._started.set_exception(error)
        else:
            self._started.set_result(None)
        await asyncio.wrap_future(self._stopping)
        await self._runtime.aclose()
