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

from radnerf.kernels.grid_encode.cpu import described
from radnerf.kernels.grid_encode.levels import GridLevels
from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import ONE, ROUNDING, corners2, corners3, first_of, pair, second_of

THIRTY_TWO = np.uint64(32)


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


def empty_grid(levels: GridLevels) -> Grid:
    """A grid whose table fill() is still to make."""
    scales, firsts, masks, strides, hashed = described(levels)
    return Grid(
        table=np.empty(levels.n_entries + levels.n_levels, np.uint32),
        scales=scales,
        firsts=firsts + np.arange(len(firsts)),
        masks=masks,
        strides=strides,
        hashed=hashed,
        adjacent=(strides[:, 0] == 1) & ~hashed,
    )


@serial_loop
def fill(table, grid):
    """Make a grid's table from one of two float32 a row."""
    for level in range(len(grid.firsts)):
        fill_part(level, 0, 1, table, grid)


@serial_loop
def fill_part(level, part, parts, table, grid):
    """As fill(), one of the parts of a level."""
    first, end = grid.firsts[level] - level, len(table)
    if level + 1 < len(grid.firsts):
        end = grid.firsts[level + 1] - level - 1
    rows, out = table[first:end], grid.table[first + level : end + level + 1]
    begin = len(rows) * part // parts
    for i in range(begin, len(rows) * (part + 1) // parts):
        out[i] = pair(rows[i, 0], rows[i, 1])
    if part == 0:
        out[len(rows)] = pair(rows[0, 0], rows[0, 1])


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
            near, far = table[rows[2 * k, i]], table[rows[2 * k + 1, i]]
            wide[k, i] = np.uint64(near) | (np.uint64(far) << THIRTY_TWO)


@inlined
def fetch2(place, n, grid, level, rows, wide):
    """What a level has at the corners around n points of place [2, >= n]: wide [2, >= n].

    Corners that differ along the first axis lie in one number. Scratch: rows [4, >= n].
    """
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


@inlined
def fetch3(place, n, grid, level, rows, wide):
    """As fetch2(), in three dimensions: wide [4, >= n]; scratch: rows [8, >= n]."""
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


@inlined
def fraction_of(place, axis, i, scale):
    """How far a point has come from one corner to the next."""
    x = place[axis, i] * scale + ROUNDING
    return x - np.float32(np.int32(x))


@inlined
def near(wide):
    return np.uint32(wide)


@inlined
def far(wide):
    return np.uint32(wide >> THIRTY_TWO)


@inlined
def _mixed(wide, e, f):
    """Both features of two neighbours, e and f of them."""
    a, b = near(wide), far(wide)
    return e * first_of(a) + f * first_of(b), e * second_of(a) + f * second_of(b)


@inlined
def encode_level2(place, n, grid, level, rows, wide, out):
    """Features of n points of place [2, >= n] in [0, 1], as pairs into out; scratch as fetch2()."""
    fetch2(place, n, grid, level, rows, wide)
    scale = grid.scales[level]
    for i in range(n):
        f, g = fraction_of(place, 0, i, scale), fraction_of(place, 1, i, scale)
        e, h = ONE - f, ONE - g
        a0, a1 = _mixed(wide[0, i], e, f)
        b0, b1 = _mixed(wide[1, i], e, f)
        out[i] = pair(h * a0 + g * b0, h * a1 + g * b1)


@inlined
def encode_level3(place, n, grid, level, rows, wide, out):
    """As encode_level2(), in three dimensions; scratch as fetch3()."""
    fetch3(place, n, grid, level, rows, wide)
    scale = grid.scales[level]
    for i in range(n):
        f, g = fraction_of(place, 0, i, scale), fraction_of(place, 1, i, scale)
        h = fraction_of(place, 2, i, scale)
        e, u, v = ONE - f, ONE - g, ONE - h
        a0, a1 = _mixed(wide[0, i], e, f)
        b0, b1 = _mixed(wide[1, i], e, f)
        c0, c1 = _mixed(wide[2, i], e, f)
        d0, d1 = _mixed(wide[3, i], e, f)
        out[i] = pair(
            v * (u * a0 + g * b0) + h * (u * c0 + g * d0),
            v * (u * a1 + g * b1) + h * (u * c1 + g * d1),
        )


@serial_loop
def encode_plane(place, n, grid, rows, wide, out, begin):
    """Features of all levels, into rows of `out` from `begin` on; see encode_level2()."""
    for level in range(len(grid.scales)):
        encode_level2(place, n, grid, level, rows, wide, out[begin + level])


@serial_loop
def encode_space(place, n, grid, rows, wide, out, begin):
    """As encode_plane(), in three dimensions."""
    for level in range(len(grid.scales)):
        encode_level3(place, n, grid, level, rows, wide, out[begin + level])
