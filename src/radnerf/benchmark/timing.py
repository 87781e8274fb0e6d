"""The contract of every figure: warmed up, synchronised, interleaved, median and percentile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call."""

    median: float
    p95: float
    calls: int


def measure(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    warm_up: int = 2,
    least: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time calls that do the same work, turn by turn, so that a busy machine is unfair to none.

    Args:
        seconds: for all rounds together, once every call has run warm_up + least times.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = clock() + seconds
    while len(next(iter(times.values()))) < least or clock() < end:
        for name, call in calls.items():
            synchronise()
            began = clock()
            call()
            synchronise()
            times[name].append(1e3 * (clock() - began))
    return {
        name: Timing(float(np.median(t)), float(np.percentile(t, 95)), len(t))
        for name, t in times.items()
    }


def synchronise() -> None:
    """Wait until the GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
