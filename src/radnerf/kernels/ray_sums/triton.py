"""Sums along rays on a GPU: a program takes some rays, their samples in tiles, in float32."""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from radnerf.kernels.ray_sums import reference
from radnerf.kernels.triton_runtime import block, jit, launch, points_of_program
from radnerf.types import Samples

RAYS = 128  # a program
TILE = 16  # samples of a ray at a time


def sums_before(values: Tensor, samples: Samples) -> Tensor:
    return _Sums.apply(values, samples.offsets)


def distortion(weights: Tensor, samples: Samples) -> Tensor:
    return reference.distortion(weights, samples, sums_before)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor) -> Tensor:
        ctx.offsets = offsets
        return _along(values, offsets, behind=False)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return _along(upstream, ctx.offsets, behind=True), None


def _along(values: Tensor, offsets: Tensor, behind: bool) -> Tensor:
    values, rays = values.contiguous(), len(offsets) - 1
    sums, size = torch.zeros_like(values), block(rays, RAYS)
    launch(
        _sums, (triton.cdiv(rays, size),), values, offsets.contiguous(), sums, rays,
        BEHIND=behind, BLOCK=size, TILE=TILE,
    )  # fmt: skip
    return sums


@jit
def _sums(
    values_ptr, offsets_ptr, sums_ptr, rays,
    BEHIND: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Of the samples before each one, or behind it: then rays are walked from their end."""
    ray = points_of_program(BLOCK)
    inside = ray < rays
    first = tl.load(offsets_ptr + ray, mask=inside, other=0)
    end = tl.load(offsets_ptr + ray + 1, mask=inside, other=0)
    count, column = end - first, tl.arange(0, TILE)
    passed = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, tl.max(count, 0).to(tl.int32), TILE):
        place = start + column
        there = place[None, :] < count[:, None]
        if BEHIND:
            i = end[:, None] - 1 - place[None, :]
            former = i + 1
        else:
            i = first[:, None] + place[None, :]
            former = i - 1
        value = tl.load(values_ptr + i, mask=there, other=0.0).to(tl.float32)
        # From memory: a sum minus its last term would cancel.
        earlier = there & (column > 0)[None, :]
        former = tl.load(values_ptr + former, mask=earlier, other=0.0).to(tl.float32)
        tl.store(sums_ptr + i, passed[:, None] + tl.cumsum(former, 1), mask=there)
        passed += tl.sum(value, 1)
