"""Lookups in grid tables of pairs, for a few hundred points at a time and level by level.

A level takes three loops: which rows, the rows, their mixture. Only the middle one cannot be
vector code. Letters: n points, L levels.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import ONE, ROUNDING, as_float, corners2, corners3, pair

HIGH, THIRTY_TWO = np.uint64(0xFFFF0000), np.uint64(32)


class Grid(NamedTuple):
    """A grid, see kernels/grid_encode/levels.py.

    Attributes:
        table: pairs; each level's rows are followed by a copy of its first.
        scales, firsts, masks, strides, hashed: of the levels; firsts counts the copies.
        adjacent: whether corners that differ along the first axis are neighbours in the table.
    """

    table: UInt32[np.ndarray, " rows"]
    scales: Float[np.ndarray, " L"]
    firsts: Int[np.ndarray, " L"]
    masks: UInt32[np.ndarray, " L"]
    strides: UInt32[np.ndarray, "L d"]
    hashed: Bool[np.ndarray, " L"]
    adjacent: Bool[np.ndarray, " L"]


@intrinsic
def _neighbours(context, table, row):
    """The pair in a row, in the lower 32 bits, and the one after it."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=4)

    return types.uint64(table, types.int64), generate


@inlined
def _fetch(table, rows, n, wide):
    """What is in `rows` [k, n] and in the rows after them: wide [k, n]."""
    for k in range(len(wide)):
        for i in range(n):
            wide[k, i] = _neighbours(table, np.int64(rows[k, i]))


@inlined
def _fetch_both(table, rows, n, wide):
    """What is in rows [2 k, n], two by two: wide [k, n]."""
    for k in range(len(wide)):
        for i in range(n):
            low, high = table[rows[2 * k, i]], table[rows[2 * k + 1, i]]
            wide[k, i] = np.uint64(low) | (np.uint64(high) << THIRTY_TWO)


@inlined
def _mixed(wide, e, f):
    """Both features of two neighbours, e and f of them."""
    low, high = np.uint32(wide), np.uint32(wide >> THIRTY_TWO)
    first = e * as_float(low << np.uint32(16)) + f * as_float(high << np.uint32(16))
    mask = np.uint32(0xFFFF0000)
    return first, e * as_float(low & mask) + f * as_float(high & mask)


@serial_loop
def encode_space(place, n, grid, rows, wide, out, level_out):
    """Features of n points of place [3, >= n] in [0, 1], as pairs into `out` from row level_out on.

    Scratch: rows [8, >= n], wide [4, >= n].
    """
    for level in range(len(grid.scales)):
        scale, mask, base = grid.scales[level], grid.masks[level], np.uint32(grid.firsts[level])
        a, b, c = grid.strides[level, 0], grid.strides[level, 1], grid.strides[level, 2]
        if grid.adjacent[level]:
            for i in range(n):
                along = np.uint32(np.int32(place[0, i] * scale + ROUNDING))
                y = np.uint32(np.int32(place[1, i] * scale + ROUNDING)) * b
                z = np.uint32(np.int32(place[2, i] * scale + ROUNDING)) * c
                row = along + y + z
                rows[0, i] = base + np.uint32(row & mask)
                rows[1, i] = base + np.uint32(np.uint32(row + b) & mask)
                rows[2, i] = base + np.uint32(np.uint32(row + c) & mask)
                rows[3, i] = base + np.uint32(np.uint32(np.uint32(row + b) + c) & mask)
            _fetch(grid.table, rows, n, wide[:4])
        else:
            if grid.hashed[level]:
                corners3(place, n, scale, base, mask, a, b, c, True, rows)
            else:
                corners3(place, n, scale, base, mask, a, b, c, False, rows)
            _fetch_both(grid.table, rows, n, wide[:4])
        for i in range(n):
            x = place[0, i] * scale + ROUNDING
            y = place[1, i] * scale + ROUNDING
            z = place[2, i] * scale + ROUNDING
            f, g, h = (
                x - np.float32(np.int32(x)),
                y - np.float32(np.int32(y)),
                z - np.float32(np.int32(z)),
            )
            e, u, v = ONE - f, ONE - g, ONE - h
            a0, a1 = _mixed(wide[0, i], e, f)
            b0, b1 = _mixed(wide[1, i], e, f)
            c0, c1 = _mixed(wide[2, i], e, f)
            d0, d1 = _mixed(wide[3, i], e, f)
            out[level_out + level, i] = pair(
                v * (u * a0 + g * b0) + h * (u * c0 + g * d0),
                v * (u * a1 + g * b1) + h * (u * c1 + g * d1),
            )


@serial_loop
def encode_plane(place, n, grid, rows, wide, out, level_out):
    """As encode_space(), in two dimensions; scratch: rows [4, >= n], wide [2, >= n]."""
    for level in range(len(grid.scales)):
        scale, mask, base = grid.scales[level], grid.masks[level], np.uint32(grid.firsts[level])
        a, b = grid.strides[level, 0], grid.strides[level, 1]
        if grid.adjacent[level]:
            for i in range(n):
                along = np.uint32(np.int32(place[0, i] * scale + ROUNDING))
                row = along + np.uint32(np.int32(place[1, i] * scale + ROUNDING)) * b
                rows[0, i] = base + np.uint32(row & mask)
                rows[1, i] = base + np.uint32(np.uint32(row + b) & mask)
            _fetch(grid.table, rows, n, wide[:2])
        else:
            if grid.hashed[level]:
                corners2(place, n, scale, base, mask, a, b, True, rows)
            else:
                corners2(place, n, scale, base, mask, a, b, False, rows)
            _fetch_both(grid.table, rows, n, wide[:2])
        for i in range(n):
            x, y = place[0, i] * scale + ROUNDING, place[1, i] * scale + ROUNDING
            f, g = x - np.float32(np.int32(x)), y - np.float32(np.int32(y))
            e, h = ONE - f, ONE - g
            a0, a1 = _mixed(wide[0, i], e, f)
            b0, b1 = _mixed(wide[1, i], e, f)
            out[level_out + level, i] = pair(h * a0 + g * b0, h * a1 + g * b1)
