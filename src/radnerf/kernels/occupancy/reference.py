"""Occupancy update in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cells_of(points: Tensor, box: Tensor, shape: Sequence[int]) -> Tensor:
    low, high = box
    flat = torch.zeros(len(points), dtype=torch.long, device=points.device)
    for axis, size in enumerate(shape):
        position = (points[:, axis] - low[axis]) / (high[axis] - low[axis])
        flat = flat * size + (position * size).long().clamp_(0, size - 1)
    return flat


def raise_cells(value: Tensor, cell: Tensor, weight: Tensor, settled: Tensor, decay: float) -> None:
    value[cell[settled]] *= decay
    value.scatter_reduce_(0, cell, weight, "amax")
