"""Objects that stand for something open, of which there cannot be a second one."""

from __future__ import annotations

from typing import ClassVar, NoReturn, SupportsIndex

__all__ = ["Uncopied"]


class Uncopied:
    """Refuses to be copied and pickled, by ``copy``, ``pickle`` and what uses them, such as ``dataclasses.asdict``."""

    _instead: ClassVar[str] = "take it from a client of its own where it is needed"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} objects cannot be copied or pickled, because they hold connections of this "
            f"process; {self._instead}"
        )
