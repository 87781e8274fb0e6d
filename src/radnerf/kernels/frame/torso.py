"""What is behind the head on CPU cores, to finished pixels: torso over background.

Workers share the tiles of pixels as in head.py, and shade the torso where its grid says so and the
head lets it be seen. Letters: R pixels, W workers, P pixels at once, H, I hidden units.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt32, UInt64

from radnerf.kernels.dense import layer
from radnerf.kernels.lookup import encode_plane
from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import ONE, TWO, ZERO, pair, sigmoid, unit
from radnerf.kernels.workers import take

PIXELS = 256
HALVINGS = 4  # of an angle, before its sine is a short series
PART = np.float32(1 / 2**HALVINGS)


class TorsoNet(NamedTuple):
    """The torso's field. Matrices as layer() wants them.

    Attributes:
        to_deform, deform_hidden, to_offset: of the deformation network.
        to_torso, torso_hidden, to_color: of the torso's network; alpha comes before RGB.
        deform_of_frame, torso_of_frame: what a frame adds to the first layers.
        deform_zeros, torso_zeros: zeros, likewise.
        motion: shift, and cosine and sine of the rotation.
        shrink, octaves: see fields/torso.py.
    """

    to_deform: UInt32[np.ndarray, "words H"]
    deform_hidden: UInt32[np.ndarray, "words H"]
    to_offset: Float[np.ndarray, "2 H"]
    to_torso: UInt32[np.ndarray, "words I"]
    torso_hidden: UInt32[np.ndarray, "words I"]
    to_color: Float[np.ndarray, "4 I"]
    deform_of_frame: Float[np.ndarray, "1 H"]
    torso_of_frame: Float[np.ndarray, "1 I"]
    deform_zeros: Float[np.ndarray, "1 H"]
    torso_zeros: Float[np.ndarray, "1 I"]
    motion: Float[np.ndarray, 4]
    shrink: np.float32
    octaves: int


class TorsoPool(NamedTuple):
    """A worker's pixels.

    Attributes:
        pixel: their numbers.
        numbers, frame: rows 0, 1, ... P, and P times row 0.
        floats: rows of X, Y, ... below.
        place, rows, wide: of grids, see lookup.py.
        features: of the grid, then of the encoded point, [words, P].
        first, second: hidden layers, [P, words], of whichever network is wider.
    """

    pixel: Int[np.ndarray, "W P"]
    numbers: Int[np.ndarray, " P"]
    frame: Int[np.ndarray, " P"]
    floats: Float[np.ndarray, "W n P"]
    place: Float[np.ndarray, "W 2 P"]
    rows: UInt32[np.ndarray, "W 4 P"]
    wide: UInt64[np.ndarray, "W 2 P"]
    features: UInt32[np.ndarray, "W words P"]
    first: UInt32[np.ndarray, "W P words"]
    second: UInt32[np.ndarray, "W P words"]


# Rows of TorsoPool.floats: a point, its sines and cosines; later, the torso's alpha and color.
X, SIN_X, COS_X, N_FLOATS = 0, 2, 4, 6
ALPHA = 0  # where layer() puts the network's outputs


@serial_loop
def draw_torso(
    worker, xy, tiles, tiles_taken, grid, net, pool, needed, unseen, transmittance, color, behind,
    order, image,
):  # fmt: skip
    """A worker's part of the image [R, 3]: the head over the torso over `behind`.

    xy [R, 2]: pixels in [-1, 1]^2, in the order of their rays; order [R]: their numbers in the
    image. tiles, tiles_taken: see draw_head(). grid: of the deformed image plane. needed [R]: where
    the torso is. unseen: transmittance below which it cannot be seen. transmittance [R],
    color [R, 3]: of the head. behind [R, 3]: 8-bit colors.
    """
    pixels, floats = pool.pixel[worker], pool.floats[worker]
    n_tiles, tile, next_pixel, end = len(tiles) - 1, -1, 0, 0
    while tile < n_tiles:
        n = 0
        while n < len(pixels) and tile < n_tiles:
            if next_pixel == end:
                tile = take(tiles_taken)
                if tile < n_tiles:
                    next_pixel, end = tiles[tile], tiles[tile + 1]
                continue
            if needed[next_pixel] and transmittance[next_pixel] > unseen:
                pixels[n] = next_pixel
                n += 1
            else:
                _finish(
                    next_pixel, ZERO, ZERO, ZERO, ZERO, transmittance, color, behind, order, image
                )
            next_pixel += 1
        _shade(worker, n, xy, grid, net, pool)
        for i in range(n):
            alpha = floats[ALPHA, i]
            _finish(
                pixels[i], alpha, floats[ALPHA + 1, i], floats[ALPHA + 2, i], floats[ALPHA + 3, i],
                transmittance, color, behind, order, image,
            )  # fmt: skip


@inlined
def _finish(i, alpha, red, green, blue, transmittance, color, behind, order, image):
    """A pixel of the image: the head over the torso's straight color over what is behind."""
    scale = np.float32(255)
    back, remaining, place = ONE - alpha, transmittance[i], order[i]
    r = color[i, 0] + remaining * (alpha * red + back * behind[i, 0] / scale)
    g = color[i, 1] + remaining * (alpha * green + back * behind[i, 1] / scale)
    b = color[i, 2] + remaining * (alpha * blue + back * behind[i, 2] / scale)
    image[place, 0] = np.uint8(unit(r) * scale + np.float32(0.5))
    image[place, 1] = np.uint8(unit(g) * scale + np.float32(0.5))
    image[place, 2] = np.uint8(unit(b) * scale + np.float32(0.5))


