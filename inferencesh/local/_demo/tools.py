"""The tool calls of the demo model: a tool is chosen, and its arguments are filled, by the words of the prompt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from inferencesh.local.model import OfferedTool

__all__ = ["Filler", "choose_tool", "fill_arguments", "find_expressions", "takes_expression"]

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|'([^']+)'(?!\w)")
_AFTER = re.compile(r"(?::|\b(?:of|about|for|in|on|to|at|near)\b)\s+(.+)", re.IGNORECASE | re.DOTALL)
_PLACE = re.compile(r"\b(?:in|at|near|for|of|to)\s+((?:[A-Z][\w'-]*)(?:\s+[A-Z][\w'-]*)*)")
_PLACE_WORDS = frozenset({"city", "location", "place", "country", "town", "region"})
# Words that are ignored when a tool is chosen.
_COMMON_TEXT = """
    a an and any are as at be by can call do does for from get give given has have how i in is it
    its make me my of on or please return run set that the this to tool use user was what when which
    who will with you your
"""
_COMMON = frozenset(_COMMON_TEXT.split())
_SEPARATOR = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_MAX_DEPTH = 4
_MAX_DIGITS = 15
_NAME_WEIGHT = 3


def choose_tool(prompt: str, tools: Sequence[OfferedTool]) -> OfferedTool | None:
    """Return the tool with the most words in common with the prompt, or None if no tool has any.

    An arithmetic expression counts as the words for its operators, so that "What's 42 * 17?" fits a tool ``multiply``.
    """
    asked = _words(prompt) | _words(_operations(prompt))
    best, best_score = None, 0
    for tool in tools:
        named, described = _words(tool.name), _words(tool.description)
        score = _NAME_WEIGHT * len(asked & named) + len(asked & (described - named))
        if score > best_score:
            best, best_score = tool, score
    return best


def fill_arguments(prompt: str, schema: Mapping[str, object]) -> dict[str, object]:
    """Return arguments for a schema, taken from the prompt as far as possible.

    Parameters not found in the prompt are left out if they are optional, else get their default or an empty value.
    """
    return Filler(prompt).fill_object(schema, 0)


@attrs.define
class Filler:
    """Takes values from a prompt; each number and quotation is used once, in order."""

    prompt: str
    numbers: list[str] = attrs.field(init=False)
    quoted: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Longer numbers lose digits in JSON readers.
        self.numbers = [number for number in _NUMBER.findall(self.prompt) if len(number) <= _MAX_DIGITS]
        self.quoted = ["".join(groups) for groups in _QUOTED.findall(self.prompt)]

    @property
    def state(self) -> tuple[list[str], list[str]]:
        """The unused numbers and quotations; set it to restore an earlier state."""
        return self.numbers[:], self.quoted[:]

    @state.setter
    def state(self, state: tuple[list[str], list[str]]) -> None:
        self.numbers, self.quoted = state[0][:], state[1][:]

    def fill_object(self, schema: Mapping[str, object], depth: int) -> dict[str, object]:
        required = schema.get("required")
        needed: Collection[object] = required if isinstance(required, list) else ()
        values: dict[str, object] = {}
        for name, each in _properties(schema).items():
            value = self.find(name, each, depth)
            if value is None and name in needed:
                value = _default(each)
            if value is not None:
                values[name] = value
        return values

    def find(self, name: str, schema: Mapping[str, object], depth: int) -> object:
        """Return the value for a parameter, or None if the prompt has none."""
        choices = schema.get("enum")
        if isinstance(choices, list):
            return self.find_choice(choices)
        match _type_of(schema):
            case "boolean":
                return True if self.mentions(name) else None
            case "integer" | "number" as kind:
                return self.find_number(whole=kind == "integer")
            case "string":
                return self.find_text(name)
            case "object" if depth < _MAX_DEPTH:
                return self.fill_object(schema, depth + 1) or None
            case _:
                return None

    def mentions(self, name: str) -> bool:
        """Whether the prompt contains a word of a name."""
        return bool(_words(name) & _words(self.prompt))

    def find_choice(self, choices: list[object]) -> object:
        lowered = self.prompt.lower()
        return next((each for each in choices if str(each).lower() in lowered), None)

    def find_number(self, *, whole: bool) -> int | float | None:
        for at, number in enumerate(self.numbers):
            if whole and "." in number:
                continue
            del self.numbers[at]
            return float(number) if "." in number else int(number)
        return None

    def find_list(self) -> list[str]:
        """Return the quotations, or the words separated by commas; an empty list for fewer than two."""
        if len(self.quoted) > 1:
            listed, self.quoted = self.quoted, []
            return listed
        words = _SEPARATOR.split(self.find_text("") or "") if not self.quoted else []
        return words if len(words) > 1 and all(words) else []

    def find_text(self, name: str) -> str | None:
        if self.quoted:
            return self.quoted.pop(0)
        if _words(name) & _PLACE_WORDS and (place := _PLACE.search(self.prompt)):
            return place[1]
        after = _AFTER.search(self.prompt)
        return (after[1] if after else self.prompt).strip().rstrip("?!.").rstrip() or None


def _default(schema: Mapping[str, object]) -> object:
    """Return the default of a required parameter, or an empty value of its type."""
    for key in ("default", "const"):
        if schema.get(key) is not None:
            return schema[key]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    match _type_of(schema):
        case "boolean":
            return False
        case "integer" | "number":
            least = schema.get("minimum")
            return least if isinstance(least, int | float) else 1
        case "array":
            return []
        case "object":
            return {}
        case _:
            return ""


def _type_of(schema: Mapping[str, object]) -> object:
    kind = schema.get("type")
    return next((each for each in kind if each != "null"), None) if isinstance(kind, list) else kind


def _properties(schema: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return the properties of a schema, which was received from a client and may be malformed."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: each for name, each in properties.items() if isinstance(each, dict)}


def _words(text: str) -> set[str]:
    """Return the significant words of a text, in lower case and without plural endings."""
    words = (word.lower() for word in _WORD.findall(text))
    return {word.rstrip("s") if len(word) > 3 else word for word in words if word not in _COMMON}


def takes_expression(tool: OfferedTool) -> bool:
    """Whether a tool has a parameter ``expression``, for arithmetic."""
    return "expression" in _properties(tool.input_schema)


_OPERAND = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?(?![\d\w])")
_OPERATOR = re.compile(r"[ \t]*(\*\*|//|[-+*/%])[ \t]*")
_START = re.compile(r"(?<![\w.)])(?:-?\d|-?\()")
_MAX_PARENTHESES = 20

# Spellings of operators, recognized only between two operands.
_SPELLINGS = (
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"(?<=[\d)])\s*(?:×|\bx\b|\btimes\b|\bmultiplied by\b)\s*(?=[\d(-])", " * "),  # noqa: RUF001 - this is what people type
    (r"(?<=[\d)])\s*(?:÷|\bdivided by\b)\s*(?=[\d(-])", " / "),
    (r"(?<=[\d)])\s*\bplus\b\s*(?=[\d(-])", " + "),
    (r"(?<=[\d)])\s*(?:−|–|\bminus\b)\s*(?=[\d(-])", " - "),  # noqa: RUF001 - this is what people type
    (r"(?<=[\d)])\s*\^\s*(?=[\d(-])", " ** "),
)
_SPELLED = tuple((re.compile(pattern, re.IGNORECASE), sign) for pattern, sign in _SPELLINGS)


def find_expressions(sentence: str) -> list[str]:
    """Return the arithmetic expressions in a sentence, in order, with operators as Python writes them."""
    for pattern, sign in _SPELLED:
        sentence = pattern.sub(sign, sentence)
    found: list[str] = []
    at = 0
    while (start := _START.search(sentence, at)) is not None:
        end, operators = _expression(sentence, start.start(), 0)
        if operators:
            found.append(sentence[start.start() : end])
        at = max(end, start.start() + 1)
    return found


_OPERATION = re.compile(r"(?<=[\d)])\s*(\*\*|//|[-+*/%])")
_OPERATIONS = {
    "+": "add addition plus sum",
    "-": "difference minus subtract subtraction",
    "*": "multiplication multiply product times",
    "/": "divide division quotient",
    "//": "divide division quotient",
    "%": "modulo remainder",
    "**": "exponent power",
}


def _operations(sentence: str) -> str:
    """Return the words for the operators of the arithmetic expressions in a sentence."""
    signs = [sign for expression in find_expressions(sentence) for sign in _OPERATION.findall(expression)]
    general = ["arithmetic calculate calculation calculator compute math"] if signs else []
    return " ".join([*general, *(_OPERATIONS[sign] for sign in signs)])


def _expression(text: str, at: int, depth: int) -> tuple[int, int]:
    """Parse ``operand (operator operand)*``; return its end (``at`` if there is none) and the count of operators."""
    end, operators = _operand(text, at, depth)
    if end == at:
        return at, 0
    while (operator := _OPERATOR.match(text, end)) is not None:
        after, inner = _operand(text, operator.end(), depth)
        if after == operator.end():
            break
        end = after
        operators += inner + 1
    return end, operators


def _operand(text: str, at: int, depth: int) -> tuple[int, int]:
    """Parse a number or an expression in parentheses, optionally with a minus sign; return like ``_expression``."""
    start = at + 1 if text[at : at + 1] == "-" else at
    number = _OPERAND.match(text, start)
    if number is not None:
        return number.end(), 0
    if text[start : start + 1] != "(" or depth == _MAX_PARENTHESES:
        return at, 0
    inside = start + 1
    end, operators = _expression(text, inside, depth + 1)
    if end == inside or text[end : end + 1] != ")":
        return at, 0
    return end + 1, operators
