"""Compositing in plain torch, on a table of rays x samples filled up with empty samples."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.types import Samples


def composite(
    density: Tensor, values: Tensor, samples: Samples, stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rays = len(samples.offsets) - 1
    counts = samples.offsets.diff()
    # Without those beyond the last ray's.
    n = int(samples.offsets[-1])
    density, values, ray = density[:n], values[:n], samples.ray[:n]
    column = torch.arange(n, device=density.device) - samples.offsets[ray]
    width = int(counts.max()) if rays else 0
    # Not of the density's type: a density of 16 bits times a step of 32 has 32.
    of_samples = density * samples.dt[:n]
    thickness = of_samples.new_zeros(rays, width)
    thickness = thickness.index_put((ray, column), of_samples)

    behind = thickness.cumsum(1)[:, :-1]
    before = torch.exp(-torch.nn.functional.pad(behind, (1, 0)))
    weight = before * -torch.expm1(-thickness)
    weight = torch.where(before >= stop, weight, 0)[ray, column]

    weighted = weight[:, None] * values
    sums = weighted.new_zeros(rays, values.shape[1]).index_add(0, ray, weighted)
    alpha = weight.new_zeros(rays).index_add(0, ray, weight)
    depth = weight.new_zeros(rays).index_add(0, ray, weight * samples.t[:n])
    unused = weight.new_zeros(len(samples.t) - n)
    return sums, alpha, depth, torch.cat([weight, unused])
