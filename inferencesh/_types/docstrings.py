"""Read docstrings and the descriptions in type hints, for the agent that calls a tool or fills in a class.

Sections in the styles of Google and NumPy, and fields in those of Sphinx and epydoc, are recognized wherever they are,
also mixed. Libraries for this take one style for the whole text, lose the sections that they do not know, and raise for
some texts; here no text is an error. ``docs/docstrings-and-results.md`` says which parts the agent gets.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import linecache
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

import attrs

from .hints import members_of, origin_of

__all__ = ["annotated_text", "docs_of", "field_docs", "marker_text"]


def docs_of(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Read a docstring.

    Args:
        docstring: The text, or None.

    Returns:
        The description without the parts that are of no use to an agent, and the descriptions of the parameters or
        attributes by name.
    """
    if not isinstance(docstring, str):  # an object may have anything as its __doc__
        return "", {}
    reader = _Reader(inspect.cleandoc(docstring).splitlines())
    return reader.description(), reader.parameters


def annotated_text(hint: Any) -> str:
    """Return the description in a hint's ``Annotated``, the first one that it has; "" if there is none.

    A description is a string, or in a ``Doc``, a ``msgspec.Meta`` or a pydantic ``Field``.
    """
    if typing.get_origin(hint) is Annotated:
        texts = [each if isinstance(each, str) else _said_by(each) for each in hint.__metadata__]
        return next(filter(None, map(str.strip, texts)), "") or annotated_text(hint.__origin__)
    if next(members_of(hint)) is hint:
        return ""
    return next(filter(None, map(annotated_text, typing.get_args(hint))), "")


def marker_text(default: object) -> str:
    """Return the description in a default that is a pydantic ``Field``; "" for any other default."""
    field = getattr(sys.modules.get("pydantic.fields"), "FieldInfo", None)
    return _said_by(default).strip() if field is not None and isinstance(default, field) else ""


def _said_by(marker: object) -> str:
    for name in ("description", "documentation"):  # msgspec.Meta and pydantic's Field; Doc
        if isinstance(text := getattr(marker, name, None), str):
            return text
    return ""


def field_docs(cls: type) -> dict[str, str]:
    """Return the descriptions of a class's fields by name; those of a subclass have precedence over its bases'.

    Of one class, those in its own docstring have precedence over those in the docstring of its ``__init__``, and these
    over strings under the fields. What a field itself says (``doc`` of a dataclass's field, ``description`` in the
    metadata) has precedence over all of them.
    """
    bases = [origin_of(each) for each in vars(cls).get("__orig_bases__", ())]
    found: dict[str, str] = {}
    for base in reversed([*cls.__mro__[1:], *filter(typing.is_typeddict, bases)]):
        if base.__module__ not in {"builtins", "typing"}:
            found |= field_docs(base) if typing.is_typeddict(base) else _own_docs(base)
    found |= _own_docs(cls)
    for name, field in {**getattr(cls, "__dataclass_fields__", {}), **_attrs_fields(cls)}.items():
        for text in (getattr(field, "metadata", {}).get("description"), getattr(field, "doc", None)):
            if text and isinstance(text, str):
                found[name] = text.strip()
    return found


def _attrs_fields(cls: type) -> Mapping[str, Any]:
    return attrs.fields_dict(cls) if attrs.has(cls) else {}


