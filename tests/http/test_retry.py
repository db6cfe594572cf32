"""What to do after a failed request: wait how long, or stop."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh._http.retry import RetryPolicy, Safety
from inferencesh.config import Backoff
from inferencesh.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConfigurationError,
    InferenceError,
    RunFailedError,
    StreamError,
    error_class,
)
from tests.protocol.forms import FIXED

POLICY = RetryPolicy(max_retries=2, backoff=Backoff(initial=1.0, factor=2.0, maximum=8.0, jitter=0.0))


def answered(status: int, retry_after: float | None = None) -> APIError:
    """An answer with an error status."""
    return error_class(status)("no", status_code=status, retry_after=retry_after)


def wait(error: InferenceError, safety: Safety, attempt: int = 0, sent: bool = True) -> float | None:
    """What the policy says."""
    return POLICY.wait(error, sent=sent, safety=safety, attempt=attempt)


@pytest.mark.parametrize("safety", Safety)
@pytest.mark.parametrize("status", [429, 503])
def test_what_the_server_put_off_is_sent_again_whatever_it_is(status: int, safety: Safety) -> None:
    """The server says itself that it has not acted on it."""
    assert wait(answered(status), safety) == 1.0


@pytest.mark.parametrize("safety", Safety)
@pytest.mark.parametrize("error", [APIConnectionError("refused"), APITimeoutError("connect")])
def test_what_was_never_sent_is_sent_again_whatever_it_is(error: InferenceError, safety: Safety) -> None:
    """No connection was made, so nothing can have happened."""
    assert wait(error, safety, sent=False) == 1.0


@pytest.mark.parametrize(
    "error", [APIConnectionError("lost"), APITimeoutError("slow"), *map(answered, (408, 500, 502))]
)
def test_a_message_that_may_have_been_taken_is_never_sent_again(error: InferenceError) -> None:
    """It would be there twice."""
    assert wait(error, Safety.ONCE) is None


@pytest.mark.parametrize("safety", [Safety.REPEATABLE, Safety.UNTIL_ACKNOWLEDGED])
@pytest.mark.parametrize(
    "error", [APIConnectionError("lost"), APITimeoutError("slow"), *map(answered, (408, 500, 502))]
)
def test_reads_and_results_are_sent_again_after_what_may_pass(error: InferenceError, safety: Safety) -> None:
    """Nobody is harmed by a second one."""
    assert wait(error, safety) == 1.0


@pytest.mark.parametrize("safety", Safety)
@pytest.mark.parametrize(
    "error",
    [
        *map(answered, (302, 400, 401, 403, 404, 409, 410, 412, 422)),
        RunFailedError("no"),
        StreamError("no"),
        ConfigurationError("no"),
    ],
)
def test_what_will_not_pass_is_not_sent_again(error: InferenceError, safety: Safety) -> None:
    """A refusal stays one."""
    assert wait(error, safety) is None
    assert wait(error, safety, sent=isinstance(error, APIError)) is None


@pytest.mark.parametrize(("safety", "most"), [(Safety.REPEATABLE, 2), (Safety.ONCE, 2), (Safety.UNTIL_ACKNOWLEDGED, 8)])
def test_the_attempts_are_counted_and_a_result_has_more_of_them(safety: Safety, most: int) -> None:
    """Results are posted until acknowledged, whatever ``max_retries`` says; the waits grow up to the longest one."""
    waits = list(itertools.takewhile(lambda w: w is not None, (wait(answered(503), safety, n) for n in range(99))))
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0][:most]


def test_more_retries_than_results_have_count_for_results_too() -> None:
    """The larger number wins."""
    policy = RetryPolicy(max_retries=20, acknowledgement_retries=8)
    until = Safety.UNTIL_ACKNOWLEDGED
    assert policy.wait(answered(503), sent=True, safety=until, attempt=19) is not None
    assert policy.wait(answered(503), sent=True, safety=until, attempt=20) is None


def test_what_a_client_does_when_nobody_says_otherwise() -> None:
    """Two repetitions, a quarter of a second and then a half before them, less up to a half by chance."""
    policy = RetryPolicy()
    assert (policy.max_retries, policy.acknowledgement_retries, policy.longest_wait) == (2, 8, 60.0)
    assert [policy.backoff.delay(attempt, lambda: 0.0) for attempt in (0, 1, 20)] == [0.25, 0.5, 8.0]
    assert policy.backoff.delay(0, lambda: 1.0) == 0.125


def test_no_retries_means_none() -> None:
    """Not even of what was never sent."""
    policy = RetryPolicy(max_retries=0)
    assert policy.wait(APIConnectionError("no"), sent=False, safety=Safety.REPEATABLE, attempt=0) is None


@pytest.mark.parametrize(("asked", "waits"), [(0.0, 0.0), (3.5, 3.5), (60.0, 60.0), (60.5, None), (3600.0, None)])
def test_the_wait_that_the_server_asks_for_is_kept_up_to_a_limit(asked: float, waits: float | None) -> None:
    """A longer one ends the attempts; the error tells the caller how long it is."""
    assert wait(answered(429, asked), Safety.ONCE) == waits
    assert wait(answered(503, asked), Safety.REPEATABLE) == waits


@FIXED
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_wait_is_never_longer_than_the_longest_nor_shorter_than_jitter_makes_it(attempt: int, chance: float) -> None:
    """Whatever the attempt and the dice."""
    backoff = Backoff(initial=0.25, factor=2.0, maximum=8.0, jitter=0.5)
    whole = Backoff(initial=0.25, factor=2.0, maximum=8.0, jitter=0.0).delay(attempt)
    assert whole <= 8.0
    assert whole * 0.5 <= backoff.delay(attempt, lambda: chance) <= whole


def test_jitter_spreads_the_waits() -> None:
    """So that many clients do not come back at once."""
    backoff = Backoff(initial=1.0, jitter=0.5)
    assert (backoff.delay(0, lambda: 0.0), backoff.delay(0, lambda: 1.0)) == (1.0, 0.5)
    assert len({backoff.delay(3) for _ in range(20)}) > 1
