"""Proves that the built wheel works without the repository: ``python -m tests.packaging``.

It is installed into bare environments, and each extra is tried alone, in one that has nothing else.
``make dist`` builds the wheel and runs this. It is no part of the test run, because it takes packages from the index.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
UV = str(Path(sys.executable).with_name("uv"))
TIMEOUT = 120  # seconds for one command, installing included

CORE = """
    import importlib.metadata
    import urllib.request

    import inferencesh
    from inferencesh import Inference
    from inferencesh.local import BackgroundRuntime

    assert ".bare" in inferencesh.__file__, inferencesh.__file__
    for name in inferencesh.__all__:
        getattr(inferencesh, name)
    assert importlib.metadata.version("inferencesh") == inferencesh.__version__
    with Inference.local(pace=0) as client:
        agent = client.agent({"name": "storyteller"})
        snapshots = list(agent.send_message("Tell me a story", stream=True))
        assert snapshots[-1].done and len(snapshots[-1].text) > 20, snapshots
    with BackgroundRuntime(playground="loopback") as address, urllib.request.urlopen(address.base_url) as page:
        assert b"<title>" in page.read()
"""

# What each extra is for, in a program that fails without it.
EXTRAS = {
    "cli": """
        import os, pathlib, pty, subprocess, sys, tempfile

        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": tempfile.mkdtemp()}
        command = [pathlib.Path(sys.executable).with_name("inferencesh"), "chat", "--local", "Tell me a story"]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as chat:
            os.close(theirs)
            shown = b""
            try:
                while piece := os.read(ours, 4096):
                    shown += piece
            except OSError:  # which Linux raises at the end
                pass
        os.close(ours)
        assert chat.returncode == 0 and b"rocket" in shown, shown
        assert b"pip install" not in shown, shown  # what the plain chat recommends
    """,
    "llm": """
        import xllamacpp

        from inferencesh.local.models import LlamaModel

        LlamaModel()  # which is not loaded before its first message
    """,
    "otel": """
        from opentelemetry import trace
        from inferencesh import Inference

        names = []

        class Tracer(trace.NoOpTracer):
            def start_span(self, name, *args, **kwargs):
                names.append(name)
                return super().start_span(name, *args, **kwargs)

        class Provider(trace.NoOpTracerProvider):
            def get_tracer(self, *args, **kwargs):
                return Tracer()

        trace.set_tracer_provider(Provider())
        with Inference.local(pace=0) as client:
            client.agent({"name": "greeter"}).send_message("Hello")
        assert names, "no span was started"
    """,
    "redis": """
        import asyncio

        from inferencesh import ClaimStoreError, RedisClaims

        try:
            asyncio.run(RedisClaims("redis://127.0.0.1:1/0", patience=0).check())
        except ClaimStoreError as error:
            assert "cannot be reached" in str(error), error
        else:
            raise AssertionError("port 1 answered")
    """,
    "testing": """
        import pathlib, subprocess, sys, tempfile

        test = pathlib.Path(tempfile.mkdtemp(), "test_greeting.py")
        test.write_text('''
        def test_blocking(inference_runtime, inference_client):
            inference_runtime.reply("Good morning")
            assert inference_client.agent({"name": "greeter"}).send_message("Hello?").text == "Good morning"

        async def test_async(inference_runtime, async_inference_client):
            inference_runtime.reply("Good morning")
            reply = await async_inference_client.agent({"name": "greeter"}).send_message("Hello?")
            assert reply.text == "Good morning"
        '''.replace("\\n        ", "\\n"))
        command = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", test]
        run = subprocess.run(command, capture_output=True, text=True, cwd=test.parent)
        assert run.returncode == 0 and "2 passed" in run.stdout, run.stdout + run.stderr
    """,
    "playground": """
        from inferencesh import web

        assert "<strong>" in web.render_markdown("**bold**").html  # the playground uses the same function
    """,
    "web": """
        from inferencesh import web

        assert "<strong>" in web.render_markdown("**bold**").html
        assert (web.page_files() / "messages.js").is_file()
    """,
}


def main() -> None:
    """Try the wheel and the source distribution of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist", help="where the wheel is")
    folder: Path = parser.parse_args().folder.resolve()
    (wheel,) = folder.glob("inferencesh-*.whl")
    (source,) = folder.glob("inferencesh-*.tar.gz")
    check_contents(wheel, source)
    with tempfile.TemporaryDirectory(suffix=".bare") as parent:
        for extra in (None, *EXTRAS):
            check_install(wheel, extra, Path(parent) / (extra or "core"))
    print(f"{wheel.name}: {wheel.stat().st_size / 1000:.0f} KB; {source.name}: {source.stat().st_size / 1000:.0f} KB")


def check_contents(wheel: Path, source: Path) -> None:
    """Raise AssertionError when a file of the package is missing in either, or something else is in the wheel."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "inferencesh").rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    assert "inferencesh/py.typed" in expected
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == expected, f"the wheel and the package differ: {sorted(inside ^ expected)}"
    with tarfile.open(source) as archive_of_source:
        names = {name.partition("/")[2] for name in archive_of_source.getnames()}
    assert expected < names, f"missing in the source distribution: {sorted(expected - names)}"
    print(f"contents: {len(inside)} files of the package, {sum('static' in name for name in inside)} of them of pages")


def check_install(wheel: Path, extra: str | None, folder: Path) -> None:
    """Install the wheel with one extra, or none, into a new environment, and run the programs that need it."""
    _run([UV, "venv", "--quiet", "--python", sys.executable, str(folder)])
    python = folder / "bin" / "python"
    name = f"{wheel}[{extra}]" if extra else str(wheel)
    _run([UV, "pip", "install", "--quiet", "--python", str(python), name])
    programs = [CORE, EXTRAS[extra]] if extra else [CORE]
    for program in programs:
        _run([str(python), "-W", "error", "-c", textwrap.dedent(program)], folder)
    if extra is None:
        check_commands(folder)
    packages = _run([UV, "pip", "list", "--quiet", "--format", "freeze", "--python", str(python)]).splitlines()
    print(f"{f'extra {extra}' if extra else 'no extra'}: works alone, {len(packages)} packages", flush=True)


def check_commands(folder: Path) -> None:
    """Raise AssertionError when the command of a wheel without extras does not work."""
    command = str(folder / "bin" / "inferencesh")
    assert re.fullmatch(r"inferencesh \d+\.\d+\.\d+\S*\n", _run([command, "--version"]))
    assert "You said" in _run([command, "chat", "--local", "Hello"])


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    """Run a command without this project in its paths and return its standard output; AssertionError when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INFERENCE"))}
    run = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, env=environment, timeout=TIMEOUT
    )
    assert run.returncode == 0, f"{command} failed:\n{run.stdout}{run.stderr}"
    return run.stdout


if __name__ == "__main__":
    main()
