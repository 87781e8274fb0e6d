"""Numba loops of compositing: a ray a task, its samples front to back."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from numba import prange

from radnerf.kernels.numba_runtime import inlined, loop
from radnerf.kernels.pairs import ONE, ZERO, exp


@inlined
def composite_ray(ray, density, values, t, dt, offsets, stop, sums, alpha, depth, weights):
    """Fills a row of sums, alpha, depth [n] and its weights [m], which start at zero."""
    transmittance, channels = ONE, values.shape[1]
    for i in range(offsets[ray], offsets[ray + 1]):
        if transmittance < stop:
            break
        passes = exp(-density[i] * dt[i])
        weight = transmittance * (ONE - passes)
        transmittance *= passes
        weights[i] = weight
        alpha[ray] += weight
        depth[ray] += weight * t[i]
        for k in range(channels):
            sums[ray, k] += weight * values[i, k]


@inlined
def back_to_samples(
    ray, density, values, t, dt, offsets, stop, weights, of_sums, of_alpha, of_depth, of_weights,
    of_density, of_values,
):  # fmt: skip
    """Backward of composite_ray(): fills a ray's of_density [m] and of_values [m, k].

    With s = density * dt and w_i = T_i (1 - exp(-s_i)): dw_i/ds_i = T_(i+1), and every later
    weight loses as much as it has: dw_j/ds_i = -w_j.
    """
    channels = values.shape[1]
    # What the weights behind the current sample are worth; first pass: all of them.
    behind = ZERO
    for i in range(offsets[ray], offsets[ray + 1]):
        worth = of_alpha[ray] + of_depth[ray] * t[i] + of_weights[i]
        for k in range(channels):
            worth += of_sums[ray, k] * values[i, k]
            of_values[i, k] = weights[i] * of_sums[ray, k]
        of_density[i] = worth
        behind += weights[i] * worth
    transmittance = ONE
    for i in range(offsets[ray], offsets[ray + 1]):
        worth = of_density[i]
        if transmittance < stop:
            of_density[i] = ZERO
            continue
        transmittance *= exp(-density[i] * dt[i])
        behind -= weights[i] * worth
        of_density[i] = dt[i] * (transmittance * worth - behind)


@loop
def forward(density, values, t, dt, offsets, stop, sums, alpha, depth, weights):
    """See composite_ray()."""
    for ray in prange(len(offsets) - 1):
        composite_ray(ray, density, values, t, dt, offsets, stop, sums, alpha, depth, weights)


@loop
def backward(
    density, values, t, dt, offsets, stop, weights, of_sums, of_alpha, of_depth, of_weights,
    of_density, of_values,
):  # fmt: skip
    """See back_to_samples(); of_density and of_values start at zero."""
    for ray in prange(len(offsets) - 1):
        back_to_samples(
            ray, density, values, t, dt, offsets, stop, weights, of_sums, of_alpha, of_depth,
            of_weights, of_density, of_values,
        )  # fmt: skip
