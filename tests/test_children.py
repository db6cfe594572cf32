"""What tests start in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from .children import start

PROGRAM = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


@pytest.mark.parametrize("mine", [signal.SIG_IGN, signal.default_int_handler])
def test_a_child_can_be_interrupted(mine: signal.Handlers) -> None:
    """Also where the tests themselves were started in the background, and that stays as it was."""
    before = signal.signal(signal.SIGINT, mine)
    try:
        with start([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as child:
            assert child.communicate()[0] == "True\n"
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
