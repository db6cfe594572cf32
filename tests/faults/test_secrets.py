"""The API key shows up nowhere. Every scenario of this folder looks for it as well: see ``canary`` and ``shown``."""

from __future__ import annotations

import asyncio
import json
import pprint
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from inferencesh import AsyncInference, ConfigurationError, Inference, InferenceError
from inferencesh.config import Secret
from tests.support import Kind

from .forms import KEY, chat, message
from .script import CUT, RST, STALL, Reply, Scenario, Script, page, raw, redirect, refuse
from .server import FaultServer
from .turns import TEXT, Case, RunTurn, call, client_options, shown

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

WHOLE: Script = (chat("working"), message("Hel"), message(TEXT, "ready"), chat("completed"))
ECHO = f"no such key: Bearer {KEY}"
BEGUN: Script = (chat("working"), message("Hel"), RST)


def told(name: str, then: Script) -> Case:
    """A case in which every stream behind the first cannot be read."""
    return Case(name, [BEGUN, then], "Hel", raises=InferenceError, warns=True)


def failed_envelope(**headers: str) -> Script:
    """A failure of the first generation, which says in the body alone that it is one."""
    failure = {"success": False, "error": {"code": "bad", "message": ECHO}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (Reply(json.dumps(failure).encode(), 200, named),)


ECHOES = [
    Case("in an error", post=[refuse(401, "unauthorized", ECHO)], raises=InferenceError),
    Case("in an error's header", post=[refuse(400, "bad", X_Request_Id=KEY)], raises=InferenceError),
    Case("in an error of a stream", [BEGUN, refuse(401, KEY, ECHO)], "Hel", raises=InferenceError),
    Case("in a page", post=[page(ECHO)], raises=InferenceError),
    Case(
        "in a page's header", post=[(Reply(b"<html>", 200, {"X-Request-Id": KEY}, "text/html"),)], raises=InferenceError
    ),
    Case("in a failure with HTTP 200", post=[failed_envelope()], raises=InferenceError),
    Case("in its header", post=[failed_envelope(X_Request_Id=KEY)], raises=InferenceError),
    Case("in an error page", post=[page(ECHO, 502)], raises=InferenceError),
    told("in a page instead of a stream", page(ECHO)),
    told("in lines that cannot be read", (ECHO.encode() + b"\n", STALL)),
    told("in a content type", (Reply(b"", 200, {}, f"text/html; key={KEY}"),)),
    Case(
        "in what is no HTTP",
        post=[(raw(f"HTTP/1.1 200 OK\r\nBad {ECHO}\r\n\r\n".encode()), CUT)],
        raises=InferenceError,
    ),
    Case(
        "in what is no HTTP, instead of a stream",
        [BEGUN, (raw(f"HTTP/1.1 xx {ECHO}\r\n\r\n".encode()), CUT)],
        "Hel",
        raises=InferenceError,
    ),
    Case("in a redirect", post=[redirect(f"https://other.invalid/?key={KEY}")], raises=InferenceError),
]


@pytest.mark.parametrize("case", ECHOES, ids=lambda case: case.name)
def test_a_key_that_the_server_echoes_is_blotted_out(case: Case, run_turn: RunTurn) -> None:
    """Servers quote what they were sent; errors and logs must not pass it on."""
    run_turn(case)


def test_the_key_is_not_among_a_clients_attributes(kind: Kind) -> None:
    """Printing a client, an agent, a stream and what they hold, several levels deep, shows no key."""
    with FaultServer(Scenario(streams=[WHOLE])) as server:

        def look(client: Any) -> Generator[Any, Any, str]:
            agent = client.agent("a/b")
            yield agent.send_message("Hi")
            stream = agent.send_message("Hi", stream=True)
            text = "".join(deep_reprs(thing, 6) for thing in (client, agent, stream))
            yield stream.close() if kind == "sync" else stream.aclose()
            return text

        assert KEY not in call(kind, server, look)


def deep_reprs(thing: object, depth: int, seen: set[int] | None = None) -> str:
    """The reprs of an object and of what it refers to."""
    seen = set() if seen is None else seen
    if depth == 0 or id(thing) in seen:
        return ""
    if isinstance(thing, Secret):  # what it holds is its own affair, as long as it does not show it
        return repr(thing) + str(thing) + f"{thing}"
    seen.add(id(thing))
    held = list(getattr(thing, "__dict__", {}).values())
    held += [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
    if isinstance(thing, dict):
        held += list(thing.values())
    return "\n".join([repr(thing), pprint.pformat(thing), *(deep_reprs(part, depth - 1, seen) for part in held)])


@pytest.mark.parametrize("key", [f"{KEY} x", f"{KEY}ü", f"{KEY}\nx"])
@pytest.mark.parametrize("client", [AsyncInference, Inference])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str, client: type[Any]) -> None:
    """The error about it says what is wrong without saying what it is."""
    with pytest.raises(ConfigurationError) as caught:
        client(api_key=key)
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told + repr(caught.value) + repr(vars(caught.value))


def test_nothing_of_a_message_is_logged(kind: Kind, canary: pytest.LogCaptureFixture) -> None:
    """At DEBUG the log says what happens, not what is said."""
    secret = "my private question"
    streams: list[Script] = [(message("a private"), RST), (message("a private answer", "ready"), chat("completed"))]
    with FaultServer(Scenario(streams=streams)) as server:
        call(kind, server, lambda client: client.agent("a/b").send_message(secret))
    logged = "\n".join(r.getMessage() for r in canary.records if r.name.startswith("inferencesh"))
    assert logged
    assert "private" not in logged


def test_the_key_goes_out_as_a_header_alone(kind: Kind) -> None:
    """It is in no path, query or body."""
    with FaultServer(Scenario(streams=[WHOLE])) as server:
        call(kind, server, lambda client: client.agent("a/b").send_message("Hi"))
        for request in server.requests:
            where = {name for name, value in request.headers.items() if KEY in value}
            assert where == {"authorization"}
            assert KEY not in request.line + request.query + request.body.decode()


@pytest.mark.parametrize(
    "scenario",
    [Scenario(post=[(STALL,)]), Scenario(streams=[(STALL,)]), Scenario(streams=[(message("Hel"), STALL)])],
    ids=["posting", "opening", "reading"],
)
async def test_a_timeout_of_the_callers_shows_no_key(scenario: Scenario) -> None:
    """A cancelled call ends inside the HTTP library, whose frames are part of the traceback then."""
    with FaultServer(scenario) as server:
        async with AsyncInference(**client_options(server, timeout=30)) as client:
            with pytest.raises(TimeoutError) as caught:
                await within(0.3, client.agent("a/b").send_message("Hi"))
    del client
    told = "".join(shown(caught.value))
    assert "CancelledError" in told
    assert KEY not in told


async def within(seconds: float, call: Coroutine[Any, Any, object]) -> None:
    """The call, under asyncio.timeout."""
    async with asyncio.timeout(seconds):
        await call
