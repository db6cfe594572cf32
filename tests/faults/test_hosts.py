"""Between the client and the service: a caller's own certificates, proxies of the environment, and a caller's proxy."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from inferencesh import APIConnectionError, ConfigurationError
from tests.support import Kind

from .forms import KEY, chat, message
from .proxy import Proxy
from .script import RST, Scenario, Script
from .server import FaultServer
from .turns import POST, TEXT, call

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE: Script = (chat("working"), message("Hel"), message(TEXT, "ready"), chat("completed"))
DROPPED = Scenario(streams=[(chat("working"), message("Hel"), RST), WHOLE])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FaultServer]:
    """An https server with a certificate of that authority, whose first stream is reset."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(DROPPED, tls=context) as server:
        yield server


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A caller's context that knows the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def say_hi(client: Any) -> Any:
    """One turn."""
    return client.agent("a/b").send_message("Hi")


def test_a_callers_tls_context_is_used(kind: Kind, secure: FaultServer, trusting: ssl.SSLContext) -> None:
    """A service with a private certificate works, reconnects included."""
    assert call(kind, secure, say_hi, ssl=trusting).text == TEXT
    secure.wait_until_no_connections()


def test_an_unknown_certificate_is_refused(kind: Kind, secure: FaultServer) -> None:
    """Without that context nothing is sent, and the error says why."""
    with pytest.raises(APIConnectionError, match=r"(?i)certificate"):
        call(kind, secure, say_hi)
    assert secure.requests == []


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
def test_https_goes_through_a_tunnel(
    variable: str, kind: Kind, secure: FaultServer, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment is used, and sees neither the key nor a path."""
    with Proxy() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        assert call(kind, secure, say_hi, ssl=trusting).text == TEXT
        proxy.wait_until_left()
    assert {head.split(" ")[0] for head in proxy.heads} == {"CONNECT"}
    assert not [head for head in proxy.heads if KEY in head or "/agents" in head]


def test_an_own_proxy_is_used(kind: Kind, secure: FaultServer, trusting: ssl.SSLContext) -> None:
    """The proxy argument counts without any environment."""
    with Proxy() as proxy:
        assert call(kind, secure, say_hi, ssl=trusting, proxy=proxy.url).text == TEXT
        proxy.wait_until_left()
    assert proxy.heads


@pytest.mark.parametrize(
    ("environment", "options"),
    [({}, {"trust_env": False}), ({"NO_PROXY": "127.0.0.1"}, {}), ({"NO_PROXY": "*"}, {})],
    ids=["trust_env", "NO_PROXY", "NO_PROXY=*"],
)
def test_proxies_can_be_left_out(
    environment: dict[str, str], options: dict[str, Any], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trust_env=False and NO_PROXY lead past the proxy."""
    with Proxy() as proxy, FaultServer(DROPPED) as server:
        for name, value in ({"HTTP_PROXY": proxy.url} | environment).items():
            monkeypatch.setenv(name, value)
        assert call(kind, server, say_hi, **options).text == TEXT
    assert proxy.heads == []


def test_a_plain_address_of_this_machine_may_use_a_proxy_of_this_machine(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forwarding works as tunnelling does."""
    with Proxy() as proxy, FaultServer(DROPPED) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert call(kind, server, say_hi).text == TEXT
        proxy.wait_until_left()
    assert len(proxy.heads) >= 2


def test_the_key_never_passes_a_proxy_elsewhere_in_the_clear(kind: Kind) -> None:
    """A plain address and a proxy on another machine: refused before anything is sent."""
    with FaultServer(DROPPED) as server, pytest.raises(ConfigurationError, match="proxy"):
        call(kind, server, say_hi, proxy="http://proxy.example:8080")
    assert server.requests == []


def test_the_password_of_a_proxy_is_not_told(kind: Kind, secure: FaultServer, trusting: ssl.SSLContext) -> None:
    """Also where the proxy refuses it."""
    with Proxy(refuse=True) as proxy, pytest.raises(APIConnectionError, match="403") as caught:
        call(kind, secure, say_hi, ssl=trusting, proxy=proxy.url.replace("//", "//user:sesame@"))
    assert "sesame" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_a_proxy_that_refuses_is_a_connection_error(kind: Kind, secure: FaultServer, trusting: ssl.SSLContext) -> None:
    """The message was never sent, so it is tried again; the error names the proxy's answer."""
    with Proxy(refuse=True) as proxy, pytest.raises(APIConnectionError, match="403"):
        call(kind, secure, say_hi, ssl=trusting, proxy=proxy.url)
    assert len(proxy.heads) == 3
    assert secure.seen(POST) == []
