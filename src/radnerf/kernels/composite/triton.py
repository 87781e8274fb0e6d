"""Compositing on a GPU: a program takes some rays, their samples in tiles front to back.

Sums along a ray and what it returns are float32, whatever density and values are.
"""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from radnerf.kernels.triton_runtime import block, jit, launch, padded, points_of_program
from radnerf.types import Samples

RAYS = 32  # a program; fewer when there are many channels
TILE = 16  # samples of a ray at a time
LARGEST = 1 << 20  # elements of a tensor in Triton, which the interpreter's blocks could exceed


def composite(
    density: Tensor, values: Tensor, samples: Samples, stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _Composite.apply(density, values, samples.t, samples.dt, samples.offsets, stop)


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        density: Tensor,
        values: Tensor,
        t: Tensor,
        dt: Tensor,
        offsets: Tensor,
        stop: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inputs = [v.contiguous() for v in (density, values, t, dt, offsets)]
        rays, channels = len(offsets) - 1, values.shape[1]
        sums = t.new_empty(rays, channels, dtype=torch.float32)
        alpha, depth = t.new_empty(2, rays, dtype=torch.float32)
        weights = t.new_zeros(len(t), dtype=torch.float32)
        saves = any(ctx.needs_input_grad)
        # Transmittance behind each sample.
        after = torch.empty_like(weights) if saves else None
        size = _rays(rays, channels)
        launch(
            _forward, (triton.cdiv(rays, size),),
            *inputs, sums, alpha, depth, weights, after, rays, float(stop),
            CHANNELS=channels, WIDTH=padded(channels), SAVES=saves, BLOCK=size, TILE=TILE,
        )  # fmt: skip
        ctx.save_for_backward(*inputs, weights, after)
        return sums, alpha, depth, weights

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        density, values, t, dt, offsets, weights, after = ctx.saved_tensors
        rays, channels = len(offsets) - 1, values.shape[1]
        of_density, of_values = torch.zeros_like(density), torch.zeros_like(values)
        size = _rays(rays, channels)
        launch(
            _backward, (triton.cdiv(rays, size),),
            values, t, dt, offsets, weights, after, *(u.contiguous() for u in upstream),
            of_density, of_values, rays,
            CHANNELS=channels, WIDTH=padded(channels), BLOCK=size, TILE=TILE,
        )  # fmt: skip
        return of_density, of_values, None, None, None, None


def _rays(rays: int, channels: int) -> int:
    width = padded(channels)
    size = block(rays, max(1, min(RAYS, 4 * RAYS // width)))
    return min(size, LARGEST // (TILE * width))


@jit
def _forward(
    density_ptr, values_ptr, t_ptr, dt_ptr, offsets_ptr,
    sums_ptr, alpha_ptr, depth_ptr, weights_ptr, after_ptr, rays, stop,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, SAVES: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    ray = points_of_program(BLOCK)
    inside = ray < rays
    first = tl.load(offsets_ptr + ray, mask=inside, other=0)
    count = tl.load(offsets_ptr + ray + 1, mask=inside, other=0) - first
    column, channel = tl.arange(0, TILE), tl.arange(0, WIDTH)
    sums = tl.zeros((BLOCK, WIDTH), tl.float32)
    alpha = tl.zeros((BLOCK,), tl.float32)
    depth = tl.zeros((BLOCK,), tl.float32)
    passed = tl.zeros((BLOCK,), tl.float32)  # optical depth of the tiles so far
    for start in range(0, tl.max(count, 0).to(tl.int32), TILE):
        there = (start + column)[None, :] < count[:, None]
        i = first[:, None] + (start + column)[None, :]
        thickness = tl.load(density_ptr + i, mask=there, other=0.0).to(tl.float32)
        thickness *= tl.load(dt_ptr + i, mask=there, other=0.0).to(tl.float32)
        # Of the samples before, from memory: sum minus own would cancel at a dense sample.
        earlier = there & (column > 0)[None, :]
        former = tl.load(density_ptr + i - 1, mask=earlier, other=0.0).to(tl.float32)
        former *= tl.load(dt_ptr + i - 1, mask=earlier, other=0.0).to(tl.float32)
        transmittance = tl.exp(-(passed[:, None] + tl.cumsum(former, 1)))
        passes = tl.exp(-thickness)
        counted = there & (transmittance >= stop)
        weight = tl.where(counted, transmittance * (1 - passes), 0.0)
        t = tl.load(t_ptr + i, mask=there, other=0.0).to(tl.float32)
        value = tl.load(
            values_ptr + i[:, :, None] * CHANNELS + channel[None, None, :],
            mask=there[:, :, None] & (channel < CHANNELS)[None, None, :],
            other=0.0,
        ).to(tl.float32)
        sums += tl.sum(weight[:, :, None] * value, 1)
        alpha += tl.sum(weight, 1)
        depth += tl.sum(weight * t, 1)
        passed += tl.sum(thickness, 1)
        tl.store(weights_ptr + i, weight, mask=there)
        if SAVES:
            tl.store(after_ptr + i, tl.where(counted, transmittance * passes, 0.0), mask=there)
    tl.store(
        sums_ptr + ray[:, None] * CHANNELS + channel[None, :],
        sums,
        mask=inside[:, None] & (channel < CHANNELS)[None, :],
    )
    tl.store(alpha_ptr + ray, alpha, mask=inside)
    tl.store(depth_ptr + ray, depth, mask=inside)


@jit
def _backward(
    values_ptr, t_ptr, dt_ptr, offsets_ptr, weights_ptr, after_ptr,
    of_sums_ptr, of_alpha_ptr, of_depth_ptr, of_weights_ptr, of_density_ptr, of_values_ptr, rays,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """With s = density * dt and w_i = T_i (1 - exp(-s_i)): dw_i/ds_i = T_(i+1), and every later
    weight loses as much as it has: dw_j/ds_i = -w_j. So tiles go back to front.
    """
    ray = points_of_program(BLOCK)
    inside = ray < rays
    first = tl.load(offsets_ptr + ray, mask=inside, other=0)
    count = tl.load(offsets_ptr + ray + 1, mask=inside, other=0) - first
    column, channel = tl.arange(0, TILE), tl.arange(0, WIDTH)
    of_sums = tl.load(
        of_sums_ptr + ray[:, None] * CHANNELS + channel[None, :],
        mask=inside[:, None] & (channel < CHANNELS)[None, :],
        other=0.0,
    )
    of_alpha = tl.load(of_alpha_ptr + ray, mask=inside, other=0.0)
    of_depth = tl.load(of_depth_ptr + ray, mask=inside, other=0.0)
    behind = tl.zeros((BLOCK,), tl.float32)  # what the weights of the tiles behind are worth
    tiles = tl.cdiv(tl.max(count, 0).to(tl.int32), TILE)
    for tile in range(tiles):
        place = (tiles - 1 - tile) * TILE + column
        there = place[None, :] < count[:, None]
        i = first[:, None] + place[None, :]
        in_values = there[:, :, None] & (channel < CHANNELS)[None, None, :]
        at = i[:, :, None] * CHANNELS + channel[None, None, :]
        value = tl.load(values_ptr + at, mask=in_values, other=0.0).to(tl.float32)
        t = tl.load(t_ptr + i, mask=there, other=0.0).to(tl.float32)
        dt = tl.load(dt_ptr + i, mask=there, other=0.0).to(tl.float32)
        weight = tl.load(weights_ptr + i, mask=there, other=0.0)
        after = tl.load(after_ptr + i, mask=there, other=0.0)
        worth = of_alpha[:, None] + of_depth[:, None] * t
        worth += tl.load(of_weights_ptr + i, mask=there, other=0.0)
        worth += tl.sum(of_sums[:, None, :] * value, 2)
        contribution = weight * worth
        later = behind[:, None] + tl.cumsum(contribution, 1, reverse=True) - contribution
        tl.store(of_density_ptr + i, dt * (after * worth - later), mask=there)
        tl.store(of_values_ptr + at, weight[:, :, None] * of_sums[:, None, :], mask=in_values)
        behind += tl.sum(contribution, 1)
