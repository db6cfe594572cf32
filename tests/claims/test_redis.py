"""Claims in a real Redis: its content, its failures, and workers in separate processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from inferencesh import AsyncInference, ClaimStoreError, ConfigurationError, Inference, RedisClaims, tool
from inferencesh.claims import HeldClaim
from inferencesh.local import ToolCall
from tests.clients.conftest import Serve
from tests.command_line import run_program
from tests.redis_server import RedisServer, free_port
from tests.support import Gate, Served

pytestmark = pytest.mark.redis

CALL = [ToolCall("look_up", {"word": "pelican"})]
SECRET = "nothing that anybody else should read"


def agent(answer: str = "a bird", gate: Gate | None = None) -> dict[str, Any]:
    """Return an agent whose tool waits at a gate."""

    async def look_up(word: str) -> str:
        if gate is not None:
            await gate.passed()
        return answer

    return {"name": "librarian", "tools": [tool("look_up").handler(look_up).build()]}


async def everything(server: RedisServer) -> dict[str, dict[str, str]]:
    """Return the whole content of Redis."""
    async with redis.asyncio.Redis.from_url(server.url, decode_responses=True) as connection:
        held: dict[str, dict[str, str]] = {}
        async for key in connection.scan_iter():
            assert 0 < await connection.ttl(key) <= 86400, "every key expires"
            held[key] = {str(k): str(v) for k, v in (await connection.hgetall(key)).items()}
        return held


@pytest.mark.parametrize("keep_results", [True, False])
async def test_redis_holds_ids_numbers_and_unacknowledged_results(
    serve: Serve, redis_server: RedisServer, *, keep_results: bool
) -> None:
    """All keys have the prefix; results are left out with keep_results=False."""
    gate = Gate()
    served = serve([SECRET, *CALL], [gate, SECRET])
    claims = RedisClaims(redis_server.url, prefix="app:", keep_results=keep_results)
    async with AsyncInference(**served.address, claims=claims) as client:
        one = client.agent(agent(SECRET), context={"who": SECRET})
        submit = one._conversation.submit
        kept: list[dict[str, dict[str, str]]] = []

        async def looking(*arguments: Any, **options: Any) -> None:
            kept.append(await everything(redis_server))
            await submit(*arguments, **options)

        one._conversation.submit = looking  # type: ignore[method-assign] # to look just before the service has it
        sending = asyncio.create_task(one.send_message(SECRET, idempotency_key="job-1"))
        await gate.someone_there()
        gate.open()
        await sending
        assert (SECRET in str(kept)) is keep_results
        after = await everything(redis_server)
        assert {key.partition(":")[0] for key in after} == {"app"}
        assert SECRET not in str(after)
        assert served.runtime.api_key not in str(after)


async def test_a_wrong_address_or_password_is_reported_at_startup(redis_server: RedisServer, serve: Serve) -> None:
    """When a client is entered; no error and no repr contains the password."""
    misspelled = (
        "redis://localhost/fleet",
        "redis://localhost/0/1",
        "redis://:12/34@localhost/0",
    )  # redis-py takes them
    for url in ("http://localhost:6379", "localhost", "redis://localhost:many", "", *misspelled):
        with pytest.raises(ConfigurationError, match="the Redis URL is invalid"):
            RedisClaims(url)
    with pytest.raises(ConfigurationError, match="an option in the Redis URL is invalid"):
        await RedisClaims(f"{redis_server.url}?max_connections=many").check()
    with pytest.raises(ConfigurationError, match="lease must be a number of seconds"):
        RedisClaims(redis_server.url, lease=0)
    for prefix in (None, b"app:", 5):
        with pytest.raises(ConfigurationError, match="prefix must be a str"):
            RedisClaims(redis_server.url, prefix=prefix)  # type: ignore[arg-type] # what is tested
    address = serve(["Hello."]).address
    with RedisServer(password="right") as locked:
        for password in ("wrong", ""):
            claims = RedisClaims(f"redis://:{password}@127.0.0.1:{locked.port}/0")
            for policy in ("fail", "run"):
                with pytest.raises(ConfigurationError, match="refused access") as caught:
                    await AsyncInference(**address, claims=claims, on_claim_store_lost=policy).__aenter__()
            assert "wrong" not in f"{caught.value!r} {claims!r}"
            with pytest.raises(ConfigurationError, match="refused access"):
                await asyncio.to_thread(Inference(**address, claims=claims).__enter__)
        async with AsyncInference(**address, claims=RedisClaims(locked.url)):
            """The right one."""
    with pytest.raises(ConfigurationError, match="index is out of range"):
        await RedisClaims(redis_server.url.replace("/0", "/99")).check()


async def test_a_server_other_than_redis_is_reported_at_startup(serve: Serve) -> None:
    """Such as a web server."""
    port = serve(["Hello."]).address["base_url"].rpartition(":")[2]
    claims = RedisClaims(f"redis://127.0.0.1:{port}/0", retry_timeout=0.1)
    with pytest.raises(ConfigurationError, match="is not a Redis server"):
        await claims.check()
    await claims.aclose()


async def test_an_unreachable_server_is_a_claim_store_error(redis_server: RedisServer, serve: Serve) -> None:
    """After some retries; with on_claim_store_lost="run" it is a warning."""
    redis_server.kill()
    address = serve(["Hello."]).address
    claims = RedisClaims(redis_server.url, retry_timeout=0.2)
    with pytest.raises(ClaimStoreError, match=r"Redis at redis://127\.0\.0\.1:\d+/0 cannot be reached"):
        await AsyncInference(**address, claims=claims).__aenter__()
    async with AsyncInference(**address, claims=claims, on_claim_store_lost="run") as client:
        assert (await client.agent({"name": "greeter"}).send_message("Hi", idempotency_key="job-1")).text == "Hello."


@pytest.mark.parametrize("away", ["killed", "paused"])
async def test_turns_in_progress_finish_while_redis_is_unavailable(
    serve: Serve, redis_server: RedisServer, away: str
) -> None:
    """New claims succeed as soon as it is back, with its data."""
    gate = Gate()
    served = serve(CALL, ["A bird."])
    claims = RedisClaims(redis_server.url, lease=1.0, retry_timeout=0.2)
    async with AsyncInference(**served.address, claims=claims) as client:
        sending = asyncio.create_task(client.agent(agent(gate=gate)).send_message("Hi", idempotency_key="job-1"))
        await gate.someone_there()
        (redis_server.kill if away == "killed" else redis_server.pause)()
        gate.open()
        assert (await sending).text == "A bird."
        (redis_server.start if away == "killed" else redis_server.resume)()
        again = await client.agent(agent()).send_message("Hi", idempotency_key="job-1")
        assert again.text == "A bird."
    assert len(served.script.asked) == 2


async def test_requests_are_retried_during_a_restart_of_redis(redis_server: RedisServer) -> None:
    """A new claim is made afterwards, and earlier ones are still known."""
    claims = RedisClaims(redis_server.url)
    first = HeldClaim("call", "first", attempt=(await claims.claim("call", "first")).attempt)
    redis_server.kill()
    asking = asyncio.create_task(claims.claim("call", "second"))
    await asyncio.to_thread(redis_server.start)
    assert (await asking).state.name == "HELD"
    assert await claims.renew([first]) == [True]
    await claims.aclose()


async def test_a_claim_that_redis_has_lost_is_restored_by_its_owner(redis_server: RedisServer) -> None:
    """As after a restart without its file: the next renewal writes the claim again."""
    claims = RedisClaims(redis_server.url)
    first = HeldClaim("call", "first", attempt=(await claims.claim("call", "first")).attempt)
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        await connection.flushall()
    assert await claims.renew([first]) == [True]
    assert (await claims.claim("call", "second")).state.name == "HELD"
    await claims.aclose()


async def test_a_clock_of_redis_that_is_set_back_makes_no_lease_longer(redis_server: RedisServer) -> None:
    """As when its machine had a wrong time: what a dead worker holds is free a lease after it was asked for."""
    claims = RedisClaims(redis_server.url, lease=0.3)
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        await claims.claim("call", "dead")
        (now, _) = await connection.time()
        await connection.hset("inferencesh:call", "until", (now + 3600) * 1000)
        assert (await claims.claim("call", "living")).state.name == "HELD"
        await asyncio.sleep(0.4)
        assert (await claims.claim("call", "living")).state.name == "GRANTED"
    await claims.aclose()


async def test_what_is_settled_is_known_though_redis_has_lost_the_claim(redis_server: RedisServer) -> None:
    """Otherwise a message that was sent while Redis was started anew would be sent again."""
    claims = RedisClaims(redis_server.url)
    claim = await claims.claim("message", "first", "message")
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        await connection.flushall()
        await claims.complete(HeldClaim("message", "first", "message", claim.attempt), "in this chat")
        assert 0 < await connection.ttl("inferencesh:message") <= 86400
        again = await claims.claim("message", "second", "message")
        assert (again.state.name, again.result) == ("COMPLETED", "in this chat")
        await connection.flushall()
        await claims.release(HeldClaim("message", "first", "message", claim.attempt))
        assert (await claims.claim("message", "second", "message")).attempt == 1
    await claims.aclose()


async def test_the_number_of_requests_of_a_turn(serve: Serve, redis_server: RedisServer) -> None:
    """Four for a message with a key, one for the end of its turn, and three for each tool call."""
    served = serve(CALL, ["A bird."], CALL, CALL, ["A bird."])
    async with (
        AsyncInference(**served.address, claims=RedisClaims(redis_server.url)) as client,
        redis.asyncio.Redis.from_url(redis_server.url) as connection,
    ):

        async def asked() -> int:
            calls = await connection.info("commandstats")
            return int(calls["cmdstat_evalsha"]["calls"])

        await client.agent(agent()).send_message("Hi", idempotency_key="job-1")  # and Redis knows the scripts
        before = await asked()
        await client.agent(agent()).send_message("Hi", idempotency_key="job-2")
        assert await asked() - before == 4 + 1 + 2 * 3


def test_a_store_can_be_used_by_several_loops_and_threads(redis_server: RedisServer) -> None:
    """Each loop has its own connections, which are closed with it."""
    claims = RedisClaims(redis_server.url)

    async def claim(owner: str) -> str:
        return (await claims.claim("call", owner)).state.name

    assert [asyncio.run(claim(owner)) for owner in ("first", "second", "first")] == ["GRANTED", "HELD", "GRANTED"]


# -- workers that are processes ----------------------------------------------------------------------------------------

WORKER = """
import asyncio, sys
from inferencesh import AsyncInference, RedisClaims, ToolContext, LeaseLostError, tool
base_url, api_key, redis_url, key, answer, waits = sys.argv[1:]

