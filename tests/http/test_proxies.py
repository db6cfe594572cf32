"""Which proxy a request goes through; none on another machine ever sees the key."""

from __future__ import annotations

import pytest

from inferencesh._http.session import proxy_for
from inferencesh.errors import ConfigurationError

HTTPS = "https://api.inference.sh"
LOCAL = "http://127.0.0.1:8000"
FAR = "http://proxy.example:3128"
NEAR = "http://127.0.0.1:3128"


def test_without_any_there_is_none() -> None:
    """The environment of tests has none."""
    assert proxy_for(HTTPS, None, trust_env=True) is None
    assert proxy_for(LOCAL, None, trust_env=True) is None


@pytest.mark.parametrize(
    ("given", "used"),
    [(FAR, FAR), ("proxy.example:3128", FAR), ("https://proxy.example", "https://proxy.example")],
)
def test_an_https_address_may_be_tunnelled_through_any_proxy(given: str, used: str) -> None:
    """The proxy sees nothing of what is sent."""
    assert proxy_for(HTTPS, given, trust_env=False) == used


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_the_environment_names_the_proxy_of_an_https_address(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the variables that other programs read."""
    monkeypatch.setenv(name, FAR)
    assert proxy_for(HTTPS, None, trust_env=True) == FAR
    assert proxy_for(HTTPS, None, trust_env=False) is None, "unless the caller does not want that"
    assert proxy_for(HTTPS, NEAR, trust_env=True) == NEAR, "and what the caller names comes first"


@pytest.mark.parametrize("exempt", ["api.inference.sh", ".inference.sh", "*"])
def test_no_proxy_exempts_hosts(exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As other programs read it."""
    monkeypatch.setenv("HTTPS_PROXY", FAR)
    monkeypatch.setenv("NO_PROXY", exempt)
    assert proxy_for(HTTPS, None, trust_env=True) is None


def test_a_plain_http_address_uses_a_proxy_of_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the environment on another machine is passed over, one that the caller names is refused."""
    monkeypatch.setenv("HTTP_PROXY", NEAR)
    assert proxy_for(LOCAL, None, trust_env=True) == NEAR
    assert proxy_for(LOCAL, NEAR, trust_env=False) == NEAR
    monkeypatch.setenv("HTTP_PROXY", FAR)
    assert proxy_for(LOCAL, None, trust_env=True) is None
    with pytest.raises(ConfigurationError, match="API key"):
        proxy_for(LOCAL, FAR, trust_env=True)


@pytest.mark.parametrize("bad", ["socks5://127.0.0.1:1080", "http://", "http://[::1", "ftp://x"])
@pytest.mark.parametrize("base_url", [HTTPS, LOCAL])
def test_what_is_no_http_proxy_is_refused(bad: str, base_url: str) -> None:
    """A request must not go around the proxy that the caller has named."""
    with pytest.raises(ConfigurationError, match="prox"):
        proxy_for(base_url, bad, trust_env=False)


def test_an_environment_with_another_kind_of_proxy_is_told_for_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine, which need no proxy, go on without; others must not silently go around it."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    assert proxy_for(LOCAL, None, trust_env=True) is None
    with pytest.raises(ConfigurationError, match="trust_env=False"):
        proxy_for(HTTPS, None, trust_env=True)
