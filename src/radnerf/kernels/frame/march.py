"""Where rays meet something, found only as far as they are followed."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import ONE, TWO, ZERO

TILE = 8  # pixels a side: neighbours in the image are rendered together
FAR = np.float32(1e30)
TINY = np.float32(1e-12)


class Space(NamedTuple):
    """The cells that hold something, and how rays are sampled in them.

    Attributes:
        low, high: corners of the box in world units.
        per_unit: cells in a world unit.
        empty: cells, in any direction, to the next one that holds something; 0 in it.
        blocks: lower corners of the blocks of cells that hold something, of `extent`, world units.
        near, step: as in kernels/march.
    """

    low: Float[np.ndarray, " 3"]
    high: Float[np.ndarray, " 3"]
    per_unit: Float[np.ndarray, " 3"]
    empty: UInt8[np.ndarray, "rx ry rz"]
    blocks: Float[np.ndarray, "b 3"]
    extent: Float[np.ndarray, " 3"]
    near: np.float32
    step: np.float32


@serial_loop
def cull(space, pose, focal, centre_x, centre_y, width, height, nearest, farthest):
    """Distances between which the rays of every tile of pixels can meet something.

    Blocks are drawn as the rectangles around them. nearest, farthest [tiles]: a tile that meets
    nothing has nearest FAR.
    """
    across, down = -(-width // TILE), -(-height // TILE)
    nearest[:], farthest[:] = FAR, ZERO
    extent, border = space.extent, ONE
    radius = math.sqrt(extent[0] ** 2 + extent[1] ** 2 + extent[2] ** 2) / TWO
    for b in range(len(space.blocks)):
        left, top, right, bottom, behind = FAR, FAR, -FAR, -FAR, False
        middle = ZERO
        for axis in range(3):
            middle += (space.blocks[b, axis] + extent[axis] / TWO - pose[axis, 3]) ** 2
        for corner in range(8):
            x = space.blocks[b, 0] + (corner & 1) * extent[0] - pose[0, 3]
            y = space.blocks[b, 1] + (corner >> 1 & 1) * extent[1] - pose[1, 3]
            z = space.blocks[b, 2] + (corner >> 2) * extent[2] - pose[2, 3]
            depth = pose[0, 2] * x + pose[1, 2] * y + pose[2, 2] * z
            if not depth > radius / 100:  # beside or behind the camera
                behind = True
                break
            u = (pose[0, 0] * x + pose[1, 0] * y + pose[2, 0] * z) / depth * focal + centre_x
            v = (pose[0, 1] * x + pose[1, 1] * y + pose[2, 1] * z) / depth * focal + centre_y
            left, right = min(left, u), max(right, u)
            top, bottom = min(top, v), max(bottom, v)
        if behind:
            nearest[:], farthest[:] = ZERO, FAR
            return
        if right < ZERO or bottom < ZERO or left > width or top > height:
            continue
        distance = math.sqrt(middle)
        begin, end = max(ZERO, distance - radius), distance + radius
        first = int(max(ZERO, left - border)) // TILE
        last = min(across - 1, int(min(np.float32(width), right + border)) // TILE)
        for row in range(
            int(max(ZERO, top - border)) // TILE,
            min(down - 1, int(min(np.float32(height), bottom + border)) // TILE) + 1,
        ):
            for tile in range(row * across + first, row * across + last + 1):
                nearest[tile] = min(nearest[tile], begin)
                farthest[tile] = max(farthest[tile], end)


@inlined
def inverse(x):
    return ONE / (x if abs(x) > TINY else TINY)


@inlined
def enter(space, ox, oy, oz, dx, dy, dz):
    """Distances at which a ray enters and leaves the box; left before entered when it misses."""
    ix, iy, iz = inverse(dx), inverse(dy), inverse(dz)
    x0, x1 = (space.low[0] - ox) * ix, (space.high[0] - ox) * ix
    y0, y1 = (space.low[1] - oy) * iy, (space.high[1] - oy) * iy
    z0, z1 = (space.low[2] - oz) * iz, (space.high[2] - oz) * iz
    first = max(max(space.near, min(x0, x1)), max(min(y0, y1), min(z0, z1)))
    return first, min(max(x0, x1), min(max(y0, y1), max(z0, z1)))


@inlined
def _leaves(cell, reach, position, per_distance):
    """Distance at which a position leaves the cells cell - reach .. cell + reach, of one axis."""
    per_distance = per_distance if abs(per_distance) > TINY else TINY
    border = cell + reach + np.int32(1) if per_distance > ZERO else cell - reach
    return (np.float32(border) - position) / per_distance


@inlined
def middle(space, first, piece):
    """Distance of the middle of a piece; pieces are a step each, from where the ray enters."""
    return first + (np.float32(piece) + np.float32(0.5)) * space.step


@serial_loop
def first_samples(space, ox, oy, oz, rays, n, nearest, pieces, cells, places):
    """What next_sample() finds for each of n rays, from distance `nearest` on: pieces [n].

    Steps of all of them are taken together, since loops over rays are vector code: they go on
    until the last one has found something.

    Args:
        rays: rows: directions x, y, z, and where rays enter and leave the box.
        cells, places: scratch, [n] and [3, n].
    """
    sx, sy, sz = space.per_unit[0], space.per_unit[1], space.per_unit[2]
    px, py, pz = (ox - space.low[0]) * sx, (oy - space.low[1]) * sy, (oz - space.low[2]) * sz
    ry, rz = np.int32(space.empty.shape[1]), np.int32(space.empty.shape[2])
    top_x, top_y = np.float32(space.empty.shape[0] - 1), np.float32(ry - 1)
    top_z = np.float32(rz - 1)
    empty, none, one = space.empty.reshape(-1), np.int32(0), np.int32(1)
    dx, dy, dz, first, last = rays[0], rays[1], rays[2], rays[3], rays[4]
    x, y, z = places[0], places[1], places[2]
    for w in range(n):
        # A piece earlier, for roundings.
        pieces[w] = max(none, np.int32(max(nearest - first[w], ZERO) / space.step) - one)
    moved = one
    while moved > none:
        for w in range(n):
            t = middle(space, first[w], pieces[w])
            x[w], y[w], z[w] = px + t * (dx[w] * sx), py + t * (dy[w] * sy), pz + t * (dz[w] * sz)
            cx, cy, cz = _bounded(x[w], top_x), _bounded(y[w], top_y), _bounded(z[w], top_z)
            cells[w] = (cx * ry + cy) * rz + cz
        for w in range(n):
            cells[w] = empty[cells[w]]
        moved = none
        for w in range(n):
            reach = cells[w] - one
            ahead = min(
                _leaves(_bounded(x[w], top_x), reach, x[w], dx[w] * sx),
                min(
                    _leaves(_bounded(y[w], top_y), reach, y[w], dy[w] * sy),
                    _leaves(_bounded(z[w], top_z), reach, z[w], dz[w] * sz),
                ),
            )
            further = _to(ahead, space)
            moves = (reach >= none) & (middle(space, first[w], pieces[w]) < last[w])
            pieces[w] += further if moves else none
            moved += one if moves else none
    for w in range(n):
        pieces[w] = pieces[w] if middle(space, first[w], pieces[w]) < last[w] else -one


@inlined
def _bounded(place, top):
    """An axis' cell; one for sure, also of what is no number."""
    place = place if place > ZERO else ZERO
    return np.int32(place if place < top else top)


