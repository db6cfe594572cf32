"""The constraints in a type's metadata: those of annotated_types, ``msgspec.Meta`` and pydantic's ``Field``.

None of these packages is imported here: their objects are recognized by the module of their class. Each constraint
becomes a keyword of the JSON Schema, where there is one, and a check with the words of the error.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import fractions
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from inferencesh.errors import ConfigurationError

from .reading import MismatchError, short

__all__ = [
    "NO_DEFAULT",
    "Constraint",
    "Default",
    "Limit",
    "Meaning",
    "is_pydantic",
    "meaning_of",
    "package_of",
]

_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")


@attrs.frozen
class Limit:
    """A constraint as it is written, before it is known what it applies to.

    Attributes:
        kind: ``gt``, ``ge``, ``lt``, ``le``, ``multiple_of``, ``min_length``, ``max_length``, ``pattern``, ``tz`` or
            ``predicate``.
        bound: The limit; for ``tz`` whether there must be a time zone, or which one; for ``predicate`` the function.
    """

    kind: str
    bound: Any


@attrs.frozen
class Meaning:
    """What the metadata of one type says.

    Attributes:
        limits: The constraints.
        extra: Keywords to add to the JSON Schema, such as ``examples``.
        foreign: Whether there is something that only pydantic can keep.
    """

    limits: tuple[Limit, ...] = ()
    extra: Mapping[str, Any] = attrs.Factory(dict)
    foreign: bool = False


def package_of(value: object) -> str:
    """Return the name of the package that defines a class or function, or the class of an object."""
    cls = value if isinstance(value, type) or inspect.isroutine(value) else type(value)
    return str(getattr(cls, "__module__", "")).partition(".")[0]


def _packages_of(value: object) -> set[str]:
    return {package_of(cls) for cls in type(value).__mro__}


def is_pydantic(value: object) -> bool:
    """Whether an object is one of pydantic's, or says itself how pydantic is to read it."""
    return "pydantic" in _packages_of(value) or hasattr(value, "__get_pydantic_core_schema__")


_FASTAPI = "belongs to FastAPI, which does not call this function: take pydantic's Field, or leave it out"
# Classes whose objects have a meaning for others: their package and name, what they are called, and what to do.
_MARKERS: Mapping[tuple[str, ...], tuple[str, str]] = {
    ("fastapi",): ("", _FASTAPI),
    ("typer",): ("", "belongs to Typer, which does not call this function: leave it out"),
    ("attr", "_CountingAttr"): ("attrs.field", "is for attrs classes: take a plain default"),
    ("attr", "Factory"): ("attrs.Factory", "is for attrs classes: take pydantic's Field(default_factory=...)"),
    ("builtins", "ellipsis"): ("", "is for pydantic and FastAPI: leave it out, and the parameter is required"),
    ("dataclasses", "Field"): ("dataclasses.field", "is for dataclasses: take a plain default"),
    ("msgspec", "Field"): ("msgspec.field", "is for Structs: take a plain default"),
    ("pydantic", "ModelPrivateAttr"): ("PrivateAttr", "is for pydantic's models: take a plain default"),
}


def _refuse_marker(value: object) -> None:
    """Raise ConfigurationError for a default or metadata that has a meaning which cannot be kept here."""
    for cls in type(value).__mro__:
        for key in ((package_of(cls),), (package_of(cls), cls.__name__)):
            if key in _MARKERS:
                name, advice = _MARKERS[key]
                written = "..." if value is ... else f"{name or type(value).__name__}(...)"
                raise ConfigurationError(f"{written} {advice}")


