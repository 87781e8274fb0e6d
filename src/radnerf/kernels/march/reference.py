"""Ray marching in plain torch: every lattice point of every ray, then the occupied ones.

The arithmetic, in its order, is part of the definition: a point next to a cell's border falls to
the same side in every back end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.types import Samples

TINY = 1e-12
CHUNK = 16_384  # rays at a time, to bound the memory


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
    origins, directions = origins.detach(), directions.detach()
    if jitter is None:
        jitter = torch.full_like(origins[:, 0], 0.5)
    first, last = ray_box(origins, directions, box, near)
    parts = [
        _march_chunk(
            origins[rays],
            directions[rays],
            first[rays],
            last[rays],
            jitter[rays],
            occupancy,
            box,
            step,
            max_samples,
        )
        for rays in torch.arange(len(origins), device=origins.device).split(CHUNK)
    ]
    t = torch.cat([part[0] for part in parts])
    counts = torch.cat([part[1] for part in parts])
    cell = torch.cat([part[2] for part in parts])
    offsets = torch.zeros(len(counts) + 1, dtype=torch.long, device=t.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    ray = torch.repeat_interleave(counts, output_size=len(t))
    samples = Samples(t=t, dt=torch.full_like(t, step), ray=ray, offsets=offsets, cell=cell)
    return fitted(samples, capacity)


def fitted(samples: Samples, capacity: int | None) -> Samples:
    """Samples in that capacity; see march()."""
    if capacity is None:
        return samples
    offsets = samples.offsets
    n = int(offsets[offsets <= capacity].max())

    def filled(values: Tensor, filler: int) -> Tensor:
        return torch.cat([values[:n], values.new_full((capacity - n,), filler)])

    return Samples(
        t=filled(samples.t, 0),
        dt=filled(samples.dt, 0),
        ray=filled(samples.ray, len(offsets) - 2),
        offsets=offsets.clamp_max(n),
        cell=filled(samples.cell, 0),
    )


def ray_box(origins: Tensor, directions: Tensor, box: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Distances [n] at which rays enter and leave a box; entered after left when they miss."""
    tiny = torch.full_like(directions, TINY)
    safe = torch.where(directions.abs() < TINY, tiny, directions)
    to_low = (box[0] - origins) / safe
    to_high = (box[1] - origins) / safe
    first = torch.minimum(to_low, to_high).amax(-1).clamp(min=near)
    last = torch.maximum(to_low, to_high).amin(-1)
    return first, last


def _march_chunk(
    origins: Tensor,
    directions: Tensor,
    first: Tensor,
    last: Tensor,
    jitter: Tensor,
    occupancy: Tensor,
    box: Tensor,
    step: float,
    max_samples: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances of the samples, ray by ray, their number [n], and their cells."""
    longest = (last - first).amax().item() if len(first) else 0.0
    pieces = torch.arange(max(int(longest / step) + 2, 0), device=origins.device)
    t = first[:, None] + (pieces + jitter[:, None]) * step
    resolution = torch.tensor(occupancy.shape, device=origins.device)
    cells_per_unit = resolution / (box[1] - box[0])
    point = origins[:, None] + t[..., None] * directions[:, None]
    cell = ((point - box[0]) * cells_per_unit).long().clamp(min=torch.zeros_like(resolution))
    cell = torch.minimum(cell, resolution - 1)
    flat = (cell[..., 0] * occupancy.shape[1] + cell[..., 1]) * occupancy.shape[2] + cell[..., 2]
    within = (t < last[:, None]) & occupancy.reshape(-1)[flat]
    within &= within.cumsum(1) <= max_samples
    return t[within], within.sum(1), flat[within]
