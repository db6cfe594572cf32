"""When a turn's chat is to be read again although nothing has come: the times of one turn, and nothing of messages.

Times are seconds of any origin, passed to each call. They bound how long a server that says less than others makes a
caller wait, never how long a run may take.
"""

from __future__ import annotations

__all__ = ["MISSING_BEFORE_READ", "REREAD_EVERY", "RereadSchedule"]

MISSING_BEFORE_READ = 0.3  # deltas or updates came for a message that is not known well enough
FIRST_SILENCE = 2.0  # nothing at all has come; doubles up to LONGEST_SILENCE
SILENCE = 10.0  # nothing more has come; doubles up to LONGEST_SILENCE
LONGEST_SILENCE = 60.0
REREAD_EVERY = 1.0  # while waiting for what must come soon


class RereadSchedule:
    """Says when the chat is to be read, and for how long what must come has not come.

    Attributes:
        wanted: Whether the chat is to be read now.
        planned: When it is to be read if nothing comes before, or None.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.planned: float | None = None
        self._last_event = 0.0
        self._silence = FIRST_SILENCE
        self._missing_since: float | None = None
        self._stuck_since: float | None = None

    # -- what has happened -----------------------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """The stream has brought something."""
        self._last_event = now
        self._silence = SILENCE

    def restart_quiet(self, now: float) -> None:
        """This side has asked, or told the server something: what follows from that is given time to come."""
        self._last_event = now

    def miss(self, now: float) -> None:
        """Something will have to be read, unless the stream brings it in a moment."""
        if self._missing_since is None:
            self._missing_since = now

    def read(self) -> None:
        """The chat was read, or cannot be: whatever that was wanted for is settled."""
        self.wanted = False
        self.planned = None
        self._missing_since = None

    def resume(self, now: float) -> None:
        """A pause is over: begin anew, with a look at the chat."""
        self.wanted = True
        self._stuck_since = None
        self._silence = FIRST_SILENCE
        self._last_event = now

    # -- what is to happen -----------------------------------------------------------------------------------------

    def plan(self, moment: float) -> None:
        """Have the chat read at a moment, unless one is planned already."""
        if self.planned is None:
            self.planned = moment

    def await_news(self, now: float, *, fresh: bool) -> None:
        """Have the chat read at once, and then at intervals; ``fresh`` is whether it was read just now."""
        if self.planned is None and not self.wanted:
            if fresh:
                self.planned = now + REREAD_EVERY
            else:
                self.wanted = True

    def tick(self, now: float) -> None:
        """Have the chat read if a moment for it has come."""
        if self.planned is not None and now >= self.planned:
            self.planned = None
            self.wanted = True
        if self._missing_since is not None and now >= self._missing_since + MISSING_BEFORE_READ:
            self._missing_since = None
            self.wanted = True

    def tick_silence(self, now: float) -> None:
        """Have the chat read if it was silent for long; what counts as long doubles each time."""
        if now - self._last_event >= self._silence:
            self._silence = min(self._silence * 2, LONGEST_SILENCE)
            self._last_event = now
            self.wanted = True

    # -- patience --------------------------------------------------------------------------------------------------

    @property
    def misses(self) -> bool:
        """Whether something will have to be read, unless the stream brings it in a moment."""
        return self._missing_since is not None

    def quiet(self, now: float) -> float:
        """For how long nothing has come, in seconds."""
        return now - self._last_event

    def stuck(self, now: float) -> float:
        """For how long what must come has not come, in seconds, from the first time that this is asked."""
        if self._stuck_since is None:
            self._stuck_since = now
        return now - self._stuck_since

    def unstuck(self) -> None:
        """Nothing must come soon any more."""
        self._stuck_since = None

    def deadline(self, quiet: float | None) -> float:
        """When to look again if nothing comes before.

        Args:
            quiet: The seconds without anything after which somebody else wants to look, or None.
        """
        moments = [self._last_event + self._silence]
        if self.planned is not None:
            moments.append(self.planned)
        if self._missing_since is not None:
            moments.append(self._missing_since + MISSING_BEFORE_READ)
        if quiet is not None:
            moments.append(self._last_event + quiet)
        return min(moments)
