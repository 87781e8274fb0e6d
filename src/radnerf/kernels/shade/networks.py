"""The head in training on CPU cores, forward and backward: grids, networks, compositing.

Rays take a few samples a round, so that those behind an opaque one are never shaded; every sample
that is shaded has a row. Grids are read and written level by level, since a level fits in a core's
own cache and all of them do not; networks a piece of a few hundred rows at a time, for which the
same is true. Whoever is awake takes the next task of a phase, see workers.py. Sums are made in
portions, of every so manieth piece each, in their order: so they come out the same in every run,
however many threads there are. A portion has memory of its own, along the first axis of Sums.

Letters: m samples, N rays, R rows, P rows of a piece, F frames, L and A levels of the spatial and
the ambient grid, S words of the density network's input, H hidden units, W portions.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt32

from radnerf.kernels.composite.loops import back_to_samples, composite_ray
from radnerf.kernels.dense import ROWS, add_products, layer, layer_gradient, paired
from radnerf.kernels.lookup import (
    encode_level2,
    encode_level3,
    far,
    fetch2,
    fill_part,
    fraction_of,
    near,
)
from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import (
    HIGH,
    LARGEST,
    LOW,
    ONE,
    SIXTEEN,
    TWO,
    ZERO,
    exp,
    first_of,
    pair,
    passes,
    second_of,
    sigmoid,
    tanh,
    unit,
)
from radnerf.kernels.shade.scatter import scatter_level2, scatter_level3
from radnerf.kernels.workers import finish, next_task, wait

PIECE = 256  # rows
RAYS = 64  # a task
PARTS = 4  # in which a level's table is turned into pairs
PORTIONS = 8  # of the sums; more threads than that do not help
PHASES_A_ROUND = 4


class Batch(NamedTuple):
    """Rays and their samples.

    Attributes:
        t, dt: distance and length of the samples.
        offsets: where the samples of the rays begin, and the end.
        origins, directions, frame: of the rays.
        low, per_unit: corner of the field's box, and one over its size.
        eye: what spatial features are multiplied with once more, in every frame.
        product: whether they are.
        stop, opaque: transmittance behind which nothing is visible, and the optical depth of that.
    """

    t: Float[np.ndarray, " m"]
    dt: Float[np.ndarray, " m"]
    offsets: Int[np.ndarray, " N"]
    origins: Float[np.ndarray, "N 3"]
    directions: Float[np.ndarray, "N 3"]
    frame: Int[np.ndarray, " N"]
    low: Float[np.ndarray, " 3"]
    per_unit: Float[np.ndarray, " 3"]
    eye: Float[np.ndarray, " F"]
    product: bool
    stop: np.float32
    opaque: np.float32


class Rows(NamedTuple):
    """What forward() keeps of every row for backward().

    Attributes:
        sample, ray, frame: of the row.
        row: of a sample, -1 for one that is not shaded.
        ends: rows after every round.
        place, coordinate, point: in the box; the audio's, from -1 to 1 and from 0 to 1.
        features: words of the density network's input: spatial, ambient, and the spatial ones times
            the eye control.
        a1, a2, s1, s2, c: hidden layers of the ambient, the density and the color network.
        logarithm: of the density.
    """

    sample: Int[np.ndarray, " R"]
    ray: Int[np.ndarray, " R"]
    frame: Int[np.ndarray, " R"]
    row: Int[np.ndarray, " m"]
    ends: Int[np.ndarray, " rounds"]
    place: Float[np.ndarray, "3 R"]
    coordinate: Float[np.ndarray, "2 R"]
    point: Float[np.ndarray, "2 R"]
    features: UInt32[np.ndarray, "S R"]
    a1: UInt32[np.ndarray, "R half"]
    a2: UInt32[np.ndarray, "R half"]
    s1: UInt32[np.ndarray, "R half"]
    s2: UInt32[np.ndarray, "R half"]
    c: UInt32[np.ndarray, "R half"]
    logarithm: Float[np.ndarray, " R"]


class Shaded(NamedTuple):
    """What is composited, of samples: density; red, green, blue and |audio coordinate|; weights.

    And what comes of it, of rays: the values' sums, alpha and depth. Starts at zero.
    """

    density: Float[np.ndarray, " m"]
    values: Float[np.ndarray, "m 4"]
    weights: Float[np.ndarray, " m"]
    sums: Float[np.ndarray, "N 4"]
    alpha: Float[np.ndarray, " N"]
    depth: Float[np.ndarray, " N"]


class Forward(NamedTuple):
    """Matrices as layer() wants them, and terms of the first layers, [., H]."""

    to_ambient: UInt32[np.ndarray, "words H"]
    ambient_hidden: UInt32[np.ndarray, "words H"]
    to_coordinate: Float[np.ndarray, "2 H"]
    to_sigma: UInt32[np.ndarray, "words H"]
    sigma_hidden: UInt32[np.ndarray, "words H"]
    to_density: Float[np.ndarray, "1 H"]
    to_color: UInt32[np.ndarray, "words H"]
    to_rgb: Float[np.ndarray, "3 H"]
    zeros: Float[np.ndarray, "1 H"]
    of_audio: Float[np.ndarray, "F H"]
    of_eye: Float[np.ndarray, "F H"]
    of_view: Float[np.ndarray, "N H"]


@serial_loop
def forward(
    worker, progress, at_once, batch, rows, net, space, plane, of_space, of_plane, n_shaded, shaded
):  # fmt: skip
    """Shade the samples that rays get to see, and composite them: fills `shaded`.

    progress: see workers.phases(), four of them a round, and two. at_once: samples of a ray in
    every round. space, plane: tables of the spatial and the ambient grid, which go to of_space and
    of_plane. n_shaded [N]: samples of each ray that are, zeros at the start. Of all others nothing
    is changed.
    """
    _fill(progress, 0, space, plane, of_space, of_plane)
    phase, begin = 1, 0
    for i in range(len(at_once)):
        while next_task(progress, phase) < 1:
            end = _schedule(batch, shaded.density, at_once[i], begin, n_shaded, rows)
            rows.ends[i] = end
            finish(progress, phase, 1)
        wait(progress, phase, 1)
        end = rows.ends[i]
        pieces = -(-(end - begin) // PIECE)
        _locate(progress, phase + 1, pieces, begin, end, batch, rows)
        _encode_space(progress, phase + 2, begin, end, rows, of_space)
        n_levels = len(of_space.scales)
        _forward(
            progress, phase + 3, pieces, begin, end, batch, rows, net, n_levels, of_plane, shaded
        )
        phase += PHASES_A_ROUND
        begin = end
    n = len(batch.frame)
    tasks = -(-n // RAYS)
    task = next_task(progress, phase)
    while task < tasks:
        for ray in range(task * RAYS, min(n, (task + 1) * RAYS)):
            composite_ray(
                ray, shaded.density, shaded.values, batch.t, batch.dt, batch.offsets, batch.stop,
                shaded.sums, shaded.alpha, shaded.depth, shaded.weights,
            )  # fmt: skip
        finish(progress, phase, tasks)
        task = next_task(progress, phase)
    wait(progress, phase, tasks)


@inlined
def _fill(progress, phase, space, plane, of_space, of_plane):
    """Turn both tables into pairs."""
    first, second = PARTS * len(of_space.scales), PARTS * len(of_plane.scales)
    task = next_task(progress, phase)
    while task < first + second:
        if task < first:
            fill_part(task // PARTS, task % PARTS, PARTS, space, of_space)
        else:
            other = task - first
            fill_part(other // PARTS, other % PARTS, PARTS, plane, of_plane)
        finish(progress, phase, first + second)
        task = next_task(progress, phase)
    wait(progress, phase, first + second)


@inlined
def _schedule(batch, density, at_once, r, n_shaded, rows):
    """Give rows, from r on, to the next samples of all rays that are not yet opaque; their end.

    n_shaded [N]: shaded samples of each ray.
    """
    for i in range(len(n_shaded)):
        begin, depth = batch.offsets[i] + n_shaded[i], ZERO
        for j in range(batch.offsets[i], begin):
            depth += density[j] * batch.dt[j]
        if depth <= batch.opaque:
            end = min(batch.offsets[i + 1], begin + at_once)
            for j in range(begin, end):
                rows.sample[r], rows.ray[r], rows.row[j] = j, i, r
                r += 1
            n_shaded[i] += end - begin
    return r


@inlined
def _locate(progress, phase, pieces, begin, end, batch, rows):
    """Frame and place of rows begin .. end."""
    piece = next_task(progress, phase)
    while piece < pieces:
        start = begin + piece * PIECE
        n = min(end - start, PIECE)
        sample, ray, frame = rows.sample[start:], rows.ray[start:], rows.frame[start:]
        for i in range(n):
            frame[i] = batch.frame[ray[i]]
        for axis in range(3):
            place = rows.place[axis, start:]
            for i in range(n):
                which = ray[i]
                x = batch.origins[which, axis] + batch.t[sample[i]] * batch.directions[which, axis]
                place[i] = unit((x - batch.low[axis]) * batch.per_unit[axis])
        finish(progress, phase, pieces)
        piece = next_task(progress, phase)
    wait(progress, phase, pieces)


@inlined
def _encode_space(progress, phase, begin, end, rows, grid):
    """The spatial features of rows begin .. end, a level a task."""
    levels = len(grid.scales)
    points = np.empty((3, PIECE), np.float32)
    cells, corners = np.empty((8, PIECE), np.uint32), np.empty((4, PIECE), np.uint64)
    level = next_task(progress, phase)
    while level < levels:
        for start in range(begin, end, PIECE):
            n = min(end - start, PIECE)
            points[:, :n] = rows.place[:, start : start + n]
            out = rows.features[level, start:]
            encode_level3(points, n, grid, level, cells, corners, out)
        finish(progress, phase, levels)
        level = next_task(progress, phase)
    wait(progress, phase, levels)


@inlined
def _forward(
    progress, phase, pieces, begin, end, batch, rows, net, n_levels, grid, shaded
):  # fmt: skip
    """Rows begin .. end through the networks. grid: the ambient one."""
    across, n_ambient = rows.features.shape[1], len(grid.scales)
    index, first_row = np.arange(PIECE), np.zeros(PIECE, np.int64)
    points, last = np.empty((2, PIECE), np.float32), np.empty((3, PIECE), np.float32)
    factor = np.empty(PIECE, np.float32)
    cells, corners = np.empty((4, PIECE), np.uint32), np.empty((2, PIECE), np.uint64)
    piece = next_task(progress, phase)
    while piece < pieces:
        start = begin + piece * PIECE
        n = min(end - start, PIECE)
        frame, ray = rows.frame[start:], rows.ray[start:]
        if batch.product:
            for i in range(n):
                factor[i] = batch.eye[frame[i]]
            for level in range(n_levels):
                both = rows.features[level, start:]
                out = rows.features[n_levels + n_ambient + level, start:]
                for i in range(n):
                    out[i] = pair(factor[i] * first_of(both[i]), factor[i] * second_of(both[i]))
        layer(
            rows.features, start, 1, across, index, n, net.to_ambient, net.of_audio, frame,
            rows.a1, start, None, None,
        )  # fmt: skip
        layer(
            rows.a1, start * rows.a1.shape[1], rows.a1.shape[1], 1, index, n, net.ambient_hidden,
            net.zeros, first_row, rows.a2, start, net.to_coordinate, points,
        )  # fmt: skip
        for axis in range(2):
            coordinate, point = rows.coordinate[axis, start:], rows.point[axis, start:]
            for i in range(n):
                coordinate[i] = tanh(points[axis, i])
            for i in range(n):
                points[axis, i] = point[i] = unit((coordinate[i] + ONE) / TWO)
        for level in range(n_ambient):
            out = rows.features[n_levels + level, start:]
            encode_level2(points, n, grid, level, cells, corners, out)
        layer(
            rows.features, start, 1, across, index, n, net.to_sigma, net.of_eye, frame, rows.s1,
            start, None, None,
        )  # fmt: skip
        layer(
            rows.s1, start * rows.s1.shape[1], rows.s1.shape[1], 1, index, n, net.sigma_hidden,
            net.zeros, first_row, rows.s2, start, net.to_density, last,
        )  # fmt: skip
        rows.logarithm[start : start + n] = last[0, :n]
        layer(
            rows.s2, start * rows.s2.shape[1], rows.s2.shape[1], 1, index, n, net.to_color,
            net.of_view, ray, rows.c, start, net.to_rgb, last,
        )  # fmt: skip
        for channel in range(3):
            for i in range(n):
                last[channel, i] = sigmoid(last[channel, i])
        for i in range(n):
            factor[i] = exp(min(rows.logarithm[start + i], LARGEST))
        sample, x, y = rows.sample[start:], rows.coordinate[0, start:], rows.coordinate[1, start:]
        for i in range(n):
            j = sample[i]
            shaded.density[j], shaded.values[j, 3] = factor[i], abs(x[i]) + abs(y[i])
            for channel in range(3):
                shaded.values[j, channel] = last[channel, i]
        finish(progress, phase, pieces)
        piece = next_task(progress, phase)
    wait(progress, phase, pieces)


class Backward(NamedTuple):
    """Matrices as layer_gradient() wants them, and last layers, evens first."""

    to_color: UInt32[np.ndarray, "words H"]
    sigma_hidden: UInt32[np.ndarray, "words H"]
    to_sigma: UInt32[np.ndarray, "words inputs"]
    ambient_hidden: UInt32[np.ndarray, "words H"]
    to_ambient: UInt32[np.ndarray, "words inputs"]
    to_coordinate: Float[np.ndarray, "2 2 half"]
    to_rgb: Float[np.ndarray, "3 2 half"]


class Sums(NamedTuple):
    """Every portion's gradients of the matrices, [inputs, outputs], and of terms and last layers.

    Hidden units come evens first, but in terms. of_view [N, H] and tables, [rows, 2], have no
    portions.
    """

    to_color: Float[np.ndarray, "W H H"]
    to_density: Float[np.ndarray, "W 2 half"]
    sigma_hidden: Float[np.ndarray, "W H H"]
    to_sigma: Float[np.ndarray, "W inputs H"]
    ambient_hidden: Float[np.ndarray, "W H H"]
    to_ambient: Float[np.ndarray, "W inputs H"]
    to_coordinate: Float[np.ndarray, "W 2 2 half"]
    of_audio: Float[np.ndarray, "W F H"]
    to_rgb: Float[np.ndarray, "W 3 2 half"]
    of_eye: Float[np.ndarray, "W F H"]
    of_view: Float[np.ndarray, "N H"]
    space: Float[np.ndarray, "rows 2"]
    plane: Float[np.ndarray, "rows 2"]


@serial_loop
def backward(
    worker, progress, batch, rows, net, sums, of_space, of_plane, shaded, grad_out, grad_c,
    grad_ambient, grad_spatial,
):  # fmt: skip
    """From grad_out, the gradients of what forward() gives, to those of what it takes, in sums.

    progress: see workers.phases(), three of them. Fills in grad_out's density and values. Scratch,
    pairs: grad_c [R, H / 2 + 1], grad_ambient [A, R], grad_spatial [L, R]. Rows from the last one
    on, up to a multiple of ROWS, are 0 in all that forward() keeps, and in grad_c.
    """
    end, n_levels, n_ambient = rows.ends[-1], len(of_space.scales), len(of_plane.scales)
    portion = next_task(progress, 0)
    while portion < PORTIONS:
        _of_color(portion, batch, rows, net, sums, shaded, grad_out, grad_c)
        finish(progress, 0, PORTIONS)
        portion = next_task(progress, 0)
    wait(progress, 0, PORTIONS)
    portion = next_task(progress, 1)
    while portion < PORTIONS:
        _backward(
            portion, end, batch, rows, net, sums, grad_c, grad_out.values, n_levels, of_plane,
            grad_ambient, grad_spatial,
        )  # fmt: skip
        finish(progress, 1, PORTIONS)
        portion = next_task(progress, 1)
    wait(progress, 1, PORTIONS)
    task = next_task(progress, 2)
    while task < n_levels + n_ambient:
        level = task - n_levels
        if task < n_levels:
            scatter_level3(0, end, rows.place, grad_spatial[task], of_space, task, sums.space)
        else:
            scatter_level2(0, end, rows.point, grad_ambient[level], of_plane, level, sums.plane)
        finish(progress, 2, n_levels + n_ambient)
        task = next_task(progress, 2)
    wait(progress, 2, n_levels + n_ambient)


@inlined
def _of_color(portion, batch, rows, net, sums, shaded, grad_out, grad_c):
    """Gradients of the color's hidden layer, and in the last word of the density's logarithm.

    By rays, of which a portion has every so manieth few.
    """
    weights, total = net.to_rgb, sums.to_rgb[portion]
    half, n = weights.shape[2], len(batch.frame)
    even, odd = np.empty(half, np.float32), np.empty(half, np.float32)
    for task in range(portion, -(-n // RAYS), PORTIONS):
        for which in range(task * RAYS, min(n, (task + 1) * RAYS)):
            even[:], odd[:] = ZERO, ZERO
            back_to_samples(
                which, shaded.density, shaded.values, batch.t, batch.dt, batch.offsets, batch.stop,
                shaded.weights, grad_out.sums, grad_out.alpha, grad_out.depth, grad_out.weights,
                grad_out.density, grad_out.values,
            )  # fmt: skip
            for j in range(batch.offsets[which], batch.offsets[which + 1]):
                i = rows.row[j]
                if i < 0:
                    break
                r, g, b = shaded.values[j, 0], shaded.values[j, 1], shaded.values[j, 2]
                r *= grad_out.values[j, 0] * (ONE - r)
                g *= grad_out.values[j, 1] * (ONE - g)
                b *= grad_out.values[j, 2] * (ONE - b)
                hidden, out = rows.c[i], grad_c[i]
                for k in range(half):
                    x, y = first_of(hidden[k]), second_of(hidden[k])
                    total[0, 0, k] += r * x
                    total[0, 1, k] += r * y
                    total[1, 0, k] += g * x
                    total[1, 1, k] += g * y
                    total[2, 0, k] += b * x
                    total[2, 1, k] += b * y
                for k in range(half):
                    x = r * weights[0, 0, k] + g * weights[1, 0, k] + b * weights[2, 0, k]
                    y = r * weights[0, 1, k] + g * weights[1, 1, k] + b * weights[2, 1, k]
                    out[k] = pair(x, y) & passes(hidden[k])
                for k in range(half):
                    even[k] += first_of(out[k])
                    odd[k] += second_of(out[k])
                power = exp(max(min(rows.logarithm[i], LARGEST), -LARGEST))
                out[half] = pair(grad_out.density[j] * power, ZERO)
            for k in range(half):
                sums.of_view[which, 2 * k], sums.of_view[which, 2 * k + 1] = even[k], odd[k]


@inlined
def _backward(
    portion, end, batch, rows, net, sums, grad_c, of_values, n_levels, grid, grad_ambient,
    grad_spatial,
):  # fmt: skip
    """A portion's pieces, from the gradient of the color's hidden layer to that of grid features.

    grid: the ambient one. Fills grad_ambient and grad_spatial.
    """
    n_ambient, half, product = len(grid.scales), rows.s1.shape[1], batch.product
    one, two = np.empty((PIECE, half), np.uint32), np.empty((PIECE, half), np.uint32)
    of_features = np.empty((PIECE, net.to_sigma.shape[1] // 2), np.uint32)
    of_spatial = np.empty((PIECE, net.to_ambient.shape[1] // 2), np.uint32)
    pairs_of = np.empty((PIECE // 2, 2 * half), np.uint32)
    pairs_to = np.empty((PIECE // 2, 2 * half), np.uint32)
    inputs = np.zeros((sums.to_sigma.shape[1], PIECE // 2), np.uint32)
    points, of_x = np.empty((2, PIECE), np.float32), np.empty((2, PIECE), np.float32)
    cells, corners = np.empty((4, PIECE), np.uint32), np.empty((2, PIECE), np.uint64)
    for start in range(portion * PIECE, end, PORTIONS * PIECE):
        n = min(end - start, PIECE)
        even = -(-n // ROWS) * ROWS
        sample, frame = rows.sample[start:], rows.frame[start:]

        paired(rows.s2, start, even, pairs_of)
        paired(grad_c, start, even, pairs_to)
        _add(pairs_of, even, pairs_to, sums.to_color[portion])
        total = sums.to_density[portion]
        for i in range(n):
            grad, hidden = first_of(grad_c[start + i, half]), rows.s2[start + i]
            for k in range(half):
                both = hidden[k]
                total[0, k] += grad * first_of(both)
                total[1, k] += grad * second_of(both)
        width = grad_c.shape[1]
        layer_gradient(grad_c, start * width, n, net.to_color, rows.s2, start, one, 0, None, None)

        paired(rows.s1, start, even, pairs_of)
        paired(one, 0, even, pairs_to)
        _add(pairs_of, even, pairs_to, sums.sigma_hidden[portion])
        layer_gradient(
            one, 0, n, net.sigma_hidden, rows.s1, start, two, 0, sums.of_eye[portion], frame
        )

        _pair_columns(rows.features, start, even, inputs)
        paired(two, 0, even, pairs_to)
        add_products(
            inputs, 0, inputs.shape[1], 1, len(inputs), even // 2, pairs_to, sums.to_sigma[portion]
        )
        layer_gradient(two, 0, n, net.to_sigma, None, 0, of_features, 0, None, None)

        _of_coordinate(
            rows, start, n, of_features, n_levels, grid, cells, corners, points, of_x, grad_ambient
        )  # fmt: skip
        total, weights = sums.to_coordinate[portion], net.to_coordinate
        for i in range(n):
            x, y = rows.coordinate[0, start + i], rows.coordinate[1, start + i]
            of_moved = of_values[sample[i], 3]
            x = (of_x[0, i] / TWO + of_moved * np.sign(x)) * (ONE - x * x)
            y = (of_x[1, i] / TWO + of_moved * np.sign(y)) * (ONE - y * y)
            hidden = rows.a2[start + i]
            for k in range(half):
                both = hidden[k]
                total[0, 0, k] += x * first_of(both)
                total[0, 1, k] += x * second_of(both)
                total[1, 0, k] += y * first_of(both)
                total[1, 1, k] += y * second_of(both)
                one[i, k] = passes(both) & pair(
                    x * weights[0, 0, k] + y * weights[1, 0, k],
                    x * weights[0, 1, k] + y * weights[1, 1, k],
                )
        one[n:even] = 0

        paired(rows.a1, start, even, pairs_of)
        paired(one, 0, even, pairs_to)
        _add(pairs_of, even, pairs_to, sums.ambient_hidden[portion])
        layer_gradient(
            one, 0, n, net.ambient_hidden, rows.a1, start, two, 0, sums.of_audio[portion], frame
        )

        paired(two, 0, even, pairs_to)
        add_products(
            inputs, 0, inputs.shape[1], 1, len(sums.to_ambient[portion]), even // 2, pairs_to,
            sums.to_ambient[portion],
        )  # fmt: skip
        layer_gradient(two, 0, n, net.to_ambient, None, 0, of_spatial, 0, None, None)

        products = n_levels + n_ambient
        for i in range(n):
            of_sigma, of_coordinate, factor = of_features[i], of_spatial[i], batch.eye[frame[i]]
            for level in range(n_levels):
                both, other = of_sigma[level], of_coordinate[level]
                x, y = first_of(both) + first_of(other), second_of(both) + second_of(other)
                if product:
                    both = of_sigma[np.uint64(products + level)]
                    x, y = x + factor * first_of(both), y + factor * second_of(both)
                of_coordinate[level] = pair(x, y)
        for i in range(n):
            for level in range(n_levels):
                grad_spatial[level, start + i] = of_spatial[i, level]


@inlined
def _add(pairs_of, n, pairs_to, total):
    """What a matrix between hidden layers gets from n rows."""
    width = pairs_of.shape[1]
    add_products(pairs_of, 0, 1, width, width, n // 2, pairs_to, total)


@inlined
def _pair_columns(features, start, n, out):
    """As paired(), of columns start .. start + n: out [inputs, n / 2], in their order."""
    for word in range(len(features)):
        row, first, second = features[word, start:], out[2 * word], out[2 * word + 1]
        for k in range(n // 2):
            a, b = row[np.uint64(2 * k)], row[np.uint64(2 * k + 1)]
            first[k] = (a & LOW) | (b << SIXTEEN)
            second[k] = (a >> SIXTEEN) | (b & HIGH)


@inlined
def _of_coordinate(
    rows, start, n, of_features, column, grid, cells, corners, points, of_x, grad_ambient
):  # fmt: skip
    """Gradients of_x [2, n] of the points in the ambient grid, from those of its features.

    The latter, from `column` of of_features on, go to grad_ambient.
    """
    of_x[:] = ZERO
    points[:, :n] = rows.point[:, start : start + n]
    for i in range(n):
        for level in range(len(grid.scales)):
            grad_ambient[level, start + i] = of_features[i, column + level]
    for level in range(len(grid.scales)):
        fetch2(points, n, grid, level, cells, corners)
        row, scale = grad_ambient[level, start:], grid.scales[level]
        for i in range(n):
            f, h = fraction_of(points, 0, i, scale), fraction_of(points, 1, i, scale)
            u, v = first_of(row[i]) * scale, second_of(row[i]) * scale
            a, b = near(corners[0, i]), far(corners[0, i])
            c, d = near(corners[1, i]), far(corners[1, i])
            t00, t10 = u * first_of(a) + v * second_of(a), u * first_of(b) + v * second_of(b)
            t01, t11 = u * first_of(c) + v * second_of(c), u * first_of(d) + v * second_of(d)
            of_x[0, i] += (ONE - h) * (t10 - t00) + h * (t11 - t01)
            of_x[1, i] += (ONE - f) * (t01 - t00) + f * (t11 - t10)
