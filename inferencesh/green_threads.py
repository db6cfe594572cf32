"""Refusing to start a thread where gevent or eventlet has replaced threads by something else."""

from __future__ import annotations

import sys

from .errors import ConfigurationError

__all__ = ["check_threads"]

# Where each says what it has replaced, and the replacements that an event loop in a thread does not survive: all
# "threads" are then one thread, which can run one event loop only, or the loop waits for what nobody else sees.
_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched", ("threading", "queue", "select")),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", ("thread", "select")),
)


def check_threads(what: str) -> None:
    """Check that threads are what they are in Python.

    Args:
        what: What needs them, for the message.

    Raises:
        ConfigurationError: They were replaced.
    """
    for name, module, is_patched, parts in _PATCHERS:
        patcher = sys.modules.get(module)
        if patcher is not None and any(getattr(patcher, is_patched)(part) for part in parts):
            raise ConfigurationError(
                f"{what} needs a thread of its own for its event loop, and {name} has replaced threads, or what they "
                f"wait with, in this process; use it in a process that is not monkey-patched, such as one of "
                f"Gunicorn's gthread workers or of Celery's prefork or threads pool"
            )
