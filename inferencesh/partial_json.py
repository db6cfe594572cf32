"""JSON that is still being written: what is complete of it.

jiter reads text that breaks off. What it takes for the end of a number may be its middle, so that is left out here.
"""

from __future__ import annotations

__all__ = ["read_partial"]

_OF_A_NUMBER = "0123456789+-.eE"
_BEGINS_A_NUMBER = "-0123456789"


def read_partial(text: str, *, over: bool = False) -> object:
    """Read the complete part of a JSON value whose text may break off anywhere.

    Args:
        text: The text so far.
        over: Whether no more of it will come, so that a number at its end is complete.

    Returns:
        Objects and lists hold the entries that are complete; a string, number or literal still being written is not
        there yet. None when nothing is complete, and when the text is no JSON.
    """
    settled = text.rstrip(_OF_A_NUMBER)
    if text[len(settled) :].startswith(tuple(_BEGINS_A_NUMBER)):
        if over and (whole := _read(text, partial=False)) is not None:
            return whole
        text = settled
    return _read(text, partial=True)


def _read(text: str, *, partial: bool) -> object:
    import jiter

    data = text.encode(errors="replace")
    try:
        value: object = jiter.from_json(data, partial_mode=partial, allow_inf_nan=False, cache_mode="none")
    except ValueError:  # nothing yet, or no JSON at all: it comes from a language model
        return None
    return value
