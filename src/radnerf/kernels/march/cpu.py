"""Ray marching on CPU cores: Numba, some rays a task."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from radnerf.kernels.march.reference import fitted
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
    capacity: int | None,
) -> Samples:
    from radnerf.kernels.march import loops
    from radnerf.kernels.numba_runtime import run

    rays = len(origins)
    jitter = torch.full((rays,), 0.5) if jitter is None else jitter
    inputs = (v.detach().contiguous() for v in (origins, directions, jitter, occupancy, box))
    # Only the pages that are written take memory.
    found = torch.empty(rays, max_samples)
    cells = torch.empty(rays, max_samples, dtype=torch.int32)
    offsets = torch.zeros(rays + 1, dtype=torch.long)
    counts = offsets[1:]
    run(loops.walk, *inputs, np.float32(near), np.float32(step), found, cells, counts)
    torch.cumsum(counts, 0, out=counts)
    total = int(offsets[-1])
    t, (ray, cell) = torch.empty(total), torch.empty(2, total, dtype=torch.long)
    run(loops.pack, found, cells, offsets, t, ray, cell)
    samples = Samples(t=t, dt=torch.full_like(t, step), ray=ray, offsets=offsets, cell=cell)
    return fitted(samples, capacity)
