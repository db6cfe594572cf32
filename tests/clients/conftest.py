"""Fixtures of the clients' tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, Unpack

import pytest

from inferencesh.local import RuntimeOptions
from tests.support import KINDS, Kind, Served, Step

from .sides import Side, make_side


class Serve(Protocol):
    """Starts a runtime that answers by a script, and stops it after the test."""

    def __call__(self, *steps: Sequence[Step], **options: Unpack[RuntimeOptions]) -> Served: ...


Connect = Callable[..., Side]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start runtimes for one test."""
    with ExitStack() as stack:

        def start(*steps: Sequence[Step], **options: Unpack[RuntimeOptions]) -> Served:
            return stack.enter_context(Served(*steps, **options))

        yield start


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The client under test: every behaviour is shown by both."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def connect(serve: Serve, kind: Kind) -> Iterator[Connect]:
    """Make clients of a runtime for one test; ``serve`` is named first so that they are closed before it stops."""
    with ExitStack() as stack:

        def make(served: Served, **options: Any) -> Side:
            return stack.enter_context(make_side(kind, **{**served.address, **options}))

        yield make


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