def meaning_of(notes: tuple[Any, ...]) -> Meaning:
    """Return what the metadata of an ``Annotated`` says; what is not known is left alone.

    Raises:
        ConfigurationError: Something is known to have a meaning that cannot be kept.
    """
    limits: list[Limit] = []
    extra: dict[str, Any] = {}
    foreign = False
    for note in notes:
        _refuse_marker(note)
        packages = _packages_of(note)
        if "msgspec" in packages and type(note).__name__ == "Meta":
            limits += _of_attributes(note)
            extra |= _extra_of_meta(note)
        elif "annotated_types" in packages or "pydantic" in packages:
            found = list(_limits_in(note))
            extra |= _extra_of_field(note)
            limits += [each for each in found if each is not None]
            foreign = foreign or None in found
        else:
            foreign = foreign or is_pydantic(note)
    return Meaning(tuple(limits), extra, foreign)


def _of_attributes(note: object) -> list[Limit]:
    found = [(kind, getattr(note, kind, None)) for kind in _LIMITS]
    return [Limit(kind, bound) for kind, bound in found if bound is not None]


def _extra_of_meta(note: Any) -> dict[str, Any]:
    found = {"description": note.description, "examples": note.examples and list(note.examples)}
    return {**{key: value for key, value in found.items() if value}, **(note.extra_json_schema or {})}


def _extra_of_field(note: Any) -> dict[str, Any]:
    found = {key: getattr(note, key, None) for key in ("description", "examples")}
    extra = getattr(note, "json_schema_extra", None)
    deprecated = {"deprecated": True} if getattr(note, "deprecated", None) else {}
    return {
        **{key: value for key, value in found.items() if value},
        **deprecated,
        **(extra if isinstance(extra, dict) else {}),
    }


def _limits_in(note: Any) -> Iterator[Limit | None]:
    """Yield the constraints in an object of annotated_types or pydantic; None for what only pydantic can keep."""
    name = type(note).__name__
    simple = next((kind for kind in _LIMITS if name.lower() == kind.replace("_", "").replace("length", "len")), None)
    if simple is not None:
        yield Limit(simple, getattr(note, simple))
    elif name == "Timezone":
        yield Limit("tz", note.tz)
    elif name in {"Predicate", "Not"}:
        yield Limit("predicate", note.func if name == "Predicate" else note)
    elif name == "FieldInfo":
        yield from _limits_of_field(note)
    elif hasattr(note, "__is_annotated_types_grouped_metadata__"):
        for inner in note:
            yield from _limits_in(inner)
    elif "pydantic" in _packages_of(note):
        yield from _limits_of_pydantic(note)


def _limits_of_field(field: Any) -> Iterator[Limit | None]:
    if field.alias is not None or field.validation_alias is not None:
        raise ConfigurationError("Field(alias=...) is for models of pydantic: give the parameter that name")
    if field.validate_default:
        raise ConfigurationError("Field(validate_default=True) is for models of pydantic: leave it out")
    if field.discriminator or callable(field.json_schema_extra):  # which only pydantic can keep
        yield None
    for inner in field.metadata:
        yield from _limits_in(inner)


def _limits_of_pydantic(note: Any) -> Iterator[Limit | None]:
    if type(note).__name__ == "Strict":  # as everything is read, unless it says otherwise
        yield from () if note.strict else (None,)
        return
    stated = {key: value for key, value in getattr(note, "__dict__", {}).items() if value is not None}
    pattern = stated.get("pattern")
    yield Limit("pattern", pattern) if pattern is not None and len(stated) == 1 else None


# -- what they apply to ----------------------------------------------------------------------------------------------


