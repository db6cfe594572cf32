"""Types of pydantic: their JSON Schemas and readers, both by pydantic itself.

Pydantic is imported only when one of its classes or its metadata is met. Values are validated in its strict mode for
JSON, so that nothing is converted unless a model or field asks for that: with ``strict=False``, or with validators that
run before or around pydantic's own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from inferencesh._text import encode_json
from inferencesh.errors import ConfigurationError

from .constraints import package_of
from .hints import type_name
from .reading import MismatchError, short
from .schemas import Definitions, Schema, inlined

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["PydanticReader"]

_MOST_LEFT_OUT = 32  # attempts to read a value that grows


class PydanticReader:
    """The JSON Schema and the reader of a type that pydantic knows.

    Args:
        hint: The type, with the metadata of its ``Annotated``.

    Raises:
        ConfigurationError: Pydantic does not know it, or has no JSON Schema for it.
    """

    def __init__(self, hint: Any) -> None:
        from pydantic import PydanticUserError, TypeAdapter

        self._hint = hint
        self.name = type_name(hint)
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(hint)
            self._schema: Schema = adapter.json_schema(by_alias=True, mode="validation")
        except (PydanticUserError, TypeError, NameError) as error:
            raise ConfigurationError(f"pydantic cannot read {self.name}: {_reason(hint, error)}") from error
        self._validate = _validator_of(adapter)

    def schema(self, definitions: Definitions) -> Schema:
        """Return the JSON Schema; recursive models are in ``definitions``."""
        return inlined(self._schema, definitions, self._hint if _is_hashable(self._hint) else id(self))

    def read(self, value: object, *, growing: bool = False) -> Any:
        """Read a JSON value.

        Args:
            value: The value.
            growing: Whether the value is still being written, so that its last part may be incomplete.

        Raises:
            MismatchError: It does not fit.
        """
        try:
            return self._read(value)
        except MismatchError:
            if growing:
                for shorter in itertools.islice(_without_last_parts(value), _MOST_LEFT_OUT):
                    with contextlib.suppress(MismatchError):  # even less of it may fit
                        return self._read(shorter)
            raise

    def _read(self, value: object) -> Any:
        from pydantic import ValidationError

        try:
            data = encode_json(_with_integers(value))
        except (TypeError, RecursionError):
            raise MismatchError([("", "is nested too deeply")]) from None
        try:
            return self._validate(data)
        except ValidationError as error:
            problems = _told(error, value)
            of_itself = all(place == "" for place, _ in problems) and self._is_of_other_kind(value)
            raise (MismatchError.of(self.name, value) if of_itself else MismatchError(problems)) from None
        except Exception as error:
            raise MismatchError([("", _first_line(error))]) from error

    def _is_of_other_kind(self, value: object) -> bool:
        definitions = Definitions()
        return "properties" in definitions.resolved(self.schema(definitions)) and not isinstance(value, dict)


def _reason(hint: Any, error: Exception) -> str:
    if isinstance(error, NameError) or getattr(error, "code", None) == "class-not-fully-defined":
        name = _undefined_in(hint, error)
        return f"its hints name {name}, which is not defined: define it first, or call model_rebuild() where it is"
    said = _first_line(error).partition(". Set ")[0]
    return (
        f"{said}; inside of its models and metadata pydantic knows dataclasses, TypedDicts and its own models, but no "
        "attrs classes"
    )


def _undefined_in(hint: Any, error: Exception) -> str:
    """Return the name that is not defined; pydantic says it only when the model is built again."""
    if isinstance(error, NameError):
        return str(error.name)
    if hasattr(hint, "model_rebuild"):
        try:
            hint.model_rebuild()
        except NameError as undefined:
            return str(undefined.name)
    return "something"


def _without_last_parts(value: Any) -> Iterator[Any]:
    """Yield a JSON value without its last part: first without the innermost one, at last without the outermost one."""
    if isinstance(value, dict | list) and value:
        last = next(reversed(value)) if isinstance(value, dict) else len(value) - 1
        shorter = value.copy()
        for inner in _without_last_parts(value[last]):
            yield {**value, last: inner} if isinstance(value, dict) else [*value[:-1], inner]
        del shorter[last]
        yield shorter


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _with_integers(value: Any) -> Any:
    """Return a JSON value in which numbers such as 3.0 are integers, as for JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _with_integers(each) for key, each in value.items()}
    return [_with_integers(each) for each in value] if isinstance(value, list) else value


