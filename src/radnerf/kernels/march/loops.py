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
    """blocks: whether any cell of each BLOCK^3 is occupied; starts all False.

    occupancy: BLOCK cells along z in one 64-bit word.
    """
    for bx in prange(blocks.shape[0]):
        for x in range(bx * BLOCK, min((bx + 1) * BLOCK, occupancy.shape[0])):
            for y in range(occupancy.shape[1]):
                for bz in range(occupancy.shape[2]):
                    if occupancy[x, y, bz] != 0:
                        blocks[bx, y // BLOCK, bz] = True


@exactly_inlined
def _cell(position, low, per_unit, resolution):
    return min(max(int((position - low) * per_unit), 0), resolution - 1)


@exactly_inlined
def _leaves(cell, size, position, inverse, low, width):
    """How much farther along its direction a position leaves cells cell .. cell + size - 1."""
    border = cell + size if inverse > 0 else cell
    return (low + np.float32(border) * width - position) * inverse


@exactly_inlined
def _inverse(direction):
    """1 / direction; one that is parallel to a border leaves at some huge distance."""
    tiny = np.float32(1e-12)
    return np.float32(1) / (direction if abs(direction) > tiny else tiny)


@exact_loop
def walk(
    origins,
    directions,
    first,
    last,
    jitter,
    occupancy,
    rz,
    blocks,
    low,
    per_unit,
    step,
    found,
    counts,
):
    """Fills the first counts [n] columns of found [n, max_samples] with the samples' distances.

    occupancy: rz cells along z, whatever its own length there.
    """
    rx, ry = occupancy.shape[:2]
    one = np.float32(1)
    widthx, widthy, widthz = one / per_unit[0], one / per_unit[1], one / per_unit[2]
    per_step = one / step
    for ray in prange(len(origins)):
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
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
                _leaves(cx, size, x, ix, low[0], widthx),
                _leaves(cy, size, y, iy, low[1], widthy),
                _leaves(cz, size, z, iz, low[2], widthz),
            )
            # To the first lattice point outside. Rounding may make that one look too many inside,
            # never one too few.
            piece += max(1, int(min(ahead * per_step, np.float32(1e6)) - np.float32(0.01)) + 1)
        counts[ray] = kept


@exact_loop
def pack(found, offsets, t, ray):
    """Puts the samples of ray i at offsets[i] .. offsets[i + 1]."""
    for i in prange(len(found)):
        for k in range(offsets[i + 1] - offsets[i]):
            t[offsets[i] + k] = found[i, k]
            ray[offsets[i] + k] = i
