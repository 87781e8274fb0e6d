"""Multi-layer perceptron on a GPU: all layers of a block of points in one program.

A layer's activations stay in registers; training also writes them down for the backward pass,
which is torch's own matrix products: each of them sums over all points or feeds only one other.

Operands are 16 bits wide where x is or autocast is on, sums are float32. The output has x's type:
under autocast it is not rounded, since two outputs may be a coordinate between fine grid cells.
"""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from radnerf.kernels.mlp import reference
from radnerf.kernels.triton_runtime import (
    block,
    dot,
    jit,
    launch,
    padded,
    points_of_program,
    rounded,
)

BLOCK, WARPS = 128, 4  # points, and warps, a program
# Without tensor cores every product takes registers of its own.
EXACT_BLOCK, EXACT_WARPS = 32, 8
CHUNK = 32  # inputs, or outputs, at a time
LEAST = 16  # the narrowest matrix that tensor cores take
# Activations of a wider layer do not fit a program's registers; torch's own products take them.
MAX_WIDTH = 128
# Up to so many frames, their gradient is a matrix product: atomic sums would all hit a few rows.
MAX_FRAME_COLUMNS = 128


def mlp(
    x: Tensor, weights: Sequence[Tensor], frame_bias: Tensor | None, frame: Tensor | None
) -> Tensor:
    if max(len(weight) for weight in weights[:-1] or weights) > MAX_WIDTH:
        return reference.mlp(x, weights, frame_bias, frame)
    return _Mlp.apply(x, *_evened(weights, frame_bias, frame))


