"""Frequency and spherical harmonics encodings on a GPU, forward and backward."""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from radnerf.kernels.encodings import reference
from radnerf.kernels.triton_runtime import block, jit, launch, padded, points_of_program

BLOCK = 64  # points a program, frequencies
HARMONICS_BLOCK = 256

# The interpreter wants a tensor, not a constant, as the left factor.
C00, C1, C20, C21, C22, C30, C31, C32, C33 = (
    tl.constexpr(c)
    for c in (
        reference.C00, reference.C1, reference.C20, reference.C21, reference.C22,
        reference.C30, reference.C31, reference.C32, reference.C33,
    )
)  # fmt: skip


def frequency_encode(x: Tensor, octaves: int) -> Tensor:
    return _Frequency.apply(x, octaves)


def sh_encode(directions: Tensor, degree: int) -> Tensor:
    return _Harmonics.apply(directions, degree)


class _Frequency(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, octaves: int) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.octaves = octaves
        n, dim = x.shape
        outputs = dim * (1 + 2 * octaves)
        out = x.new_empty(n, outputs)
        size = block(n, BLOCK)
        launch(
            _frequency, (triton.cdiv(n, size),),
            x, out, n, DIM=dim, OUTPUTS=outputs, WIDTH=padded(outputs), BLOCK=size,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        n, dim = x.shape
        gradient = torch.empty_like(x)
        size = block(n, BLOCK)
        launch(
            _frequency_gradient, (triton.cdiv(n, size),),
            x, upstream.contiguous(), gradient, n,
            DIM=dim, OCTAVES=ctx.octaves, WIDTH=padded(dim), BLOCK=size,
        )  # fmt: skip
        return gradient, None


class _Harmonics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, degree: int) -> Tensor:
        directions = directions.contiguous()
        ctx.save_for_backward(directions)
        ctx.degree = degree
        n = len(directions)
        # A transposed view: neighbouring threads, which have neighbouring points, write side by
        # side.
        out = directions.new_empty(degree**2, n)
        size = block(n, HARMONICS_BLOCK)
        launch(_harmonics, (triton.cdiv(n, size),), directions, out, n, DEGREE=degree, BLOCK=size)
        return out.T

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (directions,) = ctx.saved_tensors
        n = len(directions)
        gradient = torch.empty_like(directions)
        size = block(n, HARMONICS_BLOCK)
        launch(
            _harmonics_gradient, (triton.cdiv(n, size),),
            directions, upstream, gradient, n, *upstream.stride(), DEGREE=ctx.degree, BLOCK=size,
        )  # fmt: skip
        return gradient, None


