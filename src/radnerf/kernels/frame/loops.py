"""Numba loops of frame rendering: everything between the matrix products.

Letters: n samples or pixels, L levels, H hidden units. A bfloat16 pair is the uint32 that holds two
neighbouring bfloat16: the low half is the first. Grid tables and the inputs of matrix products are
kept that way, which halves the memory that a lookup touches. What is multiplied with pairs has its
even columns before its odd ones, so that the loops become vector code.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from radnerf.kernels.numba_runtime import inlined, loop, serial_loop

SLOTS = 64  # rays a task
CHUNK = 256  # pixels a task
HIGH = np.uint32(0xFFFF0000)
HALF = np.uint32(0x8000)  # rounds to the nearest when the lower half is cut off
SIXTEEN = np.uint32(16)
ROUNDING = np.float32(0.5)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
E2, E3, E4, E5, E6 = (np.float32(1 / math.factorial(k)) for k in range(2, 7))


@intrinsic
def _as_float(context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _as_bits(context, value):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@inlined
def _first(pair):
    return _as_float(pair << SIXTEEN)


@inlined
def _second(pair):
    return _as_float(pair & HIGH)


@inlined
def _pair(first, second):
    return ((_as_bits(first) + HALF) >> SIXTEEN) | ((_as_bits(second) + HALF) & HIGH)


@inlined
def _unit(x: Any) -> Any:
    """Into [0, 1]; NaN becomes 0."""
    x = x if x > ZERO else ZERO
    return x if x < ONE else ONE


@inlined
def _positive(x):
    return x if x > ZERO else ZERO


@inlined
def _exp(x: Any) -> Any:
    """To 2e-7 of itself, between exp(-87) and exp(87); loops with it become vector code."""
    x = min(max(x, np.float32(-87)), np.float32(87)) * LOG2_E
    whole = math.floor(x + np.float32(0.5))
    x = (x - whole) * LN_2
    series = E6
    for factor in (E5, E4, E3, E2, ONE, ONE):
        series = series * x + factor
    return series * _as_float(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23))


@inlined
def _sigmoid(x: Any) -> Any:
    return ONE / (ONE + _exp(-x))


@inlined
def _tanh(x):
    return ONE - TWO / (ONE + _exp(TWO * x))


@inlined
def _sum2(a, b, hashed):
    return np.uint32(a ^ b) if hashed else np.uint32(a + b)


@inlined
def _sum3(a, b, c, hashed):
    return np.uint32(a ^ b ^ c) if hashed else np.uint32(a + b + c)


@inlined
def _corners2(place, n, scale, first, mask, stride0, stride1, hashed, rows):
    """Table rows of the four corners around n points of place [2, n], into rows [4, n]."""
    for i in range(n):
        a = np.uint32(np.int32(place[0, i] * scale + ROUNDING)) * stride0
        b = np.uint32(np.int32(place[1, i] * scale + ROUNDING)) * stride1
        c, d = np.uint32(a + stride0), np.uint32(b + stride1)
        rows[0, i] = first + np.uint32(_sum2(a, b, hashed) & mask)
        rows[1, i] = first + np.uint32(_sum2(c, b, hashed) & mask)
        rows[2, i] = first + np.uint32(_sum2(a, d, hashed) & mask)
        rows[3, i] = first + np.uint32(_sum2(c, d, hashed) & mask)


@inlined
def _blend2(place, n, scale, rows, out):
    """Pairs interpolated between the four corners in rows [4, n], into out [n]."""
    for i in range(n):
        x, y = place[0, i] * scale + ROUNDING, place[1, i] * scale + ROUNDING
        f, g = x - np.float32(np.int32(x)), y - np.float32(np.int32(y))
        e, h = ONE - f, ONE - g
        a, b, c, d = rows[0, i], rows[1, i], rows[2, i], rows[3, i]
        out[i] = _pair(
            h * (e * _first(a) + f * _first(b)) + g * (e * _first(c) + f * _first(d)),
            h * (e * _second(a) + f * _second(b)) + g * (e * _second(c) + f * _second(d)),
        )


@inlined
def _plane(place, n, table, scales, firsts, masks, strides, hashed, rows, out):
    """Features of n points of place [2, n], level by level, as pairs in out [L, n].

    A level in three loops: which rows, the rows, their mixture. Only the middle one cannot be
    vector code.
    """
    for level in range(len(scales)):
        scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
        stride0, stride1 = strides[level, 0], strides[level, 1]
        if hashed[level]:
            _corners2(place, n, scale, base, mask, stride0, stride1, True, rows)
        else:
            _corners2(place, n, scale, base, mask, stride0, stride1, False, rows)
        for corner in range(4):
            for i in range(n):
                rows[corner, i] = table[rows[corner, i]]
        _blend2(place, n, scale, rows, out[level])


@inlined
def _corners3(place, n, scale, first, mask, stride0, stride1, stride2, hashed, rows):
    """Table rows of the eight corners around n points of place [3, n], into rows [8, n]."""
    for i in range(n):
        a = np.uint32(np.int32(place[0, i] * scale + ROUNDING)) * stride0
        b = np.uint32(np.int32(place[1, i] * scale + ROUNDING)) * stride1
        c = np.uint32(np.int32(place[2, i] * scale + ROUNDING)) * stride2
        d, e, f = np.uint32(a + stride0), np.uint32(b + stride1), np.uint32(c + stride2)
        rows[0, i] = first + np.uint32(_sum3(a, b, c, hashed) & mask)
        rows[1, i] = first + np.uint32(_sum3(d, b, c, hashed) & mask)
        rows[2, i] = first + np.uint32(_sum3(a, e, c, hashed) & mask)
        rows[3, i] = first + np.uint32(_sum3(d, e, c, hashed) & mask)
        rows[4, i] = first + np.uint32(_sum3(a, b, f, hashed) & mask)
        rows[5, i] = first + np.uint32(_sum3(d, b, f, hashed) & mask)
        rows[6, i] = first + np.uint32(_sum3(a, e, f, hashed) & mask)
        rows[7, i] = first + np.uint32(_sum3(d, e, f, hashed) & mask)


@inlined
def _blend3(place, n, scale, rows, out):
    """Pairs interpolated between the eight corners in rows [8, n], into out [n]."""
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
        a, b, c, d = rows[0, i], rows[1, i], rows[2, i], rows[3, i]
        k, m, p, q = rows[4, i], rows[5, i], rows[6, i], rows[7, i]
        out[i] = _pair(
            w00 * (e * _first(a) + f * _first(b))
            + w10 * (e * _first(c) + f * _first(d))
            + w01 * (e * _first(k) + f * _first(m))
            + w11 * (e * _first(p) + f * _first(q)),
            w00 * (e * _second(a) + f * _second(b))
            + w10 * (e * _second(c) + f * _second(d))
            + w01 * (e * _second(k) + f * _second(m))
            + w11 * (e * _second(p) + f * _second(q)),
        )


@inlined
def _leaves(cell, reach, position, per_distance):
    """Distance at which a position leaves the cells cell - reach .. cell + reach, of one axis."""
    if per_distance > ZERO:
        return (np.float32(cell + reach + 1) - position) / per_distance
    if per_distance < ZERO:
        return (np.float32(cell - reach) - position) / per_distance
    return np.float32(1e30)


@loop
def walk(camera, pose, low, high, per_unit, empty, near, step, directions, found, counts):
    """Sample every pixel's ray on its lattice, as kernels/march does without jitter.

    camera [n, 3]: directions in the camera's frame; directions [n, 3]: in the world, filled in.
    empty [rx, ry, rz]: cells, in any direction, to the next one that holds something; 0 in it.
    """
    n = len(camera)
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    sx, sy, sz = per_unit[0], per_unit[1], per_unit[2]
    px, py, pz = (ox - low[0]) * sx, (oy - low[1]) * sy, (oz - low[2]) * sz
    rx, ry, rz = empty.shape
    tiny = np.float32(1e-12)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            a, b, c = camera[i, 0], camera[i, 1], camera[i, 2]
            dx = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c
            dy = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c
            dz = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c
            directions[i, 0], directions[i, 1], directions[i, 2] = dx, dy, dz
            ix = ONE / (dx if abs(dx) > tiny else tiny)
            iy = ONE / (dy if abs(dy) > tiny else tiny)
            iz = ONE / (dz if abs(dz) > tiny else tiny)
            x0, x1 = (low[0] - ox) * ix, (high[0] - ox) * ix
            y0, y1 = (low[1] - oy) * iy, (high[1] - oy) * iy
            z0, z1 = (low[2] - oz) * iz, (high[2] - oz) * iz
            first = max(max(near, min(x0, x1)), max(min(y0, y1), min(z0, z1)))
            last = min(max(x0, x1), min(max(y0, y1), max(z0, z1)))
            gx, gy, gz = dx * sx, dy * sy, dz * sz
            kept, piece = 0, 0
            while kept < found.shape[1]:
                t = first + (np.float32(piece) + np.float32(0.5)) * step
                if not t < last:
                    break
                x, y, z = px + t * gx, py + t * gy, pz + t * gz
                cx = min(max(int(x), 0), rx - 1)
                cy = min(max(int(y), 0), ry - 1)
                cz = min(max(int(z), 0), rz - 1)
                reach = int(empty[cx, cy, cz]) - 1
                if reach < 0:
                    found[i, kept] = t
                    kept += 1
                    piece += 1
                    continue
                ahead = min(
                    _leaves(cx, reach, x, gx),
                    min(_leaves(cy, reach, y, gy), _leaves(cz, reach, z, gz)),
                )
                piece += max(1, math.ceil(min(ahead / step, np.float32(1e6))))
            counts[i] = kept


@loop
def clear(counts, light, colour, hit):
    """Start all rays; hit[1 :] lists those with samples in order, hit[0] says how many."""
    n = len(counts)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            light[i] = ONE
            colour[i, 0] = colour[i, 1] = colour[i, 2] = ZERO
    total = 0
    for i in range(n):
        if counts[i] > 0:
            hit[total + 1] = i
            total += 1
    hit[0] = total


@serial_loop
def schedule(slots, cursor, state, hit, counts, light, stop, at_once, first):
    """Retire finished rays, let waiting ones in; slot s gets samples first[s] .. first[s + 1].

    state: rays in slots, rays let in so far. Afterwards every slot's ray has a sample to come.
    """
    kept = 0
    for s in range(state[0]):
        ray = slots[s]
        if cursor[s] < counts[ray] and light[ray] > stop:
            slots[kept] = ray
            cursor[kept] = cursor[s]
            kept += 1
    while kept < len(slots) and state[1] < hit[0]:
        slots[kept] = hit[state[1] + 1]
        cursor[kept] = 0
        state[1] += 1
        kept += 1
    state[0] = kept
    first[0] = 0
    for s in range(kept):
        first[s + 1] = first[s] + min(at_once, counts[slots[s]] - cursor[s])


@loop
def encode_space(
    slots, cursor, n_slots, first, found, origin, directions, low, per_unit,
    table, scales, firsts, masks, strides, hashed, floats, pairs, features,
):  # fmt: skip
    """Spatial features of the scheduled samples, as pairs in features [n, >= L].

    Level by level as in _plane. Scratch of each thread: floats [threads, 3, >= n], pairs
    [threads, 8 + L, >= n], for the n samples of a task.
    """
    n_levels = len(scales)
    for task in prange((n_slots + SLOTS - 1) // SLOTS):
        begin, end = task * SLOTS, min(n_slots, (task + 1) * SLOTS)
        thread = numba.get_thread_id()
        place, rows, mixed = floats[thread], pairs[thread, :8], pairs[thread, 8:]
        start, n = first[begin], first[end] - first[begin]
        for s in range(begin, end):
            ray = slots[s]
            for j in range(first[s], first[s + 1]):
                t = found[ray, cursor[s] + j - first[s]]
                for axis in range(3):
                    x = origin[axis] + t * directions[ray, axis]
                    place[axis, j - start] = _unit((x - low[axis]) * per_unit[axis])
        for level in range(n_levels):
            scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
            stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
            if hashed[level]:
                _corners3(place, n, scale, base, mask, stride0, stride1, stride2, True, rows)
            else:
                _corners3(place, n, scale, base, mask, stride0, stride1, stride2, False, rows)
            for corner in range(8):
                for i in range(n):
                    rows[corner, i] = table[rows[corner, i]]
            _blend3(place, n, scale, rows, mixed[level])
        for i in range(n):
            for level in range(n_levels):
                features[start + i, level] = mixed[level, i]


@loop
def encode_ambient(
    hidden, n, weights, table, scales, firsts, masks, strides, hashed, floats, pairs,
    features, column,
):  # fmt: skip
    """The audio coordinate tanh(weights hidden), and its features from `column` of features on.

    hidden [n, H / 2]: pairs before the ReLU; weights [2, 2, H / 2]. Scratch as in encode_space.
    """
    for task in prange((n + CHUNK - 1) // CHUNK):
        begin, count = task * CHUNK, min(n - task * CHUNK, CHUNK)
        thread = numba.get_thread_id()
        place, rows, mixed = floats[thread], pairs[thread, :8], pairs[thread, 8:]
        for i in range(count):
            place[0, i], place[1, i] = _last_layer2(hidden[begin + i], weights)
        for i in range(count):
            place[0, i] = _unit((_tanh(place[0, i]) + ONE) / TWO)
            place[1, i] = _unit((_tanh(place[1, i]) + ONE) / TWO)
        _plane(place, count, table, scales, firsts, masks, strides, hashed, rows, mixed)
        for i in range(count):
            for level in range(len(scales)):
                features[begin + i, column + level] = mixed[level, i]


@inlined
def _last_layer2(hidden, weights):
    """Two outputs of a row of pairs, after the ReLU."""
    x, y = ZERO, ZERO
    for k in range(len(hidden)):
        a, b = _positive(_first(hidden[k])), _positive(_second(hidden[k]))
        x += weights[0, 0, k] * a + weights[0, 1, k] * b
        y += weights[1, 0, k] * a + weights[1, 1, k] * b
    return x, y


@loop
def absorb(
    slots, cursor, n_slots, first, out, view, weights, step, stop, faint, light, colour
):  # fmt: skip
    """Add the scheduled samples to their rays, front to back.

    out [n, > H / 2]: pairs; the hidden layer of the colour before its view term and ReLU, then the
    logarithm of the density. view [rays, H]: that term. weights [3, 2, H / 2]: the last layer.
    """
    half = weights.shape[2]
    for task in prange((n_slots + SLOTS - 1) // SLOTS):
        for s in range(task * SLOTS, min(n_slots, (task + 1) * SLOTS)):
            ray = slots[s]
            left = light[ray]
            for j in range(first[s], first[s + 1]):
                if left <= stop:
                    break
                depth = _exp(min(_first(out[j, half]), np.float32(15))) * step
                through = _exp(-depth)
                weight = left * (ONE - through)
                left *= through
                if weight > faint:
                    r, g, b = ZERO, ZERO, ZERO
                    for k in range(half):
                        x = _positive(_first(out[j, k]) + view[ray, k])
                        y = _positive(_second(out[j, k]) + view[ray, half + k])
                        r += weights[0, 0, k] * x + weights[0, 1, k] * y
                        g += weights[1, 0, k] * x + weights[1, 1, k] * y
                        b += weights[2, 0, k] * x + weights[2, 1, k] * y
                    colour[ray, 0] += weight * _sigmoid(r)
                    colour[ray, 1] += weight * _sigmoid(g)
                    colour[ray, 2] += weight * _sigmoid(b)
            light[ray] = left
            cursor[s] += first[s + 1] - first[s]


@serial_loop
def needs_torso(candidates, light, stop, chosen):
    """chosen[1 :] lists the candidate pixels that can be seen, chosen[0] says how many."""
    total = 0
    for c in range(len(candidates)):
        if light[candidates[c]] > stop:
            chosen[total + 1] = candidates[c]
            total += 1
    chosen[0] = total


@loop
def encode_points(xy, chosen, start, n, shift, cos, sin, shrink, octaves, points, encoded):
    """Image points moved with the torso, and their frequency encoding as pairs [n, columns].

    The encoding's order is that of kernels/encodings: x y, then per octave the sines, the cosines.
    """
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            pixel = chosen[start + i + 1]
            a, b = xy[pixel, 0] - shift[0], xy[pixel, 1] - shift[1]
            x, y = (cos * a + sin * b) * shrink, (cos * b - sin * a) * shrink
            points[0, i], points[1, i] = x, y
            encoded[i, 0] = _pair(x, y)
            # Twice the angle from the angle.
            sin_x, cos_x, sin_y, cos_y = np.sin(x), np.cos(x), np.sin(y), np.cos(y)
            for octave in range(octaves):
                encoded[i, 1 + 2 * octave] = _pair(sin_x, sin_y)
                encoded[i, 2 + 2 * octave] = _pair(cos_x, cos_y)
                sin_x, cos_x = TWO * sin_x * cos_x, ONE - TWO * sin_x * sin_x
                sin_y, cos_y = TWO * sin_y * cos_y, ONE - TWO * sin_y * sin_y


@loop
def encode_torso(
    hidden, n, weights, points, table, scales, firsts, masks, strides, hashed, floats, pairs,
    encoded, features,
):  # fmt: skip
    """Features of the deformed points, then their encoding, as pairs in features [n, columns].

    hidden [n, H / 2]: pairs before the ReLU; weights [2, 2, H / 2]: the deformation's last layer.
    Scratch as in encode_space.
    """
    n_levels, n_encoded = len(scales), encoded.shape[1]
    for task in prange((n + CHUNK - 1) // CHUNK):
        begin, count = task * CHUNK, min(n - task * CHUNK, CHUNK)
        thread = numba.get_thread_id()
        place, rows, mixed = floats[thread], pairs[thread, :8], pairs[thread, 8:]
        for i in range(count):
            x, y = _last_layer2(hidden[begin + i], weights)
            place[0, i] = _unit((points[0, begin + i] + x + ONE) / TWO)
            place[1, i] = _unit((points[1, begin + i] + y + ONE) / TWO)
        _plane(place, count, table, scales, firsts, masks, strides, hashed, rows, mixed)
        for i in range(count):
            for level in range(n_levels):
                features[begin + i, level] = mixed[level, i]
            for k in range(n_encoded):
                features[begin + i, n_levels + k] = encoded[begin + i, k]


@loop
def lay_torso(hidden, n, weights, chosen, start, behind):
    """Put the torso over what is behind it, at the chosen pixels.

    hidden [n, H / 2]: pairs before the ReLU; weights [4, 2, H / 2]: the last layer, alpha then RGB.
    """
    width = hidden.shape[1]
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            alpha, r, g, b = ZERO, ZERO, ZERO, ZERO
            for k in range(width):
                x, y = _positive(_first(hidden[i, k])), _positive(_second(hidden[i, k]))
                alpha += weights[0, 0, k] * x + weights[0, 1, k] * y
                r += weights[1, 0, k] * x + weights[1, 1, k] * y
                g += weights[2, 0, k] * x + weights[2, 1, k] * y
                b += weights[3, 0, k] * x + weights[3, 1, k] * y
            opacity, pixel = _sigmoid(alpha), chosen[start + i + 1]
            behind[pixel, 0] += opacity * (_sigmoid(r) - behind[pixel, 0])
            behind[pixel, 1] += opacity * (_sigmoid(g) - behind[pixel, 1])
            behind[pixel, 2] += opacity * (_sigmoid(b) - behind[pixel, 2])


@loop
def finish(colour, light, behind, order, image):
    """8-bit pixels: the head over what is behind it; ray i is pixel order[i] of the image."""
    n = len(order)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            for channel in range(3):
                value = colour[i, channel] + light[i] * behind[i, channel]
                image[order[i], channel] = np.uint8(
                    _unit(value) * np.float32(255) + np.float32(0.5)
                )
