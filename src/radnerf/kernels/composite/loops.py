"""Numba loops of compositing: a ray a task, its samples front to back."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import math

import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import loop


@loop
def forward(density, values, t, dt, offsets, stop, seen, alpha, depth, weights):
    """Fills seen, alpha, depth [n] and weights [m], which start at zero."""
    channels = values.shape[1]
    for ray in prange(len(offsets) - 1):
        light = np.float32(1)
        for i in range(offsets[ray], offsets[ray + 1]):
            if light < stop:
                break
            passes = math.exp(-density[i] * dt[i])
            weight = light * (np.float32(1) - passes)
            light *= passes
            weights[i] = weight
            alpha[ray] += weight
            depth[ray] += weight * t[i]
            for k in range(channels):
                seen[ray, k] += weight * values[i, k]


@loop
def backward(
    density, values, t, dt, offsets, stop, weights, of_seen, of_alpha, of_depth, of_weights,
    of_density, of_values,
):  # fmt: skip
    """Fills of_density [m] and of_values [m, k], which start at zero.

    With s = density * dt and w_i = T_i (1 - exp(-s_i)): dw_i/ds_i = T_(i+1), and every later
    weight loses as much as it has: dw_j/ds_i = -w_j.
    """
    channels = values.shape[1]
    for ray in prange(len(offsets) - 1):
        # What the weights behind the current sample are worth; first pass: all of them.
        behind = np.float32(0)
        for i in range(offsets[ray], offsets[ray + 1]):
            worth = of_alpha[ray] + of_depth[ray] * t[i] + of_weights[i]
            for k in range(channels):
                worth += of_seen[ray, k] * values[i, k]
                of_values[i, k] = weights[i] * of_seen[ray, k]
            of_density[i] = worth
            behind += weights[i] * worth
        light = np.float32(1)
        for i in range(offsets[ray], offsets[ray + 1]):
            worth = of_density[i]
            if light < stop:
                of_density[i] = np.float32(0)
                continue
            light *= math.exp(-density[i] * dt[i])
            behind -= weights[i] * worth
            of_density[i] = dt[i] * (light * worth - behind)