@attrs.frozen
class Constraint:
    """A constraint of one type.

    Attributes:
        schema: Its keywords in JSON Schema; empty where there are none.
        text: What a value must be, for errors.
        holds: Returns whether a value, and the JSON it was read from, are allowed.
        of_whole: Whether it says something about a list or object as a whole, so that one that grows may still fit.
    """

    schema: Mapping[str, Any]
    text: str
    holds: Callable[[Any, Any], bool]
    of_whole: bool = False

    @classmethod
    def of(cls, limit: Limit, trait: str, python: Any) -> Constraint | None:
        """Return a limit as the constraint of a type; None if it does not apply to the type.

        Args:
            limit: The limit.
            trait: What the type is like, as ``Scalar.trait`` says, or ``list``, ``set``, ``dict`` or ``tuple``.
            python: The type.
        """
        if limit.kind == "predicate":
            return cls({}, f"must satisfy {_name_of(limit.bound)}", lambda value, _: bool(limit.bound(value)))
        if limit.kind == "tz":
            return _zone(limit.bound) if python in {datetime.datetime, datetime.time} else None
        if limit.kind == "pattern":
            return _pattern(limit.bound) if trait == "text" else None
        if limit.kind in {"min_length", "max_length"}:
            return _length(limit.kind, limit.bound, trait) if trait in _LENGTHS else None
        return _order(limit.kind, limit.bound, trait, python)

    def check(self, value: Any, written: object) -> None:
        """Raise MismatchError for a value that is not allowed.

        Args:
            value: The value as it was read.
            written: The JSON value.
        """
        try:
            allowed = self.holds(value, written)
        except TypeError as error:  # such as a time without a zone, compared with one that has it
            raise MismatchError([("", f"{self.text}, got {short(written)}: {error}")]) from None
        if not allowed:
            raise MismatchError([("", f"{self.text}, got {short(written)}")])


def _name_of(function: Any) -> str:
    inner = getattr(function, "func", None)
    name = getattr(function, "__qualname__", None) or (f"not {_name_of(inner)}" if inner is not None else None)
    return "the condition of its type" if str(name).endswith("<lambda>") else str(name or type(function).__name__)


def _is_multiple(value: Any, bound: Any) -> bool:
    if isinstance(value, decimal.Decimal):
        try:
            return bool(value % bound == 0)
        except decimal.InvalidOperation:  # the quotient has too many digits
            return False
    # As they are written: 19.99 is a multiple of 0.01, although 19.99 / 0.01 is no whole number.
    exact, unit = (fractions.Fraction(repr(each) if isinstance(each, float) else each) for each in (value, bound))
    return exact % unit == 0


_ORDERS: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "gt": ("exclusiveMinimum", "greater than", lambda value, bound: value > bound),
    "ge": ("minimum", "at least", lambda value, bound: value >= bound),
    "lt": ("exclusiveMaximum", "less than", lambda value, bound: value < bound),
    "le": ("maximum", "at most", lambda value, bound: value <= bound),
    "multiple_of": ("multipleOf", "a multiple of", _is_multiple),
}


def _order(kind: str, bound: Any, trait: str, python: Any) -> Constraint | None:
    keyword, words, holds = _ORDERS[kind]
    if trait in {"number", "decimal"}:
        number = isinstance(bound, int | float | decimal.Decimal) and not isinstance(bound, bool)
        if not number or not math.isfinite(bound) or (kind == "multiple_of" and bound <= 0):
            raise ConfigurationError(f"{kind}={short(bound)} is no limit of numbers")
        exact = _exact(bound) if trait == "decimal" else bound
        schema = {keyword: float(bound) if isinstance(bound, decimal.Decimal) else bound} if trait == "number" else {}
        return Constraint(schema, f"must be {words} {bound}", lambda value, _: holds(value, exact))
    if trait == "order" and kind != "multiple_of":
        if type(bound) is not python:
            raise ConfigurationError(f"{kind}={short(bound)} is no limit of {python.__name__}")
        return Constraint({}, f"must be {words} {bound}", lambda value, _: holds(value, bound))
    return None


def _exact(bound: float | decimal.Decimal) -> decimal.Decimal:
    return bound if isinstance(bound, decimal.Decimal) else decimal.Decimal(repr(bound))


_LENGTHS = {
    "text": ("Length", "character"),
    "bytes": ("", "byte"),
    "list": ("Items", "item"),
    "set": ("Items", "item"),
    "dict": ("Properties", "entry"),
}


