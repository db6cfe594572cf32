"""The key, the address and the time limits."""

from __future__ import annotations

import math

import attrs
import pytest

from inferencesh.config import (
    API_KEY_VARIABLE,
    BASE_URL_VARIABLE,
    DEFAULT_BASE_URL,
    Secret,
    Timeout,
    check_seconds,
    is_loopback,
    read_api_key,
    read_base_url,
)
from inferencesh.errors import ConfigurationError

# -- time limits


def test_the_idle_limit_is_three_missed_heartbeats() -> None:
    """The service sends one every ten seconds."""
    assert Timeout() == Timeout(connect=10.0, idle=30.0, total=120.0)


def test_a_number_bounds_every_phase_and_none_bounds_none() -> None:
    """What ``timeout=`` may be given."""
    assert Timeout.of(5) == Timeout(connect=5, idle=5, total=5)
    assert Timeout.of(None) == Timeout(connect=None, idle=None, total=None)
    given = Timeout(idle=1.0)
    assert Timeout.of(given) is given


@pytest.mark.parametrize("bad", [0, -1, -0.5, True, "5", float("nan")])
@pytest.mark.parametrize("name", ["connect", "idle", "total"])
def test_a_limit_must_be_a_positive_number(name: str, bad: float) -> None:
    """The error names the limit."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a positive number"):
        Timeout(**{name: bad})


def test_one_rule_holds_for_every_number_of_seconds() -> None:
    """None stands for no limit, where there need be none; infinity, NaN, booleans and texts are refused."""
    for value in (None, 0.5, 3):
        check_seconds("wait", value, optional=True)
    check_seconds("wait", 0, 0)
    for least, wanted in ((None, "a positive number of seconds"), (0.5, "a number of seconds of at least 0.5")):
        for optional, ending in ((True, " or None"), (False, "")):
            for bad in (0, -1, math.nan, math.inf, True, "5", *([] if optional else [None])):
                with pytest.raises(ConfigurationError) as caught:
                    check_seconds("wait", bad, least, optional=optional)
                assert str(caught.value) == f"wait must be {wanted}{ending}, not {bad!r}"


def test_limits_cannot_be_changed_later() -> None:
    """A client's limits are those it was made with."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Timeout().idle = 5  # type: ignore[misc]  # which is what must fail


# -- the key


def test_a_secret_shows_itself_only_when_asked() -> None:
    """Neither repr nor str nor a format have a trace of it."""
    secret = Secret("inf_canary")
    assert "canary" not in f"{secret} {secret!r} {secret!s} {[secret]}"
    assert secret.reveal() == "inf_canary"
    assert secret.masked("your key inf_canary, inf_canary!") == "your key ***, ***!"
    assert not hasattr(secret, "__dict__"), "a traceback that shows attributes must find none"


def test_the_argument_comes_before_the_environment() -> None:
    """And the environment before nothing."""
    environ = {API_KEY_VARIABLE: "inf_environ"}
    assert read_api_key("inf_given", environ).reveal() == "inf_given"
    assert read_api_key(None, environ).reveal() == "inf_environ"
    assert read_api_key("  inf_given\n", {}).reveal() == "inf_given"


@pytest.mark.parametrize(
    ("given", "environ"), [(None, {}), ("", {API_KEY_VARIABLE: "inf_x"}), (" ", {}), (None, {API_KEY_VARIABLE: " "})]
)
def test_without_a_key_the_error_names_the_ways_to_give_one(given: str | None, environ: dict[str, str]) -> None:
    """Both variables, and the clients that need none."""
    with pytest.raises(ConfigurationError, match=API_KEY_VARIABLE) as caught:
        read_api_key(given, environ)
    assert BASE_URL_VARIABLE in str(caught.value)
    assert "local()" in str(caught.value)


@pytest.mark.parametrize("key", ["inf_a b", "inf_ä", "inf_a\nb", "inf_\u2028x", "inf_\x00"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    """Such a key was pasted wrongly."""
    with pytest.raises(ConfigurationError) as caught:
        read_api_key(key, {})
    assert "inf_" not in str(caught.value)


# -- the address


def test_the_address_comes_from_the_argument_the_environment_or_the_default() -> None:
    """In this order, and without a slash at its end."""
    environ = {BASE_URL_VARIABLE: "https://environ.example/"}
    assert read_base_url("https://given.example//", environ) == "https://given.example"
    assert read_base_url(None, environ) == "https://environ.example"
    assert read_base_url(None, {BASE_URL_VARIABLE: ""}) == DEFAULT_BASE_URL
    assert read_base_url(None, {}) == "https://api.inference.sh"
    assert read_base_url(" https://given.example/path/ ", {}) == "https://given.example/path"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000", "http://127.9.9.9", "http://[::1]:8000", "http://localhost", "http://LOCALHOST:1/x"],
)
def test_plain_http_is_for_this_machine(url: str) -> None:
    """No key leaves it."""
    assert read_base_url(url, {}) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.inference.sh",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.1.evil",
        "http://[::2]",
    ],
)
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    """It would send the key unencrypted."""
    with pytest.raises(ConfigurationError, match="unencrypted"):
        read_base_url(url, {})


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "api.inference.sh",
        "ftp://x",
        "https://",
        "https:///path",
        "file:///etc",
        "//x",
        "https://x:port",
        "http://[::1",
    ],
)
def test_what_is_no_http_address_is_refused(url: str) -> None:
    """The error says what one looks like."""
    with pytest.raises(ConfigurationError, match="base_url"):
        read_base_url(url, {})


@pytest.mark.parametrize("url", ["https://x.example/?a=b", "https://x.example/#a", "http://127.0.0.1#.evil.example"])
def test_an_address_with_a_query_or_a_fragment_is_refused(url: str) -> None:
    """Paths are added behind it."""
    with pytest.raises(ConfigurationError, match="query or fragment"):
        read_base_url(url, {})


@pytest.mark.parametrize(
    "url",
    [
        "https://user:canary@x.example",
        "https://canary@x.example",
        "http://127.0.0.1@canary.example",
        "https://user:canary@x.example:99999",
        "ftp://user:canary@x.example",
    ],
)
def test_an_address_with_a_user_name_is_refused_without_showing_it(url: str) -> None:
    """Credentials do not belong into it, and not into an error either."""
    with pytest.raises(ConfigurationError) as caught:
        read_base_url(url, {})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("x", False)],
)
def test_what_is_this_machine(host: str, loopback: bool) -> None:
    """Loopback addresses and their name, nothing else."""
    assert is_loopback(host) is loopback
