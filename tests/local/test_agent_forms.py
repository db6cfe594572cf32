"""Agent definitions: those that the builders write are accepted, others are refused with the invalid field."""

from __future__ import annotations

import pytest

from inferencesh.local import Text

from .caller import CALCULATOR, Json, Scripted, calling

EMPTY: Json = {"type": "object", "properties": {}, "required": []}
COMMON = {"display_name": "t", "description": "", "require_approval": False}


def tool(kind: str, **rest: object) -> Json:
    """Return a tool in the form of the builders."""
    return {"name": f"{kind}_tool", **COMMON, "type": kind, **rest}


URL = "https://example.com/{{context.id}}"
BUILT = [
    CALCULATOR,
    tool("app", app={"ref": "infsh/painter@abc", "function": "run", "session_enabled": True, "setup": {"a": 1}}),
    tool("app", app={"id": "7jnx8hn08m6ysdp04bmp5xex3q", "version_id": "v", "fixed_input": {}}),
    tool("agent", agent={"ref": "acme/researcher"}),
    tool("hook", hook={"url": URL, "secret": None, "input_schema": EMPTY}),
    tool("http", http={"url": URL, "method": None, "auth": None, "headers": None, "input_schema": EMPTY}),
    tool("http", http={"url": URL, "method": "get", "headers": {"X": "${{secrets.X}}"}, "input_schema": EMPTY}),
    tool("http", http={"url": URL, "auth": {"type": "credential", "provider": "github"}}),
    tool("http", http={"url": URL, "auth": {"type": "integration", "provider": "github", "integration_id": "i"}}),
    tool("http", http={"url": URL, "auth": {"type": "api_key", "secret": "KEY", "header": "X-API-Key"}}),
    tool("http", http={"url": URL, "auth": {"type": "bearer", "secret": "KEY"}}),
    tool("call", call={"url": URL}),
    tool("call", http={"url": URL}),
    tool("mcp", mcp={"server": "github", "tool_name": "list_issues"}),
    tool("mcp", mcp={"integration_id": "i", "tool_name": "list_issues"}),
    tool("internal", internal={"category": "plan", "operation": "write"}),
    tool("harness"),
    tool("teleport", teleport={"to": "the moon"}),
]
HOOKS = [
    {"event": "agent.start", "type": "webhook", "handler": URL, "async": True, "timeout": 10},
    {"event": "agent.tool_call", "type": "webhook", "handler": ""},
    {"event": "agent.tool_call", "type": "gate", "handler": URL, "default_resolution": "deny"},
    {"event": "agent.complete", "type": "task", "handler": "acme/auditor"},
    {"event": "agent.turn_start", "type": "builtin", "handler": "belt:suggest"},
    {"event": "agent.idle"},
]


@pytest.mark.parametrize("built", BUILT, ids=lambda built: str(built["type"]))
async def test_what_builders_write_is_taken(built: Json) -> None:
    """Only client tools are offered to the model: the others run at the service."""
    model = Scripted([Text("Hi.")])
    config = {"tools": [built], "hooks": HOOKS, "internal_tools": {"plan": True, "memory": False, "widget": None}}
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello", agent_config=config)
        await caller.finish(reply["chat_id"])
    assert [offered.name for offered in model.asked[0].tools] == (["calculator"] if built is CALCULATOR else [])