def _length(kind: str, bound: int, trait: str) -> Constraint:
    least = kind == "min_length"
    keyword, unit = _LENGTHS[trait]
    units = unit if bound == 1 else {"entry": "entries"}.get(unit, f"{unit}s")
    schema = {("min" if least else "max") + keyword: bound} if keyword else {}

    def holds(value: Any, written: Any) -> bool:
        # The items of a set are counted without repetitions, and the schema's limit holds as well.
        longest = max(len(value), len(written)) if trait == "set" else len(value)
        return len(value) >= bound if least else longest <= bound

    whole = trait not in {"text", "bytes"}
    return Constraint(schema, f"must have at {'least' if least else 'most'} {bound} {units}", holds, whole)


def _pattern(bound: Any) -> Constraint:
    written = bound.pattern if isinstance(bound, re.Pattern) else str(bound)
    try:
        compiled = re.compile(bound)
    except re.error as error:
        raise ConfigurationError(f"the pattern {written!r} is no regular expression: {error}") from None
    return Constraint(
        {"pattern": written}, f"must match {written!r}", lambda value, _: compiled.search(value) is not None
    )


def _zone(bound: Any) -> Constraint:
    if bound in (None, False):
        text = "must be without a time zone"
        return Constraint({"format": None}, text, lambda value, _: value.tzinfo is None)
    if bound in (..., True):
        return Constraint({}, "must have a time zone", lambda value, _: value.tzinfo is not None)
    if isinstance(bound, str):
        import zoneinfo

        try:
            bound = zoneinfo.ZoneInfo(bound)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigurationError(f"there is no time zone {bound!r}: {error}") from None

    def holds(value: Any, _: object) -> bool:
        moment = value if isinstance(value, datetime.datetime) else None
        there = bound.utcoffset(moment.replace(tzinfo=None) if moment is not None else None)
        return value.tzinfo is not None and value.utcoffset() == there

    return Constraint({}, f"must be in the time zone {bound}", holds)


# -- defaults --------------------------------------------------------------------------------------------------------


class _NoDefault:
    def __repr__(self) -> str:
        return "no default"


NO_DEFAULT = _NoDefault()


@attrs.frozen
class Default:
    """What a parameter or field is when it is not given.

    Attributes:
        required: Whether it must be given.
        value: The default for the schema; ``NO_DEFAULT`` if there is none, or a new one is made each time.
        make: Returns the default where it has to be passed on, because the function or class does not have it itself.
    """

    required: bool
    value: Any = NO_DEFAULT
    make: Callable[[], Any] | None = None

    @classmethod
    def of(cls, hint: Any, default: Any) -> tuple[Any, Default]:
        """Return the hint and the default of a parameter, which pydantic's ``Field`` may state in either.

        Args:
            hint: The hint.
            default: The default, or ``NO_DEFAULT``.

        Raises:
            ConfigurationError: The default has a meaning that cannot be kept.
        """
        _refuse_marker(default)
        if _is_field(default):
            return typing.Annotated[hint, default], _of_field(default)
        if default is not NO_DEFAULT:
            return hint, cls(required=False, value=default)
        notes = getattr(hint, "__metadata__", ()) if typing.get_origin(hint) is typing.Annotated else ()
        stated = [_of_field(each) for each in notes if _is_field(each)]
        return hint, next((each for each in reversed(stated) if not each.required), cls(required=True))


def _is_field(value: object) -> bool:
    return any(package_of(cls) == "pydantic" and cls.__name__ == "FieldInfo" for cls in type(value).__mro__)


def _of_field(field: Any) -> Default:
    if field.is_required():
        return Default(required=True)
    factory = field.default_factory
    if factory is None:
        return Default(required=False, value=field.default, make=lambda: copy.deepcopy(field.default))
    if getattr(field, "default_factory_takes_validated_data", False):
        raise ConfigurationError("a default_factory that takes the other values is for models of pydantic")
    return Default(required=False, make=factory)
