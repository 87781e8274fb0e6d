"""Numba loops of the grid encoding.

Letters: n points, L levels, F features. A level is described by its scale, its first entry, a
mask that folds indices (all ones where nothing folds), its axes' strides and whether it is hashed.
`features` is a tuple of length F: its length is a constant to the compiler, which then unrolls.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import inlined, loop

CHUNK = 512  # points a task: their outputs stay in the cache while the levels pass


@inlined
def _place(x, scale):
    """Lower vertex and fraction of a coordinate; whatever is not above 0, NaN too, counts as 0."""
    x = x if x > np.float32(0) else np.float32(0)
    x = x if x < np.float32(1) else np.float32(1)
    position = x * scale + np.float32(0.5)
    vertex = np.uint32(position)
    return vertex, position - np.float32(vertex)


@inlined
def _around1(x, i, scale, first, mask, strides):
    """Table rows of the two corners around a point, and how far it is from the lower one."""
    v, f = _place(x[i, 0], scale)
    a = v * strides[0]
    return first + np.int64(a & mask), first + np.int64((a + strides[0]) & mask), f


@inlined
def _row2(a, b, hashed, mask, first):
    return first + np.int64(((a ^ b) if hashed else (a + b)) & mask)


@inlined
def _around2(x, i, scale, first, mask, strides, hashed):
    """As _around1(): corners 00, 10, 01, 11, whose first digit is of the first axis."""
    v0, f0 = _place(x[i, 0], scale)
    v1, f1 = _place(x[i, 1], scale)
    a0, b0 = v0 * strides[0], v1 * strides[1]
    a1, b1 = a0 + strides[0], b0 + strides[1]
    return (
        _row2(a0, b0, hashed, mask, first),
        _row2(a1, b0, hashed, mask, first),
        _row2(a0, b1, hashed, mask, first),
        _row2(a1, b1, hashed, mask, first),
        f0,
        f1,
    )


@inlined
def _row3(a, b, c, hashed, mask, first):
    return first + np.int64(((a ^ b ^ c) if hashed else (a + b + c)) & mask)


@inlined
def _around3(x, i, scale, first, mask, strides, hashed):
    """As _around2(): corners 000, 100, 010, 110, 001, 101, 011, 111."""
    v0, f0 = _place(x[i, 0], scale)
    v1, f1 = _place(x[i, 1], scale)
    v2, f2 = _place(x[i, 2], scale)
    a0, b0, c0 = v0 * strides[0], v1 * strides[1], v2 * strides[2]
    a1, b1, c1 = a0 + strides[0], b0 + strides[1], c0 + strides[2]
    return (
        _row3(a0, b0, c0, hashed, mask, first),
        _row3(a1, b0, c0, hashed, mask, first),
        _row3(a0, b1, c0, hashed, mask, first),
        _row3(a1, b1, c0, hashed, mask, first),
        _row3(a0, b0, c1, hashed, mask, first),
        _row3(a1, b0, c1, hashed, mask, first),
        _row3(a0, b1, c1, hashed, mask, first),
        _row3(a1, b1, c1, hashed, mask, first),
        f0,
        f1,
        f2,
    )


@loop
def forward1(x, table, features, scales, firsts, masks, strides, hashed, out):
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask = scales[level], firsts[level], masks[level]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                i0, i1, f1 = _around1(x, i, scale, first, mask, strides[level])
                e1 = np.float32(1) - f1
                for f in range(width):
                    out[i, level * width + f] = e1 * table[i0, f] + f1 * table[i1, f]


@loop
def forward2(x, table, features, scales, firsts, masks, strides, hashed, out):
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                i00, i10, i01, i11, f0, f1 = _around2(
                    x, i, scale, first, mask, strides[level], folded
                )
                e0 = np.float32(1) - f0
                e1 = np.float32(1) - f1
                for f in range(width):
                    out[i, level * width + f] = e1 * (
                        e0 * table[i00, f] + f0 * table[i10, f]
                    ) + f1 * (e0 * table[i01, f] + f0 * table[i11, f])


@loop
def forward3(x, table, features, scales, firsts, masks, strides, hashed, out):
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                i000, i100, i010, i110, i001, i101, i011, i111, f0, f1, f2 = _around3(
                    x, i, scale, first, mask, strides[level], folded
                )
                e0 = np.float32(1) - f0
                e1 = np.float32(1) - f1
                e2 = np.float32(1) - f2
                for f in range(width):
                    low = e1 * (e0 * table[i000, f] + f0 * table[i100, f]) + f1 * (
                        e0 * table[i010, f] + f0 * table[i110, f]
                    )
                    high = e1 * (e0 * table[i001, f] + f0 * table[i101, f]) + f1 * (
                        e0 * table[i011, f] + f0 * table[i111, f]
                    )
                    out[i, level * width + f] = e2 * low + f2 * high


@loop
def table_gradient1(
    x, upstream, features, order, scales, firsts, masks, strides, hashed, gradients
):
    """As table_gradient2."""
    n, width, levels, copies = len(x), len(features), len(scales), len(gradients)
    for task in prange(levels * copies):
        level, copy = order[task] % levels, order[task] // levels
        scale, first, mask = scales[level], firsts[level], masks[level]
        out = gradients[copy]
        for i in range(n * copy // copies, n * (copy + 1) // copies):
            i0, i1, f1 = _around1(x, i, scale, first, mask, strides[level])
            for f in range(width):
                u = upstream[i, level * width + f]
                out[i0, f] += u * (np.float32(1) - f1)
                out[i1, f] += u * f1


@loop
def table_gradient2(
    x, upstream, features, order, scales, firsts, masks, strides, hashed, gradients
):
    """A task owns a level of one of the copies in gradients [copies, entries, F]: no races."""
    n, width, levels, copies = len(x), len(features), len(scales), len(gradients)
    for task in prange(levels * copies):
        level, copy = order[task] % levels, order[task] // levels
        scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
        out = gradients[copy]
        for i in range(n * copy // copies, n * (copy + 1) // copies):
            i00, i10, i01, i11, f0, f1 = _around2(x, i, scale, first, mask, strides[level], folded)
            e0 = np.float32(1) - f0
            e1 = np.float32(1) - f1
            for f in range(width):
                u = upstream[i, level * width + f]
                out[i00, f] += u * (e0 * e1)
                out[i10, f] += u * (f0 * e1)
                out[i01, f] += u * (e0 * f1)
                out[i11, f] += u * (f0 * f1)


@loop
def table_gradient3(
    x, upstream, features, order, scales, firsts, masks, strides, hashed, gradients
):
    """As table_gradient2."""
    n, width, levels, copies = len(x), len(features), len(scales), len(gradients)
    for task in prange(levels * copies):
        level, copy = order[task] % levels, order[task] // levels
        scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
        out = gradients[copy]
        for i in range(n * copy // copies, n * (copy + 1) // copies):
            i000, i100, i010, i110, i001, i101, i011, i111, f0, f1, f2 = _around3(
                x, i, scale, first, mask, strides[level], folded
            )
            e0 = np.float32(1) - f0
            e1 = np.float32(1) - f1
            e2 = np.float32(1) - f2
            for f in range(width):
                u = upstream[i, level * width + f]
                low, high = u * e2, u * f2
                out[i000, f] += low * (e0 * e1)
                out[i100, f] += low * (f0 * e1)
                out[i010, f] += low * (e0 * f1)
                out[i110, f] += low * (f0 * f1)
                out[i001, f] += high * (e0 * e1)
                out[i101, f] += high * (f0 * e1)
                out[i011, f] += high * (e0 * f1)
                out[i111, f] += high * (f0 * f1)


@inlined
def _inside(x, gradient):
    """The gradient inside the box, none where clamping holds x still."""
    return gradient if np.float32(0) <= x <= np.float32(1) else np.float32(0)


@loop
def x_gradient1(x, upstream, table, features, scales, firsts, masks, strides, hashed, gradient):
    """Adds to gradient [n, 1], which starts at zero."""
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask = scales[level], firsts[level], masks[level]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                i0, i1, _ = _around1(x, i, scale, first, mask, strides[level])
                total = np.float32(0)
                for f in range(width):
                    total += upstream[i, level * width + f] * scale * (table[i1, f] - table[i0, f])
                gradient[i, 0] += _inside(x[i, 0], total)


@loop
def x_gradient2(x, upstream, table, features, scales, firsts, masks, strides, hashed, gradient):
    """Adds to gradient [n, 2], which starts at zero."""
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                i00, i10, i01, i11, f0, f1 = _around2(
                    x, i, scale, first, mask, strides[level], folded
                )
                t00 = t10 = t01 = t11 = np.float32(0)
                for f in range(width):
                    u = upstream[i, level * width + f] * scale
                    t00 += u * table[i00, f]
                    t10 += u * table[i10, f]
                    t01 += u * table[i01, f]
                    t11 += u * table[i11, f]
                e0 = np.float32(1) - f0
                e1 = np.float32(1) - f1
                gradient[i, 0] += _inside(x[i, 0], e1 * (t10 - t00) + f1 * (t11 - t01))
                gradient[i, 1] += _inside(x[i, 1], e0 * (t01 - t00) + f0 * (t11 - t10))


@loop
def x_gradient3(x, upstream, table, features, scales, firsts, masks, strides, hashed, gradient):
    """Adds to gradient [n, 3], which starts at zero."""
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                i000, i100, i010, i110, i001, i101, i011, i111, f0, f1, f2 = _around3(
                    x, i, scale, first, mask, strides[level], folded
                )
                t000 = t100 = t010 = t110 = t001 = t101 = t011 = t111 = np.float32(0)
                for f in range(width):
                    u = upstream[i, level * width + f] * scale
                    t000 += u * table[i000, f]
                    t100 += u * table[i100, f]
                    t010 += u * table[i010, f]
                    t110 += u * table[i110, f]
                    t001 += u * table[i001, f]
                    t101 += u * table[i101, f]
                    t011 += u * table[i011, f]
                    t111 += u * table[i111, f]
                e0 = np.float32(1) - f0
                e1 = np.float32(1) - f1
                e2 = np.float32(1) - f2
                gradient[i, 0] += _inside(
                    x[i, 0],
                    e2 * (e1 * (t100 - t000) + f1 * (t110 - t010))
                    + f2 * (e1 * (t101 - t001) + f1 * (t111 - t011)),
                )
                gradient[i, 1] += _inside(
                    x[i, 1],
                    e2 * (e0 * (t010 - t000) + f0 * (t110 - t100))
                    + f2 * (e0 * (t011 - t001) + f0 * (t111 - t101)),
                )
                gradient[i, 2] += _inside(
                    x[i, 2],
                    e1 * (e0 * (t001 - t000) + f0 * (t101 - t100))
                    + f1 * (e0 * (t011 - t010) + f0 * (t111 - t110)),
                )