AUTH = "tools[0].http.auth"


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        ({"tools": [tool("client", require_approval="yes")]}, "tools[0].require_approval"),
        ({"tools": [{**CALCULATOR, "display_name": 7}]}, "tools[0].display_name"),
        ({"tools": [{**CALCULATOR, "approval_timeout": -1}]}, "tools[0].approval_timeout"),
        ({"tools": [tool("app")]}, "tools[0].app"),
        ({"tools": [tool("app", app={})]}, "tools[0].app.ref"),
        ({"tools": [tool("app", app={"ref": ""})]}, "tools[0].app.ref"),
        ({"tools": [tool("app", app={"ref": "a/b", "setup": []})]}, "tools[0].app.setup"),
        ({"tools": [tool("app", app={"ref": "a/b", "session_enabled": 1})]}, "tools[0].app.session_enabled"),
        ({"tools": [tool("agent", agent={"ref": 7})]}, "tools[0].agent.ref"),
        ({"tools": [tool("agent", app={"ref": "a/b"})]}, "tools[0].agent"),
        ({"tools": [tool("hook", hook={"input_schema": EMPTY})]}, "tools[0].hook.url"),
        ({"tools": [tool("hook", hook={"url": URL, "secret": 7})]}, "tools[0].hook.secret"),
        ({"tools": [tool("hook", hook={"url": URL, "input_schema": []})]}, "tools[0].hook.input_schema"),
        ({"tools": [tool("http", http="https://example.com")]}, "tools[0].http"),
        ({"tools": [tool("http", http={"url": URL, "method": "FETCH"})]}, "tools[0].http.method"),
        ({"tools": [tool("http", http={"url": URL, "headers": {"X": 1}})]}, "tools[0].http.headers.X"),
        ({"tools": [tool("http", http={"url": URL, "auth": {"type": "magic"}})]}, f"{AUTH}.type"),
        ({"tools": [tool("http", http={"url": URL, "auth": {"type": "credential"}})]}, f"{AUTH}.provider"),
        ({"tools": [tool("http", http={"url": URL, "auth": {"type": "bearer"}})]}, f"{AUTH}.secret"),
        ({"tools": [tool("call")]}, "tools[0].http"),
        ({"tools": [tool("mcp", mcp={"tool_name": "list"})]}, "tools[0].mcp.server"),
        ({"tools": [tool("mcp", mcp={"server": "github"})]}, "tools[0].mcp.tool_name"),
        ({"tools": [tool("internal", internal={"category": 7})]}, "tools[0].internal.category"),
        ({"internal_tools": ["plan"]}, "internal_tools"),
        ({"internal_tools": {"plan": "yes"}}, "internal_tools.plan"),
        ({"permissions": {"allow_all_tools": 1}}, "permissions.allow_all_tools"),
        ({"hooks": {}}, "hooks"),
        ({"hooks": [{}]}, "hooks[0].event"),
        ({"hooks": [{"event": "agent.lunch"}]}, "hooks[0].event"),
        ({"hooks": [HOOKS[0], {"event": "agent.start", "type": "carrier pigeon"}]}, "hooks[1].type"),
        ({"hooks": [{"event": "agent.start", "type": "builtin", "handler": "belt:dance"}]}, "hooks[0].handler"),
        ({"hooks": [{"event": "agent.start", "timeout": 1.5}]}, "hooks[0].timeout"),
        ({"hooks": [{"event": "agent.start", "async": "no"}]}, "hooks[0].async"),
        ({"hooks": [{"event": "agent.start", "default_resolution": "maybe"}]}, "hooks[0].default_resolution"),
        ({"output_schema": "object"}, "output_schema"),
        ({"output_schema": [{}]}, "output_schema"),
        ({"output_schema": True}, "output_schema"),
        ({"output_schema": {"type": "text"}}, "output_schema.type"),
        ({"output_schema": {"type": []}}, "output_schema.type"),
        ({"output_schema": {"type": None}}, "output_schema.type"),
        ({"output_schema": {"required": "title"}}, "output_schema.required"),
        ({"output_schema": {"enum": []}}, "output_schema.enum"),
        ({"output_schema": {"minimum": "3"}}, "output_schema.minimum"),
        ({"output_schema": {"minItems": -1}}, "output_schema.minItems"),
        ({"output_schema": {"multipleOf": 0}}, "output_schema.multipleOf"),
        ({"output_schema": {"$ref": 7}}, "output_schema.$ref"),
        ({"output_schema": {"anyOf": []}}, "output_schema.anyOf"),
        ({"output_schema": {"anyOf": [{}, "string"]}}, "output_schema.anyOf[1]"),
        ({"output_schema": {"items": {"type": 7}}}, "output_schema.items.type"),
        ({"output_schema": {"properties": ["title"]}}, "output_schema.properties"),
        ({"output_schema": {"properties": {"title": "string"}}}, "output_schema.properties.title"),
        ({"output_schema": {"$defs": {"A": {"type": "a"}}}}, "output_schema.$defs.A.type"),
    ],
)
async def test_a_definition_of_another_form_is_refused_with_its_field(definition: Json, field: str) -> None:
    """It is refused before a chat is created."""
    async with calling() as caller:
        body = {"agent_config": definition, "input": {"text": "Hello"}}
        problem = await caller.ask("POST", "/agents/run", body, status=422)
        assert problem["field"] == f"agent_config.{field}"
        assert (await caller.post("/chats/list"))["items"] == []


async def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    """It is refused without exhausting the stack."""
    schema: Json = {"type": "string"}
    for _ in range(200):
        schema = {"items": schema}
    async with calling() as caller:
        body = {"agent_config": {"output_schema": schema}, "input": {"text": "Hello"}}
        problem = await caller.ask("POST", "/agents/run", body, status=422)
    assert problem["detail"].endswith("is nested more than 64 schemas deep.")
