"""Pagination: one page of a list, the cursor of the next, and their wire form."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, TypeVar

from inferencesh.local.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferencesh.local.records import Record, Wire

__all__ = ["MAX_PAGE", "message_page", "newest_page", "page_wire", "read_page_limit"]

DEFAULT_PAGE, MAX_PAGE = 50, 200

RecordT = TypeVar("RecordT", bound="Record")


def read_page_limit(value: str | int | None) -> int:
    """Return the number of items on a page: ``value``, at most ``MAX_PAGE``, or the default.

    Raises:
        ProblemError: 422 if it is not a positive whole number.
    """
    if value is None or value == "":
        return DEFAULT_PAGE
    try:
        limit = int(value)
    except ValueError as error:
        raise invalid("limit", "must be a whole number.") from error
    if limit < 1:
        raise invalid("limit", "must be 1 or more.")
    return min(limit, MAX_PAGE)


def message_page(records: Sequence[RecordT], limit: int, cursor: str | None) -> tuple[Sequence[RecordT], str]:
    """Return a page of a list that only grows, newest page first, and the cursor of the next older page.

    Args:
        records: The whole list, oldest first.
        limit: The maximum number of records on a page.
        cursor: The cursor returned with the previous page; None for the newest page.

    Returns:
        The page, oldest first, and the next cursor, which is empty if there is no older page.

    Raises:
        ProblemError: 422 if the cursor does not belong to this list.
    """
    end = len(records)
    if cursor:
        end = next((at for at, each in enumerate(records) if each.id == cursor), -1)
        if end < 0:
            raise invalid("cursor", "is not a cursor of this list.")
    start = max(0, end - limit)
    return records[start:end], records[start].id if start else ""


def newest_page(records: Iterable[RecordT], limit: int, cursor: str | None) -> tuple[list[RecordT], str]:
    """Return a page of a list whose records come and go, newest record first, and the cursor of the next page.

    The cursor contains the position of the last record of the page, so that it stays valid if that record is deleted,
    and records added in the meantime do not appear on later pages.

    Args:
        records: The whole list, in any order.
        limit: The maximum number of records on a page.
        cursor: The cursor returned with the previous page; None for the first page.

    Returns:
        The page and the next cursor, which is empty if this is the last page.

    Raises:
        ProblemError: 422 if the cursor is malformed.
    """
    last = _decode(cursor) if cursor else None
    older = [each for each in records if last is None or _position(each) < last]
    older.sort(key=_position, reverse=True)
    chosen = older[:limit]
    return chosen, _encode(_position(chosen[-1])) if len(older) > limit else ""


def page_wire(items: Sequence[Wire], cursor: str) -> Wire:
    """Return a page in wire form."""
    return {
        "items": items,
        "next_cursor": cursor,
        "prev_cursor": "",
        "has_next": bool(cursor),
        "has_previous": False,
        "items_per_page": len(items),
    }


def _position(record: Record) -> tuple[str, str]:
    return record.created_at, record.id


def _encode(position: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(" ".join(position).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid("cursor", "is not a cursor of this list.") from error
    created_at, space, identifier = text.partition(" ")
    if not space:
        raise invalid("cursor", "is not a cursor of this list.")
    return created_at, identifier