@serial_loop
def _shade(worker, n, xy, grid, net, pool):
    """Alpha and color of the torso at n pixels."""
    pixels, floats, index, frame = pool.pixel[worker], pool.floats[worker], pool.numbers, pool.frame
    place, rows, wide = pool.place[worker], pool.rows[worker], pool.wide[worker]
    features, first, second = pool.features[worker], pool.first[worker], pool.second[worker]
    across, wide_row, n_levels = features.shape[1], first.shape[1], len(grid.scales)
    cos, sin = net.motion[2], net.motion[3]
    for i in range(n):
        a, b = xy[pixels[i], 0] - net.motion[0], xy[pixels[i], 1] - net.motion[1]
        floats[X, i] = (cos * a + sin * b) * net.shrink
        floats[X + 1, i] = (cos * b - sin * a) * net.shrink
    _encode_points(floats, n, net.octaves, features, n_levels)
    start = n_levels * across
    layer(
        features, start, 1, across, index, n, net.to_deform, net.deform_of_frame, frame, first, 0,
        None, None,
    )  # fmt: skip
    layer(
        first, 0, wide_row, 1, index, n, net.deform_hidden, net.deform_zeros, frame, second, 0,
        net.to_offset, place,
    )  # fmt: skip
    for axis in range(2):
        for i in range(n):
            place[axis, i] = unit((floats[X + axis, i] + place[axis, i] + ONE) / TWO)
    encode_plane(place, n, grid, rows, wide, features, 0)
    layer(
        features,
        0,
        1,
        across,
        index,
        n,
        net.to_torso,
        net.torso_of_frame,
        frame,
        first,
        0,
        None,
        None,
    )
    layer(
        first, 0, wide_row, 1, index, n, net.torso_hidden, net.torso_zeros, frame, second, 0,
        net.to_color, floats,
    )  # fmt: skip
    for output in range(4):
        for i in range(n):
            floats[ALPHA + output, i] = sigmoid(floats[ALPHA + output, i])


@inlined
def _encode_points(floats, n, octaves, features, begin):
    """Frequency encoding of the points in rows X of floats, into features from `begin` on.

    The order is that of kernels/encodings: x y, then per octave the sines, the cosines. Sines and
    cosines of a small part of the angle are a series; those of twice an angle follow from its own.
    """
    for i in range(n):
        features[begin, i] = pair(floats[X, i], floats[X + 1, i])
    for axis in range(2):
        for i in range(n):
            a = floats[X + axis, i] * PART
            aa = a * a
            sin = a * (ONE - aa / np.float32(6) * (ONE - aa / np.float32(20)))
            cos = ONE - aa / TWO * (ONE - aa / np.float32(12) * (ONE - aa / np.float32(30)))
            for _ in range(HALVINGS):
                sin, cos = TWO * sin * cos, ONE - TWO * sin * sin
            floats[SIN_X + axis, i], floats[COS_X + axis, i] = sin, cos
    for octave in range(octaves):
        for i in range(n):
            features[begin + 1 + 2 * octave, i] = pair(floats[SIN_X, i], floats[SIN_X + 1, i])
            features[begin + 2 + 2 * octave, i] = pair(floats[COS_X, i], floats[COS_X + 1, i])
        for axis in range(2):
            for i in range(n):
                sin, cos = floats[SIN_X + axis, i], floats[COS_X + axis, i]
                floats[SIN_X + axis, i] = TWO * sin * cos
                floats[COS_X + axis, i] = ONE - TWO * sin * sin
