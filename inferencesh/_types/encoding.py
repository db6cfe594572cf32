"""Encode values as JSON: the bodies of requests, and what tools return.

orjson encodes what it knows, and asks ``_Encoder`` for simpler values in place of all others. Where that fails, the
value is converted step by step instead, so that the error names the place. ``docs/docstrings-and-results.md`` lists the
form of each type. Classes of other packages are looked up in ``sys.modules`` and never imported.
"""

from __future__ import annotations

import base64
import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import pathlib
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import orjson

from inferencesh._text import encode_json, whole_characters

__all__ = ["EncodedResult", "by_msgspec", "dump_json", "encode_result", "plain_result"]

# datetimes and dataclasses are left to this module: orjson drops the seconds of an offset, and private fields.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_NOT_FINITE = "NaN and Infinity have no JSON form: put None or a text in their place"


def dump_json(value: object) -> bytes:
    """Encode a value as JSON; lone surrogates become U+FFFD.

    Raises:
        TypeError: It holds something that has no JSON form, such as a function or NaN; the error names the place.
    """
    return _Encoder("value").encode(value)


@attrs.frozen
class EncodedResult:
    """The result of a tool as it is submitted.

    Attributes:
        text: A string unchanged, everything else as JSON; ``{"file": "image-1.png"}`` stands for an image.
        images: The images in it.
    """

    text: str
    images: Sequence[PngFile] = ()


def plain_result(result: object) -> EncodedResult | None:
    """Encode a result that is made of builtin types only, which is fast and runs no code of the user; else None."""
    if isinstance(result, str):
        return EncodedResult(_text_of(result))
    try:
        encoded = orjson.dumps(result, option=_OPTIONS)
    except TypeError:
        return None
    if b"null" in encoded and _has_non_finite_float([result]):
        return None
    return EncodedResult(encoded.decode())


def encode_result(result: object) -> EncodedResult:
    """Encode the result of a tool. This may run code of the user, such as a pydantic serializer, and take long.

    Raises:
        TypeError: It holds something that has no JSON form; the error names the type and the place.
        Exception: Raised by the user's code.
    """
    found = plain_result(result)
    if found is not None:
        return found
    encoder = _Encoder("result", of_tool=True)
    text = encoder.encode(result).decode()
    return EncodedResult(text, encoder.images)


class PngFile(io.BytesIO):
    """An image as a file in memory; uploads take its name."""

    name = ""


class _NoFormError(TypeError):
    """A value has no JSON form; the message says why, without the place."""


