"""``Tool``: a tool's wire form, which carries its handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .handlers import Bind, Handler, binder
from .tool_context import ToolContext

__all__ = ["Tool"]


class Tool(dict[str, Any]):
    """A tool: a read-only mapping of its wire form that also carries its handler.

    ``dict(t)``, ``t["name"]`` and JSON encoders see the wire form alone, which is why it is a dict: ``json`` knows no
    other mapping. The handler never leaves the process.

    Args:
        wire: The wire form.
        handler: The function that runs it, or None when results are submitted by hand or it does not run here.
        bind: How the handler takes arguments; by default its signature tells.

    Example:
        ```python
        look_up = tool("look_up").param("word", string("What to look up")).build()
        print(look_up.name, look_up["type"], look_up.handler)
        ```

        ```text
        look_up client None
        ```
    """

    __slots__ = ("_bind", "handler")

    is_method = False  # whether it is a method's that lacks its object

    def __init__(self, wire: Mapping[str, Any], handler: Handler | None = None, bind: Bind | None = None) -> None:
        super().__init__(wire)
        self.handler = handler
        self._bind = bind or (binder(handler, self._parameters()) if handler is not None else None)

    @property
    def name(self) -> str:
        """The name by which the agent calls it."""
        return str(self["name"])

    def bind(self, arguments: dict[str, Any], context: ToolContext | None = None) -> Callable[[], Any]:
        """The handler's call with the arguments of one tool call, not made yet.

        A handler either takes one mapping of all arguments, as in the documentation's examples, or the arguments by
        their names; its signature tells which.

        Args:
            arguments: The arguments as the agent gave them.
            context: What a handler with a parameter for it gets.

        Raises:
            TypeError: They do not fit the handler's parameters.
        """
        if self._bind is None:
            raise TypeError(f"the tool {self.name} has no handler")
        return self._bind(arguments, context)

    def _parameters(self) -> Mapping[str, object]:
        client = self.get("client")
        schema = client.get("input_schema") if isinstance(client, Mapping) else None
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        return properties if isinstance(properties, Mapping) else {}

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a tool is read-only; take dict(tool) for a copy that can be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __repr__(self) -> str:
        return f"Tool({self.get('name')!r}, handler={'yes' if self.handler else 'no'})"
