"""Tools for models that know none: their answer is JSON, a choice of text and tool calls, held to a JSON Schema.

The wording was found by trying it on SmolLM2-135M: it calls tools only if it has seen an answer of each kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from inferencesh.local.model import OfferedTool

    from .messages import Json

__all__ = ["choice_examples", "choice_prompt", "choice_schema"]

_MOST_CALLS = 8  # in one answer
_SAMPLE = "2 * 3"  # that an argument is taken from the message shows best with numbers


def choice_schema(tools: Sequence[OfferedTool]) -> Json:
    """Return the JSON Schema of a choice of text and calls of these tools; of text alone if there are none."""
    definitions: Json = {}
    calls = []
    for tool in tools:
        schema = dict(tool.input_schema) or {"type": "object", "properties": {}}
        for key in ("$defs", "definitions"):  # references to them begin at the root
            named = schema.pop(key, None)
            if isinstance(named, dict):
                known = definitions.setdefault(key, {})
                assert isinstance(known, dict)
                known.update(named)
        calls.append(_object({"tool": {"const": tool.name}, "arguments": schema}))
    made = {"type": "array", "minItems": 1, "maxItems": _MOST_CALLS, "items": {"anyOf": calls}}
    text = _object({"text": {"type": "string"}})
    return {"anyOf": [_object({"calls": made}), text], **definitions} if calls else text


def choice_prompt(system_prompt: str, tools: Sequence[OfferedTool]) -> str:
    """Return the agent's instructions, with how to call the tools."""
    lines = "\n".join(_described(tool) for tool in tools)
    own = f"{system_prompt}\n\n" if system_prompt else ""
    return f"{own}You have tools:\n{lines}\nYou must use a tool whenever the question is about what a tool does."


def choice_examples(tools: Sequence[OfferedTool]) -> list[Json]:
    """Return a made-up conversation with an answer of each kind."""
    tool = tools[0]
    arguments = {name: _sample(schema) for name, schema in _required(tool)}
    named = f" with {', '.join(map(str, arguments.values()))}" if arguments else ""
    return [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": '{"text": "Hello! How can I help you?"}'},
        {"role": "user", "content": f"Use {tool.name}{named}."},
        {"role": "assistant", "content": _spaced({"calls": [{"tool": tool.name, "arguments": arguments}]})},
    ]


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _described(tool: OfferedTool) -> str:
    properties = tool.input_schema.get("properties")
    names = ", ".join(properties) if isinstance(properties, dict) else ""
    return f"- {tool.name}({names}): {tool.description}"


def _required(tool: OfferedTool) -> Iterator[tuple[str, object]]:
    properties = tool.input_schema.get("properties")
    needed = tool.input_schema.get("required")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        if isinstance(needed, list) and name in needed:
            yield name, schema


def _sample(schema: object) -> object:
    """Return a value for an example, of the type that a schema names."""
    if not isinstance(schema, dict):
        return _SAMPLE
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][0]
    samples: Mapping[str, object] = {
        "integer": 1,
        "number": 1,
        "boolean": True,
        "array": [],
        "object": {},
        "null": None,
    }
    kind = schema.get("type")
    return samples.get(kind, _SAMPLE) if isinstance(kind, str) else _SAMPLE


def _spaced(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)  # with spaces, as models write it
