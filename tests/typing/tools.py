"""What a type checker knows about tools; mypy and pyright check this file, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

from inferencesh import (
    AsyncAgent,
    FunctionTool,
    HookEvent,
    Tool,
    ToolBuilder,
    ToolCall,
    ToolContext,
    app_tool,
    http_tool,
    internal_tools,
    learning_hooks,
    lifecycle_hook,
    mcp_tool,
    string,
    tool,
    webhook_tool,
    widget_action,
)


@tool
def plain(text: str, limit: int = 3) -> list[str]:
    """A function."""
    return [text] * limit


@tool("other", description="Another name", require_approval=True)
async def slow(text: str, context: ToolContext | None = None) -> int:
    """An async function."""
    return len(text)


@tool().describe("A generator")
def steps(count: int) -> Iterator[int]:
    """A generator."""
    yield from range(count)


@tool
async def slow_steps(count: int) -> AsyncIterator[int]:
    """An async generator."""
    yield count


class Shop:
    """Something with methods."""

    @tool
    def find(self, item: str) -> bool:
        """A method."""
        return bool(item)

    @staticmethod
    @tool
    def price(item: str) -> float:
        """A static method."""
        return float(len(item))


async def functions(shop: Shop) -> None:
    """A decorated function keeps its types when it is called."""
    assert_type(plain("a"), list[str])
    begun = slow("a")
    coroutine: Coroutine[Any, Any, int] = begun
    assert_type(await coroutine, int)
    assert_type(steps(3), Iterator[int])
    assert_type(slow_steps(3), AsyncIterator[int])
    assert_type(shop.find("tea"), bool)
    assert_type(Shop.price("tea"), float)
    assert_type(tool(len)([1]), int)
    built: Tool = plain
    named: FunctionTool[..., list[str]] = plain
    function: Callable[[str], list[str]] = plain
    print(built, named, function)


def builders() -> None:
    """Builders keep their type from step to step."""
    assert_type(tool("t"), ToolBuilder)
    assert_type(tool(), ToolBuilder)
    assert_type(tool("t").describe("d").param("p", string()).build(), Tool)
    assert_type(app_tool("t", "a/b").describe("d").function("f").require_approval().setup({}).build(), Tool)
    assert_type(webhook_tool("t", "https://a.b").secret("s").param("p", string()).build(), Tool)
    assert_type(http_tool("t", "https://a.b").method("GET").auth(bearer="B").header("A", "b").build(), Tool)
    assert_type(mcp_tool("t", server="s", tool_name="n").display_name("D").build(), Tool)
    assert_type(internal_tools().all().meta(False).build(), dict[str, bool])
    assert_type(lifecycle_hook(HookEvent.AGENT_START).task("a/b").async_().timeout(3).build(), dict[str, Any])
    assert_type(learning_hooks(suggest=True), list[dict[str, Any]])
    assert_type(widget_action("submit", form_data={"a": 1}), dict[str, Any])


async def progress(agent: AsyncAgent) -> None:
    """The callback gets the call and the value."""

    def note(call: ToolCall, value: object) -> None:
        print(call.name, value)

    await agent.send_message("Hi", on_tool_progress=note)


def mistakes(shop: Shop) -> None:
    """What a checker refuses."""
    plain(3)  # type: ignore[arg-type]  # it takes text
    plain()  # type: ignore[call-arg]  # it takes one at least
    shop.find()  # type: ignore[call-arg]  # self is given, the item is not
    app_tool("t", "a/b").secret("s")  # type: ignore[attr-defined]  # a webhook's step
