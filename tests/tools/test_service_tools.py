"""Builders of the tools that the service runs: their wire forms, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import (
    ConfigurationError,
    Tool,
    agent_tool,
    app_tool,
    array,
    call_tool,
    http_tool,
    integer,
    mcp_tool,
    obj,
    optional,
    string,
    webhook_tool,
)
from inferencesh.builders import url_problem

URL = "https://example.com/hook"
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "required": []}


def common(name: str, kind: str, **rest: object) -> dict[str, Any]:
    """Return the wire form of a tool: the common fields, and those of its type."""
    return {
        "name": name,
        "display_name": name,
        "description": "",
        "type": kind,
        "require_approval": False,
        **rest,
    }


def nulls_in(value: object) -> bool:
    """Whether a value contains None."""
    if isinstance(value, dict):
        return any(map(nulls_in, value.values()))
    return any(map(nulls_in, value)) if isinstance(value, list) else value is None


PLAIN: list[tuple[str, Any, dict[str, Any]]] = [
    ("app", app_tool("draw", "acme/painter@v1"), common("draw", "app", app={"ref": "acme/painter@v1"})),
    ("agent", agent_tool("ask", "acme/poet"), common("ask", "agent", agent={"ref": "acme/poet"})),
    (
        "webhook",
        webhook_tool("ping", URL),
        common("ping", "hook", hook={"url": URL, "input_schema": NO_PARAMETERS}),
    ),
    ("http", http_tool("get", URL), common("get", "http", http={"url": URL, "input_schema": NO_PARAMETERS})),
    ("call", call_tool("get", URL), common("get", "http", http={"url": URL, "input_schema": NO_PARAMETERS})),
    (
        "mcp",
        mcp_tool("search", server="exa", tool_name="web_search"),
        common("search", "mcp", mcp={"server": "exa", "tool_name": "web_search"}),
    ),
]


@pytest.mark.parametrize(("builder", "wire"), [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN])
def test_a_plain_tool_of_each_kind(builder: Any, wire: dict[str, Any]) -> None:
    """The wire form has what was given and nothing else: no nulls, no empty values."""
    built = builder.build()
    assert isinstance(built, Tool)
    assert dict(built) == wire
    assert not nulls_in(json.loads(json.dumps(built)))
    assert built.handler is None


@pytest.mark.parametrize("builder", [case[1] for case in PLAIN], ids=[case[0] for case in PLAIN])
def test_steps_that_all_tools_have(builder: Any) -> None:
    """Each returns the builder; ``display_name`` is the newer name of ``display``."""
    built = builder.describe("What it does").display("For people").require_approval().build()
    assert (built["description"], built["display_name"], built["require_approval"]) == (
        "What it does",
        "For people",
        True,
    )
    assert builder.display_name("Newer").require_approval(False).build()["display_name"] == "Newer"


def test_an_app_with_everything() -> None:
    """Empty values are left out."""
    full = (
        app_tool("run", "acme/app").function("draw").session_enabled().setup({"seed": 1}).input({"size": "s"}).build()
    )
    assert full["app"] == {
        "ref": "acme/app",
        "function": "draw",
        "session_enabled": True,
        "setup": {"seed": 1},
        "input": {"size": "s"},
    }
    assert app_tool("run", "acme/app").setup({}).input({}).build()["app"] == {"ref": "acme/app"}


def test_parameters_are_kept_where_the_wire_has_a_place_for_them() -> None:
    """With ``required``, and without the mark of ``optional`` at any depth."""
    items = array(obj({"a": string(), "b": optional(integer())}))
    expected = {
        "type": "object",
        "properties": {
            "q": {"type": "string"},
            "l": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
                    "required": ["a"],
                },
            },
        },
        "required": ["q"],
    }
    hook = webhook_tool("t", URL).param("q", string()).param("l", optional(items)).build()
    http = http_tool("t", URL).param("q", string()).param("l", optional(items)).build()
    assert hook["hook"]["input_schema"] == http["http"]["input_schema"] == expected


def test_a_webhooks_secret_is_sent_and_not_shown() -> None:
    """It is in the wire form, but not in the repr."""
    built = webhook_tool("t", URL).secret("s3cret").build()
    assert built["hook"]["secret"] == "s3cret"
    assert "s3cret" not in repr(built)


@pytest.mark.parametrize(
    ("auth", "wire"),
    [
        ({"credential": "github"}, {"type": "credential", "provider": "github"}),
        ({"api_key": "KEY"}, {"type": "api_key", "secret": "KEY", "header": "X-API-Key"}),
        ({"api_key": "KEY", "header": "X-Own"}, {"type": "api_key", "secret": "KEY", "header": "X-Own"}),
        ({"bearer": "TOKEN"}, {"type": "bearer", "secret": "TOKEN"}),
    ],
)
def test_the_ways_to_authorize_a_request(auth: dict[str, str], wire: dict[str, str]) -> None:
    """As the official Python builder writes them."""
    assert http_tool("t", URL).auth(**auth).build()["http"]["auth"] == wire


@pytest.mark.parametrize(("method", "wire"), [("get", "GET"), ("PATCH", "PATCH"), ("POST", None), ("post", None)])
def test_the_method_is_left_out_where_it_is_post(method: str, wire: str | None) -> None:
    """POST is the service's default."""
    assert http_tool("t", URL).method(method).build()["http"].get("method") == wire


