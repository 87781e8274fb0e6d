"""How many threads work on an operator: fewer while other programs need the cores.

A thread that has no core makes the others wait at the end of every operator, which a step of
training has hundreds of: beside one busy program two threads on two cores are slower than one.

In training all of torch's operators follow, too. Our loops and the gradients of our networks add up
in fixed pieces, so that the number of threads changes none of their bits; a sum of torch's own over
many rows, of which the audio net has some, may come out different in the last ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from radnerf.load import Load, Meter, cores

EVERY_S = 0.25  # between looks at the load
# Threads of ours that wait for a core, and cores that others use, from which on it is one too many.
CROWDED = 0.4
# Idle cores from which on there is room for one more.
ROOMY = 0.75


class Team(threading.local):
    """Every Python thread that asks has its own.

    Attributes:
        most: threads on a quiet machine: as many as torch was given, or as there are cores.
        size: threads now.
    """

    def __init__(self) -> None:
        self._given = self._set = self.most = self.size = torch.get_num_threads()
        self._meter, self._looked = Meter(), time.monotonic()

    def look(self) -> int:
        """The number of threads, after a look at the load if the last one was a while ago."""
        if (given := torch.get_num_threads()) != self._set:  # somebody chose another number
            self._given = self._set = self.most = self.size = given
        if time.monotonic() - self._looked >= EVERY_S:
            load, self._looked = self._meter.look(), time.monotonic()
            self.most = min(self._given, cores())
            self.size = min(self.most, resized(self.size, load) if load else self.most)
        return self.size

    def elements(self) -> None:
        """From now on torch's operators have as many threads as our loops."""
        self._give(self.look())

    @contextmanager
    def on_elements(self) -> Iterator[None]:
        """As elements(), for as long as the context lasts."""
        before = torch.get_num_threads()
        self.elements()
        try:
            yield
        finally:
            self._give(before)

    def rest(self) -> None:
        """Torch's operators have as many threads as they were given."""
        self._give(self._given)

    def _give(self, threads: int) -> None:
        if threads != self._set:
            torch.set_num_threads(threads)
            self._set = torch.get_num_threads()


def resized(size: int, load: Load) -> int:
    """How many threads there should be after this load of so many."""
    if load.waited > CROWDED and load.others > CROWDED:
        return max(1, size - max(1, round(load.waited)))
    return size + 1 if load.idle > ROOMY else size


team = Team()
