"""Sums along rays in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from radnerf.types import Samples


def sums_before(values: Tensor, samples: Samples) -> Tensor:
    # The running sum goes over all rays, so it needs double precision.
    n = int(samples.offsets[-1])
    total = torch.cat([values.new_zeros(1, dtype=torch.float64), values[:n].double().cumsum(0)])
    sums = (total[:-1] - total[samples.offsets[samples.ray[:n]]]).to(values.dtype)
    return torch.cat([sums, values.new_zeros(len(values) - n)])


def distortion(
    weights: Tensor, samples: Samples, before: Callable[..., Tensor] = sums_before
) -> Tensor:
    start = samples.t[samples.offsets[samples.ray].clamp_max(max(0, len(samples.t) - 1))]
    t = samples.t - start
    pairs = weights * (t * before(weights, samples) - before(weights * t, samples))
    own = weights**2 * samples.dt / 3
    of_rays = weights.new_zeros(len(samples.offsets) - 1)
    return of_rays.index_add(0, samples.ray, 2 * pairs + own)
