"""What a person did with a widget that an agent has shown, in the form in which the agent is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .converter import dump_json
from .errors import ConfigurationError
from .tool_builder import is_name

__all__ = ["widget_action"]


def widget_action(
    type: str,  # noqa: A002 - the wire's word, as in the official SDKs
    payload: Mapping[str, Any] | None = None,
    form_data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a person did with a widget, for ``submit_tool_result``.

    The form is the one that the official Python SDK takes; it is sent as JSON text.

    Args:
        type: The action's type, as the widget names it.
        payload: What the widget says belongs to it, or None.
        form_data: What was filled in, by the names of the fields, or None.

    Raises:
        ConfigurationError: The type is no text, or the rest is no mapping or has no JSON form.

    Example:
        ```python
        action = widget_action("submit", {"id": 3}, {"name": "Ann"})
        print(action)
        ```

        ```text
        {'action': {'type': 'submit', 'payload': {'id': 3}}, 'form_data': {'name': 'Ann'}}
        ```
    """
    if not is_name(type):
        raise ConfigurationError(f"a widget's action has a type, which is text, not {type!r}")
    given: dict[str, object] = {"payload": payload, "form_data": form_data}
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            raise ConfigurationError(f"{name} of a widget's action must be a mapping, not {value!r}")
    action: dict[str, Any] = {"type": type, **({} if payload is None else {"payload": dict(payload)})}
    result = {"action": action, **({} if form_data is None else {"form_data": dict(form_data)})}
    try:
        dump_json(result)
    except TypeError as error:
        raise ConfigurationError(f"a widget's action cannot be sent as JSON: {error}") from None
    return result
