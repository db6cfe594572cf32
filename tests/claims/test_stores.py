"""The behaviour of every claim store, in memory and in Redis."""

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
    """Each store, with a lease that expires soon."""
    if request.param == "memory":
        yield MemoryClaims(lease=LEASE)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    claims = RedisClaims(server.url, lease=LEASE)
    yield claims
    await claims.aclose()


async def granted(store: ClaimStore, key: str, owner: str, scope: str = "") -> HeldClaim:
    """Claim an available key."""
    claim = await store.claim(key, owner, scope)
    assert claim.state is GRANTED
    return HeldClaim(key, owner, scope, claim.attempt)


async def when_free(store: ClaimStore, key: str, owner: str, scope: str = "") -> Claim:
    """Claim a key as soon as its lease has expired."""
    async with asyncio.timeout(10):
        while (claim := await store.claim(key, owner, scope)).state is HELD:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    return claim


async def test_one_owner_at_a_time_holds_a_claim(store: ClaimStore) -> None:
    """Others get HELD; the owner itself may request it again."""
    assert await store.claim("call", "first") == Claim(GRANTED, 1)
    assert (await store.claim("call", "second")).state is HELD
    assert await store.claim("call", "first") == Claim(GRANTED, 1)
    assert await store.claim("another call", "second") == Claim(GRANTED, 1)


async def test_an_expired_lease_is_granted_to_another_owner_with_the_next_attempt(store: ClaimStore) -> None:
    """Operations of the former owner are rejected from then on."""
    first = await granted(store, "call", "first", "message")
    assert await when_free(store, "call", "second", "message") == Claim(GRANTED, 2)
    assert await store.renew([first]) == [False]
    assert not await store.record(first, "too late")
    await store.complete(first, "too late")
    await store.release(first)
    assert (await store.claim("call", "third", "message")).state is HELD


async def test_an_owner_cannot_change_a_claim_with_its_former_attempt_number(store: ClaimStore) -> None:
    """A late renewal from before the owner lost the claim and got it again must not reset the number."""
    former = await granted(store, "call", "first", "message")
    second = await when_free(store, "call", "second", "message")
    assert (await when_free(store, "call", "first", "message")).attempt == second.attempt + 1
    assert await store.renew([former]) == [False]
    assert not await store.record(former, "too late")
    await store.complete(former, "too late")
    await store.release(former)
    assert (await store.claim("call", "third", "message")).state is HELD
    assert await when_free(store, "call", "third", "message") == Claim(GRANTED, 4)


async def test_a_renewed_lease_does_not_expire(store: ClaimStore) -> None:
    """It lasts longer than an unrenewed one; several are renewed at once."""
    holdings = [await granted(store, key, "first") for key in ("call", "another call")]
    loop = asyncio.get_running_loop()
    until = loop.time() + 1.5 * LEASE
    while loop.time() < until:
        assert await store.renew([*holdings, HeldClaim("call", "second")]) == [True, True, False]
        assert (await store.claim("call", "second")).state is HELD
        await asyncio.sleep(LEASE / 10)


async def test_an_expired_lease_stays_with_its_owner_until_another_one_requests_it(store: ClaimStore) -> None:
    """A suspended worker continues if nobody has taken over."""
    first = await granted(store, "call", "first")
    await asyncio.sleep(1.1 * LEASE)
    assert await store.renew([first]) == [True]
    assert (await store.claim("call", "second")).state is HELD


async def test_a_recorded_result_reaches_the_next_owner(store: ClaimStore) -> None:
    """Even with characters that are invalid in UTF-8; an empty one deletes it."""
    first = await granted(store, "call\ud800", "first")
    assert await store.record(first, '{"text": "é\\ud83d"}')
    second = await when_free(store, "call\ud800", "second")
    assert second == Claim(GRANTED, 2, '{"text": "é\\ud83d"}')
    assert await store.record(HeldClaim("call\ud800", "second", attempt=2), "")
    assert await when_free(store, "call\ud800", "third") == Claim(GRANTED, 3)


async def test_a_completed_claim_is_not_granted_again(store: ClaimStore) -> None:
    """Requests return its result; a result that was recorded before is deleted."""
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
    """Such as a call of a later turn, in a service that reuses ids."""
    first = await granted(store, "call", "first", "message 1")
    await store.complete(first, "ANSWERED")
    assert await store.claim("call", "second", "message 2") == Claim(GRANTED, 1)


async def test_a_completed_claim_without_a_scope_is_forgotten(store: ClaimStore) -> None:
    """A later request with the same key may be about something else."""
    await store.complete(await granted(store, "call", "first"), "ANSWERED")
    assert (await store.claim("call", "second")).state is GRANTED
    await store.complete(await granted(store, "call 2", "first", "message"), "ANSWERED")
    assert (await store.claim("call 2", "second")).state is GRANTED


async def test_an_unknown_scope_does_not_release_a_held_claim(store: ClaimStore) -> None:
    """It is most likely the same call."""
    await granted(store, "call", "first", "message")
    assert (await store.claim("call", "second")).state is HELD
    await granted(store, "call 2", "first")
    assert (await store.claim("call 2", "second", "message")).state is HELD


async def test_a_released_claim_can_be_granted_at_once(store: ClaimStore) -> None:
    """With the next attempt number; a recorded result is kept."""
    first = await granted(store, "call", "first")
    await store.record(first, "result")
    await store.release(first)
    assert await store.claim("call", "second") == Claim(GRANTED, 2, "result")


async def test_an_abandoned_claim_is_not_granted_to_others(store: ClaimStore) -> None:
    """Only to the owner itself."""
    first = await granted(store, "call", "first", "message")
    await store.release(first, abandon=True)
    assert (await store.claim("call", "second", "message")).state is ABANDONED
    assert await store.claim("call", "first", "message") == Claim(GRANTED, 1)


async def test_memory_claims_do_not_expire_by_default() -> None:
    """They end together with their owners."""
    store, now = MemoryClaims(clock=lambda: now), 0.0
    await granted(store, "call", "first")
    now = 1e9
    assert (await store.claim("call", "second")).state is HELD


async def test_memory_claims_forget_the_oldest_ended_ones() -> None:
    """So that their number is bounded."""
    store = MemoryClaims()
    for number in range(5000):
        await store.complete(await granted(store, f"call {number}", "first", "message"), "ANSWERED")
    assert (await store.claim("call 4999", "second", "message")).state is COMPLETED
    assert (await store.claim("call 0", "second", "message")).state is GRANTED
    assert len(store._entries) < 1100