class _Encoder:
    """Encodes one value.

    Args:
        root: The name of the value, with which places in errors begin.
        of_tool: Whether images become files, and iterators lists.

    Attributes:
        images: The images that were met.
    """

    def __init__(self, root: str, *, of_tool: bool = False) -> None:
        self.images: list[PngFile] = []
        self._root = root
        self._of_tool = of_tool
        self._names: dict[int, tuple[object, str]] = {}  # of images, by identity; it keeps them alive
        self._made: list[object] = []  # what orjson was given in place of values that it does not know
        self._inside: dict[int, str] = {}  # the places of the values around the present one

    def encode(self, value: object) -> bytes:
        """Return the value as JSON.

        Raises:
            TypeError: It holds something that has no JSON form.
        """
        try:
            encoded = orjson.dumps(value, self._simpler, _OPTIONS)
            # orjson writes null for NaN and Infinity, which a reader would take for a missing value.
            if b"null" not in encoded or not _has_non_finite_float([value, *self._made]):
                return encoded
        except TypeError:  # raised for whatever the hook raised too; the second attempt knows where
            self._made.clear()
        try:
            return _encode_plain(self._plain(value, self._root))
        except RecursionError:
            raise TypeError(f"{self._root}: it is nested too deeply for JSON") from None

    def _simpler(self, value: object) -> object:
        """Return the value that orjson encodes in place of one that it does not know."""
        writer = _writer_of(type(value))
        if writer is None or writer is _iterated:  # an iterator can be read only once
            raise TypeError
        made = self._made_by(writer, value)
        self._made.append(made)
        return made

    def _plain(self, value: Any, place: str) -> Any:
        """Return a value made of dicts, lists, strings, numbers, booleans and None.

        Args:
            value: The value.
            place: Where it stands.

        Raises:
            TypeError: It has no JSON form.
        """
        if isinstance(value, enum.Enum):
            return self._plain(value.value, place)
        if value is None or isinstance(value, str | bool):
            return value
        if isinstance(value, int):
            return _exact(value, place)
        if type(value) is float:
            if not math.isfinite(value):
                raise TypeError(f"{place}: {_NOT_FINITE}")
            return value
        if id(value) in self._inside:
            raise TypeError(
                f"{place}: {_named(value)} holds itself, and so has no JSON form: it is {self._inside[id(value)]} again"
            )
        self._inside[id(value)] = place
        try:
            if isinstance(value, dict):
                return self._plain_mapping(value, place)
            if isinstance(value, list) or type(value) is tuple:
                return [self._plain(item, f"{place}[{at}]") for at, item in enumerate(value)]
            return self._plain(self._written(value, place), place)
        finally:
            del self._inside[id(value)]

    def _written(self, value: object, place: str) -> object:
        writer = _writer_of(type(value))
        if writer is None or (writer is _iterated and not self._of_tool):
            raise TypeError(f"{place}: {_named(value)} has no JSON form: {_advice(value)}")
        try:
            return self._made_by(writer, value)
        except _NoFormError as error:
            raise TypeError(f"{place}: {error}") from error.__cause__

    def _plain_mapping(self, value: Mapping[Any, Any], place: str) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in value.items():
            text = _text_of(key) if isinstance(key, str) else self._key(key, place)
            if text in plain:
                raise TypeError(
                    f"{place}: two keys of one mapping, such as 1 and '1', have the same JSON form, {text!r}"
                )
            plain[text] = self._plain(item, f"{place}.{text}" if text.isidentifier() else f"{place}[{text!r}]")
        return plain

    def _key(self, key: object, place: str) -> str:
        """Return the JSON form of a mapping's key: that of the value, without quotes if it is a string."""
        plain = self._plain(key, f"{place}, a key")
        return plain if isinstance(plain, str) else _encode_plain(plain).decode()

    def _made_by(self, writer: Writer, value: object) -> object:
        """Return what a writer makes of a value; an image is kept as a file, and what stands in its place returned."""
        if id(value) not in self._names:
            made = writer(value)
            if not isinstance(made, PngFile):
                return made
            if not self._of_tool:
                raise _NoFormError(f"{_named(value)} has no JSON form: only a tool's result can hold an image")
            made.name = f"image-{len(self.images) + 1}.png"
            self._names[id(value)] = value, made.name
            self.images.append(made)
        return {"file": self._names[id(value)][1]}


def _encode_plain(plain: object) -> bytes:
    try:
        return encode_json(plain)
    except TypeError:  # orjson refuses lone surrogates and deep nesting; the standard library does not
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return whole_characters(text).encode()


def _has_non_finite_float(values: list[Any]) -> bool:
    pending = values
    for item in pending:  # the list grows during the iteration
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            return True
    return False


def _text_of(text: str) -> str:
    """Return a string as a plain ``str``: the value of an enum's member, the content of a subclass."""
    if type(text) is str:
        return text
    return _text_of(text.value) if isinstance(text, enum.Enum) else str.__str__(text)


def _exact(number: int, place: str) -> int:
    try:
        str(number)
    except ValueError as error:  # it has more digits than Python converts
        raise TypeError(f"{place}: an integer has no JSON form: {error}") from None
    return int(number)


def _named(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: object) -> str:
    if isinstance(value, collections.abc.Awaitable):
        return "await it first"
    if isinstance(value, io.IOBase):
        return "read it, or give it to submit_tool_result in files="
    return "convert it to a str, number, dict or list first"


# -- the types that orjson does not know ------------------------------------------------------------------------------

Writer: TypeAlias = Callable[[Any], object]  # returns a value of simpler types, which may hold further such values

_writers: weakref.WeakKeyDictionary[type, Writer | None] = weakref.WeakKeyDictionary()  # the known answers


def _writer_of(kind: type) -> Writer | None:
    """Return how values of a class are converted; None if they have no JSON form."""
    try:
        return _writers[kind]
    except KeyError:
        found = _writers[kind] = _find_writer(kind)
        return found


