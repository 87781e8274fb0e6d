"""Numba loops of frame rendering: everything between the matrix products.

Letters: n samples or pixels, L levels, H hidden units. Pairs: see kernels/pairs.py.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import math

import numba
import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import inlined, loop, serial_loop
from radnerf.kernels.pairs import (
    ONE,
    TWO,
    ZERO,
    blend3,
    corners3,
    exp,
    first_of,
    last_layer2,
    pair,
    plane,
    positive,
    second_of,
    sigmoid,
    tanh,
    unit,
)

SLOTS = 64  # rays a task
CHUNK = 256  # pixels a task


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
                    place[axis, j - start] = unit((x - low[axis]) * per_unit[axis])
        for level in range(n_levels):
            scale, mask, base = scales[level], masks[level], np.uint32(firsts[level])
            stride0, stride1, stride2 = strides[level, 0], strides[level, 1], strides[level, 2]
            if hashed[level]:
                corners3(place, n, scale, base, mask, stride0, stride1, stride2, True, rows)
            else:
                corners3(place, n, scale, base, mask, stride0, stride1, stride2, False, rows)
            for corner in range(8):
                for i in range(n):
                    rows[corner, i] = table[rows[corner, i]]
            blend3(place, n, scale, rows, mixed[level])
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
            place[0, i], place[1, i] = last_layer2(hidden[begin + i], weights)
        for i in range(count):
            place[0, i] = unit((tanh(place[0, i]) + ONE) / TWO)
            place[1, i] = unit((tanh(place[1, i]) + ONE) / TWO)
        plane(place, count, table, scales, firsts, masks, strides, hashed, rows, mixed)
        for i in range(count):
            for level in range(len(scales)):
                features[begin + i, column + level] = mixed[level, i]


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
                depth = exp(min(first_of(out[j, half]), np.float32(15))) * step
                through = exp(-depth)
                weight = left * (ONE - through)
                left *= through
                if weight > faint:
                    r, g, b = ZERO, ZERO, ZERO
                    for k in range(half):
                        x = positive(first_of(out[j, k]) + view[ray, k])
                        y = positive(second_of(out[j, k]) + view[ray, half + k])
                        r += weights[0, 0, k] * x + weights[0, 1, k] * y
                        g += weights[1, 0, k] * x + weights[1, 1, k] * y
                        b += weights[2, 0, k] * x + weights[2, 1, k] * y
                    colour[ray, 0] += weight * sigmoid(r)
                    colour[ray, 1] += weight * sigmoid(g)
                    colour[ray, 2] += weight * sigmoid(b)
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
            encoded[i, 0] = pair(x, y)
            # Twice the angle from the angle.
            sin_x, cos_x, sin_y, cos_y = np.sin(x), np.cos(x), np.sin(y), np.cos(y)
            for octave in range(octaves):
                encoded[i, 1 + 2 * octave] = pair(sin_x, sin_y)
                encoded[i, 2 + 2 * octave] = pair(cos_x, cos_y)
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
            x, y = last_layer2(hidden[begin + i], weights)
            place[0, i] = unit((points[0, begin + i] + x + ONE) / TWO)
            place[1, i] = unit((points[1, begin + i] + y + ONE) / TWO)
        plane(place, count, table, scales, firsts, masks, strides, hashed, rows, mixed)
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
                x, y = positive(first_of(hidden[i, k])), positive(second_of(hidden[i, k]))
                alpha += weights[0, 0, k] * x + weights[0, 1, k] * y
                r += weights[1, 0, k] * x + weights[1, 1, k] * y
                g += weights[2, 0, k] * x + weights[2, 1, k] * y
                b += weights[3, 0, k] * x + weights[3, 1, k] * y
            opacity, pixel = sigmoid(alpha), chosen[start + i + 1]
            behind[pixel, 0] += opacity * (sigmoid(r) - behind[pixel, 0])
            behind[pixel, 1] += opacity * (sigmoid(g) - behind[pixel, 1])
            behind[pixel, 2] += opacity * (sigmoid(b) - behind[pixel, 2])


@loop
def finish(colour, light, behind, order, image):
    """8-bit pixels: the head over what is behind it; ray i is pixel order[i] of the image."""
    n = len(order)
    for task in prange((n + CHUNK - 1) // CHUNK):
        for i in range(task * CHUNK, min(n, (task + 1) * CHUNK)):
            for channel in range(3):
                value = colour[i, channel] + light[i] * behind[i, channel]
                image[order[i], channel] = np.uint8(unit(value) * np.float32(255) + np.float32(0.5))
