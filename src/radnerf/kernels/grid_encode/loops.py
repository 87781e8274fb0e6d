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
def _vertex2(a, b, hashed, mask, first):
    return first + np.int64(((a ^ b) if hashed else (a + b)) & mask)


@inlined
def _vertex3(a, b, c, hashed, mask, first):
    return first + np.int64(((a ^ b ^ c) if hashed else (a + b + c)) & mask)


@loop
def forward1(x, table, features, scales, firsts, masks, strides, hashed, out):
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask = scales[level], firsts[level], masks[level]
            stride = strides[level, 0]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                v, f1 = _place(x[i, 0], scale)
                i0 = first + np.int64((v * stride) & mask)
                i1 = first + np.int64((v * stride + stride) & mask)
                e1 = np.float32(1) - f1
                for f in range(width):
                    out[i, level * width + f] = e1 * table[i0, f] + f1 * table[i1, f]


@loop
def forward2(x, table, features, scales, firsts, masks, strides, hashed, out):
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            stride0, stride1 = strides[level, 0], strides[level, 1]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                v0, f0 = _place(x[i, 0], scale)
                v1, f1 = _place(x[i, 1], scale)
                a0 = v0 * stride0
                a1 = a0 + stride0
                b0 = v1 * stride1
                b1 = b0 + stride1
                i00 = _vertex2(a0, b0, folded, mask, first)
                i10 = _vertex2(a1, b0, folded, mask, first)
                i01 = _vertex2(a0, b1, folded, mask, first)
                i11 = _vertex2(a1, b1, folded, mask, first)
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
            stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                v0, f0 = _place(x[i, 0], scale)
                v1, f1 = _place(x[i, 1], scale)
                v2, f2 = _place(x[i, 2], scale)
                a0 = v0 * stride0
                a1 = a0 + stride0
                b0 = v1 * stride1
                b1 = b0 + stride1
                c0 = v2 * stride2
                c1 = c0 + stride2
                i000 = _vertex3(a0, b0, c0, folded, mask, first)
                i100 = _vertex3(a1, b0, c0, folded, mask, first)
                i010 = _vertex3(a0, b1, c0, folded, mask, first)
                i110 = _vertex3(a1, b1, c0, folded, mask, first)
                i001 = _vertex3(a0, b0, c1, folded, mask, first)
                i101 = _vertex3(a1, b0, c1, folded, mask, first)
                i011 = _vertex3(a0, b1, c1, folded, mask, first)
                i111 = _vertex3(a1, b1, c1, folded, mask, first)
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
        stride, out = strides[level, 0], gradients[copy]
        for i in range(n * copy // copies, n * (copy + 1) // copies):
            v, f1 = _place(x[i, 0], scale)
            i0 = first + np.int64((v * stride) & mask)
            i1 = first + np.int64((v * stride + stride) & mask)
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
        stride0, stride1 = strides[level, 0], strides[level, 1]
        out = gradients[copy]
        for i in range(n * copy // copies, n * (copy + 1) // copies):
            v0, f0 = _place(x[i, 0], scale)
            v1, f1 = _place(x[i, 1], scale)
            a0 = v0 * stride0
            a1 = a0 + stride0
            b0 = v1 * stride1
            b1 = b0 + stride1
            i00 = _vertex2(a0, b0, folded, mask, first)
            i10 = _vertex2(a1, b0, folded, mask, first)
            i01 = _vertex2(a0, b1, folded, mask, first)
            i11 = _vertex2(a1, b1, folded, mask, first)
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
        stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
        out = gradients[copy]
        for i in range(n * copy // copies, n * (copy + 1) // copies):
            v0, f0 = _place(x[i, 0], scale)
            v1, f1 = _place(x[i, 1], scale)
            v2, f2 = _place(x[i, 2], scale)
            a0 = v0 * stride0
            a1 = a0 + stride0
            b0 = v1 * stride1
            b1 = b0 + stride1
            c0 = v2 * stride2
            c1 = c0 + stride2
            e0 = np.float32(1) - f0
            e1 = np.float32(1) - f1
            e2 = np.float32(1) - f2
            i000 = _vertex3(a0, b0, c0, folded, mask, first)
            i100 = _vertex3(a1, b0, c0, folded, mask, first)
            i010 = _vertex3(a0, b1, c0, folded, mask, first)
            i110 = _vertex3(a1, b1, c0, folded, mask, first)
            i001 = _vertex3(a0, b0, c1, folded, mask, first)
            i101 = _vertex3(a1, b0, c1, folded, mask, first)
            i011 = _vertex3(a0, b1, c1, folded, mask, first)
            i111 = _vertex3(a1, b1, c1, folded, mask, first)
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
def _passes(x, slope):
    """The slope inside the box, none where clamping holds x still."""
    return slope if np.float32(0) <= x <= np.float32(1) else np.float32(0)


@loop
def x_gradient1(x, upstream, table, features, scales, firsts, masks, strides, hashed, gradient):
    """Adds to gradient [n, 1], which starts at zero."""
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask = scales[level], firsts[level], masks[level]
            stride = strides[level, 0]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                v, _ = _place(x[i, 0], scale)
                i0 = first + np.int64((v * stride) & mask)
                i1 = first + np.int64((v * stride + stride) & mask)
                slope = np.float32(0)
                for f in range(width):
                    slope += upstream[i, level * width + f] * scale * (table[i1, f] - table[i0, f])
                gradient[i, 0] += _passes(x[i, 0], slope)


@loop
def x_gradient2(x, upstream, table, features, scales, firsts, masks, strides, hashed, gradient):
    """Adds to gradient [n, 2], which starts at zero."""
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            stride0, stride1 = strides[level, 0], strides[level, 1]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                v0, f0 = _place(x[i, 0], scale)
                v1, f1 = _place(x[i, 1], scale)
                a0 = v0 * stride0
                a1 = a0 + stride0
                b0 = v1 * stride1
                b1 = b0 + stride1
                i00 = _vertex2(a0, b0, folded, mask, first)
                i10 = _vertex2(a1, b0, folded, mask, first)
                i01 = _vertex2(a0, b1, folded, mask, first)
                i11 = _vertex2(a1, b1, folded, mask, first)
                t00 = t10 = t01 = t11 = np.float32(0)
                for f in range(width):
                    u = upstream[i, level * width + f] * scale
                    t00 += u * table[i00, f]
                    t10 += u * table[i10, f]
                    t01 += u * table[i01, f]
                    t11 += u * table[i11, f]
                e0 = np.float32(1) - f0
                e1 = np.float32(1) - f1
                gradient[i, 0] += _passes(x[i, 0], e1 * (t10 - t00) + f1 * (t11 - t01))
                gradient[i, 1] += _passes(x[i, 1], e0 * (t01 - t00) + f0 * (t11 - t10))


@loop
def x_gradient3(x, upstream, table, features, scales, firsts, masks, strides, hashed, gradient):
    """Adds to gradient [n, 3], which starts at zero."""
    n, width = len(x), len(features)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for level in range(len(scales)):
            scale, first, mask, folded = scales[level], firsts[level], masks[level], hashed[level]
            stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
            for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
                v0, f0 = _place(x[i, 0], scale)
                v1, f1 = _place(x[i, 1], scale)
                v2, f2 = _place(x[i, 2], scale)
                a0 = v0 * stride0
                a1 = a0 + stride0
                b0 = v1 * stride1
                b1 = b0 + stride1
                c0 = v2 * stride2
                c1 = c0 + stride2
                i000 = _vertex3(a0, b0, c0, folded, mask, first)
                i100 = _vertex3(a1, b0, c0, folded, mask, first)
                i010 = _vertex3(a0, b1, c0, folded, mask, first)
                i110 = _vertex3(a1, b1, c0, folded, mask, first)
                i001 = _vertex3(a0, b0, c1, folded, mask, first)
                i101 = _vertex3(a1, b0, c1, folded, mask, first)
                i011 = _vertex3(a0, b1, c1, folded, mask, first)
                i111 = _vertex3(a1, b1, c1, folded, mask, first)
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
                gradient[i, 0] += _passes(
                    x[i, 0],
                    e2 * (e1 * (t100 - t000) + f1 * (t110 - t010))
                    + f2 * (e1 * (t101 - t001) + f1 * (t111 - t011)),
                )
                gradient[i, 1] += _passes(
                    x[i, 1],
                    e2 * (e0 * (t010 - t000) + f0 * (t110 - t100))
                    + f2 * (e0 * (t011 - t001) + f0 * (t111 - t101)),
                )
                gradient[i, 2] += _passes(
                    x[i, 2],
                    e1 * (e0 * (t001 - t000) + f0 * (t101 - t100))
                    + f1 * (e0 * (t011 - t010) + f0 * (t111 - t110)),
                )
