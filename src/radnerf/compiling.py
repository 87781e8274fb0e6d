"""A word when something is compiled, which the first start on a machine waits for."""

from __future__ import annotations

import logging
from functools import cache

from numba.core import event

log = logging.getLogger(__name__)


@cache
def say_when_compiling() -> None:
    """From now on, log the first compilation of this process; what is on disk needs none."""
    event.register("numba:compile", _Word())


class _Word(event.Listener):
    said = False

    def on_start(self, _event: event.Event) -> None:
        if not self.said:
            self.said = True
            log.info("compiling for this machine: up to a minute or two, kept for later starts")

    def on_end(self, _event: event.Event) -> None:
        pass
