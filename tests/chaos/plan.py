"""What the turns of a run say and call, known to the model, to the tools and to the checks alike.

A message is ``turn <id> calls <n>+<n>...``: so many calls of the tool in each round, before the last text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

import attrs

__all__ = ["TOOL", "Plan"]

TOOL = "measure"
_MESSAGE = re.compile(r"^turn (\S+) calls ([\d+]+)$")
_WORDS = ("alpha", "beta", "gamma", "delta", "Привет", "日本語", "café", "—", "“x”", "🎉", "omega")
_FEWEST, _MOST = 4, 12  # words of each message


@attrs.frozen
class Plan:
    """One turn.

    Attributes:
        turn_id: Its id, which is in every text of it.
        rounds: The number of calls of each round.
    """

    turn_id: str
    rounds: tuple[int, ...]

    @classmethod
    def generate(cls, turn_id: str, rng: random.Random) -> Plan:
        """Draw one: most turns call one tool, some several at once or one after the other, some none."""
        rounds = rng.choices([(1,), (2,), (1, 1), (0,)], (55, 20, 15, 10))[0]
        return cls(turn_id, rounds)

    @classmethod
    def read(cls, message: str) -> Plan | None:
        """Read the plan of a message, or return None if it has none."""
        found = _MESSAGE.match(message)
        return None if found is None else cls(found[1], tuple(map(int, found[2].split("+"))))

    @property
    def message(self) -> str:
        """What the person writes."""
        return f"turn {self.turn_id} calls {'+'.join(map(str, self.rounds))}"

    @property
    def calls(self) -> list[str]:
        """The arguments of all calls, each one's own."""
        return [f"{self.turn_id}/{number}" for number in range(sum(self.rounds))]

    def round_of(self, results: int) -> list[str] | None:
        """Return the arguments of the calls that follow on so many results, or None if it is time for the last text."""
        before = 0
        for count in self.rounds:
            if results == before and count:
                return self.calls[before : before + count]
            before += count
        return None

    def words(self, results: Sequence[str]) -> list[str]:
        """Return the words of the message that follows on some results: of the last one all results are part."""
        rng = random.Random(f"{self.turn_id}/{len(results)}")
        filler = rng.choices(_WORDS, k=rng.randint(_FEWEST, _MOST))
        if self.round_of(len(results)) is not None:
            return [self.turn_id, "asks:", *filler]
        return [self.turn_id, "ends:", *filler, *results, "whole."]

    def text(self, results: Iterable[str]) -> str:
        """Return the text of the last message."""
        return " ".join(self.words(list(results)))
