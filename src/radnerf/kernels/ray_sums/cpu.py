"""Sums along rays on CPU cores: Numba, forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from radnerf.types import Samples


def sums_before(values: Tensor, samples: Samples) -> Tensor:
    return _Sums.apply(values, samples.offsets)


def distortion(weights: Tensor, samples: Samples) -> Tensor:
    return _Distortion.apply(weights, samples.t, samples.dt, samples.offsets)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor) -> Tensor:
        from radnerf.kernels.numba_runtime import run
        from radnerf.kernels.ray_sums import loops

        ctx.offsets, sums = offsets, torch.zeros(len(values))
        run(loops.before, values.detach().contiguous(), offsets, sums)
        return sums

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        from radnerf.kernels.numba_runtime import run
        from radnerf.kernels.ray_sums import loops

        sums = torch.zeros(len(upstream))
        run(loops.behind, upstream.contiguous(), ctx.offsets, sums)
        return sums, None


class _Distortion(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, t: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
        from radnerf.kernels.numba_runtime import run
        from radnerf.kernels.ray_sums import loops

        inputs = [v.detach().contiguous() for v in (weights, t, dt, offsets)]
        ctx.save_for_backward(*inputs)
        of_rays = torch.empty(len(offsets) - 1)
        run(loops.distortion, *inputs, of_rays)
        return of_rays

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        from radnerf.kernels.numba_runtime import run
        from radnerf.kernels.ray_sums import loops

        gradient = torch.zeros(len(ctx.saved_tensors[0]))
        run(loops.distortion_gradient, *ctx.saved_tensors, upstream.contiguous(), gradient)
        return gradient, None, None, None
