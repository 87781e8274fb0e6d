"""Numba loops of ray marching: walk every ray, then close the gaps between their samples.

Compiled without fused multiply-adds: a sample must fall in the cell where torch sees it.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.march import reference
from radnerf.kernels.numba_runtime import exact_loop, exactly_inlined
from radnerf.kernels.pairs import TWO, ZERO

TINY = np.float32(reference.TINY)
RAYS = 64  # a task
PIECES = 32  # of a ray at a time: looking into their cells is no vector code, all the rest is


@exactly_inlined
def _cell(origin, direction, t, low, per_unit, last):
    """An axis' cell index, at most `last`; one for sure, also of what is no number."""
    place = (origin + t * direction - low) * per_unit
    place = place if place > ZERO else ZERO
    return np.int32(place if place < last else last)


@exactly_inlined
def _span(ray, origins, directions, box, near):
    """Distances between which a ray is in the box; the former is the larger one when it misses."""
    first, last, wide = near, np.float32(np.inf), ZERO
    for axis in range(3):
        direction, size = directions[ray, axis], box[1, axis] - box[0, axis]
        safe = direction if abs(direction) >= TINY else TINY
        to_low = (box[0, axis] - origins[ray, axis]) / safe
        to_high = (box[1, axis] - origins[ray, axis]) / safe
        first, last = max(first, min(to_low, to_high)), min(last, max(to_low, to_high))
        if to_low != to_low or to_high != to_high:
            last = -np.float32(np.inf)
        wide += size * size
    # The box is nowhere longer than its diagonal; a ray without a direction would not end.
    return first, min(last, first + TWO * np.sqrt(wide))


@exact_loop
def walk(origins, directions, jitter, occupancy, box, near, step, found, cells, counts):
    """Fills the first counts [n] columns of found and cells [n, max_samples] with samples."""
    rx, ry, rz = occupancy.shape
    perx = np.float32(rx) / (box[1, 0] - box[0, 0])
    pery = np.float32(ry) / (box[1, 1] - box[0, 1])
    perz = np.float32(rz) / (box[1, 2] - box[0, 2])
    topx, topy, topz = np.float32(rx - 1), np.float32(ry - 1), np.float32(rz - 1)
    wide, deep = np.int32(ry * rz), np.int32(rz)
    occupied = occupancy.reshape(-1)
    n, most = found.shape
    for task in prange(-(-n // RAYS)):
        t, cell = np.empty(PIECES, np.float32), np.empty(PIECES, np.int32)
        for ray in range(task * RAYS, min(n, (task + 1) * RAYS)):
            first, last = _span(ray, origins, directions, box, near)
            ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
            dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
            shift, count, piece = jitter[ray], 0, np.int32(0)
            while count < most and first + (np.float32(piece) + shift) * step < last:
                for k in range(PIECES):
                    x = first + (np.float32(piece + np.int32(k)) + shift) * step
                    t[k] = x
                    cell[k] = (
                        _cell(ox, dx, x, box[0, 0], perx, topx) * wide
                        + _cell(oy, dy, x, box[0, 1], pery, topy) * deep
                        + _cell(oz, dz, x, box[0, 2], perz, topz)
                    )
                for k in range(PIECES):
                    if count < most and occupied[cell[k]] and t[k] < last:
                        found[ray, count], cells[ray, count] = t[k], cell[k]
                        count += 1
                piece += np.int32(PIECES)
            counts[ray] = count


@exact_loop
def pack(found, cells, offsets, t, ray, cell):
    """Puts the samples of ray i at offsets[i] .. offsets[i + 1]."""
    for i in prange(len(found)):
        for k in range(offsets[i + 1] - offsets[i]):
            t[offsets[i] + k], cell[offsets[i] + k] = found[i, k], cells[i, k]
            ray[offsets[i] + k] = i
