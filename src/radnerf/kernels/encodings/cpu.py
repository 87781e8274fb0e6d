"""Frequency and spherical harmonics encodings on CPU cores: Numba, but for sines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from radnerf.kernels.encodings import reference


def frequency_encode(x: Tensor, octaves: int) -> Tensor:
    return _Frequency.apply(x, octaves)


def sh_encode(directions: Tensor, degree: int) -> Tensor:
    return _Harmonics.apply(directions, degree)


class _Frequency(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, octaves: int) -> Tensor:
        out = reference.frequency_encode(x, octaves)  # its sines are vector code
        ctx.save_for_backward(out)
        ctx.octaves = octaves
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        from radnerf.kernels.encodings import loops
        from radnerf.kernels.numba_runtime import run

        (encoded,) = ctx.saved_tensors
        gradient = torch.empty(len(encoded), encoded.shape[1] // (1 + 2 * ctx.octaves))
        run(
            loops.frequency_gradient,
            encoded.detach(),
            ctx.octaves,
            upstream.contiguous(),
            gradient,
        )
        return gradient, None


class _Harmonics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, degree: int) -> Tensor:
        from radnerf.kernels.encodings import loops
        from radnerf.kernels.numba_runtime import run

        directions = directions.detach().contiguous()
        out = torch.empty(len(directions), degree**2)
        run(loops.harmonics, directions, degree, out)
        ctx.save_for_backward(directions)
        ctx.degree = degree
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        from radnerf.kernels.encodings import loops
        from radnerf.kernels.numba_runtime import run

        (directions,) = ctx.saved_tensors
        gradient = torch.empty_like(directions)
        run(loops.harmonics_gradient, directions, ctx.degree, upstream.contiguous(), gradient)
        return gradient, None