@tool
async def look_up(word: str, context: ToolContext) -> str:
    "Look a word up."
    print("attempt", context.attempt, flush=True)
    if waits == "waits":
        await asyncio.sleep(3600)
    if waits == "reads":
        await asyncio.to_thread(sys.stdin.readline)
    return answer

async def main():
    async with AsyncInference(api_key, base_url=base_url, claims=RedisClaims(redis_url, lease=1.0)) as client:
        try:
            message = await client.agent({"name": "librarian", "tools": [look_up]}).send_message(
                "Look it up", idempotency_key=key)
            print("reply", message.text, flush=True)
        except LeaseLostError:
            print("lost", flush=True)

asyncio.run(main())
"""


class Worker:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """Wait for its next line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            return (await self.process.stdout.readline()).decode().strip()

    def send(self, what: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(what)


@asynccontextmanager
async def worker(served: Served, server: RedisServer, answer: str, waits: str = "") -> AsyncIterator[Worker]:
    """Start a worker that runs the same job as the others; it is killed at the end."""
    arguments = [served.address["base_url"], served.runtime.api_key, server.url, "job-1", answer, waits]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, *arguments), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def history(served: Served) -> list[tuple[str, str]]:
    """Return role and text, or results, of all messages that the runtime has."""
    async with AsyncInference(**served.address) as reader:
        chats = [chat.id async for chat in reader.chats.list()]
        found = [message for chat_id in chats async for message in reader.chats.messages(chat_id)]
        results = [("result", call.result or "") for message in found for call in message.tool_calls]
        return sorted([(message.role.value, message.text) for message in found if message.role == "user"] + results)


