"""Occupancy update on CPU cores: Numba loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def cells_of(points: Tensor, box: Tensor, shape: Sequence[int]) -> Tensor:
    from radnerf.kernels.numba_runtime import run
    from radnerf.kernels.occupancy import loops

    cells = torch.empty(len(points), dtype=torch.long)
    points = points.detach().contiguous()
    run(loops.cells_of, points, box[0].contiguous(), box[1] - box[0], np.array(shape), cells)
    return cells


def raise_cells(value: Tensor, cell: Tensor, weight: Tensor, settled: Tensor, decay: float) -> None:
    from radnerf.kernels.numba_runtime import run
    from radnerf.kernels.occupancy import loops

    inputs = (x.detach().contiguous() for x in (cell, weight, settled))
    run(loops.raise_cells, value, *inputs, np.float32(decay), torch.empty(len(cell)))
