"""Compositing on CPU cores: Numba, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from radnerf.types import Samples


def composite(
    density: Tensor, values: Tensor, samples: Samples, stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _Composite.apply(
        density, values, samples.t, samples.dt, samples.offsets, np.float32(stop)
    )


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        density: Tensor,
        values: Tensor,
        t: Tensor,
        dt: Tensor,
        offsets: Tensor,
        stop: np.float32,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from radnerf.kernels.composite import loops
        from radnerf.kernels.numba_runtime import run

        inputs = [v.detach().contiguous() for v in (density, values, t, dt, offsets)]
        rays = len(offsets) - 1
        sums, alpha, depth = (
            torch.zeros(rays, values.shape[1]),
            torch.zeros(rays),
            torch.zeros(rays),
        )
        weights = torch.zeros(len(density))
        run(loops.forward, *inputs, stop, sums, alpha, depth, weights)
        ctx.save_for_backward(*inputs, weights)
        ctx.stop = stop
        return sums, alpha, depth, weights

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        from radnerf.kernels.composite import loops
        from radnerf.kernels.numba_runtime import run

        *inputs, weights = ctx.saved_tensors
        of_density, of_values = torch.zeros_like(inputs[0]), torch.zeros_like(inputs[1])
        of_outputs = [gradient.contiguous() for gradient in upstream]
        run(loops.backward, *inputs, ctx.stop, weights, *of_outputs, of_density, of_values)
        return of_density, of_values, None, None, None, None
