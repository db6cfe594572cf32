"""Either client behind one blocking face, so that a behaviour is written down once and both have to show it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from inferencesh import AsyncInference, Inference, Message
from tests.support import Kind

__all__ = ["Side", "make_side"]


class Side(Protocol):
    """One client. What its agents' methods return goes through ``result``, and their streams through ``snapshots``."""

    kind: Kind

    @property
    def client(self) -> Any:
        """The client itself."""

    def agent(self, config: str | Mapping[str, Any] = "tests/agent", **options: Any) -> Any:
        """Make an agent."""

    def result(self, call: Any) -> Any:
        """What a call comes to."""

    def snapshots(self, stream: Any) -> list[Message]:
        """Everything that iterating a stream yields."""

    def next(self, stream: Any) -> Message:
        """The next snapshot."""

    def within(self, stream: Any, use: Callable[[Any], Any]) -> Any:
        """Enter a stream as a context manager and use it; ``use`` returns something for ``result``."""

    def close(self, thing: Any) -> None:
        """Close a stream."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class Blocking:
    """The blocking client, as it is."""

    kind: Kind = "sync"

    def __init__(self, **options: Any) -> None:
        self.client = Inference(**options)

    def agent(self, config: str | Mapping[str, Any] = "tests/agent", **options: Any) -> Any:
        return self.client.agent(config, **options)

    def result(self, call: Any) -> Any:
        return call

    def snapshots(self, stream: Any) -> list[Message]:
        return list(stream)

    def next(self, stream: Any) -> Message:
        message: Message = next(stream)
        return message

    def within(self, stream: Any, use: Callable[[Any], Any]) -> Any:
        with stream as entered:
            assert entered is stream
            return use(stream)

    def close(self, thing: Any) -> None:
        thing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.client.close()


class Awaiting:
    """The async client on an event loop that runs while something is awaited, and stands still in between."""

    kind: Kind = "async"

    def __init__(self, **options: Any) -> None:
        self._runner = asyncio.Runner(debug=True)
        self.client = AsyncInference(**options)

    def agent(self, config: str | Mapping[str, Any] = "tests/agent", **options: Any) -> Any:
        return self.client.agent(config, **options)

    def result(self, call: Any) -> Any:
        return self._runner.run(_awaited(call))

    def snapshots(self, stream: Any) -> list[Message]:
        async def read() -> list[Message]:
            return [snapshot async for snapshot in stream]

        return self._runner.run(read())

    def next(self, stream: Any) -> Message:
        message: Message = self._runner.run(_awaited(anext(stream)))
        return message

    def within(self, stream: Any, use: Callable[[Any], Any]) -> Any:
        async def enter() -> Any:
            async with stream as entered:
                assert entered is stream
                return await use(stream)

        return self._runner.run(enter())

    def close(self, thing: Any) -> None:
        self._runner.run(thing.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._runner.run(self.client.aclose())
        self._runner.close()


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


def make_side(kind: Kind, **options: Any) -> Side:
    """One client of this kind, with these arguments."""
    return Blocking(**options) if kind == "sync" else Awaiting(**options)