def _own_docs(cls: type) -> dict[str, str]:
    own = vars(cls)
    init = own.get("__init__")
    in_init = docs_of(init.__doc__)[1] if isinstance(init, types.FunctionType) else {}
    in_source = _attribute_docs(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
    return in_source.get(cls.__qualname__, {}) | in_init | docs_of(own.get("__doc__"))[1]


@functools.lru_cache(maxsize=16)
def _attribute_docs(path: str) -> dict[str, dict[str, str]]:
    """Return the strings under the fields of a source file's classes, by qualified name and field."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):  # it is no source file, or was changed meanwhile
        return {}
    found: dict[str, dict[str, str]] = {}
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    for place, node in pending:  # the list grows during the iteration
        texts = found.setdefault(place, {}) if isinstance(node, ast.ClassDef) else {}
        body: list[ast.stmt] = getattr(node, "body", [])
        for each, below in itertools.zip_longest(body, body[1:]):
            if isinstance(each, ast.ClassDef):
                pending.append((f"{place}.{each.name}".lstrip("."), each))
            elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                pending.append((f"{place}.{each.name}.<locals>".lstrip("."), each))
            match each, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = inspect.cleandoc(text)
    return found


# -- sections ----------------------------------------------------------------------------------------------------------


class _Part(Enum):
    """What becomes of a section."""

    PARAMETERS = "its entries describe parameters"
    ATTRIBUTES = "its entries describe parameters that no other section does"
    KEPT = "it stays in the description"
    DROPPED = "it is left out"


_SECTIONS: Mapping[str, _Part] = {
    **dict.fromkeys(["arg", "args", "argument", "arguments", "param", "params", "parameter"], _Part.PARAMETERS),
    **dict.fromkeys(["parameters", "keyword args", "keyword arguments", "kwargs"], _Part.PARAMETERS),
    **dict.fromkeys(["other args", "other arguments", "other params", "other parameters"], _Part.PARAMETERS),
    **dict.fromkeys(["attribute", "attributes", "fields"], _Part.ATTRIBUTES),
    **dict.fromkeys(
        ["note", "notes", "warning", "warnings", "important", "caution", "danger", "attention"], _Part.KEPT
    ),
    **dict.fromkeys(
        ["tip", "hint", "hints", "return", "returns", "raise", "raises", "except", "exceptions"], _Part.KEPT
    ),
    **dict.fromkeys(["example", "examples", "usage", "deprecated", "limitations"], _Part.KEPT),
    **dict.fromkeys(["yield", "yields", "receive", "receives", "warn", "warns", "methods"], _Part.DROPPED),
    **dict.fromkeys(["reference", "references", "see also", "todo", "todos", "author", "authors"], _Part.DROPPED),
    **dict.fromkeys(["version added", "version changed", "license", "copyright", "since"], _Part.DROPPED),
}
_FIELDS: Mapping[str, _Part] = {
    **dict.fromkeys(["param", "parameter", "arg", "argument", "key", "keyword", "kwarg"], _Part.PARAMETERS),
    **dict.fromkeys(["var", "ivar", "cvar", "attr", "attribute"], _Part.ATTRIBUTES),
    **dict.fromkeys(["return", "returns", "raise", "raises", "except", "exception", "throws"], _Part.KEPT),
    **dict.fromkeys(["note", "warning", "warn", "attention", "important", "bug", "deprecated", "example"], _Part.KEPT),
    **dict.fromkeys(["type", "rtype", "vartype", "yield", "yields", "ytype", "meta", "see", "seealso"], _Part.DROPPED),
    **dict.fromkeys(["todo", "author", "authors", "since", "version", "copyright", "license"], _Part.DROPPED),
    **dict.fromkeys(["organization", "contact", "change", "group", "sort", "undocumented"], _Part.DROPPED),
}
_DIRECTIVES: Mapping[str, _Part] = {
    **dict.fromkeys(["note", "warning", "important", "caution", "danger", "attention", "tip", "hint"], _Part.KEPT),
    "deprecated": _Part.KEPT,
    **dict.fromkeys(["seealso", "todo", "versionadded", "versionchanged", "versionremoved", "index"], _Part.DROPPED),
}
_TITLES: Mapping[str, str] = {  # under one name, however they are written
    "return": "Returns",
    **dict.fromkeys(["raise", "except", "exception", "exceptions", "throws"], "Raises"),
    "warn": "Warning",
}
_LISTS = frozenset({"Raises", "Example", "Examples", "Usage"})  # each line of these stands for itself

_UNDERLINE = re.compile(r"\s*(-{3,}|={3,}|~{3,})\s*")
_HEADER = re.compile(r"(\s*)(\*\*|__|)([A-Za-z]\w*(?: \w+)?)(?:\2\s*:|\s*:\2)(?:\s+(\S.*)|\s*)")
_FIELD = re.compile(r"\s*[:@](\w+)(?:\s+(.*?))?\s*:(?:\s+(.*)|$)")
_TIGHT_FIELD = re.compile(r"\s*[:@](\w+)(?:\s+([^:]*?))?\s*:(.*)")
_DIRECTIVE = re.compile(r"\s*\.\. ([\w-]+)::\s*(.*)")
_FENCE = re.compile(r"\s*(```|~~~)")
_NAME = r"[`*\\]*[A-Za-z_]\w*[`*]*"
_NAMES = re.compile(rf"(?:[-*+•]\s+)?({_NAME}(?:\s*,\s*{_NAME})*)")
_TYPE = r"[\w.]+(\[[^\]]*\]+)?"
_ONLY_TYPES = re.compile(rf"{_TYPE}(\s*(\||,|\bor\b)\s*{_TYPE})*")


class _Reader:
    """Reads a docstring line by line.

    Args:
        lines: The lines, without common indentation.

    Attributes:
        parameters: The descriptions of the parameters by name.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._at = 0
        self._said: list[str] = []  # the lines of the description
        self._fields: dict[str, list[str]] = {}  # what fields say, by title
        self._attributes: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        while self._at < len(lines):
            if not (self._read_fence() or self._read_section() or self._read_field() or self._read_directive()):
                self._said.append(lines[self._at])
                self._at += 1
        self.parameters = self._attributes | self.parameters

    def description(self) -> str:
        """Return what is for the agent."""
        for title, texts in self._fields.items():
            self._keep(title, "\n".join(texts).splitlines())
        self._fields = {}
        return re.sub(r"\n(\s*\n){2,}", "\n\n", "\n".join(line.rstrip() for line in self._said)).strip()

    def _read_fence(self) -> bool:
        """Copy a fenced block of code, in which nothing is a section."""
        fence = _FENCE.match(self._lines[self._at])
        rest = range(self._at + 1, len(self._lines))
        end = next((at for at in rest if fence and self._lines[at].strip() == fence[1]), None)
        if end is None:
            return False
        self._said += self._lines[self._at : end + 1]
        self._at = end + 1
        return True

    def _read_section(self) -> bool:
        """Read a section of Google's or NumPy's style, if one begins here."""
        if (underlined := self._underlined(self._at)) is not None:
            part = _SECTIONS.get(underlined.lower())
            if part is None:
                return False
            end = next((at for at in range(self._at + 2, len(self._lines)) if self._ends_underlined(at)), None)
            body = list(self._lines[self._at + 2 : end])
            self._at = len(self._lines) if end is None else end
            self._take(underlined, part, body, underlined=True)
            return True
        title, inline = self._header(self._at)
        part = _SECTIONS.get(title.lower())
        if part is None or (inline and not self._begins_inline(part, inline)):
            return False
        start = self._at
        body = [*([inline] if inline else []), *self._body(part, is_inline=bool(inline))]
        if not body and part is _Part.KEPT:
            self._at = start
            return False
        self._take(title, part, body, underlined=False)
        return True

    def _underlined(self, at: int) -> str | None:
        """Return the title if a line is underlined."""
        below = self._lines[at + 1] if at + 1 < len(self._lines) else ""
        title = self._lines[at].strip().removesuffix(":").strip()
        return title if title and not _UNDERLINE.fullmatch(title) and _UNDERLINE.fullmatch(below) else None

    def _ends_underlined(self, at: int) -> bool:
        if self._underlined(at) is not None or self._field(at) is not None:
            return True
        title, inline = self._header(at)
        return not inline and title.lower() in _SECTIONS and not self._lines[at - 1].strip()

    def _header(self, at: int) -> tuple[str, str]:
        """Return the title of a section in Google's style and the text behind it; "" if there is none.

        Only parameters are recognized with an indentation, for anything may be indented in an example.
        """
        match = _HEADER.fullmatch(self._lines[at])
        title = match[3] or "" if match else ""
        if match is None or (match[1] and _SECTIONS.get(title.lower()) is not _Part.PARAMETERS):
            return "", ""
        return title, match[4] or ""

    def _begins_inline(self, part: _Part, inline: str) -> bool:
        """Whether a section begins with text behind its title; what is kept has the right form as it is."""
        if part in {_Part.PARAMETERS, _Part.ATTRIBUTES}:
            return _entry(inline, underlined=False) is not None
        return part is _Part.DROPPED and self._at > 0 and not self._lines[self._at - 1].strip()

    def _body(self, part: _Part, *, is_inline: bool) -> list[str]:
        """Take the lines of a section: what is indented more than its title, or else the paragraph below."""
        margin = _indentation(self._lines[self._at])
        self._at += 1
        body = self._indented(margin)
        if any(line.strip() for line in body):
            return body if not is_inline else [line.strip() for line in body]
        described = part in {_Part.PARAMETERS, _Part.ATTRIBUTES}
        if body and (is_inline or not described):
            return []
        while self._at < len(self._lines) and not self._begins_part(self._at):
            line = self._lines[self._at]
            begins = not body or not body[-1].strip()  # a paragraph
            if (
                begins
                and line.strip()
                and described
                and not is_inline
                and _entry(line.strip(), underlined=False) is None
            ):
                break
            if not line.strip() and not described:
                break
            body.append(line)
            self._at += 1
        return body

    def _indented(self, margin: int) -> list[str]:
        """Take the blank lines and those that are indented by more than ``margin``."""
        start = self._at
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip() and _indentation(line) <= margin:
                break
            self._at += 1
        return list(self._lines[start : self._at])

    def _begins_part(self, at: int) -> bool:
        title, _ = self._header(at)
        known = title.lower() in _SECTIONS or _DIRECTIVE.match(self._lines[at]) is not None
        return known or self._underlined(at) is not None or self._field(at) is not None

    def _field(self, at: int) -> re.Match[str] | None:
        """Return the match if a line begins a field: its name, its argument and its text."""
        line = self._lines[at]
        match = _FIELD.match(line) or _TIGHT_FIELD.match(line)
        return match if match and match[1].lower() in _FIELDS else None

    def _read_field(self) -> bool:
        """Read a field of Sphinx's or epydoc's style, if one begins here."""
        match = self._field(self._at)
        if match is None:
            return False
        name, argument = match[1].lower(), (match[2] or "").strip()
        margin = _indentation(self._lines[self._at])
        self._at += 1
        body = []
        while self._at < len(self._lines) and self._lines[self._at].strip() and not self._begins_part(self._at):
            body.append(self._lines[self._at])  # also a continuation that is not indented
            self._at += 1
        body += self._indented(margin)
        text = _joined(match[3] or "", body)
        part = _FIELDS[name]
        if part is _Part.KEPT:
            title = _TITLES.get(name, name.capitalize())
            self._fields.setdefault(title, []).append(": ".join(filter(None, [argument, text])))
        elif part is not _Part.DROPPED and argument:
            names = argument.replace(",", " , ").split()
            for each in [names[at] for at in range(len(names)) if at == len(names) - 1 or names[at + 1] == ","]:
                self._name(part, each, text)
        return True

    def _read_directive(self) -> bool:
        """Read a directive of reStructuredText, if a known one begins here."""
        match = _DIRECTIVE.match(self._lines[self._at])
        part = _DIRECTIVES.get(match[1].lower()) if match else None
        if match is None or part is None:
            return False
        margin = _indentation(self._lines[self._at])
        self._at += 1
        text = _joined(match[2], self._indented(margin))
        if part is _Part.KEPT:
            self._keep(match[1].capitalize(), text.splitlines())
        return True

    def _take(self, title: str, part: _Part, body: Sequence[str], *, underlined: bool) -> None:
        lines = textwrap.dedent("\n".join(body)).strip("\n").splitlines()
        if part is _Part.KEPT:
            name = _TITLES.get(title.lower(), title.capitalize())
            self._keep(name, _in_lines(lines) if underlined and name in {"Returns", "Raises"} else lines)
        elif part is not _Part.DROPPED:
            for names, text in _entries(lines, underlined=underlined):
                for each in names:
                    self._name(part, each, text)

    def _name(self, part: _Part, name: str, text: str) -> None:
        found = self.parameters if part is _Part.PARAMETERS else self._attributes
        if text:
            found.setdefault(name.strip("`*\\"), text)

    def _keep(self, title: str, lines: Sequence[str]) -> None:
        """Add a section to the description: behind its title, or below if its lines must stay apart."""
        while lines and not lines[-1].strip():
            lines = lines[:-1]
        if not lines:
            return
        flat = all(line.strip() and not line[0].isspace() for line in lines)
        text = "\n".join(lines)
        if flat and (len(lines) == 1 or title not in _LISTS):
            self._said += ["", f"{title}: {text}", ""]
        else:
            self._said += ["", f"{title}:", textwrap.indent(text, "    "), ""]


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(first: str, rest: Sequence[str]) -> str:
    """Return a text whose first line stands behind a name, and whose other lines have an indentation of their own."""
    return inspect.cleandoc("\n".join([first, *rest])).strip()


def _entries(lines: Sequence[str], *, underlined: bool) -> Iterator[tuple[list[str], str]]:
    """Yield the names and the description of each entry of a section.

    Args:
        lines: The lines of the section.
        underlined: Whether its title is underlined, so that types stand behind the names.
    """
    names: list[str] = []
    rest: list[str] = []
    first, margin = "", 0
    for line in lines:
        found = _entry(line.strip(), underlined=underlined) if not names or _indentation(line) <= margin else None
        if line.strip() and found is not None:
            yield names, _described(first, rest, underlined=underlined)
            (names, first), rest, margin = found, [], _indentation(line)
        else:
            rest.append(line)
    yield names, _described(first, rest, underlined=underlined)


def _described(first: str, rest: Sequence[str], *, underlined: bool) -> str:
    """Return the description of an entry without the type, which may stand behind the name."""
    below = _joined("", rest)
    if underlined:
        is_text = not _ONLY_TYPES.fullmatch(first) and first[:1].isupper() and " " in first
        return below or (first if is_text else "")
    first, typed, text = first.partition("\0")
    return below if typed and below and _ONLY_TYPES.fullmatch(text) else _joined(first + text, rest)


def _entry(line: str, *, underlined: bool) -> tuple[list[str], str] | None:
    """Return the names that a line describes, and what stands behind them; None if it describes nothing.

    A type that stands behind ``name :`` is marked by a leading NUL, since it may as well be the description.
    """
    match = _NAMES.match(line)
    if match is None:
        return None
    names = [each.strip() for each in match[1].split(",")]
    rest = line[match.end() :]
    bracketed = rest.lstrip()[:1] in {"(", "["} and not underlined
    if bracketed:
        rest = _behind_brackets(rest.lstrip())
    if underlined and not rest.strip():
        return names, ""
    behind = re.match(r"(\s*)(?::(?![/:])|--|[-\u2013\u2014]\s)\s*(.*)", rest)
    if behind is None:
        return None
    spaced = behind[1] and not underlined and not bracketed
    return names, f"\0{behind[2]}" if spaced else behind[2]


def _behind_brackets(text: str) -> str:
    """Return what stands behind the bracket that closes the first one; what it encloses may be nested."""
    depth = 0
    for at, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return text[at + 1 :]
    return text


def _in_lines(lines: Sequence[str]) -> list[str]:
    """Return the entries of a section of NumPy's style in one piece each, as ``name: description``."""
    found: list[str] = []
    for line in lines:
        if not line.strip() or not line[0].isspace() or not found:
            found.append(line)
        else:
            found[-1] += (": " if ": " not in found[-1].replace(" : ", "") else " ") + line.strip()
    return [line for line in found if line.strip()]
