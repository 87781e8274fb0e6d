"""Ray marching on a GPU: a program takes some rays and tests a tile of their lattice at a time.

A first walk counts every ray's samples, a second one, knowing where each ray's begin, writes them.
The arithmetic is the reference's, operation by operation.
"""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from radnerf.kernels.march import reference
from radnerf.kernels.triton_runtime import jit, launch, padded, points_of_program, triton_interprets
from radnerf.types import Samples

RAYS, PIECES = 16, 32  # a tile
INTERPRETED_RAYS, INTERPRETED_PIECES = 1024, 128
TINY = tl.constexpr(reference.TINY)


def march(
    origins: Tensor,
    directions: Tensor,
    occupancy: Tensor,
    box: Tensor,
    near: float,
    step: float,
    max_samples: int,
    jitter: Tensor | None,
    capacity: int | None,
) -> Samples:
    inputs = [v.detach().contiguous() for v in (origins, directions, occupancy, box)]
    inputs.append(origins.new_full((len(origins),), 0.5) if jitter is None else jitter.contiguous())
    n, device = len(origins), origins.device
    rays, pieces = RAYS, PIECES
    if triton_interprets():
        rays, pieces = min(padded(n), INTERPRETED_RAYS), INTERPRETED_PIECES
    grid = (triton.cdiv(n, rays),)
    sizes = dict(zip(("RX", "RY", "RZ"), occupancy.shape, strict=True))
    sizes |= {"BLOCK": rays, "PIECES": pieces}
    limits = (n, float(near), float(step), max_samples)

    offsets = torch.zeros(n + 1, dtype=torch.long, device=device)
    launch(_walk, grid, *inputs, offsets, None, None, None, *limits, WRITES=False, **sizes)
    offsets.cumsum_(0)
    if capacity is None:
        capacity = int(offsets[-1])
        dt = origins.new_full((capacity,), step)
    else:
        end = torch.where(offsets <= capacity, offsets, 0).amax()
        offsets = torch.minimum(offsets, end)
        dt = step * (torch.arange(capacity, device=device) < end).to(origins.dtype)
    t = origins.new_zeros(capacity)
    ray = torch.full((capacity,), n - 1, dtype=torch.long, device=device)
    cell = torch.zeros_like(ray)
    launch(_walk, grid, *inputs, offsets, t, ray, cell, *limits, WRITES=True, **sizes)
    return Samples(t=t, dt=dt, ray=ray, offsets=offsets, cell=cell)


@jit
def _load3(pointer, inside):
    x = tl.load(pointer, mask=inside, other=0.0)
    y = tl.load(pointer + 1, mask=inside, other=0.0)
    z = tl.load(pointer + 2, mask=inside, other=0.0)
    return x, y, z


@jit
def _slab(origin, direction, low, high):
    """Distances at which rays enter and leave what lies between an axis' two borders."""
    safe = tl.where(tl.abs(direction) < TINY, TINY, direction)
    to_low, to_high = tl.div_rn(low - origin, safe), tl.div_rn(high - origin, safe)
    return _least(to_low, to_high), _most(to_low, to_high)


@jit
def _least(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@jit
def _most(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@jit
def _cell(origin, direction, t, low, high, CELLS: tl.constexpr):
    """An axis' cell index; one for sure, also of what is no number."""
    position = origin[:, None] + t * direction[:, None]
    cell = (position - low) * tl.div_rn(CELLS * 1.0, high - low)
    return tl.minimum(tl.maximum(cell, 0.0), CELLS - 1.0).to(tl.int32)


@jit
def _walk(
    origins_ptr, directions_ptr, occupancy_ptr, box_ptr, jitter_ptr, offsets_ptr, t_ptr, ray_ptr,
    cell_ptr, n, near, step, max_samples,
    RX: tl.constexpr, RY: tl.constexpr, RZ: tl.constexpr,
    BLOCK: tl.constexpr, PIECES: tl.constexpr, WRITES: tl.constexpr,
):  # fmt: skip
    """Counts the samples of ray i into offsets[i + 1], or writes those within the capacity."""
    ray = points_of_program(BLOCK)
    inside = ray < n
    ox, oy, oz = _load3(origins_ptr + ray * 3, inside)
    dx, dy, dz = _load3(directions_ptr + ray * 3, inside)
    lowx, lowy, lowz = tl.load(box_ptr), tl.load(box_ptr + 1), tl.load(box_ptr + 2)
    highx, highy, highz = tl.load(box_ptr + 3), tl.load(box_ptr + 4), tl.load(box_ptr + 5)
    firstx, lastx = _slab(ox, dx, lowx, highx)
    firsty, lasty = _slab(oy, dy, lowy, highy)
    firstz, lastz = _slab(oz, dz, lowz, highz)
    first = _most(_most(_most(firstx, firsty), firstz), near)
    # The box is nowhere longer than its diagonal; a ray without a direction would not end.
    wide, high, deep = highx - lowx, highy - lowy, highz - lowz
    longest = 2 * tl.sqrt(wide * wide + high * high + deep * deep)
    last = _least(_least(_least(lastx, lasty), lastz), first + longest)
    last = tl.where(inside, last, float("-inf"))
    jitter = tl.load(jitter_ptr + ray, mask=inside, other=0.0)
    begin = tl.zeros((BLOCK,), tl.int64)
    if WRITES:
        begin = tl.load(offsets_ptr + ray, mask=inside, other=0)
        end = tl.load(offsets_ptr + ray + 1, mask=inside, other=0)
        last = tl.where(begin < end, last, float("-inf"))
    count = tl.zeros((BLOCK,), tl.int32)
    start = 0
    going = tl.max((first + jitter * step < last).to(tl.int32), 0)
    while going > 0:
        piece = (start + tl.arange(0, PIECES)).to(tl.float32)
        t = first[:, None] + (piece[None, :] + jitter[:, None]) * step
        ahead = t < last[:, None]
        cx = _cell(ox, dx, t, lowx, highx, RX)
        cy = _cell(oy, dy, t, lowy, highy, RY)
        cz = _cell(oz, dz, t, lowz, highz, RZ)
        cell = (cx.to(tl.int64) * RY + cy) * RZ + cz
        occupied = tl.load(occupancy_ptr + cell, mask=ahead, other=0).to(tl.int32)
        rank = count[:, None] + tl.cumsum(occupied, 1)
        if WRITES:
            keep = (occupied > 0) & (rank <= max_samples)
            slot = begin[:, None] + rank - 1
            tl.store(t_ptr + slot, t, mask=keep)
            tl.store(ray_ptr + slot, ray[:, None] + tl.zeros_like(slot), mask=keep)
            tl.store(cell_ptr + slot, cell, mask=keep)
        count = tl.minimum(count + tl.sum(occupied, 1), max_samples)
        start += PIECES
        more = (first + (start + jitter) * step < last) & (count < max_samples)
        going = tl.max(more.to(tl.int32), 0)
    if not WRITES:
        tl.store(offsets_ptr + ray + 1, count.to(tl.int64), mask=inside)
