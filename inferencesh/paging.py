"""Lists that the service hands out page by page, as async iterators that read a page when it is needed.

They hold nothing open between two pages, so they may be dropped anywhere; and a page that could not be read is asked
for again by whoever goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, Self, TypeAlias, TypeVar

from .uncopied import Uncopied

__all__ = ["Items", "Page", "Pages", "objects"]

T = TypeVar("T")
Page: TypeAlias = list[Mapping[str, Any]]


class Pages(Uncopied):
    """The pages of a list.

    Args:
        read: Reads the page that a cursor leads to; it is given what to add to the request, nothing for the first.
    """

    def __init__(self, read: Callable[[Mapping[str, str]], Awaitable[object]]) -> None:
        self._read = read
        self._cursor: Mapping[str, str] | None = {}  # None at the end
        self._seen = {""}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page:
        if self._cursor is None:
            raise StopAsyncIteration
        page = await self._read(self._cursor)
        self._cursor = self._following(page)
        return objects(page.get("items") if isinstance(page, dict) else page)

    def _following(self, page: object) -> Mapping[str, str] | None:
        """Where the next page is; a cursor that comes back again is the end, lest this goes in circles."""
        if not isinstance(page, dict) or page.get("has_next") is False:
            return None
        cursor = page.get("next_cursor")
        if not isinstance(cursor, str) or cursor in self._seen:
            return None
        self._seen.add(cursor)
        return {"cursor": cursor}


class Items(Uncopied, Generic[T]):
    """What is in the pages, one by one.

    Args:
        pages: The pages.
        read: Makes what is wanted of a page's items, in the order that is wanted.
    """

    def __init__(self, pages: Pages, read: Callable[[Page], Iterable[T]]) -> None:
        self._pages = pages
        self._read = read
        self._waiting: deque[T] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            self._waiting.extend(self._read(await anext(self._pages)))
        return self._waiting.popleft()


def objects(value: object) -> Page:
    """The objects in a list that a server sent; anything else is no list, or none of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