@jit
def _frequency(
    x_ptr, out_ptr, n,
    DIM: tl.constexpr, OUTPUTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = points_of_program(BLOCK)
    column = tl.arange(0, WIDTH)
    there = (i < n)[:, None] & (column < OUTPUTS)[None, :]
    axis, wave = column % DIM, column // DIM
    octave = tl.maximum(wave - 1, 0) // 2
    x = tl.load(x_ptr + i[:, None] * DIM + axis[None, :], mask=there, other=0.0).to(tl.float32)
    scaled = x * (1 << octave).to(tl.float32)[None, :]
    curve = tl.where((wave % 2 == 1)[None, :], tl.sin(scaled), tl.cos(scaled))
    tl.store(
        out_ptr + i[:, None] * OUTPUTS + column[None, :],
        tl.where((wave == 0)[None, :], x, curve),
        mask=there,
    )


@jit
def _frequency_gradient(
    x_ptr, upstream_ptr, gradient_ptr, n,
    DIM: tl.constexpr, OCTAVES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = points_of_program(BLOCK)
    axis = tl.arange(0, WIDTH)
    there = (i < n)[:, None] & (axis < DIM)[None, :]
    place = i[:, None] * DIM + axis[None, :]
    x = tl.load(x_ptr + place, mask=there, other=0.0).to(tl.float32)
    upstream = upstream_ptr + i[:, None] * (DIM * (1 + 2 * OCTAVES)) + axis[None, :]
    total = tl.load(upstream, mask=there, other=0.0).to(tl.float32)
    for octave in tl.static_range(OCTAVES):
        scaled = x * 2.0**octave
        of_sin = tl.load(upstream + DIM * (1 + 2 * octave), mask=there, other=0.0).to(tl.float32)
        of_cos = tl.load(upstream + DIM * (2 + 2 * octave), mask=there, other=0.0).to(tl.float32)
        total += 2.0**octave * (of_sin * tl.cos(scaled) - of_cos * tl.sin(scaled))
    tl.store(gradient_ptr + place, total, mask=there)


@jit
def _direction(pointer, i, inside):
    x = tl.load(pointer + i * 3, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(pointer + i * 3 + 1, mask=inside, other=0.0).to(tl.float32)
    z = tl.load(pointer + i * 3 + 2, mask=inside, other=0.0).to(tl.float32)
    return x, y, z


@jit
def _harmonics(directions_ptr, out_ptr, n, DEGREE: tl.constexpr, BLOCK: tl.constexpr):
    i = points_of_program(BLOCK)
    inside = i < n
    x, y, z = _direction(directions_ptr, i, inside)
    xx, yy, zz = x * x, y * y, z * z
    out = out_ptr + i
    n = tl.cast(n, tl.int64)
    tl.store(out, tl.zeros_like(x) + C00, mask=inside)
    if DEGREE > 1:
        tl.store(out + n, y * -C1, mask=inside)
        tl.store(out + 2 * n, z * C1, mask=inside)
        tl.store(out + 3 * n, x * -C1, mask=inside)
    if DEGREE > 2:
        tl.store(out + 4 * n, x * y * C21, mask=inside)
        tl.store(out + 5 * n, y * z * -C21, mask=inside)
        tl.store(out + 6 * n, (3 * zz - 1) * C20, mask=inside)
        tl.store(out + 7 * n, x * z * -C21, mask=inside)
        tl.store(out + 8 * n, (xx - yy) * C22, mask=inside)
    if DEGREE > 3:
        tl.store(out + 9 * n, y * (3 * xx - yy) * -C33, mask=inside)
        tl.store(out + 10 * n, x * y * z * (2 * C32), mask=inside)
        tl.store(out + 11 * n, y * (1 - 5 * zz) * C31, mask=inside)
        tl.store(out + 12 * n, z * (5 * zz - 3) * C30, mask=inside)
        tl.store(out + 13 * n, x * (1 - 5 * zz) * C31, mask=inside)
        tl.store(out + 14 * n, z * (xx - yy) * C32, mask=inside)
        tl.store(out + 15 * n, x * (xx - 3 * yy) * -C33, mask=inside)


@jit
def _of(upstream, inside, stride, COLUMN: tl.constexpr):
    return tl.load(upstream + COLUMN * stride, mask=inside, other=0.0).to(tl.float32)


@jit
def _harmonics_gradient(
    directions_ptr, upstream_ptr, gradient_ptr, n, point_stride, output_stride,
    DEGREE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = points_of_program(BLOCK)
    inside = i < n
    x, y, z = _direction(directions_ptr, i, inside)
    upstream = upstream_ptr + i * point_stride
    gx, gy, gz = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    if DEGREE > 1:
        gy -= _of(upstream, inside, output_stride, 1) * C1
        gz += _of(upstream, inside, output_stride, 2) * C1
        gx -= _of(upstream, inside, output_stride, 3) * C1
    if DEGREE > 2:
        u4 = _of(upstream, inside, output_stride, 4)
        u5 = _of(upstream, inside, output_stride, 5)
        u6 = _of(upstream, inside, output_stride, 6)
        u7 = _of(upstream, inside, output_stride, 7)
        u8 = _of(upstream, inside, output_stride, 8)
        gx += (u4 * y - u7 * z) * C21 + u8 * x * (2 * C22)
        gy += (u4 * x - u5 * z) * C21 - u8 * y * (2 * C22)
        gz += u6 * z * (6 * C20) - (u5 * y + u7 * x) * C21
    if DEGREE > 3:
        u9 = _of(upstream, inside, output_stride, 9)
        u10 = _of(upstream, inside, output_stride, 10)
        u11 = _of(upstream, inside, output_stride, 11)
        u12 = _of(upstream, inside, output_stride, 12)
        u13 = _of(upstream, inside, output_stride, 13)
        u14 = _of(upstream, inside, output_stride, 14)
        u15 = _of(upstream, inside, output_stride, 15)
        curve = 1 - 5 * z * z
        saddle = x * x - y * y
        gx += (
            z * (u10 * y + u14 * x) * (2 * C32)
            + u13 * curve * C31
            - (2 * u9 * x * y + u15 * saddle) * (3 * C33)
        )
        gy += (
            z * (u10 * x - u14 * y) * (2 * C32)
            + u11 * curve * C31
            + (2 * u15 * x * y - u9 * saddle) * (3 * C33)
        )
        gz += (
            (2 * u10 * x * y + u14 * saddle) * C32
            + u12 * (5 * z * z - 1) * (3 * C30)
            - z * (u11 * y + u13 * x) * (10 * C31)
        )
    tl.store(gradient_ptr + i * 3, gx, mask=inside)
    tl.store(gradient_ptr + i * 3 + 1, gy, mask=inside)
    tl.store(gradient_ptr + i * 3 + 2, gz, mask=inside)
