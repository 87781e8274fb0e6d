"""Whether the machine gives a training less than it could, said without flicker."""

from __future__ import annotations

import time

from radnerf.load import Meter

LOOK_S, SMOOTH_S = 2.0, 15.0  # between two looks, and over how long they are averaged
BUSY, QUIET = 0.8, 0.9  # of the usual speed: below it is said, above no more


class Busyness:
    """Looks at the machine's load now and then.

    Attributes:
        note: what to say of it now, or nothing.
    """

    def __init__(self, meter: Meter) -> None:
        self.note = ""
        self._meter = meter
        self._looked = time.monotonic()
        self._left = 1.0

    def look(self) -> str:
        """The note of now; most calls cost nothing."""
        now = time.monotonic()
        if (passed := now - self._looked) < LOOK_S:
            return self.note
        self._looked = now
        load = self._meter.look()
        if load is None:
            return self.note
        self._left += (load.left - self._left) * min(1.0, passed / SMOOTH_S)
        if self._left < BUSY or (self.note and self._left < QUIET):
            self.note = f"machine busy: {5 * round(20 * self._left)} % of its usual speed"
        else:
            self.note = ""
        return self.note
