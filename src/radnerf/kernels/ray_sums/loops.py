"""Numba loops of sums along rays: a ray a task."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import loop

TWO, THREE = np.float32(2), np.float32(3)


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


@loop
def distortion(weights, t, dt, offsets, of_rays):
    """Fills of_rays [n]."""
    for ray in prange(len(offsets) - 1):
        first = offsets[ray]
        total, weight, moment = np.float32(0), np.float32(0), np.float32(0)
        for i in range(first, offsets[ray + 1]):
            w, x = weights[i], t[i] - t[first]
            total += w * (TWO * (x * weight - moment) + w * dt[i] / THREE)
            weight += w
            moment += w * x
        of_rays[ray] = total


@loop
def distortion_gradient(weights, t, dt, offsets, upstream, gradient):
    """Backward of distortion(): gradient [m], which starts at zero.

    `weight` and `moment` are of the samples before one, less those of it and the ones behind it.
    """
    for ray in prange(len(offsets) - 1):
        first = offsets[ray]
        weight, moment = np.float32(0), np.float32(0)
        for i in range(first, offsets[ray + 1]):
            weight -= weights[i]
            moment -= weights[i] * (t[i] - t[first])
        for i in range(first, offsets[ray + 1]):
            w, x = weights[i], t[i] - t[first]
            weight += w
            moment += w * x
            gradient[i] = upstream[ray] * TWO * (x * weight - moment + w * dt[i] / THREE)
            weight += w
            moment += w * x