@inlined
def _to(ahead, space):
    """Pieces to the first one that lies so far ahead."""
    return max(np.int32(1), np.int32(math.ceil(min(ahead / space.step, np.float32(1e6)))))


@inlined
def next_sample(space, ox, oy, oz, dx, dy, dz, first, last, piece):
    """First piece of a ray, from this one on, whose middle is in a cell that holds something.

    They are the samples of kernels/march without jitter. -1 when there is none.
    """
    sx, sy, sz = space.per_unit[0], space.per_unit[1], space.per_unit[2]
    px, py, pz = (ox - space.low[0]) * sx, (oy - space.low[1]) * sy, (oz - space.low[2]) * sz
    gx, gy, gz = dx * sx, dy * sy, dz * sz
    top_x, top_y = np.float32(space.empty.shape[0] - 1), np.float32(space.empty.shape[1] - 1)
    top_z = np.float32(space.empty.shape[2] - 1)
    found = -1
    while True:
        t = middle(space, first, piece)
        if not t < last:
            break
        x, y, z = px + t * gx, py + t * gy, pz + t * gz
        cx, cy, cz = _bounded(x, top_x), _bounded(y, top_y), _bounded(z, top_z)
        reach = np.int32(space.empty[cx, cy, cz]) - np.int32(1)
        if reach < 0:
            found = piece
            break
        ahead = min(
            _leaves(cx, reach, x, gx), min(_leaves(cy, reach, y, gy), _leaves(cz, reach, z, gz))
        )
        piece += _to(ahead, space)
    return found
