"""Numba loops of the head field in training: everything between its matrix products.

Letters: m samples, n rays, R rows of the samples that are shaded, F frames, L levels, H hidden
units, G threads. Pairs: see kernels/pairs.py. What a thread adds up, it adds up in memory of its
own, whose first axis is the thread.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from radnerf.kernels.numba_runtime import inlined, loop, serial_loop
from radnerf.kernels.pairs import (
    ONE,
    ROUNDING,
    TWO,
    ZERO,
    as_float,
    corners2,
    corners3,
    exp,
    first_of,
    last_layer2,
    pair,
    positive,
    second_of,
    sigmoid,
    tanh,
    unit,
)

CHUNK = 256  # rows a task
RAYS = 64  # a task
LARGEST = np.float32(15)  # logarithm of a density, see fields/head.py


@serial_loop
def schedule(offsets, dt, density, opaque, at_once, n_rows, taken, sample, ray, row):
    """Give rows to the next samples of all rays whose optical depth is not yet `opaque`.

    n_rows [1]: rows so far; taken [n]: shaded samples of each ray. Row r is that of sample
    sample[r] of ray ray[r]; row [m] is -1 for a sample without one.
    """
    r = n_rows[0]
    for i in range(len(taken)):
        begin, depth = offsets[i] + taken[i], ZERO
        for j in range(offsets[i], begin):
            depth += density[j] * dt[j]
        if depth <= opaque:
            end = min(offsets[i + 1], begin + at_once)
            for j in range(begin, end):
                sample[r], ray[r], row[j] = j, i, r
                r += 1
            taken[i] += end - begin
    n_rows[0] = r


@inlined
def _part(place, start, count):
    """Columns of place side by side, which makes the loops over them vector code."""
    part = np.empty((len(place), CHUNK), np.float32)
    for axis in range(len(place)):
        for i in range(count):
            part[axis, i] = place[axis, start + i]
    return part


@inlined
def _low(both):
    """The first of two float32 in 64 bits."""
    return as_float(np.uint32(both))


@inlined
def _high(both):
    return as_float(np.uint32(both >> np.uint64(32)))


@inlined
def _blend2(place, n, scale, corners, out):
    """Rows interpolated between the four corners [4, n], as pairs into out [n]."""
    for i in range(n):
        x, y = place[0, i] * scale + ROUNDING, place[1, i] * scale + ROUNDING
        f, g = x - np.float32(np.int32(x)), y - np.float32(np.int32(y))
        e, h = ONE - f, ONE - g
        a, b, c, d = corners[0, i], corners[1, i], corners[2, i], corners[3, i]
        out[i] = pair(
            h * (e * _low(a) + f * _low(b)) + g * (e * _low(c) + f * _low(d)),
            h * (e * _high(a) + f * _high(b)) + g * (e * _high(c) + f * _high(d)),
        )


@inlined
def _blend3(place, n, scale, corners, out):
    """As _blend2(), between eight."""
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
        w00, w10, w01, w11 = u * v, g * v, u * h, g * h
        a, b, c, d = corners[0, i], corners[1, i], corners[2, i], corners[3, i]
        k, m, p, q = corners[4, i], corners[5, i], corners[6, i], corners[7, i]
        out[i] = pair(
            w00 * (e * _low(a) + f * _low(b))
            + w10 * (e * _low(c) + f * _low(d))
            + w01 * (e * _low(k) + f * _low(m))
            + w11 * (e * _low(p) + f * _low(q)),
            w00 * (e * _high(a) + f * _high(b))
            + w10 * (e * _high(c) + f * _high(d))
            + w01 * (e * _high(k) + f * _high(m))
            + w11 * (e * _high(p) + f * _high(q)),
        )


@loop
def locate(
    begin, end, sample, ray, t, origins, directions, frame_of_ray, low, per_unit, place, frame
):  # fmt: skip
    """Fills place [3, R], in the box from 0 to 1, and frame [R] of rows begin .. end."""
    for task in prange((end - begin + CHUNK - 1) // CHUNK):
        start = begin + task * CHUNK
        for i in range(start, min(end, start + CHUNK)):
            which, distance = ray[i], t[sample[i]]
            frame[i] = frame_of_ray[which]
            for axis in range(3):
                x = origins[which, axis] + distance * directions[which, axis]
                place[axis, i] = unit((x - low[axis]) * per_unit[axis])


@loop
def encode_space(
    begin, end, place, table, order, copies, scales, firsts, masks, strides, hashed, features
):
    """Spatial features of rows begin .. end, as pairs in features [L, R].

    table [entries]: two float32 in 64 bits. A task owns a level for one of `copies` parts of the
    rows: a level of the table fits in a core's own cache, all of them do not.
    """
    levels, count = len(scales), end - begin
    for task in prange(levels * copies):
        level, part = order[task] % levels, order[task] // levels
        scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
        stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
        rows, corners = np.empty((8, CHUNK), np.uint32), np.empty((8, CHUNK), np.uint64)
        last = begin + count * (part + 1) // copies
        for start in range(begin + count * part // copies, last, CHUNK):
            n = min(last - start, CHUNK)
            here = _part(place, start, n)
            if hashed[level]:
                corners3(here, n, scale, base, mask, stride0, stride1, stride2, True, rows)
            else:
                corners3(here, n, scale, base, mask, stride0, stride1, stride2, False, rows)
            for corner in range(8):
                for i in range(n):
                    corners[corner, i] = table[rows[corner, i]]
            _blend3(here, n, scale, corners, features[level, start : start + n])


@loop
def lay_out(begin, end, spatial, frame, eye, product, features):
    """Rows begin .. end of spatial [L, R] into the first columns of features: pairs both.

    With `product`, they come once more in the last columns, times eye [F] of the row's frame.
    """
    n_levels = len(spatial)
    last = features.shape[1] - n_levels
    for task in prange((end - begin + CHUNK - 1) // CHUNK):
        start = begin + task * CHUNK
        for i in range(start, min(end, start + CHUNK)):
            factor = eye[frame[i]]
            for level in range(n_levels):
                both = spatial[level, i]
                features[i, level] = both
                if product:
                    features[i, last + level] = pair(
                        factor * first_of(both), factor * second_of(both)
                    )


@loop
def rectify(begin, end, hidden, bias, frame):
    """hidden [R, H / 2]: pairs, plus bias [F, H] (evens first) of the row's frame, then ReLU."""
    half = hidden.shape[1]
    for task in prange((end - begin + CHUNK - 1) // CHUNK):
        start = begin + task * CHUNK
        for i in range(start, min(end, start + CHUNK)):
            which = frame[i]
            for k in range(half):
                hidden[i, k] = pair(
                    positive(first_of(hidden[i, k]) + bias[which, k]),
                    positive(second_of(hidden[i, k]) + bias[which, half + k]),
                )


@loop
def encode_ambient(
    begin, end, hidden, weights, sample, table, scales, firsts, masks, strides, hashed, pairs,
    wide, coordinate, place, features, column, ambient,
):  # fmt: skip
    """The audio coordinate tanh(weights hidden), and its features from `column` of features on.

    hidden [R, H / 2]: pairs; weights [2, 2, H / 2]. The coordinate goes to coordinate [2, R] and
    ambient [m, 2], and from 0 to 1 to place [2, R]. Scratch: pairs [G, 8 + L, CHUNK], wide
    [G, 4, CHUNK].
    """
    for task in prange((end - begin + CHUNK - 1) // CHUNK):
        start = begin + task * CHUNK
        n, thread = min(end - start, CHUNK), numba.get_thread_id()
        rows, mixed, corners = pairs[thread, :8], pairs[thread, 8:], wide[thread]
        here = np.empty((2, CHUNK), np.float32)
        for i in range(n):
            here[0, i], here[1, i] = last_layer2(hidden[start + i], weights)
        for axis in range(2):
            for i in range(n):
                here[axis, i] = tanh(here[axis, i])
        for i in range(n):
            j = sample[start + i]
            for axis in range(2):
                x = here[axis, i]
                ambient[j, axis] = coordinate[axis, start + i] = x
                here[axis, i] = place[axis, start + i] = unit((x + ONE) / TWO)
        for level in range(len(scales)):
            scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
            stride0, stride1 = strides[level, 0], strides[level, 1]
            corners2(here, n, scale, base, mask, stride0, stride1, hashed[level], rows)
            for corner in range(4):
                for i in range(n):
                    corners[corner, i] = table[rows[corner, i]]
            _blend2(here, n, scale, corners, mixed[level])
        for i in range(n):
            for level in range(len(scales)):
                features[start + i, column + level] = mixed[level, i]


@loop
def colour(begin, end, out, view, weights, sample, ray, density, rgb):
    """Density and colour of rows, from what their last hidden layer gives.

    out [R, > H / 2]: pairs; the colour's hidden layer before its view term and ReLU, and then the
    logarithm of the density. The former is completed in place: view [n, H], evens first, is its
    term of each ray. weights [3, 2, H / 2]: the last layer. Fills density [m] and rgb [m, 3].
    """
    half = weights.shape[2]
    for task in prange((end - begin + CHUNK - 1) // CHUNK):
        start = begin + task * CHUNK
        for i in range(start, min(end, start + CHUNK)):
            which, j = ray[i], sample[i]
            density[j] = exp(min(first_of(out[i, half]), LARGEST))
            r, g, b = ZERO, ZERO, ZERO
            for k in range(half):
                x = positive(first_of(out[i, k]) + view[which, k])
                y = positive(second_of(out[i, k]) + view[which, half + k])
                r += weights[0, 0, k] * x + weights[0, 1, k] * y
                g += weights[1, 0, k] * x + weights[1, 1, k] * y
                b += weights[2, 0, k] * x + weights[2, 1, k] * y
                out[i, k] = pair(x, y)
            rgb[j, 0], rgb[j, 1], rgb[j, 2] = sigmoid(r), sigmoid(g), sigmoid(b)


@inlined
def _passes(activation):
    """Mask of the halves of a pair that the ReLU, which gave this activation, let through."""
    low = np.uint32(0xFFFF) if activation & np.uint32(0x7FFF) else np.uint32(0)
    high = np.uint32(0xFFFF0000) if activation & np.uint32(0x7FFF0000) else np.uint32(0)
    return low | high


@loop
def of_colour(
    offsets, row, out, weights, rgb, of_density, of_rgb, slope, of_view, of_weights
):  # fmt: skip
    """Backward of colour(): slope [R, > H / 2], pairs as out; of_view [n, H], of_weights.

    of_weights [G, 3, 2, H / 2] starts at zero.
    """
    half, n = weights.shape[2], len(offsets) - 1
    for task in prange((n + RAYS - 1) // RAYS):
        thread = numba.get_thread_id()
        total = of_weights[thread]
        for which in range(task * RAYS, min(n, (task + 1) * RAYS)):
            for k in range(2 * half):
                of_view[which, k] = ZERO
            for j in range(offsets[which], offsets[which + 1]):
                i = row[j]
                if i < 0:
                    break
                r = of_rgb[j, 0] * rgb[j, 0] * (ONE - rgb[j, 0])
                g = of_rgb[j, 1] * rgb[j, 1] * (ONE - rgb[j, 1])
                b = of_rgb[j, 2] * rgb[j, 2] * (ONE - rgb[j, 2])
                for k in range(half):
                    both = out[i, k]
                    x, y = first_of(both), second_of(both)
                    total[0, 0, k] += r * x
                    total[0, 1, k] += r * y
                    total[1, 0, k] += g * x
                    total[1, 1, k] += g * y
                    total[2, 0, k] += b * x
                    total[2, 1, k] += b * y
                    x = r * weights[0, 0, k] + g * weights[1, 0, k] + b * weights[2, 0, k]
                    y = r * weights[0, 1, k] + g * weights[1, 1, k] + b * weights[2, 1, k]
                    both = pair(x, y) & _passes(both)
                    slope[i, k] = both
                    of_view[which, k] += first_of(both)
                    of_view[which, half + k] += second_of(both)
                logarithm = max(min(first_of(out[i, half]), LARGEST), -LARGEST)
                slope[i, half] = pair(of_density[j] * exp(logarithm), ZERO)


@loop
def of_rectify(n, hidden, slope):
    """slope [R, H / 2]: pairs, zero where those of hidden are, for the first n rows."""
    half = hidden.shape[1]
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            for k in range(half):
                slope[i, k] &= _passes(hidden[i, k])


@loop
def of_biased(n, hidden, frame, slope, of_bias):
    """As of_rectify(), adding up of_bias [G, F, H] (evens first) by frames."""
    half = hidden.shape[1]
    for task in prange((n + CHUNK - 1) // CHUNK):
        total = of_bias[numba.get_thread_id()]
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            which = frame[i]
            for k in range(half):
                both = slope[i, k] & _passes(hidden[i, k])
                slope[i, k] = both
                total[which, k] += first_of(both)
                total[which, half + k] += second_of(both)


@loop
def of_ambient(
    n, sample, of_moved, coordinate, place, hidden, weights, table, scales, firsts, masks, strides,
    hashed, pairs, wide, of_features, column, upstream, slope, of_weights,
):  # fmt: skip
    """Backward of encode_ambient(), but for the table.

    of_moved [m, 2]: the coordinate's own gradient. Fills upstream [L, R] for scatter_plane(), and
    slope [R, H / 2], pairs both; of_weights [G, 2, 2, H / 2] starts at zero.
    """
    half = hidden.shape[1]
    for task in prange((n + CHUNK - 1) // CHUNK):
        begin, thread = task * CHUNK, numba.get_thread_id()
        count, total = min(n - begin, CHUNK), of_weights[thread]
        rows, corners = pairs[thread], wide[thread]
        of_x, of_y = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
        here = _part(place, begin, count)
        for i in range(count):
            for level in range(len(scales)):
                upstream[level, begin + i] = of_features[begin + i, column + level]
        for level in range(len(scales)):
            scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
            stride0, stride1 = strides[level, 0], strides[level, 1]
            corners2(here, count, scale, base, mask, stride0, stride1, hashed[level], rows)
            for corner in range(4):
                for i in range(count):
                    corners[corner, i] = table[rows[corner, i]]
            for i in range(count):
                x, y = here[0, i] * scale + ROUNDING, here[1, i] * scale + ROUNDING
                f, g = x - np.float32(np.int32(x)), y - np.float32(np.int32(y))
                both = upstream[level, begin + i]
                u, v = first_of(both) * scale, second_of(both) * scale
                a, b, c, d = corners[0, i], corners[1, i], corners[2, i], corners[3, i]
                t00, t10 = u * _low(a) + v * _high(a), u * _low(b) + v * _high(b)
                t01, t11 = u * _low(c) + v * _high(c), u * _low(d) + v * _high(d)
                of_x[i] += (ONE - g) * (t10 - t00) + g * (t11 - t01)
                of_y[i] += (ONE - f) * (t01 - t00) + f * (t11 - t10)
        for i in range(count):
            j, row = sample[begin + i], begin + i
            x, y = coordinate[0, row], coordinate[1, row]
            x = (of_x[i] / TWO + of_moved[j, 0]) * (ONE - x * x)
            y = (of_y[i] / TWO + of_moved[j, 1]) * (ONE - y * y)
            for k in range(half):
                both = hidden[row, k]
                total[0, 0, k] += x * first_of(both)
                total[0, 1, k] += x * second_of(both)
                total[1, 0, k] += y * first_of(both)
                total[1, 1, k] += y * second_of(both)
                slope[row, k] = _passes(both) & pair(
                    x * weights[0, 0, k] + y * weights[1, 0, k],
                    x * weights[0, 1, k] + y * weights[1, 1, k],
                )


@loop
def of_space(n, of_sigma, of_coordinate, frame, eye, product, upstream):
    """Gradient of the spatial features, from all who read them, as pairs in upstream [L, R].

    of_sigma [R, columns of the features], of_coordinate [R, L]: pairs.
    """
    n_levels = len(upstream)
    last = of_sigma.shape[1] - n_levels
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            factor = eye[frame[i]]
            for level in range(n_levels):
                x = first_of(of_sigma[i, level]) + first_of(of_coordinate[i, level])
                y = second_of(of_sigma[i, level]) + second_of(of_coordinate[i, level])
                if product:
                    x += factor * first_of(of_sigma[i, last + level])
                    y += factor * second_of(of_sigma[i, last + level])
                upstream[level, i] = pair(x, y)


def _adder(width):
    """An intrinsic that adds weight times its first `width` numbers from array[index] on."""

    @intrinsic
    def add(context, array, index, weight, a, b, c, d):
        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(ir.FloatType(), width)

            def filled(numbers):
                value = ir.Constant(vector, ir.Undefined)
                for k, number in enumerate(numbers):
                    place = ir.Constant(ir.IntType(32), k)
                    value = builder.insert_element(value, number, place)
                return value

            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            where = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
            share = builder.fmul(
                filled(arguments[3 : 3 + width]), filled(width * [arguments[2]]), flags=["contract"]
            )
            total = builder.fadd(builder.load(where, align=4), share, flags=["contract"])
            builder.store(total, where, align=4)

        return types.void(array, types.int64, *(types.float32,) * 5), generate

    return add


_add_two, _add_four = _adder(2), _adder(4)


@inlined
def _scatter(out, row, next_row, weight, share, u, v):
    """Add to two neighbours along the first axis, which mostly are neighbours in the table."""
    rest = ONE - share
    if next_row == row + np.uint32(1):
        _add_four(out, 2 * np.int64(row), weight, rest * u, rest * v, share * u, share * v)
    else:
        _add_two(out, 2 * np.int64(row), weight, rest * u, rest * v, u, v)
        _add_two(out, 2 * np.int64(next_row), weight, share * u, share * v, u, v)


@loop
def scatter_plane(n, place, upstream, order, scales, firsts, masks, strides, hashed, gradients):
    """Gradient of a 2D table, added to gradients [copies, 2 x entries].

    place [2, R]; upstream [L, R]: pairs. A task owns a level of one of the copies: no races.
    """
    levels, copies = len(scales), len(gradients)
    for task in prange(levels * copies):
        level, copy = order[task] % levels, order[task] // levels
        scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
        stride0, stride1 = strides[level, 0], strides[level, 1]
        rows, out = np.empty((4, CHUNK), np.uint32), gradients[copy]
        end = n * (copy + 1) // copies
        for start in range(n * copy // copies, end, CHUNK):
            count = min(end - start, CHUNK)
            here = _part(place, start, count)
            corners2(here, count, scale, base, mask, stride0, stride1, hashed[level], rows)
            for i in range(count):
                x, y = here[0, i] * scale + ROUNDING, here[1, i] * scale + ROUNDING
                f, g = x - np.float32(np.int32(x)), y - np.float32(np.int32(y))
                both = upstream[level, start + i]
                u, v = first_of(both), second_of(both)
                _scatter(out, rows[0, i], rows[1, i], ONE - g, f, u, v)
                _scatter(out, rows[2, i], rows[3, i], g, f, u, v)


@loop
def scatter_space(n, place, upstream, order, scales, firsts, masks, strides, hashed, gradients):
    """As scatter_plane(), in three dimensions."""
    levels, copies = len(scales), len(gradients)
    for task in prange(levels * copies):
        level, copy = order[task] % levels, order[task] // levels
        scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
        stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
        rows, weights = np.empty((8, CHUNK), np.uint32), np.empty((5, CHUNK), np.float32)
        out = gradients[copy]
        end = n * (copy + 1) // copies
        for start in range(n * copy // copies, end, CHUNK):
            count = min(end - start, CHUNK)
            here = _part(place, start, count)
            corners3(here, count, scale, base, mask, stride0, stride1, stride2, hashed[level], rows)
            for i in range(count):
                x = here[0, i] * scale + ROUNDING
                y = here[1, i] * scale + ROUNDING
                z = here[2, i] * scale + ROUNDING
                f, g, h = (
                    x - np.float32(np.int32(x)),
                    y - np.float32(np.int32(y)),
                    z - np.float32(np.int32(z)),
                )
                weights[0, i], weights[1, i] = (ONE - g) * (ONE - h), g * (ONE - h)
                weights[2, i], weights[3, i] = (ONE - g) * h, g * h
                weights[4, i] = f
            for i in range(count):
                both = upstream[level, start + i]
                u, v, f = first_of(both), second_of(both), weights[4, i]
                for k in range(4):
                    _scatter(out, rows[2 * k, i], rows[2 * k + 1, i], weights[k, i], f, u, v)