def test_headers_may_refer_to_secrets() -> None:
    """They are sent as they were given."""
    headers = {"X-Token": "${{secrets.TOKEN}}", "Accept": "text/plain"}
    builder = call_tool("t", "https://{{context.HOST}}/{{context.PATH}}")
    for name, value in headers.items():
        builder.header(name, value)
    assert builder.build()["http"]["headers"] == headers


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: app_tool("", "acme/app"), "no name"),
    (lambda: app_tool("t", "app"), "namespace/name"),
    (lambda: agent_tool("t", ""), "namespace/name"),
    (lambda: agent_tool("t", None), "namespace/name"),  # type: ignore[arg-type]  # what is tested
    (lambda: app_tool("t", "acme/app").setup("x"), "setup must be a mapping"),  # type: ignore[arg-type]  # as above
    (lambda: app_tool("t", "acme/app").input([1]), "input must be a mapping"),  # type: ignore[arg-type]  # as above
    (lambda: app_tool("t", "acme/app").input({"a": object()}), "JSON"),
    (lambda: app_tool("t", "acme/app").param("a", string()), "'a' cannot be added"),
    (lambda: agent_tool("t", "acme/app").param("a", string()), "'a' cannot be added"),
    (lambda: mcp_tool("t", server="s", tool_name="n").param("a", string()), "'a' cannot be added"),
    (lambda: webhook_tool("t", "example.com"), "not an http or https URL"),
    (lambda: webhook_tool("t", URL).secret(""), "secret"),
    (lambda: webhook_tool("t", URL).param("a", string()).param("a", string()), "'a' is defined twice"),
    (lambda: http_tool("t", "ftp://example.com"), "not an http or https URL"),
    (lambda: http_tool("t", URL).method("BREW"), "GET, POST, PUT, PATCH, DELETE"),
    (lambda: http_tool("t", URL).auth(), "exactly one"),
    (lambda: http_tool("t", URL).auth(bearer="a", api_key="b"), "exactly one"),
    (lambda: http_tool("t", URL).auth(bearer=" "), "bearer must be"),
    (lambda: http_tool("t", URL).auth(bearer="a", header="X-Key"), "for api_key only"),
    (lambda: http_tool("t", URL).auth(api_key="a", header="no good"), "the name of a header"),
    (lambda: http_tool("t", URL).header("a b", "x"), "not the name of a header"),
    (lambda: http_tool("t", URL).header("X-A", "x\r\nX-B: y"), "on one line"),
    (lambda: http_tool("t", URL).header("X-A", 5), "on one line"),  # type: ignore[arg-type]  # what is tested
]


@pytest.mark.parametrize(("begin", "says"), REFUSED)
def test_what_cannot_work_is_refused_at_build(begin: Callable[[], Any], says: str) -> None:
    """The error says what is wrong, and nothing has been sent."""
    builder = begin()
    with pytest.raises(ConfigurationError, match=says):
        builder.build()


@pytest.mark.parametrize("given", [{}, {"server": "exa"}, {"tool_name": "search"}, {"server": "", "tool_name": "x"}])
def test_an_mcp_tool_needs_server_and_tool_name(given: dict[str, str]) -> None:
    """Both; the error is a ValueError, as in the official SDK, and comes at once."""
    with pytest.raises(ConfigurationError, match=r"server= .* tool_name="):
        mcp_tool("t", **given)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/x",
        "https://example.com",
        "https://{{context.HOST}}/x?y={{context.Y}}",
        "{{context.BASE_URL}}/x",
        "https://example.com/${{secrets.PATH}}",
        "https://[::1]/x",
    ],
)
def test_urls_that_the_service_can_call(url: str) -> None:
    """Also with templates that the service fills in."""
    assert url_problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        *("", "https://", "/path", "example.com/x", "file:///etc/passwd", "https://exa mple.com", "https://a\n"),
        *("https://[::1", "javascript:alert(1)", "https://a:99999/", "{{context.X}} y", None, 5),
    ],
)
def test_urls_that_it_cannot(url: object) -> None:
    """The error quotes the URL."""
    problem = url_problem(url)
    assert problem is not None
    assert repr(url) in problem
