"""Build the reference pages, one for each public module, in ``build/docs``.

    python -W error -m docs [directory]

pdoc does the work. This program tells it the names under which things are imported, and leaves out what only the
package itself can make or name.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pdoc.doc
import pdoc.render

__all__ = ["PAGES", "build", "public_names"]

PAGES = ("inferencesh", "inferencesh.local", "inferencesh.local.models", "inferencesh.testing", "inferencesh.web")
_OWN_NAME = re.compile(r"\binferencesh(?:\.\w+)+")


def build(directory: Path) -> None:
    """Write the pages.

    Args:
        directory: The directory to write to; it is created if it does not exist.
    """
    public = public_names()
    modules = {page: pdoc.doc.Module.from_name(page) for page in PAGES}
    for module in modules.values():
        for member in module.members.values():
            if isinstance(member, pdoc.doc.Class):
                _prepare_class(member, public)
            elif isinstance(member, pdoc.doc.Function):
                member.signature = _without_private(member.signature, public)
    pdoc.render.configure(docformat="google", show_source=False)
    for name, module in modules.items():
        _write(directory / f"{name.replace('.', '/')}.html", pdoc.render.html_module(module, modules))
    _write(directory / "index.html", pdoc.render.html_index(modules))
    _write(directory / "search.js", pdoc.render.search_index(modules))


def public_names() -> dict[str, str]:
    """Return the full public names of classes and functions, by the full names of their definitions."""
    found: dict[str, str] = {}
    for page in PAGES:
        module = importlib.import_module(page)
        for name in module.__all__:
            thing = getattr(module, name)
            setattr(module, name, thing)  # pdoc needs it there, also where it is imported lazily
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.setdefault(f"{thing.__module__}.{thing.__qualname__}", f"{page}.{name}")
    return found


def _prepare_class(cls: pdoc.doc.Class, public: dict[str, str]) -> None:
    """Leave out what is not for users, and show members of internal bases as the class's own."""
    for name, member in list(cls.members.items()):
        module, qualname = member.taken_from
        if _is_private(_described(member), public):
            del cls.members[name]
        elif module.partition(".")[0] == "inferencesh":
            base = f"{module}.{qualname.rpartition('.')[0]}"
            own = base == f"{cls.obj.__module__}.{cls.obj.__qualname__}"
            page, _, class_name = (cls.fullname if own else public.get(base, cls.fullname)).rpartition(".")
            member.taken_from = (page, f"{class_name}.{name}")
        if name == "__init__" and attrs.has(cls.obj):
            member.docstring = ""  # made by attrs, it says nothing
    cls.bases = [_public_base(base, public) for base in cls.bases if not _is_private(f"{base[0]}.{base[1]}", public)]


def _public_base(base: tuple[str, str, str], public: dict[str, str]) -> tuple[str, str, str]:
    module, qualname, text = base
    full = public.get(f"{module}.{qualname}")
    return base if full is None else (full.rpartition(".")[0], qualname, text.replace(f"{module}.{qualname}", full))


def _described(member: pdoc.doc.Doc[object]) -> str:
    """Return the annotations of a member."""
    if isinstance(member, pdoc.doc.Function):
        return str(member.signature)
    return member.annotation_str if isinstance(member, pdoc.doc.Variable) else ""


def _is_private(text: str, public: dict[str, str]) -> bool:
    """Whether a text names something of this package that is not public."""
    return any(_is_ours_alone(name, public) for name in _OWN_NAME.findall(text))


def _is_ours_alone(name: str, public: dict[str, str]) -> bool:
    return name not in public and name not in PAGES


def _without_private(signature: inspect.Signature, public: dict[str, str]) -> inspect.Signature:
    """Return a signature without the annotations that name something internal."""

    def parameters() -> Iterator[inspect.Parameter]:
        for each in signature.parameters.values():
            yield each.replace(annotation=each.empty) if _is_private(str(each), public) else each

    return signature.replace(parameters=list(parameters()))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs"))
