"""Builders of tools by which the service makes web requests.

The wire forms are those that the official Python builders make, without explicit nulls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Self

from .references import url_problem
from .schemas import input_schema
from .tool_builder import ParameterSteps, is_name

__all__ = ["HTTPToolBuilder", "WebhookToolBuilder", "call_tool", "http_tool", "webhook_tool"]

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class WebhookToolBuilder(ParameterSteps):
    """Builds a tool that posts its arguments to a URL; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; ``{{context.NAME}}`` in it is filled in by the service.

    Example:
        ```python
        publish = webhook_tool("publish", "https://press.example/hook").secret("...").param("title", string()).build()
        ```
    """

    _type = _key = "hook"

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._url = url
        self._secret: str | None = None

    def secret(self, key: str) -> Self:
        """Give a secret that the service sends along, so that the receiver knows who calls."""
        self._secret = key
        return self

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        if problem := url_problem(self._url):
            yield problem
        if self._secret is not None and not is_name(self._secret):
            yield "the secret must be text that is not empty"

    def _particulars(self) -> dict[str, Any]:
        secret = {} if self._secret is None else {"secret": self._secret}
        return {"url": self._url, **secret, "input_schema": input_schema(self._params)}


class HTTPToolBuilder(ParameterSteps):
    """Builds a tool that makes a web request with credentials that the agent does not see.

    Every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; ``{{context.NAME}}`` in it is filled in by the service.

    Example:
        ```python
        search = (
            http_tool("search", "https://search.example/{{context.INDEX}}")
            .method("GET")
            .auth(bearer="SEARCH_TOKEN")
            .param("query", string("What to look for"))
            .build()
        )
        ```
    """

    _type = _key = "http"

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._url = url
        self._method = "POST"
        self._auth: dict[str, str] = {}
        self._headers: dict[str, str] = {}

    def method(self, m: str) -> Self:
        """Choose the method: GET, POST, PUT, PATCH or DELETE; POST is the default."""
        if is_name(m) and m.upper() in _METHODS:
            self._method = m.upper()
        else:
            self._problems.append(f"the method must be one of {', '.join(_METHODS)}, not {m!r}")
        return self

    def auth(
        self,
        *,
        credential: str | None = None,
        api_key: str | None = None,
        bearer: str | None = None,
        header: str | None = None,
    ) -> Self:
        """Choose how the request is authorized, in exactly one way.

        Args:
            credential: A provider, for the access token of the login that the agent's user has there.
            api_key: The name of a stored secret, sent in a header.
            bearer: The name of a stored secret, sent as a bearer token.
            header: The header for ``api_key``; ``X-API-Key`` when None.
        """
        ways = {"credential": credential, "api_key": api_key, "bearer": bearer}
        given = {way: value for way, value in ways.items() if value is not None}
        if len(given) != 1:
            self._problems.append("auth takes exactly one of credential, api_key and bearer")
            return self
        ((way, value),) = given.items()
        if not is_name(value):
            self._problems.append(f"{way} must be a name that is not empty")
        if header is not None and (way != "api_key" or not _is_header(header)):
            self._problems.append("header must be a header's name, and goes with api_key only")
        self._auth = {"type": way, "provider" if way == "credential" else "secret": value}
        if way == "api_key":
            self._auth["header"] = "X-API-Key" if header is None else header
        return self

    def header(self, name: str, value: str) -> Self:
        """Add a header to each request.

        Args:
            name: Its name.
            value: Its value; ``${{secrets.NAME}}`` in it is a stored secret.
        """
        if not _is_header(name):
            self._problems.append(f"{name!r} is no name of a header")
        if not is_name(value) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            self._problems.append(f"the value of the header {name!r} must be text, on one line")
        self._headers[name] = value
        return self

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        if problem := url_problem(self._url):
            yield problem

    def _particulars(self) -> dict[str, Any]:
        optional = {
            "method": self._method if self._method != "POST" else "",
            "auth": self._auth,
            "headers": self._headers,
        }
        given = {key: value for key, value in optional.items() if value}
        return {"url": self._url, **given, "input_schema": input_schema(self._params)}


def webhook_tool(name: str, url: str) -> WebhookToolBuilder:
    """Begin to build a tool that posts its arguments to a URL.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.

    Example:
        ```python
        publish = webhook_tool("publish", "https://press.example/hook").describe("Publish a text").build()
        print(publish["hook"]["url"])
        ```

        ```text
        https://press.example/hook
        ```
    """
    return WebhookToolBuilder(name, url)


def http_tool(name: str, url: str) -> HTTPToolBuilder:
    """Begin to build a tool that makes a web request with credentials.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.

    Example:
        ```python
        search = http_tool("search", "https://search.example").method("GET").param("query", string()).build()
        print(search["http"]["method"])
        ```

        ```text
        GET
        ```
    """
    return HTTPToolBuilder(name, url)


def call_tool(name: str, url: str) -> HTTPToolBuilder:
    """The other name of ``http_tool``; both make a tool of the type ``http``, as in the official SDKs.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.

    Example:
        ```python
        search = call_tool("search", "https://search.example").build()
        print(search["type"])
        ```

        ```text
        http
        ```
    """
    return HTTPToolBuilder(name, url)


def _is_header(name: object) -> bool:
    return isinstance(name, str) and _HEADER.fullmatch(name) is not None
