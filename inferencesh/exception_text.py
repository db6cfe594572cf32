"""What exceptions of the user's code say, where their own text may fail to come into being."""

from __future__ import annotations

__all__ = ["exception_text", "typed_text"]


def exception_text(error: BaseException) -> str:
    """Return an exception's text; "" where it has none, or where making it fails.

    Args:
        error: The exception.
    """
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the text is made by code of the user, which may raise anything
        return ""


def typed_text(error: BaseException) -> str:
    """Return the name of an exception's class with its text, as in ``ValueError: no such city``.

    Args:
        error: The exception.
    """
    name, text = type(error).__name__, exception_text(error)
    return f"{name}: {text}" if text else name
