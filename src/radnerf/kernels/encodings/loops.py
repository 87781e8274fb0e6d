"""Numba loops of the encodings."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.encodings import reference
from radnerf.kernels.numba_runtime import inlined, loop

CHUNK = 512  # points a task

C00, C1, C20, C21, C22, C30, C31, C32, C33 = (
    np.float32(c)
    for c in (
        reference.C00, reference.C1, reference.C20, reference.C21, reference.C22,
        reference.C30, reference.C31, reference.C32, reference.C33,
    )
)  # fmt: skip
ONE, THREE, FIVE = np.float32(1), np.float32(3), np.float32(5)


@loop
def frequency_gradient(encoded, octaves, upstream, gradient):
    """From the encoding itself: the sine's derivative is the cosine beside it."""
    n, d = gradient.shape
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            for axis in range(d):
                total = upstream[i, axis]
                factor = ONE
                for octave in range(octaves):
                    s, c = d * (1 + 2 * octave) + axis, d * (2 + 2 * octave) + axis
                    total += factor * (
                        upstream[i, s] * encoded[i, c] - upstream[i, c] * encoded[i, s]
                    )
                    factor *= np.float32(2)
                gradient[i, axis] = total


@inlined
def harmonics_of(x, y, z, degree, out):
    """Spherical harmonics of a direction, into out [degree^2]."""
    xx, yy, zz = x * x, y * y, z * z
    out[0] = C00
    if degree > 1:
        out[1] = -C1 * y
        out[2] = C1 * z
        out[3] = -C1 * x
    if degree > 2:
        out[4] = C21 * x * y
        out[5] = -C21 * y * z
        out[6] = C20 * (THREE * zz - ONE)
        out[7] = -C21 * x * z
        out[8] = C22 * (xx - yy)
    if degree > 3:
        out[9] = -C33 * y * (THREE * xx - yy)
        out[10] = C32 * (x + x) * y * z
        out[11] = C31 * y * (ONE - FIVE * zz)
        out[12] = C30 * z * (FIVE * zz - THREE)
        out[13] = C31 * x * (ONE - FIVE * zz)
        out[14] = C32 * z * (xx - yy)
        out[15] = -C33 * x * (xx - THREE * yy)


@loop
def harmonics(directions, degree, out):
    n = len(directions)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            harmonics_of(directions[i, 0], directions[i, 1], directions[i, 2], degree, out[i])


@loop
def harmonics_gradient(directions, degree, upstream, gradient):
    n = len(directions)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            x, y, z = directions[i, 0], directions[i, 1], directions[i, 2]
            xx, yy, zz = x * x, y * y, z * z
            u = upstream[i]
            gx = gy = gz = np.float32(0)
            if degree > 1:
                gx -= C1 * u[3]
                gy -= C1 * u[1]
                gz += C1 * u[2]
            if degree > 2:
                gx += C21 * (u[4] * y - u[7] * z) + (C22 + C22) * u[8] * x
                gy += C21 * (u[4] * x - u[5] * z) - (C22 + C22) * u[8] * y
                gz += np.float32(6) * C20 * u[6] * z - C21 * (u[5] * y + u[7] * x)
            if degree > 3:
                double = C32 + C32
                curve = ONE - FIVE * zz
                cubic = C33 * THREE
                gx += (
                    double * (u[10] * y * z + u[14] * z * x)
                    + C31 * u[13] * curve
                    - cubic * ((u[9] + u[9]) * x * y + u[15] * (xx - yy))
                )
                gy += (
                    double * (u[10] * x * z - u[14] * z * y)
                    + C31 * u[11] * curve
                    + cubic * ((u[15] + u[15]) * x * y - u[9] * (xx - yy))
                )
                gz += (
                    C32 * ((u[10] + u[10]) * x * y + u[14] * (xx - yy))
                    + C30 * u[12] * THREE * (FIVE * zz - ONE)
                    - np.float32(10) * C31 * z * (u[11] * y + u[13] * x)
                )
            gradient[i, 0] = gx
            gradient[i, 1] = gy
            gradient[i, 2] = gz
