"""What every store of claims does, in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from inferencesh import ClaimStore, MemoryClaims, RedisClaims
from inferencesh.claims import Claim, ClaimState, HeldClaim
from tests.redis_server import RedisServer

GRANTED, HELD, COMPLETED, ABANDONED = ClaimState.GRANTED, ClaimState.HELD, ClaimState.COMPLETED, ClaimState.ABANDONED
LEASE = 1.0  # seconds


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ClaimStore]:
    """Each store, with a lease that is short enough to wait for its end."""
    if request.param == "memory":
        yield MemoryClaims(lease=LEASE)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    claims = RedisClaims(server.url, lease=LEASE)
    yield claims
    await claims.aclose()


async def granted(store: ClaimStore, key: str, owner: str, scope: str = "") -> HeldClaim:
    """Claim something that is free."""
    claim = await store.claim(key, owner, scope)
    assert claim.state is GRANTED
    return HeldClaim(key, owner, scope, claim.attempt)


async def when_free(store: ClaimStore, key: str, owner: str, scope: str = "") -> Claim:
    """Claim something as soon as its lease has run out."""
    async with asyncio.timeout(10):
        while (claim := await store.claim(key, owner, scope)).state is HELD:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    return claim


async def test_one_owner_at_a_time_has_a_claim(store: ClaimStore) -> None:
    """The others are told that it is held; the one that has it may ask again."""
    assert await store.claim("call", "first") == Claim(GRANTED, 1)
    assert (await store.claim("call", "second")).state is HELD
    assert await store.claim("call", "first") == Claim(GRANTED, 1)
    assert await store.claim("another call", "second") == Claim(GRANTED, 1)


async def test_a_lease_that_is_not_renewed_goes_to_another_owner_with_the_next_number(store: ClaimStore) -> None:
    """And whatever the first one still does about it is refused."""
    first = await granted(store, "call", "first", "message")
    assert await when_free(store, "call", "second", "message") == Claim(GRANTED, 2)
    assert await store.renew([first]) == [False]
    assert not await store.record(first, "too late")
    await store.complete(first, "too late")
    await store.release(first)
    assert (await store.claim("call", "third", "message")).state is HELD


async def test_an_owner_that_got_a_claim_again_cannot_touch_it_by_its_former_number(store: ClaimStore) -> None:
    """A renewal that was under way when it lost the claim, and comes late, must not turn the numbers back."""
    former = await granted(store, "call", "first", "message")
    second = await when_free(store, "call", "second", "message")
    assert (await when_free(store, "call", "first", "message")).attempt == second.attempt + 1
    assert await store.renew([former]) == [False]
    assert not await store.record(former, "too late")
    await store.complete(former, "too late")
    await store.release(former)
    assert (await store.claim("call", "third", "message")).state is HELD
    assert await when_free(store, "call", "third", "message") == Claim(GRANTED, 4)


async def test_a_lease_that_is_renewed_stays(store: ClaimStore) -> None:
    """For longer than it would have lasted by itself; several are renewed at once."""
    holdings = [await granted(store, key, "first") for key in ("call", "another call")]
    loop = asyncio.get_running_loop()
    until = loop.time() + 1.5 * LEASE
    while loop.time() < until:
        assert await store.renew([*holdings, HeldClaim("call", "second")]) == [True, True, False]
        assert (await store.claim("call", "second")).state is HELD
        await asyncio.sleep(LEASE / 10)


async def test_a_lease_that_has_run_out_stays_with_its_owner_while_nobody_else_asks(store: ClaimStore) -> None:
    """A worker that was stopped, with nobody there to take over, goes on."""
    first = await granted(store, "call", "first")
    await asyncio.sleep(1.1 * LEASE)
    assert await store.renew([first]) == [True]
    assert (await store.claim("call", "second")).state is HELD


async def test_a_recorded_result_reaches_the_next_owner(store: ClaimStore) -> None:
    """Also one with characters that are no text in UTF-8; an empty one forgets it."""
    first = await granted(store, "call\ud800", "first")
    assert await store.record(first, '{"text": "é\\ud83d"}')
    second = await when_free(store, "call\ud800", "second")
    assert second == Claim(GRANTED, 2, '{"text": "é\\ud83d"}')
    assert await store.record(HeldClaim("call\ud800", "second", attempt=2), "")
    assert await when_free(store, "call\ud800", "third") == Claim(GRANTED, 3)


async def test_what_is_settled_is_not_claimed_again(store: ClaimStore) -> None:
    """Whoever asks is told with which result; what was recorded before is forgotten."""
    first = await granted(store, "call", "first", "message")
    await store.record(first, "confidential")
    await store.complete(first, "ANSWERED")
    assert await store.claim("call", "second", "message") == Claim(COMPLETED, 1, "ANSWERED")
    assert await store.claim("call", "first", "message") == Claim(COMPLETED, 1, "ANSWERED")
    another = await granted(store, "call 2", "first", "message")
    await store.record(another, "confidential")
    await store.complete(another)
    assert await store.claim("call 2", "second", "message") == Claim(COMPLETED, 1)


async def test_the_same_key_in_another_scope_is_a_new_claim(store: ClaimStore) -> None:
    """Such as a call of a later turn, in a service that uses ids again."""
    first = await granted(store, "call", "first", "message 1")
    await store.complete(first, "ANSWERED")
    assert await store.claim("call", "second", "message 2") == Claim(GRANTED, 1)


async def test_without_a_scope_nothing_is_remembered_of_what_was_settled(store: ClaimStore) -> None:
    """Nothing tells whether it is the same."""
    await store.complete(await granted(store, "call", "first"), "ANSWERED")
    assert (await store.claim("call", "second")).state is GRANTED
    await store.complete(await granted(store, "call 2", "first", "message"), "ANSWERED")
    assert (await store.claim("call 2", "second")).state is GRANTED


async def test_an_unknown_scope_does_not_free_a_claim_that_is_held(store: ClaimStore) -> None:
    """It is most likely the same call."""
    await granted(store, "call", "first", "message")
    assert (await store.claim("call", "second")).state is HELD
    await granted(store, "call 2", "first")
    assert (await store.claim("call 2", "second", "message")).state is HELD


async def test_what_was_released_is_free_at_once(store: ClaimStore) -> None:
    """With the next number; what was recorded stays."""
    first = await granted(store, "call", "first")
    await store.record(first, "result")
    await store.release(first)
    assert await store.claim("call", "second") == Claim(GRANTED, 2, "result")


async def test_what_was_released_for_good_is_not_begun_by_others(store: ClaimStore) -> None:
    """Only by the owner itself."""
    first = await granted(store, "call", "first", "message")
    await store.release(first, abandon=True)
    assert (await store.claim("call", "second", "message")).state is ABANDONED
    assert await store.claim("call", "first", "message") == Claim(GRANTED, 1)


async def test_memory_has_no_leases_unless_it_is_given_one() -> None:
    """It ends with its owners."""
    store, now = MemoryClaims(clock=lambda: now), 0.0
    await granted(store, "call", "first")
    now = 1e9
    assert (await store.claim("call", "second")).state is HELD


async def test_memory_forgets_the_oldest_of_what_has_ended() -> None:
    """So that it is bounded."""
    store = MemoryClaims()
    for number in range(5000):
        await store.complete(await granted(store, f"call {number}", "first", "message"), "ANSWERED")
    assert (await store.claim("call 4999", "second", "message")).state is COMPLETED
    assert (await store.claim("call 0", "second", "message")).state is GRANTED
    assert len(store._entries) < 1100