# -- strictness --------------------------------------------------------------------------------------------------------

# The kinds of core schemas that have a flag for strictness of their own.
_STRICTABLE = frozenset(
    [
        *("int", "float", "decimal", "bool", "str", "bytes", "date", "time", "datetime", "timedelta", "enum", "list"),
        *("tuple", "set", "frozenset", "dict", "uuid", "url", "multi-host-url", "complex", "union", "model"),
        *("dataclass", "typed-dict", "lax-or-strict"),
    ]
)
# Kinds that are read from JSON alike whether they are strict or not; pydantic itself says strict=False of some.
_CONTAINERS = frozenset({"list", "tuple", "set", "frozenset", "dict", "union", "tagged-union"})
_OWN_CODE = frozenset({"function-before", "function-wrap", "function-plain"})
_NO_CONFIG: Mapping[str, Any] = {}
_UNTOUCHED = frozenset({"metadata", "serialization", "config", "cls", "function", "default", "ref"})


def _validator_of(adapter: TypeAdapter[Any]) -> Callable[[bytes], Any]:
    """Return a function that validates JSON strictly, but for the parts that ask for something else."""
    from pydantic_core import SchemaValidator

    strict = _StrictSchema()
    schema = strict.made_strict(adapter.core_schema)
    if not strict.found_lenient:
        return functools.partial(adapter.validate_json, strict=True)
    try:
        return SchemaValidator(schema, None, _use_prebuilt=False).validate_json
    except TypeError:
        # Before 2.11 models have no validators that are built already. Those of 2.11 and 2.12 are used in any case, and
        # with them a type that asks for leniency anywhere is validated as pydantic does by default.
        return SchemaValidator(schema, None).validate_json


class _StrictSchema:
    """Makes pydantic's description of a type strict, except for the parts that are to be lenient.

    The flag that ``validate_json`` takes would override what models say themselves.

    Attributes:
        found_lenient: Whether there is such a part.
    """

    def __init__(self) -> None:
        self.found_lenient = False

    def made_strict(self, schema: Any, *, after_code: bool = False, config: Mapping[str, Any] = _NO_CONFIG) -> Any:
        """Return a core schema that is strict.

        Args:
            schema: The schema or a part of it.
            after_code: Whether a user's validator runs before it; that may return Python objects instead of JSON.
            config: The configuration of the model that it belongs to.
        """
        if isinstance(schema, list | tuple):
            parts = [self.made_strict(each, after_code=after_code, config=config) for each in schema]
            return tuple(parts) if isinstance(schema, tuple) else parts
        if not isinstance(schema, Mapping):
            return schema
        kind = schema.get("type")
        after_code = after_code or _runs_own_code(schema)
        if kind in {"model", "dataclass", "typed-dict"} and ("config" in schema or kind != "typed-dict"):
            config = schema.get("config") or _NO_CONFIG
        lenient = after_code or config.get("strict") is False or (kind == "str" and _takes_numbers(schema, config))
        untouched = _UNTOUCHED if lenient else _UNTOUCHED | {"lax_schema"}  # which is for types that are not strict
        result = {
            key: each if key in untouched else self.made_strict(each, after_code=after_code, config=config)
            for key, each in schema.items()
        }
        self.found_lenient |= lenient or (schema.get("strict") is False and kind not in _CONTAINERS)
        if kind in _STRICTABLE and "strict" not in schema:
            result["strict"] = not lenient
        return result


