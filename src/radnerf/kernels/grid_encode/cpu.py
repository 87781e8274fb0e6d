"""Grid encoding on CPU cores: Numba loops over points, and over levels for the table's gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radnerf.kernels.grid_encode.levels import GridLevels

COPIED_LEVELS = 8  # of a table's gradient, at least, for as many threads


def grid_encode(x: Tensor, table: Tensor, levels: GridLevels) -> Tensor:
    return _GridEncode.apply(x, table, levels)


@lru_cache
def described(levels: GridLevels) -> tuple[np.ndarray, ...]:
    """Scales, first rows, masks, strides and whether hashed, as the loops want them (loops.py)."""
    folded = np.array(levels.folded)
    return (
        np.array(levels.scales, np.float32),
        np.array(levels.offsets[:-1], np.int64),
        # A folded level has a power of two of entries.
        np.where(folded, np.array(levels.entries) - 1, 0xFFFFFFFF).astype(np.uint32),
        np.array(np.array(levels.strides, np.uint64) & 0xFFFFFFFF, np.uint32),
        folded & (levels.kind == "hash"),
    )


class _GridEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, levels: GridLevels) -> Tensor:
        from radnerf.kernels.grid_encode import loops
        from radnerf.kernels.numba_runtime import run

        x, table = x.contiguous(), table.contiguous()
        ctx.save_for_backward(x, table)
        ctx.levels = levels
        out = torch.empty(len(x), levels.n_outputs)
        forward = (loops.forward1, loops.forward2, loops.forward3)[levels.dim - 1]
        features = (0,) * levels.n_features
        run(forward, x.detach(), table.detach(), features, *described(levels), out)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        from radnerf.kernels.grid_encode import loops
        from radnerf.kernels.numba_runtime import run, threads

        x, table = ctx.saved_tensors
        levels: GridLevels = ctx.levels
        upstream = upstream.contiguous()
        features = (0,) * levels.n_features
        arrays = described(levels)
        of_x = of_table = None
        if ctx.needs_input_grad[0]:
            of_x = torch.zeros_like(x)
            loop = (loops.x_gradient1, loops.x_gradient2, loops.x_gradient3)[levels.dim - 1]
            run(loop, x, upstream, table, features, *arrays, of_x)
        if ctx.needs_input_grad[1]:
            # Few levels: each group of them gets a part of the points, and a copy of the table
            # to write to. However many threads there are, so that sums are always the same.
            copies = -(-COPIED_LEVELS // levels.n_levels)
            gradients = torch.zeros(copies, *table.shape)
            # Neighbouring levels cost alike: deal them to the threads in turn.
            tasks, n = np.arange(copies * levels.n_levels), threads()
            order = np.concatenate([tasks[first::n] for first in range(n)])
            loop = (loops.table_gradient1, loops.table_gradient2, loops.table_gradient3)[
                levels.dim - 1
            ]
            run(loop, x, upstream, features, order, *arrays, gradients)
            of_table = gradients[0] if copies == 1 else gradients.sum(0)
        return of_x, of_table, None
