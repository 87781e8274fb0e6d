"""Ray marching on CPU cores: Numba, one ray a task, whole blocks of empty cells at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from radnerf.kernels.march.reference import fitted, ray_box
from radnerf.types import Samples


def march(
    origins: Tensor,
    directions: Tensor,
    occupancy: Tensor,
    box: Tensor,
    near: float,
    step: float,
    max_samples: int,
    jitter: Tensor | None,
    room: int | None,
) -> Samples:
    from radnerf.kernels.march import loops
    from radnerf.kernels.numba_runtime import run

    origins, directions = origins.detach().contiguous(), directions.detach().contiguous()
    rays = len(origins)
    jitter = torch.full((rays,), 0.5) if jitter is None else jitter.contiguous()
    first, last = ray_box(origins, directions, box, near)
    per_unit = torch.tensor(occupancy.shape) / (box[1] - box[0])
    # Whole words of cells along z, filled up with empty ones, which no ray reaches.
    resolution = occupancy.shape
    spare = -resolution[2] % 8
    cells = (pad(occupancy, (0, spare)) if spare else occupancy).contiguous()
    blocks = torch.zeros([-(-r // loops.BLOCK) for r in resolution], dtype=torch.bool)
    run(loops.block_occupancy, cells.view(torch.int64), blocks)
    # Only the pages that are written take memory.
    found, counts = torch.empty(rays, max_samples), torch.empty(rays, dtype=torch.long)
    run(
        loops.walk, origins, directions, first, last, jitter, cells, resolution[2], blocks,
        box[0].contiguous(), per_unit, np.float32(step), found, counts,
    )  # fmt: skip
    offsets = torch.zeros(rays + 1, dtype=torch.long)
    torch.cumsum(counts, 0, out=offsets[1:])
    total = int(offsets[-1])
    t, ray = torch.empty(total), torch.empty(total, dtype=torch.long)
    run(loops.pack, found, offsets, t, ray)
    return fitted(Samples(t=t, dt=torch.full_like(t, step), ray=ray, offsets=offsets), room)
