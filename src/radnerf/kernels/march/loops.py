"""Numba loops of ray marching: walk every ray, then close the gaps between their samples.

Compiled without fused multiply-adds: a sample must fall in the cell where torch sees it.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import exact_loop, exactly_inlined

BLOCK = 8  # cells a side of a coarse cell, which says in one look that nothing is in it


@exact_loop
def block_occupancy(occupancy, blocks):
    """blocks: whether any cell of each BLOCK^3 is occupied; starts all False."""
    for bx in prange(blocks.shape[0]):
        for x in range(bx * BLOCK, min((bx + 1) * BLOCK, occupancy.shape[0])):
            for y in range(occupancy.shape[1]):
                for z in range(occupancy.shape[2]):
                    if occupancy[x, y, z]:
                        blocks[bx, y // BLOCK, z // BLOCK] = True


@exactly_inlined
def _cell(position, low, per_unit, resolution):
    return min(max(int((position - low) * per_unit), 0), resolution - 1)


@exactly_inlined
def _leaves(cell, size, position, direction, low, per_unit):
    """How much farther along its direction a position leaves cells cell .. cell + size - 1."""
    if abs(direction) < np.float32(1e-9):
        return np.float32(np.inf)
    border = cell + size if direction > 0 else cell
    return (low + np.float32(border) / per_unit - position) / direction


@exact_loop
def walk(
    origins, directions, first, last, jitter, occupancy, blocks, low, per_unit, step, found, counts
):
    """Fills the first counts [n] columns of found [n, max_samples] with the samples' distances."""
    rx, ry, rz = occupancy.shape
    for ray in prange(len(origins)):
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        kept, piece = 0, 0
        while kept < found.shape[1]:
            t = first[ray] + (np.float32(piece) + jitter[ray]) * step
            if not t < last[ray]:
                break
            x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
            cx = _cell(x, low[0], per_unit[0], rx)
            cy = _cell(y, low[1], per_unit[1], ry)
            cz = _cell(z, low[2], per_unit[2], rz)
            if occupancy[cx, cy, cz]:
                found[ray, kept] = t
                kept += 1
                piece += 1
                continue
            size = 1
            if not blocks[cx // BLOCK, cy // BLOCK, cz // BLOCK]:
                size = BLOCK
                cx, cy, cz = cx // BLOCK * BLOCK, cy // BLOCK * BLOCK, cz // BLOCK * BLOCK
            ahead = min(
                _leaves(cx, size, x, dx, low[0], per_unit[0]),
                _leaves(cy, size, y, dy, low[1], per_unit[1]),
                _leaves(cz, size, z, dz, low[2], per_unit[2]),
            )
            # To the first lattice point outside. Rounding may make that one look too many inside,
            # never one too few.
            piece += max(1, int(min(ahead / step, np.float32(1e6)) - np.float32(0.01)) + 1)
        counts[ray] = kept


@exact_loop
def pack(found, offsets, t, ray):
    """Puts the samples of ray i at offsets[i] .. offsets[i + 1]."""
    for i in prange(len(found)):
        for k in range(offsets[i + 1] - offsets[i]):
            t[offsets[i] + k] = found[i, k]
            ray[offsets[i] + k] = i
