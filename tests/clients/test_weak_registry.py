"""What a client closes is added by the threads of all loops that use it."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator

import pytest

from inferencesh._loops.threads import WeakRegistry


class Thing:
    """Anything that is closed with its client."""


@pytest.fixture
def _restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless")
def test_one_thread_may_add_while_another_lists() -> None:
    """As when a client is closed on one loop while a stream is opened on another."""
    registry: WeakRegistry[Thing] = WeakRegistry()
    kept = [Thing() for _ in range(50)]
    for thing in kept:
        registry.add(thing)
    over = threading.Event()

    def add() -> None:
        while not over.is_set():
            for thing in [Thing() for _ in range(20)]:
                registry.add(thing)

    adding = threading.Thread(target=add)
    adding.start()
    try:
        for _ in range(5_000):
            assert {*kept} <= {*registry}
    finally:
        over.set()
        adding.join()


def test_it_keeps_nothing_alive() -> None:
    """What nobody else refers to is not closed; it is gone."""
    registry: WeakRegistry[Thing] = WeakRegistry()
    kept = Thing()
    registry.add(kept)
    registry.add(Thing())
    gc.collect()
    assert [*registry] == [kept]
