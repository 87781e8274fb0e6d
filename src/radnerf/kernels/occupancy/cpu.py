"""Occupancy update on CPU cores: a Numba loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def raise_cells(value: Tensor, cell: Tensor, weight: Tensor, settled: Tensor, decay: float) -> None:
    from radnerf.kernels.numba_runtime import run
    from radnerf.kernels.occupancy import loops

    inputs = (x.detach().contiguous() for x in (cell, weight, settled))
    run(loops.raise_cells, value, *inputs, np.float32(decay), torch.empty(len(cell)))
