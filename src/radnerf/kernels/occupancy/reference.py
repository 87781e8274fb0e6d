"""Occupancy update in plain torch."""

from __future__ import annotations

from torch import Tensor


def raise_cells(value: Tensor, cell: Tensor, weight: Tensor, settled: Tensor, decay: float) -> None:
    value[cell[settled]] *= decay
    value.scatter_reduce_(0, cell, weight, "amax")