async def test_another_worker_takes_over_from_a_killed_one(serve: Serve, redis_server: RedisServer) -> None:
    """In the middle of a tool call: it runs the call again, and sends nothing."""
    served = serve(CALL, ["A bird."])
    async with worker(served, redis_server, "from one", "waits") as one:
        assert await one.line() == "attempt 1"
        one.send(signal.SIGKILL)
        async with worker(served, redis_server, "from two") as two:
            assert [await two.line(), await two.line()] == ["attempt 2", "reply A bird."]
    assert await history(served) == [("result", "from two"), ("user", "Look it up")]


async def test_a_worker_that_was_suspended_longer_than_its_lease_gives_up(
    serve: Serve, redis_server: RedisServer
) -> None:
    """When it resumes, nothing that it has produced reaches the agent or its caller."""
    served = serve(CALL, ["A bird."])
    async with worker(served, redis_server, "from one", "reads") as one:
        assert await one.line() == "attempt 1"
        one.send(signal.SIGSTOP)
        async with worker(served, redis_server, "from two") as two:
            assert [await two.line(), await two.line()] == ["attempt 2", "reply A bird."]
        assert one.process.stdin is not None
        one.process.stdin.write(b"\n")
        one.send(signal.SIGCONT)
        assert await one.line() == "lost"
    assert await history(served) == [("result", "from two"), ("user", "Look it up")]


