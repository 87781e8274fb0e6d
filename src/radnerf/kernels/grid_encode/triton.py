"""Grid encoding on a GPU: a program takes a block of points at one level.

A level's index is an int32 whose overflow wraps as that of the uint32 of public code. Outputs are
stored feature by feature (a transposed view), so that neighbouring threads write side by side.
"""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from radnerf.kernels.grid_encode.levels import GridLevels
from radnerf.kernels.triton_runtime import block, jit, launch, padded, points_of_program

BLOCK = 128  # points a program


def grid_encode(x: Tensor, table: Tensor, levels: GridLevels) -> Tensor:
    return _GridEncode.apply(x, table, levels)


@lru_cache
def described(levels: GridLevels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scales [L], and rows of first entry, mask that folds, three strides, hashed or not [L, 6]."""
    folded = np.array(levels.folded)
    rows = np.zeros((levels.n_levels, 6), np.uint32)
    rows[:, 0] = levels.offsets[:-1]
    # A folded level has a power of two of entries.
    rows[:, 1] = np.where(folded, np.array(levels.entries) - 1, 0xFFFFFFFF)
    rows[:, 2 : 2 + levels.dim] = np.array(levels.strides, np.uint64) & 0xFFFFFFFF
    rows[:, 5] = folded & (levels.kind == "hash")
    scales = torch.tensor(levels.scales, dtype=torch.float32, device=device)
    return scales, torch.from_numpy(rows.view(np.int32)).to(device)


class _GridEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, levels: GridLevels) -> Tensor:
        x, table = x.contiguous(), table.contiguous()
        ctx.save_for_backward(x, table)
        ctx.levels = levels
        out = table.new_empty(levels.n_outputs, len(x))
        size = block(len(x), BLOCK)
        launch(
            _encode, (triton.cdiv(len(x), size), levels.n_levels),
            x, table, *described(levels, x.device), out, len(x),
            DIM=levels.dim, FEATURES=levels.n_features, WIDTH=padded(levels.n_features), BLOCK=size,
        )  # fmt: skip
        return out.T

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, table = ctx.saved_tensors
        levels: GridLevels = ctx.levels
        arrays = described(levels, x.device)
        size = block(len(x), BLOCK)
        blocks = triton.cdiv(len(x), size)
        sizes = {
            "DIM": levels.dim,
            "FEATURES": levels.n_features,
            "WIDTH": padded(levels.n_features),
            "BLOCK": size,
        }
        of_x = of_table = None
        if ctx.needs_input_grad[0]:
            of_x = torch.empty_like(x)
            launch(
                _x_gradient, (blocks,),
                x, table, *arrays, upstream, of_x, len(x), *upstream.stride(),
                LEVELS=levels.n_levels, **sizes,
            )  # fmt: skip
        if ctx.needs_input_grad[1]:
            # In float32 whatever the table is: an entry sums up many small parts.
            of_table = torch.zeros_like(table, dtype=torch.float32)
            launch(
                _table_gradient, (blocks, levels.n_levels),
                x, *arrays, upstream, of_table, len(x), *upstream.stride(), **sizes,
            )  # fmt: skip
            of_table = of_table.to(table.dtype)
        return of_x, of_table, None


@jit
def _coordinate(x_ptr, i, inside, AXIS: tl.constexpr, DIM: tl.constexpr):
    """An axis of points; 0 for an axis that they do not have."""
    x = tl.zeros_like(i).to(tl.float32)
    if AXIS < DIM:
        x = tl.load(x_ptr + i * DIM + AXIS, mask=inside, other=0.0).to(tl.float32)
    return x


@jit
def _read_level(scales_ptr, levels_ptr, level):
    """A level's scale, first entry, mask, strides and whether it is hashed; see described."""
    row = levels_ptr + 6 * level
    first, mask, hashed = tl.load(row), tl.load(row + 1), tl.load(row + 5) != 0
    s0, s1, s2 = tl.load(row + 2), tl.load(row + 3), tl.load(row + 4)
    return tl.load(scales_ptr + level), first, mask, s0, s1, s2, hashed


@jit
def _place(x, scale, stride):
    """The lower vertex' term of the index, and the fraction; NaN counts as 0."""
    x = tl.where(x > 0, x, 0.0)
    x = tl.where(x < 1, x, 1.0)
    position = x * scale + 0.5
    vertex = position.to(tl.int32)
    return vertex * stride, position - vertex.to(tl.float32)


@jit
def _row(a, b, c, first, mask, s0, s1, s2, hashed, CORNER: tl.constexpr):
    """Table row of the corner whose bits say along which axes it is the upper one."""
    a += s0 * (CORNER & 1)
    b += s1 * (CORNER >> 1 & 1)
    c += s2 * (CORNER >> 2)
    return first + (tl.where(hashed, a ^ b ^ c, a + b + c) & mask).to(tl.int64)


@jit
def _part(fraction, UPPER: tl.constexpr):
    """How much a corner weighs along an axis."""
    return fraction if UPPER else 1 - fraction


@jit
def _encode(
    x_ptr, table_ptr, scales_ptr, levels_ptr, out_ptr, n,
    DIM: tl.constexpr, FEATURES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    level = tl.program_id(1)
    i = points_of_program(BLOCK)
    inside = i < n
    feature = tl.arange(0, WIDTH)
    there = inside[:, None] & (feature < FEATURES)[None, :]
    scale, first, mask, s0, s1, s2, hashed = _read_level(scales_ptr, levels_ptr, level)
    a, f0 = _place(_coordinate(x_ptr, i, inside, 0, DIM), scale, s0)
    b, f1 = _place(_coordinate(x_ptr, i, inside, 1, DIM), scale, s1)
    c, f2 = _place(_coordinate(x_ptr, i, inside, 2, DIM), scale, s2)
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for corner in tl.static_range(2**DIM):
        row = _row(a, b, c, first, mask, s0, s1, s2, hashed, corner)
        weight = _part(f0, corner & 1)
        if DIM > 1:
            weight *= _part(f1, corner >> 1 & 1)
        if DIM == 3:
            weight *= _part(f2, corner >> 2)
        # All features of a row in one access.
        entry = tl.load(
            table_ptr + row[:, None] * FEATURES + feature[None, :], mask=there, other=0.0
        )
        total += weight[:, None] * entry.to(tl.float32)
    column = (level * FEATURES + feature).to(tl.int64)
    tl.store(out_ptr + column[None, :] * n + i[:, None], total, mask=there)


@jit
def _table_gradient(
    x_ptr, scales_ptr, levels_ptr, upstream_ptr, gradient_ptr, n, point_stride, output_stride,
    DIM: tl.constexpr, FEATURES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Adds to gradient [entries, FEATURES], which starts at zero."""
    level = tl.program_id(1)
    i = points_of_program(BLOCK)
    inside = i < n
    feature = tl.arange(0, WIDTH)
    there = inside[:, None] & (feature < FEATURES)[None, :]
    scale, first, mask, s0, s1, s2, hashed = _read_level(scales_ptr, levels_ptr, level)
    a, f0 = _place(_coordinate(x_ptr, i, inside, 0, DIM), scale, s0)
    b, f1 = _place(_coordinate(x_ptr, i, inside, 1, DIM), scale, s1)
    c, f2 = _place(_coordinate(x_ptr, i, inside, 2, DIM), scale, s2)
    column = (level * FEATURES + feature).to(tl.int64)
    upstream = tl.load(
        upstream_ptr + i[:, None] * point_stride + column[None, :] * output_stride,
        mask=there,
        other=0.0,
    ).to(tl.float32)
    # Samples that no ray needs add nothing, but all to one place, one after the other.
    adds = there & (upstream != 0)
    for corner in tl.static_range(2**DIM):
        row = _row(a, b, c, first, mask, s0, s1, s2, hashed, corner)
        weight = _part(f0, corner & 1)
        if DIM > 1:
            weight *= _part(f1, corner >> 1 & 1)
        if DIM == 3:
            weight *= _part(f2, corner >> 2)
        tl.atomic_add(
            gradient_ptr + row[:, None] * FEATURES + feature[None, :],
            weight[:, None] * upstream,
            mask=adds,
            sem="relaxed",
        )


@jit
def _x_gradient(
    x_ptr, table_ptr, scales_ptr, levels_ptr, upstream_ptr, gradient_ptr, n,
    point_stride, output_stride, LEVELS: tl.constexpr,
    DIM: tl.constexpr, FEATURES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program takes all levels of its points, so that nothing is added up in memory."""
    i = points_of_program(BLOCK)
    inside = i < n
    feature = tl.arange(0, WIDTH)
    there = inside[:, None] & (feature < FEATURES)[None, :]
    x0 = _coordinate(x_ptr, i, inside, 0, DIM)
    x1 = _coordinate(x_ptr, i, inside, 1, DIM)
    x2 = _coordinate(x_ptr, i, inside, 2, DIM)
    g0 = tl.zeros((BLOCK,), tl.float32)
    g1 = tl.zeros((BLOCK,), tl.float32)
    g2 = tl.zeros((BLOCK,), tl.float32)
    for level in range(LEVELS):
        scale, first, mask, s0, s1, s2, hashed = _read_level(scales_ptr, levels_ptr, level)
        a, f0 = _place(x0, scale, s0)
        b, f1 = _place(x1, scale, s1)
        c, f2 = _place(x2, scale, s2)
        column = (level * FEATURES + feature).to(tl.int64)
        upstream = scale * tl.load(
            upstream_ptr + i[:, None] * point_stride + column[None, :] * output_stride,
            mask=there,
            other=0.0,
        ).to(tl.float32)
        for corner in tl.static_range(2**DIM):
            row = _row(a, b, c, first, mask, s0, s1, s2, hashed, corner)
            entry = tl.load(
                table_ptr + row[:, None] * FEATURES + feature[None, :], mask=there, other=0.0
            )
            worth = tl.sum(upstream * entry.to(tl.float32), 1)
            p0 = _part(f0, corner & 1)
            p1 = _part(f1, corner >> 1 & 1)
            if DIM == 3:
                p2 = _part(f2, corner >> 2)
                g2 += _signed(worth, corner >> 2) * p0 * p1
                worth *= p2
            if DIM > 1:
                g0 += _signed(worth, corner & 1) * p1
                g1 += _signed(worth, corner >> 1 & 1) * p0
            else:
                g0 += _signed(worth, corner & 1)
    _store_gradient(gradient_ptr + i * DIM, x0, g0, inside)
    if DIM > 1:
        _store_gradient(gradient_ptr + i * DIM + 1, x1, g1, inside)
    if DIM == 3:
        _store_gradient(gradient_ptr + i * DIM + 2, x2, g2, inside)


@jit
def _signed(worth, UPPER: tl.constexpr):
    return worth if UPPER else -worth


@jit
def _store_gradient(pointer, x, gradient, inside):
    """The gradient inside the box, none where clamping holds x still."""
    tl.store(pointer, tl.where((x >= 0) & (x <= 1), gradient, 0.0), mask=inside)
