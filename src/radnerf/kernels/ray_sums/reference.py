"""Sums along rays in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.types import Samples


def sums_before(values: Tensor, samples: Samples) -> Tensor:
    # The running sum goes over all rays, so it needs double precision.
    n = int(samples.offsets[-1])
    total = torch.cat([values.new_zeros(1, dtype=torch.float64), values[:n].double().cumsum(0)])
    sums = (total[:-1] - total[samples.offsets[samples.ray[:n]]]).to(values.dtype)
    return torch.cat([sums, values.new_zeros(len(values) - n)])
