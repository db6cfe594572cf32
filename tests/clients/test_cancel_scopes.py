"""Calls inside a cancel scope of anyio, which cancels their task again and again until the scope is left.

FastAPI and Starlette run endpoints and the bodies of responses in such scopes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from inferencesh import AsyncAgent, AsyncInference, MemoryClaims, Supervisor, tool
from inferencesh.local import ToolCall

from .conftest import Serve

pytestmark = pytest.mark.timeout(30)

APP = "t/endless"


class Place:
    """Where a call is when its scope is cancelled.

    Attributes:
        client: The client that makes it.
        reached: Set when it is there.
        chat_id: A chat whose turn waits for its tool.
    """

    def __init__(self) -> None:
        self.client: AsyncInference
        self.reached = asyncio.Event()
        self.chat_id: str | None = None
        self.over = threading.Event()
        self._loop = asyncio.get_running_loop()

    def arrive(self) -> None:
        """Tell that the call is there, from any thread."""
        self._loop.call_soon_threadsafe(self.reached.set)

    async def hold(self, *_: object) -> str:
        """Wait until cancelled, and then for some steps that a clean-up takes."""
        self.arrive()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
        raise AssertionError

    async def run(self) -> str:
        """Be an app that never ends."""
        return await self.hold()

    def block(self) -> str:
        """Wait in a thread until the test is over."""
        self.arrive()
        self.over.wait()
        return "done"

    def agent(self, function: Callable[[], object] | None = None, chat_id: str | None = None) -> AsyncAgent:
        """Return an agent with a tool, which waits until cancelled unless another function is given."""
        work = tool("work").handler(function or self.hold).build()
        return self.client.agent({"name": "worker", "tools": [work]}, chat_id=chat_id)


async def in_a_tool(place: Place) -> None:
    """An async handler."""
    await place.agent().send_message("Go")


async def in_a_blocking_tool(place: Place) -> None:
    """A handler in a thread, which nothing can end."""
    await place.agent(place.block).send_message("Go")


async def in_a_callback(place: Place) -> None:
    """An async on_message."""
    await place.agent(lambda: "done").send_message("Go", on_message=place.hold)


async def in_a_stream(place: Place) -> None:
    """The body of a loop is left as well as what it waits for."""
    async with place.agent().send_message("Go", stream=True) as stream:
        async for _ in stream:
            await asyncio.sleep(0)


async def in_a_conflated_stream(place: Place) -> None:
    """Which is read in a task of its own."""
    async for _ in place.agent().send_message("Go", stream=True, conflate=True):
        await asyncio.sleep(0)


async def in_a_message_with_a_key(place: Place) -> None:
    """Which is claimed."""
    await place.agent().send_message("Go", idempotency_key="job")


async def in_a_turn_taken_over(place: Place) -> None:
    """Which somebody else has begun."""
    await place.agent(chat_id=place.chat_id).take_over().get_final_message()


async def in_a_supervisor(place: Place) -> None:
    """Which takes it over in a task of its own."""
    async for _ in Supervisor(lambda chat_id: place.agent(chat_id=chat_id)).run([place.chat_id or ""]):
        pass


async def in_an_app(place: Place) -> None:
    """Whose task runs at the service."""
    await place.client.run(APP, {})


async def in_a_task_stream(place: Place) -> None:
    """Whose snapshots are read."""
    async for _ in place.client.tasks.run(APP, {}, stream=True):
        await asyncio.sleep(0)


async def in_a_session(place: Place) -> None:
    """Which is ended by leaving it."""
    async with place.client.session(APP) as session:
        await session.run({})


PLACES: list[Callable[[Place], Awaitable[None]]] = [
    in_a_tool,
    in_a_blocking_tool,
    in_a_callback,
    in_a_stream,
    in_a_conflated_stream,
    in_a_message_with_a_key,
    in_a_turn_taken_over,
    in_a_supervisor,
    in_an_app,
    in_a_task_stream,
    in_a_session,
]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A place, whose threads end with the test."""
    place = Place()
    yield place
    place.over.set()


@pytest.mark.parametrize("call", PLACES, ids=lambda call: call.__name__)
async def test_a_cancelled_scope_is_left(call: Callable[[Place], Awaitable[None]], serve: Serve, place: Place) -> None:
    """At once; the claims of the turn are given up, and the client works on."""
    asks = [ToolCall("work", {})]
    served = serve(asks, asks, ["done"], ["done"], apps={APP: place.run})
    async with AsyncInference(**served.address, claims=MemoryClaims(lease=20)) as place.client:
        bare = place.client.agent({"name": "worker", "tools": [tool("work").build()]})
        await bare.send_message("Go")
        place.chat_id = bare.chat_id
        async with anyio.create_task_group() as group:
            group.start_soon(cancel, group.cancel_scope, place)
            await call(place)
        assert group.cancel_scope.cancelled_caught
        taken = await place.agent(lambda: "done", chat_id=place.chat_id).take_over(wait=0).get_final_message()
        assert taken.text == "done"


async def cancel(scope: anyio.CancelScope, place: Place) -> None:
    """Cancel a scope when its call has come to its place."""
    await place.reached.wait()
    scope.cancel()
