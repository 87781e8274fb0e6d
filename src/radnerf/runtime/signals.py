"""Signals that ask a training to stop: the step is finished and saved first."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

# Slurm announces the end of a job by SIGTERM, or earlier by the signal of `--signal=USR1@60`.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Takes note of a signal instead of leaving in the middle of a step.

    Attributes:
        number: the signal's, or 0.
    """

    def __init__(self) -> None:
        self.number = 0

    def listen(self) -> None:
        """From now on signals are noted; a second Ctrl-C interrupts at once.

        Signals that this process ignores stay ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may; whoever started this one takes the signals
        for name in STOPPING:
            if signal.getsignal(name) is not signal.SIG_IGN:
                signal.signal(name, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


def leave(number: int) -> NoReturn:
    """End the program as the signal would have."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
