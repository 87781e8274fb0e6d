"""The head's rays on CPU cores, from the camera to color and transmittance.

Every worker takes tiles of pixels until none is left. It keeps a pool of rays of which each gives
one sample at a time; a ray that has become opaque leaves the pool for one that waits, so that no
sample behind an opaque one is ever marched to or shaded, while the networks always have many rows.

Letters: R rays, W workers, P rays in a pool, L and A levels of the spatial and the ambient grid,
H hidden units, padded to whole vectors.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt32, UInt64

from radnerf.kernels.dense import layer
from radnerf.kernels.encodings.loops import harmonics_of
from radnerf.kernels.frame.march import FAR, enter, first_samples, middle, next_sample
from radnerf.kernels.lookup import encode_plane, encode_space
from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import LARGEST, ONE, TWO, ZERO, exp, pair, sigmoid, tanh, unit
from radnerf.kernels.workers import take

POOL = 256  # rays


class HeadNet(NamedTuple):
    """The head's fields. Matrices as layer() wants them.

    Attributes:
        low, per_unit: corner of the fields' box, and one over its size.
        to_ambient, ambient_hidden, to_coordinate: of the ambient network.
        to_sigma, sigma_hidden, to_density: of the density network.
        to_color, to_rgb: of the color network, the density network's last layer included; after
            the hidden units it reads the harmonics of the ray's direction.
        of_code, of_eye, of_appearance: what a frame's audio, eyes and appearance add to the first
            layers, [1, H].
        zeros: of nothing, likewise.
        degree: of the harmonics.
    """

    low: Float[np.ndarray, " 3"]
    per_unit: Float[np.ndarray, " 3"]
    to_ambient: UInt32[np.ndarray, "words H"]
    ambient_hidden: UInt32[np.ndarray, "words H"]
    to_coordinate: Float[np.ndarray, "2 H"]
    to_sigma: UInt32[np.ndarray, "words H"]
    sigma_hidden: UInt32[np.ndarray, "words H"]
    to_density: Float[np.ndarray, "1 H"]
    to_color: UInt32[np.ndarray, "words H"]
    to_rgb: Float[np.ndarray, "3 H"]
    of_code: Float[np.ndarray, "1 H"]
    of_eye: Float[np.ndarray, "1 H"]
    of_appearance: Float[np.ndarray, "1 H"]
    zeros: Float[np.ndarray, "1 H"]
    degree: int


class HeadPool(NamedTuple):
    """A worker's rays, and scratch for their samples.

    Attributes:
        waiting: rays of a tile that are not yet in the pool: rows DX .. LAST below.
        begin: their first pieces, -1 for a ray without any; and scratch.
        view_pairs: pairs of their harmonics.
        scratch: for the harmonics, or three numbers, of every ray.
        ray, piece, left: number of the ray, of its sample, and of the samples it may still have.
        floats: rows DX .. below.
        numbers, frame: rows 0, 1, ... P, and P times row 0.
        visible: rows whose color is seen.
        cell: in which the next piece of a ray lies; -1 beyond the box.
        place: of samples in the box, or of audio coordinates.
        rows, wide: of grids, see lookup.py.
        features: of the spatial and the ambient grid, [words, P].
        first, second: hidden layers, [P, words]; behind the second one the ray's harmonics.
    """

    waiting: Float[np.ndarray, "W 5 p"]
    begin: Int[np.ndarray, "W 2 p"]
    view_pairs: UInt32[np.ndarray, "W words p"]
    scratch: Float[np.ndarray, "W n p"]
    ray: Int[np.ndarray, "W P"]
    piece: Int[np.ndarray, "W P"]
    left: Int[np.ndarray, "W P"]
    floats: Float[np.ndarray, "W n P"]
    numbers: Int[np.ndarray, " P"]
    frame: Int[np.ndarray, " P"]
    visible: Int[np.ndarray, "W P"]
    cell: Int[np.ndarray, "W P"]
    place: Float[np.ndarray, "W 3 P"]
    rows: UInt32[np.ndarray, "W 8 P"]
    wide: UInt64[np.ndarray, "W 4 P"]
    features: UInt32[np.ndarray, "W words P"]
    first: UInt32[np.ndarray, "W P words"]
    second: UInt32[np.ndarray, "W P words"]


# Rows of HeadPool.floats: a ray's direction, where it enters and leaves the box, its transmittance
# and color so far, and of its sample the distance, the weight and the color.
DX, DY, DZ, FIRST, LAST, TRANSMITTANCE, RED = 0, 1, 2, 3, 4, 5, 6
T, WEIGHT, COLOR, N_FLOATS = 9, 10, 11, 14


@serial_loop
def draw_head(
    worker, camera, pose, tiles, nearest, farthest, tiles_taken, space, spatial, ambient, net, pool,
    max_samples, stop, opaque, faint, transmittance, color,
):  # fmt: skip
    """A worker's part of the color [R, 3] and transmittance [R] of the rays of a frame.

    camera [R, 3]: directions in the camera's frame. tiles [tiles + 1]: first rays of the tiles.
    nearest, farthest: see cull(). tiles_taken [1]: by workers, 0 at the start.
    spatial, ambient: grids. stop: transmittance below which a ray ends; what is below `opaque` is
    none. faint: a weight whose color cannot be seen.
    """
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    waiting, rays, pieces = pool.waiting[worker], pool.ray[worker], pool.piece[worker]
    left, floats, second = pool.left[worker], pool.floats[worker], pool.second[worker]
    cells, empty = pool.cell[worker], space.empty.reshape(-1)
    starts, view_pairs, scratch = pool.begin[worker], pool.view_pairs[worker], pool.scratch[worker]
    n_words = len(view_pairs)
    of_view = second.shape[1] - n_words
    n, begin, at, end, tile, n_tiles = 0, 0, 0, 0, -1, len(tiles) - 1
    while True:
        while n < len(rays) and tile < n_tiles:  # let rays in
            if at == end:
                tile = take(tiles_taken)
                if tile < n_tiles:
                    begin = at = tiles[tile]
                    end = tiles[tile + 1]
                    if nearest[tile] == FAR:
                        while at < end:
                            transmittance[at] = ONE
                            color[at, 0] = color[at, 1] = color[at, 2] = ZERO
                            at += 1
                    else:
                        _aim(space, camera, pose, begin, end - begin, farthest[tile], waiting)
                        first_samples(
                            space, ox, oy, oz, waiting, end - begin, nearest[tile], starts[0],
                            starts[1], scratch,
                        )  # fmt: skip
                        _encode_views(waiting, end - begin, net.degree, scratch, view_pairs)
                continue
            i, w = at, at - begin
            at += 1
            piece = starts[0, w]
            if piece < 0:
                transmittance[i] = ONE
                color[i, 0] = color[i, 1] = color[i, 2] = ZERO
                continue
            rays[n], pieces[n], left[n] = i, piece, max_samples
            for row in range(LAST + 1):
                floats[row, n] = waiting[row, w]
            floats[TRANSMITTANCE, n], floats[T, n] = ONE, middle(space, waiting[FIRST, w], piece)
            floats[RED, n] = floats[RED + 1, n] = floats[RED + 2, n] = ZERO
            for k in range(n_words):
                second[n, of_view + k] = view_pairs[k, w]
            n += 1
        if n == 0:
            break

        _shade(worker, n, ox, oy, oz, space.step, spatial, ambient, net, pool, faint)
        _next_cells(space, ox, oy, oz, n, pieces, floats, cells)

        passed = 0
        while passed < n:
            s = passed
            remaining, piece = floats[TRANSMITTANCE, s], -1
            left[s] -= 1
            if remaining > stop and left[s] > 0 and cells[s] >= 0:
                piece = pieces[s] + 1
                if empty[cells[s]]:
                    piece = next_sample(
                        space, ox, oy, oz, floats[DX, s], floats[DY, s], floats[DZ, s],
                        floats[FIRST, s], floats[LAST, s], piece,
                    )  # fmt: skip
            if piece >= 0:
                pieces[s], floats[T, s] = piece, middle(space, floats[FIRST, s], piece)
                passed += 1
                continue
            # What is behind an opaque surface looks like the surface.
            gain = ONE / (ONE - remaining) if remaining <= opaque else ONE
            i = rays[s]
            transmittance[i] = ZERO if remaining <= opaque else remaining
            for channel in range(3):
                color[i, channel] = gain * floats[RED + channel, s]
            # The last ray takes its place, its sample still to be counted.
            n -= 1
            rays[s], pieces[s], left[s], cells[s] = rays[n], pieces[n], left[n], cells[n]
            for row in range(T):
                floats[row, s] = floats[row, n]
            for k in range(of_view, second.shape[1]):
                second[s, k] = second[n, k]


@inlined
def _aim(space, camera, pose, begin, n, farthest, waiting):
    """Directions of n rays from `begin` on, and where they enter and leave the box."""
    for w in range(n):
        x, y, z = camera[begin + w, 0], camera[begin + w, 1], camera[begin + w, 2]
        dx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z
        dy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z
        dz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z
        first, last = enter(space, pose[0, 3], pose[1, 3], pose[2, 3], dx, dy, dz)
        waiting[DX, w], waiting[DY, w], waiting[DZ, w] = dx, dy, dz
        waiting[FIRST, w], waiting[LAST, w] = first, min(last, farthest)


@inlined
def _encode_views(waiting, n, degree, harmonics, pairs):
    """Pairs of the harmonics of n rays; behind the last harmonic of an odd number lie zeros."""
    for w in range(n):
        harmonics_of(waiting[DX, w], waiting[DY, w], waiting[DZ, w], degree, harmonics[:, w])
    for k in range(len(pairs)):
        for w in range(n):
            pairs[k, w] = pair(harmonics[2 * k, w], harmonics[2 * k + 1, w])


@inlined
def _next_cells(space, ox, oy, oz, n, pieces, floats, cells):
    """The cells of the next pieces of n rays."""
    sx, sy, sz = space.per_unit[0], space.per_unit[1], space.per_unit[2]
    px, py, pz = (ox - space.low[0]) * sx, (oy - space.low[1]) * sy, (oz - space.low[2]) * sz
    rx, ry, rz = space.empty.shape
    rx, ry, rz = np.int32(rx), np.int32(ry), np.int32(rz)
    for s in range(n):
        t = middle(space, floats[FIRST, s], pieces[s] + 1)
        x = np.int32(px + t * (floats[DX, s] * sx))
        y = np.int32(py + t * (floats[DY, s] * sy))
        z = np.int32(pz + t * (floats[DZ, s] * sz))
        x = min(max(x, np.int32(0)), rx - np.int32(1))
        y = min(max(y, np.int32(0)), ry - np.int32(1))
        z = min(max(z, np.int32(0)), rz - np.int32(1))
        cells[s] = (x * ry + y) * rz + z if t < floats[LAST, s] else np.int32(-1)


@serial_loop
def _shade(worker, n, ox, oy, oz, step, spatial, ambient, net, pool, faint):
    """Take the transmittance and add the color of a sample of the pool's first n rays."""
    floats, place = pool.floats[worker], pool.place[worker]
    rows, wide = pool.rows[worker], pool.wide[worker]
    features, first, second = pool.features[worker], pool.first[worker], pool.second[worker]
    index, frame, visible = pool.numbers, pool.frame, pool.visible[worker]
    across, of_first, of_second = features.shape[1], first.shape[1], second.shape[1]
    low, per_unit = net.low, net.per_unit
    for s in range(n):
        t = floats[T, s]
        place[0, s] = unit((ox + t * floats[DX, s] - low[0]) * per_unit[0])
        place[1, s] = unit((oy + t * floats[DY, s] - low[1]) * per_unit[1])
        place[2, s] = unit((oz + t * floats[DZ, s] - low[2]) * per_unit[2])
    encode_space(place, n, spatial, rows, wide, features, 0)
    layer(
        features, 0, 1, across, index, n, net.to_ambient, net.of_code, frame, first, 0, None, None
    )
    layer(
        first, 0, of_first, 1, index, n, net.ambient_hidden, net.zeros, frame, second, 0,
        net.to_coordinate, place,
    )  # fmt: skip
    for s in range(n):
        place[0, s] = unit((tanh(place[0, s]) + ONE) / TWO)
        place[1, s] = unit((tanh(place[1, s]) + ONE) / TWO)
    encode_plane(place, n, ambient, rows, wide, features, len(spatial.scales))
    layer(features, 0, 1, across, index, n, net.to_sigma, net.of_eye, frame, first, 0, None, None)
    weight, values = floats[WEIGHT], floats[COLOR : COLOR + 3]
    layer(
        first, 0, of_first, 1, index, n, net.sigma_hidden, net.zeros, frame, second, 0,
        net.to_density, floats[WEIGHT : WEIGHT + 1],
    )  # fmt: skip
    for s in range(n):
        through = exp(-exp(min(weight[s], LARGEST)) * step)
        weight[s] = floats[TRANSMITTANCE, s] * (ONE - through)
        floats[TRANSMITTANCE, s] *= through
    m = 0
    for s in range(n):
        visible[m] = s
        m += weight[s] > faint
    layer(
        second,
        0,
        of_second,
        1,
        visible,
        m,
        net.to_color,
        net.of_appearance,
        frame,
        first,
        0,
        net.to_rgb,
        values,
    )
    for channel in range(3):
        for i in range(m):
            values[channel, i] = sigmoid(values[channel, i])
        for i in range(m):
            floats[RED + channel, visible[i]] += weight[visible[i]] * values[channel, i]
