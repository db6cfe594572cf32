"""Lists that are handed out page by page."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, TypeVar

from inferencesh.local.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferencesh.local.records import Record, Wire

__all__ = ["listed", "newest_page", "page"]

RecordT = TypeVar("RecordT", bound="Record")


def page(records: Sequence[RecordT], limit: int, cursor: str | None) -> tuple[Sequence[RecordT], str]:
    """Return the newest records before `cursor` with the cursor of the page before them.

    Args:
        records: Oldest first.
        limit: How many a page has.
        cursor: What the previous page gave; None for the newest page.

    Returns:
        The page, oldest first as well, and the next cursor, empty when nothing older is left.

    Raises:
        ProblemError: 422 when the cursor is none of this list's.
    """
    end = len(records)
    if cursor:
        end = next((at for at, each in enumerate(records) if each.id == cursor), -1)
        if end < 0:
            raise invalid("cursor", "is not one that this list has given out.")
    start = max(0, end - limit)
    return records[start:end], records[start].id if start else ""


def newest_page(records: Iterable[RecordT], limit: int, cursor: str | None) -> tuple[list[RecordT], str]:
    """Return a page of what comes and goes at any time, newest first, with the cursor of the page after it.

    The cursor says where the page ended and not which record stood there: what is added meanwhile appears on no later
    page, and what is deleted meanwhile, be it the last one of the page, disturbs none.

    Args:
        records: In any order.
        limit: How many a page has.
        cursor: What the previous page gave; None for the first page.

    Raises:
        ProblemError: 422 when the cursor is none that was given out.
    """
    last = _decode(cursor) if cursor else None
    older = [each for each in records if last is None or _place(each) < last]
    older.sort(key=_place, reverse=True)
    chosen = older[:limit]
    return chosen, _encode(_place(chosen[-1])) if len(older) > limit else ""


def listed(items: Sequence[Wire], cursor: str) -> Wire:
    """Return a page as the wire has it."""
    return {
        "items": items,
        "next_cursor": cursor,
        "prev_cursor": "",
        "has_next": bool(cursor),
        "has_previous": False,
        "items_per_page": len(items),
    }


def _place(record: Record) -> tuple[str, str]:
    return record.created_at, record.id


def _encode(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(" ".join(place).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid("cursor", "is not one that this list has given out.") from error
    created_at, space, identifier = text.partition(" ")
    if not space:
        raise invalid("cursor", "is not one that this list has given out.")
    return created_at, identifier