async def test_forked_children_have_connections_of_their_own(redis_server: RedisServer) -> None:
    """A store that the parent has used works in a child, and the parent's connection stays open."""
    claims = RedisClaims(redis_server.url)
    await claims.claim("call", "parent")

    def in_child() -> int:
        async def ask() -> str:
            return (await claims.claim("call", "child")).state.name

        return 0 if asyncio.run(ask()) == "HELD" else 1

    pid = os.fork()
    if pid == 0:
        asyncio.events._set_running_loop(None)  # the child of a running loop: it uses one of its own
        status = 1
        try:
            status = in_child()
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (await claims.claim("call", "parent")).state.name == "GRANTED"
    await claims.aclose()


@pytest.mark.parametrize("state", ["read-only", "full"])
async def test_a_temporary_refusal_of_redis_is_not_a_configuration_error(
    serve: Serve, redis_server: RedisServer, state: str
) -> None:
    """Such as that of a replica that is about to be promoted, or of a server without free memory."""
    claims, address = RedisClaims(redis_server.url, retry_timeout=0.1), serve(["Hello."]).address
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        if state == "full":
            await connection.config_set("maxmemory", 1)
        else:
            await connection.replicaof("127.0.0.1", free_port())
    with pytest.raises(ClaimStoreError, match="failed to run a command"):
        await claims.check()
    async with AsyncInference(**address, claims=claims, on_claim_store_lost="run") as client:
        assert (await client.agent({"name": "greeter"}).send_message("Hi", idempotency_key="job-1")).text == "Hello."


