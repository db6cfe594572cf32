"""The endpoints of the playground: its page and files, its session, Markdown, checks of agents, and tests to copy."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

import attrs
from aiohttp import web

from inferencesh._page.markdown import MAX_LENGTH, MarkdownRenderer, find_renderer
from inferencesh._text import encode_json
from inferencesh.local._api.fields import Fields, read_body
from inferencesh.local._api.forms import read_agent
from inferencesh.local._api.hosts import host_of
from inferencesh.local.errors import ProblemError

from .access import HEADER, Access
from .replay import write_test

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from aiohttp.typedefs import Handler, Middleware

    from inferencesh.local.chats import AgentDefinition, ChatStore
    from inferencesh.local.model import Model

    from .access import PlaygroundAccess

__all__ = ["Playground"]

_PREFIX = "/playground/"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Playground:
    """Serves the page, and lets its requests through to the API.

    It is a middleware around the API, which otherwise knows nothing of it: requests of the page are the API's own, with
    the session's cookie in place of a key.

    Args:
        api_keys: The keys that the runtime accepts.
        allowed: Where the page can be opened.
        store: The runtime's chats.
        model: The model that answers, whose name is shown.
    """

    def __init__(self, api_keys: Collection[str], allowed: PlaygroundAccess, store: ChatStore, model: Model) -> None:
        self._access = Access(api_keys, allowed)
        self._store = store
        self._model = type(model).__name__
        self._renderer: MarkdownRenderer | None = find_renderer()
        self._files = _read_files()
        self._endpoints: dict[tuple[str, str], Callable[[web.Request], Awaitable[web.Response]]] = {
            ("GET", "session"): self._get_session,
            ("POST", "session"): self._sign_in,
            ("POST", "markdown"): self._render,
            ("POST", "agent"): self._check_agent,
            ("POST", "chat-agent"): self._get_agent,
            ("POST", "test"): self._write_test,
        }

    def middleware(self) -> Middleware:
        """Return the middleware; it must be the outermost one."""

        @web.middleware
        async def playground(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                if request.path == "/":
                    return self._page(request)
                if request.path.startswith(_PREFIX):
                    return await self._own(request, request.path.removeprefix(_PREFIX))
                if HEADER in request.headers and "Authorization" not in request.headers:
                    request = self._with_key(request)
            except ProblemError as problem:
                return _refuse(problem)
            return await handler(request)

        return playground

    def _page(self, request: web.Request) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            raise ProblemError(405, "The playground's page is read with GET.", headers={"Allow": "GET, HEAD"})
        self._access.check_reachable(request)
        response = self._file("index.html")
        response.headers["Content-Security-Policy"] = _policy(request)
        if self._access.signs_in_by_itself(request):
            self._access.begin_session(request, response)
        return response

    async def _own(self, request: web.Request, name: str) -> web.Response:
        if request.method == "GET" and name in self._files:
            self._access.check_reachable(request)
            return self._file(name)
        endpoint = self._endpoints.get((request.method, name))
        if endpoint is None:
            raise ProblemError(404, "The playground has no such file or endpoint.")
        self._access.check_same_origin(request)
        if name != "session":
            self._require_session(request)
        return await endpoint(request)

    def _file(self, name: str) -> web.Response:
        content_type, body = self._files[name]
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)

    def _with_key(self, request: web.Request) -> web.Request:
        """Return the page's request with the runtime's key."""
        self._access.check_same_origin(request)
        self._require_session(request)
        headers = request.headers.copy()
        headers["Authorization"] = f"Bearer {self._access.api_key}"
        return request.clone(headers=headers)

    def _require_session(self, request: web.Request) -> None:
        if not self._access.is_signed_in(request):
            raise ProblemError(401, "The page has no session: load it again.", code="no_session")

    async def _get_session(self, request: web.Request) -> web.Response:
        """Describe the runtime, and begin a session if the page gets one without a key."""
        by_itself = self._access.signs_in_by_itself(request)
        facts = {
            "signed_in": by_itself or self._access.is_signed_in(request),
            "markdown": self._renderer is not None,
            "model": self._model,
            "version": version("inferencesh"),
        }
        response = _answer(facts)
        if by_itself:
            self._access.begin_session(request, response)
        return response

    async def _sign_in(self, request: web.Request) -> web.Response:
        """Begin a session for a person who has entered the key."""
        if not self._access.accepts((await read_body(request)).text("key") or ""):
            raise ProblemError(403, "This is not a key of the runtime.")
        response = _answer({"signed_in": True})
        self._access.begin_session(request, response)
        return response

    async def _render(self, request: web.Request) -> web.Response:
        """Return the blocks of a Markdown text as HTML, and the line at which the last block begins."""
        text = (await read_body(request)).text("text") or ""
        if self._renderer is None:
            raise ProblemError(501, "Install inferencesh[playground] to have Markdown rendered.")
        if len(text) > MAX_LENGTH:
            raise ProblemError(413, f"Texts of more than {MAX_LENGTH} characters are not rendered.")
        return _answer(attrs.asdict(self._renderer.render(text)))

    async def _check_agent(self, request: web.Request) -> web.Response:
        """Check the configuration of an agent as a message with it would; what is wrong is a 422 that names it."""
        read_agent(Fields({"agent_config": (await read_body(request)).mapping("agent") or {}}), required=True)
        return _answer({"valid": True})

    async def _get_agent(self, request: web.Request) -> web.Response:
        """Return the agent of a chat as a configuration, with what the runtime keeps of it."""
        chat = self._store.get((await read_body(request)).text("chat_id") or "")
        return _answer(_config(chat.config))

    async def _write_test(self, request: web.Request) -> web.Response:
        """Return a test that replays the events of a stream."""
        events = [dict(each.data) for each in (await read_body(request)).objects("events")]
        return _answer({"code": write_test(events)})


def _config(agent: AgentDefinition) -> dict[str, object]:
    config: dict[str, object] = {"name": "playground"}
    if agent.system_prompt:
        config["system_prompt"] = agent.system_prompt
    if agent.tools:
        config["tools"] = [
            {
                "name": tool.name,
                "type": "client",
                "description": tool.description,
                **({"require_approval": True} if tool.requires_approval else {}),
                "client": {"input_schema": dict(tool.input_schema)},
            }
            for tool in agent.tools
        ]
    if agent.output_schema is not None:
        config["output_schema"] = agent.output_schema
    elif agent.finishes:
        config["internal_tools"] = {"finish": True}
    if agent.allow_all_tools:
        config["permissions"] = {"allow_all_tools": True}
    return config


def _policy(request: web.Request) -> str:
    """Return the content security policy of the page, which only runs and loads the playground's own files.

    Scripts are restricted to the playground's path, since uploaded files have the same origin.
    """
    host = host_of(request)
    own = "'self'" if host.startswith("[") else host + _PREFIX  # a policy cannot name an IPv6 address
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {own}",
            f"style-src {own}",
            "img-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types inferencesh-markdown",
        ]
    )


def _read_files() -> Mapping[str, tuple[str, bytes]]:
    """Return the page's files by name, each with its type: its own, and those that it shares with other chat pages."""
    found = {}
    for package in (__package__, "inferencesh._page"):
        for file in files(package).joinpath("static").iterdir():
            content_type = _TYPES.get("." + file.name.rpartition(".")[2])
            if content_type is not None:
                found[file.name] = (content_type, file.read_bytes())
    return found


def _answer(data: object, status: int = 200) -> web.Response:
    return web.Response(body=encode_json(data), status=status, content_type="application/json", headers=_HEADERS)


def _refuse(problem: ProblemError) -> web.Response:
    body = {"status": problem.status, "detail": problem.detail, "code": problem.code, "field": problem.field}
    response = _answer(body, problem.status)
    response.content_type = "application/problem+json"
    response.headers.update(problem.headers or {})
    return response