def _evened(
    weights: Sequence[Tensor], frame_bias: Tensor | None, frame: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The arguments with all hidden layers as wide as the widest, the new units being zero."""
    width = max((len(weight) for weight in weights[:-1]), default=len(weights[0]))
    evened = []
    for layer, weight in enumerate(weights):
        rows = width - len(weight) if layer < len(weights) - 1 else 0
        columns = width - weight.shape[1] if layer else 0
        evened.append(pad(weight, (0, columns, 0, rows)) if rows or columns else weight)
    if frame_bias is not None and frame_bias.shape[1] < width:
        frame_bias = pad(frame_bias, (0, width - frame_bias.shape[1]))
    return frame_bias, frame, *evened


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frame_bias: Tensor | None, frame: Tensor | None, *weights: Tensor
    ) -> Tensor:
        kind = x.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else x.dtype
        layers, width, outputs = len(weights), len(weights[0]), len(weights[-1])
        matrices = torch.cat([weight.to(dtype).reshape(-1) for weight in weights])
        saves = any(ctx.needs_input_grad)
        activations = x.new_empty(layers - 1 if saves else 0, len(x), width, dtype=dtype)
        out = x.new_empty(len(x), outputs)
        exact = dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
        size = block(len(x), EXACT_BLOCK if exact else BLOCK)
        launch(
            _forward, (triton.cdiv(len(x), size),),
            x, matrices, None if frame_bias is None else frame_bias.contiguous(),
            None if frame is None else frame.contiguous(), out, activations, len(x),
            0 if frame_bias is None else len(frame_bias), *x.stride(),
            LAYERS=layers, INPUTS=x.shape[1], WIDTH=width, OUTPUTS=outputs,
            PADDED=padded(width, LEAST), BIASED=frame is not None, SAVES=saves,
            BLOCK=size, CHUNK=CHUNK, PRECISION="ieee" if exact else "tf32",
            num_warps=EXACT_WARPS if exact else WARPS,
        )  # fmt: skip
        ctx.save_for_backward(x, matrices, activations, frame_bias, frame, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, matrices, activations, frame_bias, frame, *weights = ctx.saved_tensors
        wants_x, wants_bias, _, *wants_weights = ctx.needs_input_grad
        dtype = matrices.dtype
        parts = matrices.split([weight.numel() for weight in weights])
        matrix = [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]
        entering = [x.to(dtype), *activations]
        of_weights: list[Tensor | None] = [None] * len(weights)
        of_x = of_bias = None
        gradient = upstream.to(dtype)
        for layer in reversed(range(len(weights))):
            if wants_weights[layer]:
                of_weights[layer] = (gradient.T @ entering[layer]).to(weights[layer].dtype)
            if layer:
                gradient = gradient @ matrix[layer]
                gradient = torch.ops.aten.threshold_backward(gradient, entering[layer], 0)
        if wants_bias:
            of_bias = _sums_of_frames(gradient, frame, len(frame_bias)).to(frame_bias.dtype)
        if wants_x:
            of_x = (gradient @ matrix[0]).to(x.dtype)
        return of_x, of_bias, None, *of_weights


def _sums_of_frames(gradient: Tensor, frame: Tensor, frames: int) -> Tensor:
    """Rows of a gradient added up by frame [frames, width]."""
    if frames <= MAX_FRAME_COLUMNS:
        is_frame = frame == torch.arange(frames, device=frame.device)[:, None]
        return is_frame.to(gradient.dtype) @ gradient
    total = gradient.new_zeros(frames, gradient.shape[1], dtype=torch.float32)
    return total.index_add_(0, frame, gradient.float())


@jit
def _matrix(matrix_ptr, row, column, rows, columns):
    """A tile of a matrix [rows, columns], transposed; zero beyond its borders."""
    return tl.load(
        matrix_ptr + row[None, :] * columns + column[:, None],
        mask=(row < rows)[None, :] & (column < columns)[:, None],
        other=0.0,
    )


@partial(jit, do_not_specialize=["frames"])
def _forward(
    x_ptr, matrices_ptr, bias_ptr, frame_ptr, out_ptr, activations_ptr, n, frames,
    point_stride, input_stride,
    LAYERS: tl.constexpr, INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
    PADDED: tl.constexpr, BIASED: tl.constexpr, SAVES: tl.constexpr,
    BLOCK: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """WIDTH, to a power of two PADDED: of the first layer, and of every other but the last."""
    i = points_of_program(BLOCK)
    inside = i < n
    unit = tl.arange(0, PADDED)
    in_width = inside[:, None] & (unit < WIDTH)[None, :]
    dtype = matrices_ptr.dtype.element_ty
    total = tl.zeros((BLOCK, PADDED), tl.float32)
    for start in tl.static_range(0, INPUTS, CHUNK):
        k = start + tl.arange(0, CHUNK)
        x = tl.load(
            x_ptr + i[:, None] * point_stride + k[None, :] * input_stride,
            mask=inside[:, None] & (k < INPUTS)[None, :],
            other=0.0,
        )
        matrix = _matrix(matrices_ptr, unit, k, WIDTH, INPUTS)
        total += dot(rounded(x.to(tl.float32), dtype), matrix, PRECISION)
    if BIASED:
        # A row that does not exist is left out; the gradient complains.
        row = tl.load(frame_ptr + i, mask=inside, other=0).to(tl.int64)
        exists = (row >= 0) & (row < frames)
        total += tl.load(
            bias_ptr + row[:, None] * WIDTH + unit[None, :],
            mask=exists[:, None] & in_width,
            other=0.0,
        ).to(tl.float32)
    if LAYERS == 1:
        tl.store(out_ptr + i[:, None] * WIDTH + unit[None, :], total, mask=in_width)
    else:
        matrices_ptr += INPUTS * WIDTH
        for layer in tl.static_range(1, LAYERS):
            # NaN stays NaN.
            hidden = rounded(tl.where(total < 0, 0.0, total), dtype)
            if SAVES:
                point = tl.cast(n, tl.int64) * (layer - 1) + i
                tl.store(
                    activations_ptr + point[:, None] * WIDTH + unit[None, :], hidden, mask=in_width
                )
            if layer < LAYERS - 1:
                matrix = _matrix(matrices_ptr, unit, unit, WIDTH, WIDTH)
                total = dot(hidden, matrix, PRECISION)
                matrices_ptr += WIDTH * WIDTH
        for start in tl.static_range(0, OUTPUTS, CHUNK):
            o = start + tl.arange(0, CHUNK)
            tl.store(
                out_ptr + i[:, None] * OUTPUTS + o[None, :],
                dot(hidden, _matrix(matrices_ptr, o, unit, OUTPUTS, WIDTH), PRECISION),
                mask=inside[:, None] & (o < OUTPUTS)[None, :],
            )
