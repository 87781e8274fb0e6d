"""Time and steps that a training stage may use; learning-rate schedules follow it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Wall-clock minutes, a number of steps, or whichever of both ends first.

    Attributes:
        minutes, steps: the limits; at least one is given.
        extra: it is more of a stage that has ended: what changes over a stage stays where it was.
        used_s: seconds of earlier runs of the same stage, restored from its checkpoint.
        agreed_s: what elapsed_s is while several processes follow one clock.
    """

    minutes: float | None = None
    steps: int | None = None
    extra: bool = False
    used_s: float = 0.0
    agreed_s: float | None = None
    _started: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ValueError("a budget needs minutes or steps")

    def start(self) -> None:
        """Let the clock run from now."""
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds used, earlier runs included."""
        return self.measured_s if self.agreed_s is None else self.agreed_s

    @property
    def measured_s(self) -> float:
        """Seconds used by this process's clock."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self.used_s + running

    def progress(self, step: int) -> float:
        """Share of the budget used after a number of steps, 0 to 1."""
        by_time = self.elapsed_s / (60 * self.minutes) if self.minutes else 0.0
        by_steps = step / self.steps if self.steps else 0.0
        return min(1.0, max(by_time, by_steps))

    def remaining_s(self, step: int) -> float:
        """Estimated seconds to the end, from the fraction used so far."""
        done = self.progress(step)
        return self.elapsed_s * (1 - done) / done if done > 0 else float("nan")