def _find_writer(kind: type) -> Writer | None:
    for path, writer in _FOREIGN:
        module, _, name = path.rpartition(".")
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and issubclass(kind, known if isinstance(known, type) else type(known)):
            return writer
    if hasattr(kind, "__pydantic_serializer__"):
        return _by_pydantic
    if attrs.has(kind) or dataclasses.is_dataclass(kind):
        return _fields_of(kind)
    for base in kind.__mro__:
        if base in _BUILTIN:
            return _BUILTIN[base]
    if issubclass(kind, collections.abc.Mapping):
        return dict
    return list if issubclass(kind, _LISTS) else None


_LISTS = (collections.abc.Sequence, collections.abc.Set, collections.abc.MappingView)


def _fields_of(kind: Any) -> Writer:
    """Return how an attrs class or dataclass is converted: private fields count only if ``__init__`` takes them."""
    found = attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind)
    names = [each.name for each in found if each.init or not each.name.startswith("_")]
    return lambda value: {name: getattr(value, name) for name in names}


def _iterated(values: Iterator[object]) -> list[object]:
    return list(values)


def _in_order(values: Iterable[Any]) -> list[Any]:
    """Return the items of a set, numbers and strings in their order, all others in that of their JSON text."""
    items = list(values)
    kinds = {type(item) for item in items}
    if kinds <= {int, float} or kinds == {str}:
        return sorted(items)
    try:
        return sorted(items, key=dump_json)
    except TypeError:  # one has no JSON form, and its place will be named
        return items