def _takes_numbers(schema: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    return bool(schema.get("coerce_numbers_to_str", config.get("coerce_numbers_to_str")))


def _runs_own_code(schema: Mapping[str, Any]) -> bool:
    """Whether a part of a core schema runs a validator of the user's, which is not one of pydantic's own."""
    if schema.get("type") not in _OWN_CODE:
        return False
    function = schema["function"]
    function = function.get("function") if isinstance(function, Mapping) else function
    plain = function.func if isinstance(function, functools.partial) else function
    return package_of(plain) not in {"pydantic", "pydantic_core"}


# -- errors ------------------------------------------------------------------------------------------------------------

# What pydantic's errors say in our words, with the values of their context.
_WORDS: Mapping[str, str] = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match '{pattern}'",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "int_type": "expected int",
    "float_type": "expected float",
    "string_type": "expected str",
    "bool_type": "expected bool",
    "list_type": "expected list",
    "dict_type": "expected dict",
    "none_required": "expected None",
    "model_type": "expected {class_name}",
    "dataclass_type": "expected {class_name}",
}
_SUBJECT = re.compile(r"^[\w ]+? should ")  # as in "String should have at least 1 character"
_EXPECTED = "expected "
_WITHOUT_VALUE = {"missing": "is missing", "extra_forbidden": "there is no such field"}
_OF_USER = frozenset({"value_error", "assertion_error"})
_OF_TAG = frozenset({"union_tag_invalid", "union_tag_not_found"})


def _told(error: ValidationError, value: object) -> list[tuple[str, str]]:
    """Return the problems with their places, one for each place; each member of a union has one of its own."""
    found: dict[str, tuple[list[str], str]] = {}
    for each in error.errors(include_url=False):
        kind = each["type"]
        place = _place(each["loc"], value, lacks=kind == "missing")
        got = f", got {short(each['input'])}"
        if kind in _OF_TAG:
            place, text, got = _problem_of_tag(place, each)
        elif kind in _WITHOUT_VALUE:
            text, got = _WITHOUT_VALUE[kind], ""
        else:
            text = _words(kind, each)
        texts, _ = found.setdefault(place, ([], got))
        if text not in texts:
            texts.append(text)
    return [
        (place, _joined(texts) + got)
        for place, (texts, got) in found.items()
        # One member is of another kind, but the value is of the kind of another member, with a problem inside.
        if not (texts[0].startswith(_EXPECTED) and any(other.startswith((f"{place}.", f"{place}[")) for other in found))
    ]


def _joined(texts: list[str]) -> str:
    """Return what each member of a union expects: ``expected int or str``."""
    return " or ".join([texts[0], *(each.removeprefix(_EXPECTED) for each in texts[1:])])


def _words(kind: str, error: Mapping[str, Any]) -> str:
    if kind in _WORDS:
        try:
            return _WORDS[kind].format(**error.get("ctx", {}))
        except KeyError:  # another version of pydantic gives other values
            return str(error["msg"])
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _OF_USER:
        return text
    if kind in {"too_short", "too_long"} and isinstance(error["input"], str):  # a SecretStr has items
        text = text.replace(" item", " character")
    return _SUBJECT.sub("must ", text.partition(" after validation")[0])


def _problem_of_tag(place: str, error: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the place and the words of a problem, and the value that is wrong."""
    given, tags = error["input"], error["ctx"].get("expected_tags")
    tag = str(error["ctx"]["discriminator"]).strip("'")
    if not tag.isidentifier():  # it is a function
        return place, f"must have {f'one of the tags {tags}' if tags else 'a tag'}", f", got {short(given)}"
    if not isinstance(given, dict) or tag not in given:
        return f"{place}.{tag}", "is missing", ""
    return f"{place}.{tag}", f"expected one of {tags}", f", got {short(given[tag])}"


def _place(path: tuple[int | str, ...], value: Any, *, lacks: bool) -> str:
    """Return a place as it is written in code, without the names of a union's members that pydantic adds."""
    place = ""
    for number, part in enumerate(path):
        if isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
            place, value = f"{place}[{part}]", value[part]
        elif isinstance(value, dict) and (part in value or (lacks and number == len(path) - 1)):
            name = str(part)
            place = f"{place}.{name}" if name.isidentifier() else f"{place}[{name!r}]"
            value = value.get(part)
    return place
