"""Write ``docs/types.md``, the tables of the types: ``python -m tests.types.page``.

Each row comes from a type of the tests, and says what happened when it was used: as an argument of a tool, as a tool's
result, and as an output.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings

from inferencesh import Inference, tool
from inferencesh._types.output import OutputType
from inferencesh.testing import ScriptedRuntime

from .every_type import ROWS, Row
from .test_json_types import hinted

__all__ = ["PATH", "main", "written"]

PATH = Path(__file__).parents[2] / "docs/types.md"
_QUIET = settings(
    max_examples=200,
    phases=[Phase.generate],  # any value will do, and to shrink one takes long
    database=None,
    derandomize=True,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
_LONGEST = 110  # characters of a schema

_HEAD = """\
# Types

Every type here can be the hint of a typed tool's parameter, the result of a tool, and an `output_type`. The tables are
written by `python -m tests.types.page` from the types of the tests, which draw values of each and changed ones: what is
valid arrives equal, the rest is refused in one sentence a field, and the JSON Schema agrees with the reader.

Nothing is converted: a text is not accepted for a number. A pydantic model is validated by pydantic, in its strict mode
for JSON, unless the model or a field of it says `strict=False` or `coerce_numbers_to_str`, or has validators that run
before or around its own. (With pydantic 2.11 and 2.12, one such part makes the whole type lenient.)
"""
_TAIL = """\
## What a schema cannot say

The reader refuses more than the schema where JSON Schema has no word for a rule:

- limits of dates, times, durations and decimals, and whether a time has an offset;
- the length of bytes, and how many different items a set has;
- functions: `Predicate`, and the validators and converters of classes;
- numbers and dates that Python cannot represent, such as 1e999 or the year 0.

It accepts more in these cases:

- a date-time or a time without an offset, which becomes a naive one;
- a number for a `Decimal`, and a duration with weeks, a fraction of a second or a sign;
- an item of a set that is repeated.

## Unions

Classes are told apart by a field in which each has values of its own, such as `kind: Literal["user"]`; in the union
that field must be given, even if it has a default. Without one, each two of them must differ in a field that one
requires and the other one does not have, or in the type of a field that both require. Of other types that a value
fits, the more special one is meant: an enum or a literal, then dates and UUIDs, then any text. What cannot be told
apart, such as `bytes | str` or `list[int] | set[int]`, is a `ConfigurationError` when the tool is made.

## Constraints

Constraints of `annotated_types`, `msgspec.Meta` and pydantic's `Field` are keywords of the schema and are checked
before the function is called. They may stand in `Annotated`, and `Field` also as a parameter's default. One that
does not apply to its type, such as `Ge` for a `str`, is a `ConfigurationError`, and so is what has a meaning only
for others: FastAPI's `Query`, `Body` or `Depends`, `attrs.field()`, `dataclasses.field()`. Other metadata is left
alone.

## Outputs that grow

With `output_type` the `output` of a snapshot is a value of that type: lists and dicts hold the entries that are
complete so far, and a class is there as soon as its required fields are. Before that, and where what has come does
not fit, it is None.
"""


def written() -> str:
    """Return the text of the page."""
    results = _results()
    parts = [_HEAD]
    for title, rows in ROWS.items():
        lines = [
            f"## {title}",
            "",
            "| type | JSON Schema | enforced | argument | result | output |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_line(row, results[row.name]) for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, _TAIL])


def _line(row: Row, result: str) -> str:
    value, json_value = _sample(row)
    built = tool(hinted(row.hint))
    schema = json.dumps(built["client"]["input_schema"]["properties"]["value"], ensure_ascii=False)
    shown = schema if len(schema) <= _LONGEST else f"{schema[:_LONGEST]}..."
    kind = OutputType.of(row.hint)
    as_argument = built.bind({"value": json_value}, None)() == value
    as_output = kind.read({"value": json_value} if kind.in_object else json_value) == value
    cells = [f"`{row.name}`", f"`{shown}`", row.enforced, _mark(as_argument), result, _mark(as_output)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _mark(fine: object) -> str:
    return "yes" if fine else "no"


def _sample(row: Row) -> tuple[Any, Any]:
    """A value of a row with its JSON, which is no empty one."""
    found: tuple[Any, Any] = find(row.values, lambda pair: _is_wanted(row, pair[1]), settings=_QUIET)
    return found


def _is_wanted(row: Row, json_value: Any) -> bool:
    return json_value is None if row.hint is None else json_value not in (None, [], {}, "")


def _results() -> dict[str, str]:
    """Return, for each row, whether a tool that returns a value of it gives the agent its JSON."""
    rows = [row for rows in ROWS.values() for row in rows]
    samples = [_sample(row) for row in rows]

    @tool
    def give(row: int) -> Any:
        """Give the value of a row."""
        return samples[row][0]

    with ScriptedRuntime() as runtime:
        runtime.reply("", tool_calls=[("give", {"row": number}) for number in range(len(rows))])
        runtime.reply("done")
        with Inference(runtime.api_key, base_url=runtime.base_url) as client:
            client.agent({"name": "giver", "tools": [give]}).send_message("go")
        texts = _by_row(runtime.tool_results)
    return {row.name: _mark(_comes_back(row, texts[number], samples[number][0])) for number, row in enumerate(rows)}


def _by_row(results: Any) -> list[str]:
    return [str(each.result) for each in sorted(results, key=lambda each: int(each.arguments["row"]))]


def _comes_back(row: Row, text: str, value: Any) -> bool:
    for read in _readings(text):
        try:
            if tool(hinted(row.hint)).bind({"value": read}, None)() == value:
                return True
        except ValueError:
            continue
    return False


def _readings(text: str) -> Iterator[Any]:
    """The JSON in a result's text, or the text itself where the result is a string."""
    with contextlib.suppress(ValueError):
        yield json.loads(text)
    yield text


def main() -> None:
    """Write the page."""
    PATH.write_text(written(), encoding="utf-8")


if __name__ == "__main__":
    main()
