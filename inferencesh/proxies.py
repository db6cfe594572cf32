"""Which proxy a request goes through, so that the API key never reaches one unencrypted."""

from __future__ import annotations

from urllib.parse import urlsplit

from .config import is_loopback
from .errors import ConfigurationError

__all__ = ["proxy_for"]


def proxy_for(base_url: str, explicit: str | None, *, trust_env: bool) -> str | None:
    """The proxy for the requests to one address.

    An https address is tunnelled through a proxy, which sees nothing of it. Plain http is used with loopback addresses
    alone; there a proxy of the environment is used only when it is on this machine too.

    Args:
        base_url: The address that requests go to.
        explicit: The proxy the caller asked for, or None.
        trust_env: Whether ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` count.

    Returns:
        The proxy's URL, or None for none.

    Raises:
        ConfigurationError: It is no http proxy, or it would see the API key.
    """
    import urllib.request  # here, for its own imports take as long as the rest of this package's; aiohttp has made them

    target = urlsplit(base_url)
    proxy = explicit
    if proxy is None:
        if not trust_env or urllib.request.proxy_bypass(target.netloc):
            return None
        found = urllib.request.getproxies()
        proxy = found.get(target.scheme) or found.get("all")
        if not proxy:
            return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigurationError(f"the proxy's address is not a URL: {error}") from None
    usable = parts.scheme in {"http", "https"} and bool(host)
    if target.scheme == "http" and explicit is None and not (usable and is_loopback(host)):
        return None  # this machine can be reached without it
    if not usable:
        raise ConfigurationError(
            f"only http proxies are supported, not {parts.scheme}:// ones; pass proxy= or trust_env=False"
        )
    if target.scheme == "http" and not is_loopback(host):
        raise ConfigurationError("a proxy on another machine would see the API key of a plain http base_url; use https")
    return parts.geturl()