async def test_an_unknown_option_in_the_url_is_reported(redis_server: RedisServer) -> None:
    """When the client is entered, as a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="an option in the Redis URL is invalid"):
        await RedisClaims(f"{redis_server.url}?no_such_option=1").check()


async def test_concurrent_claims_do_not_wait_for_each_other_while_redis_is_unavailable(
    redis_server: RedisServer,
) -> None:
    """Each fails after a few seconds, no matter how many there are, and whether Redis refuses connections or hangs."""
    claims = RedisClaims(redis_server.url, retry_timeout=3)
    await claims.check()
    redis_server.pause()
    loop = asyncio.get_running_loop()
    began = loop.time()
    failed = await asyncio.gather(*(claims.claim(f"call {n}", "owner") for n in range(200)), return_exceptions=True)
    took = loop.time() - began
    redis_server.resume()
    assert {type(each) for each in failed} == {ClaimStoreError}
    assert took < 15  # far less than one after the other
    await claims.aclose()


async def test_invalid_utf8_in_redis_is_a_claim_store_error(redis_server: RedisServer) -> None:
    """Another program may have written anything."""
    claims = RedisClaims(redis_server.url)
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        whole = {"owner": "o", "scope": "s", "attempt": "1", "until": "1", "state": "completed"}
        corrupt: list[dict[Any, Any]] = [
            {**whole, "result": b"\xff"},
            {**whole, "attempt": "x"},
            {**whole, "state": "held", "until": "never"},
            {"owner": "o"},
        ]
        for number, fields in enumerate(corrupt):
            await connection.hset(f"inferencesh:call {number}", mapping=fields)
            with pytest.raises(ClaimStoreError):
                await claims.claim(f"call {number}", "me", "s")
        await connection.set("inferencesh:call", "text")
        with pytest.raises(ClaimStoreError):
            await claims.claim("call", "me", "s")
    await claims.aclose()


async def test_a_response_that_arrived_while_the_process_was_suspended_counts(redis_server: RedisServer) -> None:
    """As after SIGSTOP or a long garbage collection: Redis was available all the time."""
    claims = RedisClaims(redis_server.url, retry_timeout=0.1)
    await claims.check()
    redis_server.pause()
    asking = asyncio.create_task(claims.claim("call", "me"))
    await asyncio.sleep(0.1)  # it has been asked
    redis_server.resume()
    time.sleep(5.5)  # noqa: ASYNC251 - nothing else may run meanwhile
    assert (await asking).state.name == "GRANTED"
    await claims.aclose()


async def test_a_closed_client_leaves_the_store_to_other_clients(serve: Serve, redis_server: RedisServer) -> None:
    """Their requests are completed, and no connection is leaked."""
    address, claims = serve(["Hello."]).address, RedisClaims(redis_server.url)

    async def ask(owner: str) -> None:
        for number in range(20):
            assert (await claims.claim(f"call {number}", owner)).state.name in {"GRANTED", "HELD"}

    asking = [asyncio.create_task(ask(f"owner {number}")) for number in range(30)]
    for _ in range(10):
        await asyncio.sleep(0.02)
        await AsyncInference(**address, claims=claims).aclose()
    async with asyncio.timeout(20):
        await asyncio.gather(*asking)
    await claims.aclose()
    async with redis.asyncio.Redis.from_url(redis_server.url) as connection:
        assert len(await connection.client_list()) == 1


async def test_a_request_can_be_cancelled_at_any_step(redis_server: RedisServer) -> None:
    """The cancellation is not lost, as it would be in asyncio.wait_for of Python 3.11, with which redis-py sends."""
    claims = RedisClaims(redis_server.url)
    for steps in range(60):
        await claims.claim("connected", "me")
        task = asyncio.create_task(claims.claim(f"call-{steps}", "me"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
    await claims.aclose()


async def test_a_closing_that_is_cancelled_closes_the_connections_all_the_same(redis_server: RedisServer) -> None:
    """At whichever step; nothing is left to the garbage collector, which would warn of it."""
    claims, steps, cancelled = RedisClaims(redis_server.url), 0, True
    while cancelled:
        await claims.check()
        closing = asyncio.create_task(claims.aclose())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        cancelled, steps = closing.cancelled(), steps + 1
        async with redis.asyncio.Redis.from_url(redis_server.url) as connection, asyncio.timeout(5):
            while len(await connection.client_list()) > 1 < steps:  # noqa: ASYNC110 - the first has not begun to close
                await asyncio.sleep(0.01)
        gc.collect()
    await claims.aclose()
    assert steps > 3


LOST = """
import asyncio
import sys

import uvloop
from inferencesh import RedisClaims
from tests.redis_server import lose_before_next_command


async def main():
    claims = RedisClaims(sys.argv[1])
    await claims.claim("one", "me")
    lose_before_next_command()
    print((await claims.claim("two", "me")).state.name)
    await claims.aclose()


uvloop.run(main())
"""


def test_a_request_is_repeated_if_uvloop_reports_a_lost_connection(redis_server: RedisServer) -> None:
    """As a RuntimeError, when the connection is lost just before the request is written."""
    run = run_program(LOST, redis_server.url)
    assert run.stdout == "GRANTED\n", run.stderr