def _base64(data: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(data).decode()


def _decimal(number: decimal.Decimal) -> str:
    if not number.is_finite():
        raise _NoFormError(_NOT_FINITE)
    return str(number)


def _moment(moment: datetime.datetime | datetime.time) -> str:
    offset = moment.utcoffset()
    if offset is not None and offset % datetime.timedelta(minutes=1) and isinstance(moment, datetime.datetime):
        moment = moment.astimezone(datetime.UTC)  # ISO 8601 has no offset of seconds
    return moment.isoformat()


def _duration(duration: datetime.timedelta) -> str:
    exact = datetime.timedelta(duration.days, duration.seconds, duration.microseconds)  # without a subclass's own parts
    sign = "-" if exact < datetime.timedelta() else ""
    # Not abs(), which overflows for the longest ones.
    micros = abs((exact.days * 86_400 + exact.seconds) * 1_000_000 + exact.microseconds)
    days, micros = divmod(micros, 86_400_000_000)
    seconds = f"{micros // 1_000_000}.{micros % 1_000_000:06}".rstrip("0").rstrip(".")
    time = f"T{seconds}S" if micros else ""
    return f"{sign}P{days}D{time}" if days or not micros else f"{sign}P{time}"


_BUILTIN: Mapping[type, Writer] = {
    float: float,  # a subclass
    decimal.Decimal: _decimal,
    datetime.datetime: _moment,
    datetime.date: datetime.date.isoformat,
    datetime.time: _moment,
    datetime.timedelta: _duration,
    uuid.UUID: str,
    pathlib.PurePath: str,
    collections.UserString: str,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    tuple: list,  # a NamedTuple, or another subclass
    set: _in_order,
    frozenset: _in_order,
    types.GeneratorType: _iterated,
    **dict.fromkeys((map, filter, zip, enumerate, reversed), _iterated),
}


# -- types of other packages ------------------------------------------------------------------------------------------


def _by_pydantic(value: Any) -> object:
    """Return what pydantic makes of a model, in which aliases, computed fields and serializers count."""
    dump = getattr(value, "model_dump", None)
    try:
        if dump is not None and type(value).model_dump is not sys.modules["pydantic.main"].BaseModel.model_dump:
            return dump(mode="json", by_alias=True)  # the class's own
        return _serialized(value, "json")
    except ValueError as error:  # a PydanticSerializationError, or a model that holds itself
        try:
            return _serialized(value, "python")  # what pydantic does not know in it, this module may
        except ValueError:
            raise _NoFormError(f"pydantic cannot serialize {_named(value)}: {error}") from error


def _serialized(value: Any, mode: str) -> object:
    return type(value).__pydantic_serializer__.to_python(value, mode=mode, by_alias=True)


def by_msgspec(value: Any) -> object:
    """Return a Struct's fields by the names, tag and shape that its class configures."""
    import msgspec

    config = value.__struct_config__
    names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
    given = [(encoded, getattr(value, name), name) for name, encoded in names]
    if config.array_like:
        return [*([config.tag] if config.tag is not None else []), *(item for _, item, _ in given)]
    defaults = _defaults(value) if config.omit_defaults else {}
    tag = {config.tag_field: config.tag} if config.tag is not None else {}
    return tag | {
        encoded: item
        for encoded, item, name in given
        if item is not msgspec.UNSET and not (name in defaults and defaults[name] == item)
    }


def _defaults(value: Any) -> dict[str, object]:
    import msgspec

    fields = {each.name: each for each in msgspec.structs.fields(value)}
    made = {
        name: each.default_factory() for name, each in fields.items() if each.default_factory is not msgspec.NODEFAULT
    }
    return made | {name: each.default for name, each in fields.items() if each.default is not msgspec.NODEFAULT}


def _numpy_scalar(value: Any) -> object:
    if value.dtype.kind in "mM":
        return _numpy_array(value)
    item = value.item()
    return float(item) if isinstance(item, type(value)) else item  # item() returns a longdouble unchanged


def _numpy_array(value: Any) -> object:
    kind = value.dtype.kind
    if kind in "mM":  # dates or durations; those in nanoseconds would become integers
        if sys.modules["numpy"].isnat(value).any():
            raise _NoFormError("NaT has no JSON form: put None in its place")
        if sys.modules["numpy"].datetime_data(value.dtype)[0] in {"ns", "ps", "fs", "as"}:
            value = value.astype(f"{kind}8[us]")
    elif kind == "f" and value.dtype.itemsize > 8:
        value = value.astype(float)
    return value.tolist()


def _table(frame: Any) -> list[dict[Any, object]]:
    """Return the rows of a DataFrame; index levels that have names are columns of their own."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    if not frame.columns.is_unique:
        raise _NoFormError("the columns of a DataFrame have the same name twice: rename one")
    return [{name: _or_null(item) for name, item in row.items()} for row in frame.to_dict("records")]


def _series(series: Any) -> object:
    """Return the values of a Series, by their labels if it has others than their positions."""
    values = [_or_null(item) for item in series.tolist()]
    if type(series.index).__name__ == "RangeIndex" and series.index.name is None and series.index.start == 0:
        return values
    if not series.index.is_unique:
        raise _NoFormError("the index of a Series has the same label twice: take .reset_index() or .tolist()")
    return dict(zip(series.index.tolist(), values, strict=True))


def _column(values: Any) -> list[object]:
    return [_or_null(item) for item in values.tolist()]


def _or_null(value: object) -> object:
    """Return None for NaN, which is how pandas writes a missing value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _null(_: object) -> None:
    return None


def _png_of_image(image: Any) -> PngFile:
    if image.mode not in {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}:  # those that PNG has
        image = image.convert({"I": "I;16", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(image.mode, "RGB"))
    file = PngFile()
    image.save(file, format="PNG")
    file.seek(0)
    return file


def _png_of_figure(figure: Any) -> PngFile:
    file = PngFile()
    figure.savefig(file, format="png")
    file.seek(0)
    return file


# Classes, or single values of a class, in the order in which they are looked for: pandas's NaT is a datetime, say.
_FOREIGN: Sequence[tuple[str, Callable[..., object]]] = (
    ("msgspec.Struct", by_msgspec),
    ("numpy.ndarray", _numpy_array),
    ("numpy.generic", _numpy_scalar),
    ("pandas.NA", _null),
    ("pandas.NaT", _null),
    ("pandas.Timestamp", lambda moment: moment.isoformat()),
    ("pandas.DataFrame", _table),
    ("pandas.Series", _series),
    ("pandas.Index", _column),
    ("pandas.api.extensions.ExtensionArray", _column),
    ("pandas.Period", str),
    ("pydantic.types.SecretStr", str),  # masked
    ("pydantic.types.SecretBytes", str),
    ("pydantic.types.Secret", str),
    ("pydantic.networks._BaseUrl", str),
    ("pydantic_core.Url", str),
    ("PIL.Image.Image", _png_of_image),
    ("matplotlib.figure.Figure", _png_of_figure),
)
