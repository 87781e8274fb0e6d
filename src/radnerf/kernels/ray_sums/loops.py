"""Numba loops of sums along rays: a ray a task."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import loop


@loop
def before(values, offsets, sums):
    """Fills sums [m]: what comes before each sample."""
    for ray in prange(len(offsets) - 1):
        total = np.float32(0)
        for i in range(offsets[ray], offsets[ray + 1]):
            sums[i] = total
            total += values[i]


@loop
def behind(values, offsets, sums):
    """Fills sums [m]: what comes behind each sample, which is the gradient of before()."""
    for ray in prange(len(offsets) - 1):
        total = np.float32(0)
        for i in range(offsets[ray + 1] - 1, offsets[ray] - 1, -1):
            sums[i] = total
            total += values[i]
