"""The plans of turns, which determine their texts and calls for the model, the tools and the checks.

A message is ``turn <id> calls <n>+<n>...``, with the number of tool calls in each round before the last text.
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
_MIN_WORDS, _MAX_WORDS = 4, 12  # of each message


@attrs.frozen
class Plan:
    """The plan of one turn.

    Attributes:
        turn_id: The id of the turn, which every text of it contains.
        rounds: The number of calls in each round.
    """

    turn_id: str
    rounds: tuple[int, ...]

    @classmethod
    def generate(cls, turn_id: str, rng: random.Random) -> Plan:
        """Return a random plan. Most turns have one call; some have none, or several in parallel or in sequence."""
        rounds = rng.choices([(1,), (2,), (1, 1), (0,)], (55, 20, 15, 10))[0]
        return cls(turn_id, rounds)

    @classmethod
    def read(cls, message: str) -> Plan | None:
        """Return the plan that a message contains, or None."""
        found = _MESSAGE.match(message)
        return None if found is None else cls(found[1], tuple(map(int, found[2].split("+"))))

    @property
    def message(self) -> str:
        """The message of the user."""
        return f"turn {self.turn_id} calls {'+'.join(map(str, self.rounds))}"

    @property
    def calls(self) -> list[str]:
        """The arguments of all calls, which are all different."""
        return [f"{self.turn_id}/{number}" for number in range(sum(self.rounds))]

    def round_of(self, results: int) -> list[str] | None:
        """Return the arguments of the calls after a number of results, or None if the last text follows."""
        before = 0
        for count in self.rounds:
            if results == before and count:
                return self.calls[before : before + count]
            before += count
        return None

    def words(self, results: Sequence[str]) -> list[str]:
        """Return the words of the message after some results; the last message contains all results."""
        rng = random.Random(f"{self.turn_id}/{len(results)}")
        filler = rng.choices(_WORDS, k=rng.randint(_MIN_WORDS, _MAX_WORDS))
        if self.round_of(len(results)) is not None:
            return [self.turn_id, "asks:", *filler]
        return [self.turn_id, "ends:", *filler, *results, "whole."]

    def text(self, results: Iterable[str]) -> str:
        """Return the text of the last message of the turn."""
        return " ".join(self.words(list(results)))
