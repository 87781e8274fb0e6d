"""Sums along rays in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from radnerf.types import Samples


def sums_before(values: Tensor, samples: Samples) -> Tensor:
    # The running sum goes over all rays, so it needs double precision.
    total = torch.cat([values.new_zeros(1, dtype=torch.float64), values.double().cumsum(0)])
    return (total[:-1] - total[samples.offsets[samples.ray]]).to(values.dtype)
