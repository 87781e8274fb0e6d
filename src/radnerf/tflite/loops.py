"""Loops of small convolution networks, compiled on first use and kept on disk.

Left to itself LLVM re-reads the sums for the few channels that these networks have, so the inner
blocks of convolutions are written out as vectors. One file, because Numba compiles anew only when
the file of a loop itself has changed.

An image is [pixels, channels], channels padded to whole vectors of LANES, pixels to whole ROWS.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # channels in a vector
ROWS = 4  # pixels computed at once
SIDES = (3, 5)  # of the windows that depthwise() takes
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS = ir.VectorType(F32, LANES)
ZERO = ir.Constant(FLOATS, [0.0] * LANES)


class _Emitter:
    """Code for vectors, at the place of an LLVM builder."""

    def __init__(self, builder):
        self.builder = builder

    def number(self, value):
        return ir.Constant(I64, value)

    def at(self, pointer, place):
        return self.builder.bitcast(self.builder.gep(pointer, [place]), FLOATS.as_pointer())

    def load(self, pointer, place, count=1):
        """Neighbouring vectors."""
        places = [self.builder.add(place, self.number(v * LANES)) for v in range(count)]
        return [self.builder.load(self.at(pointer, p), align=4) for p in places]

    def store(self, pointer, place, vectors):
        for v, vector in enumerate(vectors):
            to = self.at(pointer, self.builder.add(place, self.number(v * LANES)))
            self.builder.store(vector, to, align=4)

    def splat(self, value):
        nothing = ir.Constant(FLOATS, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(I32, 0))
        lanes = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, nothing, lanes)

    def multiply_add(self, a, b, total):
        kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
        name = f"llvm.fma.v{LANES}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, (a, b, total))

    def prelu(self, value, factor):
        negative = self.builder.fcmp_ordered("<", value, ZERO)
        return self.builder.select(negative, self.builder.fmul(value, factor), value)

    def repeat(self, count, body):
        """Call body, which emits code, for every number below count; at least once."""
        builder = self.builder
        before, inside, after = builder.block, *(builder.append_basic_block() for _ in range(2))
        builder.branch(inside)
        builder.position_at_end(inside)
        i = builder.phi(I64)
        i.add_incoming(self.number(0), before)
        body(i)
        following = builder.add(i, self.number(1))
        i.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)


def _arrays(context, builder, signature, arguments):
    """Data and shape of every array among the arguments, and the other arguments."""
    found = []
    for kind, argument in zip(signature.args, arguments, strict=True):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, argument)
            argument = array.data, cgutils.unpack_tuple(builder, array.shape)
        found.append(argument)
    return found


def _dense_block(n_vectors):
    """An intrinsic: ROWS pixels from i on, n_vectors vectors of outputs from a column on.

    out = prelu(x[:, :n] weights + bias + residual), a row of the residual for each of_residual.
    """

    @intrinsic
    def block(context, x, i, n, weights, column, bias, slope, residual, of_residual, out):
        def generate(context, builder, signature, arguments):
            x, i, n, weights, column, bias, slope, residual, of_residual, out = _arrays(
                context, builder, signature, arguments
            )
            emit, add, mul = _Emitter(builder), builder.add, builder.mul
            (x, (_, across)), (weights, (_, width)) = x, weights
            rows = [add(i, emit.number(r)) for r in range(ROWS)]
            places = [mul(row, across) for row in rows]
            start = emit.load(bias[0], column, n_vectors)
            # In registers, though written as memory: LLVM finds that nobody else looks at it.
            sums = [[cgutils.alloca_once_value(builder, v) for v in start] for _ in rows]
            for row in sums:
                for total, value in zip(row, start, strict=True):
                    builder.store(value, total)

            def multiply(k):
                matrix = emit.load(weights, add(mul(k, width), column), n_vectors)
                for place, row in zip(places, sums, strict=True):
                    value = emit.splat(builder.load(builder.gep(x, [add(place, k)])))
                    for total, vector in zip(row, matrix, strict=True):
                        builder.store(
                            emit.multiply_add(value, vector, builder.load(total)), total
                        )

            emit.repeat(n, multiply)
            slopes = emit.load(slope[0], column, n_vectors)
            for row, totals in zip(rows, sums, strict=True):
                place = add(mul(mul(row, of_residual), width), column)
                before = emit.load(residual[0], place, n_vectors)
                after = []
                for total, more, factor in zip(totals, before, slopes, strict=True):
                    value = builder.fadd(builder.load(total), more)
                    after.append(emit.prelu(value, factor))
                emit.store(out[0], add(mul(row, width), column), after)
            return context.get_dummy_value()

        index = types.int64
        return types.void(
            x, index, index, weights, index, bias, slope, residual, index, out
        ), generate

    return block


def _window_block(side):
    """An intrinsic: a vector of channels of `count` neighbouring pixels from `to` on.

    The first one's window of side x side pixels begins at pixel `start` of x, the next ones' follow
    by `stride`; `across` pixels are in a row of x.
    """

    @intrinsic
    def block(context, x, start, across, stride, weights, bias, slope, column, out, to, count):
        def generate(context, builder, signature, arguments):
            x, start, across, stride, weights, bias, slope, column, out, to, count = _arrays(
                context, builder, signature, arguments
            )
            emit, add, mul = _Emitter(builder), builder.add, builder.mul
            weights, (_, width) = weights
            window = [(y, z) for y in range(side) for z in range(side)]
            places = [add(mul(emit.number(t), width), column) for t in range(len(window))]
            kernel = [emit.load(weights, place)[0] for place in places]
            offsets = [
                add(mul(add(mul(emit.number(y), across), emit.number(z)), width), column)
                for y, z in window
            ]
            (first,), (factor,) = emit.load(bias[0], column), emit.load(slope[0], column)

            def pixel(p):
                begin = mul(add(start, mul(p, stride)), width)
                total = first
                for offset, weight in zip(offsets, kernel, strict=True):
                    (value,) = emit.load(x[0], add(begin, offset))
                    total = emit.multiply_add(value, weight, total)
                emit.store(out[0], add(mul(add(to, p), width), column), [emit.prelu(total, factor)])

            emit.repeat(count, pixel)
            return context.get_dummy_value()

        index = types.int64
        return types.void(
            x, index, index, index, weights, bias, slope, index, out, index, index
        ), generate

    return block


_dense2, _dense1 = _dense_block(2), _dense_block(1)
_window3, _window5 = (_window_block(side) for side in SIDES)


def _loop(function: Callable[..., None]) -> Callable[..., None]:
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    }
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither beside the package nor in the user's folder can the result be kept.
        return numba.njit(**options)(function)


@_loop
def dense(x, n, weights, bias, slope, residual, of_residual, out):
    """prelu(x[:, :n] weights + bias + residual).

    Args:
        x: [rows, >= n]. weights: [n, width]. bias, slope: [width]. out: [rows, width].
        residual, of_residual: [rows, width] and 1, or [1, width] and 0.
    """
    width = weights.shape[1]
    column = 0
    while column + 2 * LANES <= width:
        for i in range(0, len(out), ROWS):
            _dense2(x, i, n, weights, column, bias, slope, residual, of_residual, out)
        column += 2 * LANES
    if column < width:
        for i in range(0, len(out), ROWS):
            _dense1(x, i, n, weights, column, bias, slope, residual, of_residual, out)


@_loop
def depthwise(x, side, stride, weights, bias, slope, out, height, across):
    """prelu of every channel's own convolution.

    Args:
        x: [height, width, channels], with its border. side: of the window, of SIDES.
        weights: [side * side, channels]. bias, slope: [channels]. out: [>= height * across, c].
    """
    wide = x.shape[1]
    for i in range(height):
        for column in range(0, weights.shape[1], LANES):
            if side == 3:
                _window3(
                    x, i * stride * wide, wide, stride, weights, bias, slope, column, out,
                    i * across, across,
                )  # fmt: skip
            else:
                _window5(
                    x, i * stride * wide, wide, stride, weights, bias, slope, column, out,
                    i * across, across,
                )  # fmt: skip


@_loop
def patches(x, height, width, stride, across, out):
    """The windows of an image [h, w, c] with its border, one a row of out."""
    row = width * x.shape[2]
    flat = x.reshape(-1)
    for p in range(len(out) if across else 0):
        start = ((p // across) * stride * x.shape[1] + (p % across) * stride) * x.shape[2]
        for y in range(height):
            begin = start + y * x.shape[1] * x.shape[2]
            for i in range(row):
                out[p, y * row + i] = flat[begin + i]


@_loop
def halved(x, out):
    """The largest of every 2 x 2 pixels of an image [h, w, c]."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for c in range(out.shape[2]):
                upper = max(x[2 * i, 2 * j, c], x[2 * i, 2 * j + 1, c])
                lower = max(x[2 * i + 1, 2 * j, c], x[2 * i + 1, 2 * j + 1, c])
                out[i, j, c] = max(upper, lower)


@_loop
def resized(x, out):
    """An image [h, w, c] between its pixels, pixel centres at halves."""
    height, width, channels = out.shape
    for i in range(height):
        y = max((i + np.float32(0.5)) * np.float32(len(x) / height) - np.float32(0.5), np.float32(0))
        top = min(int(y), len(x) - 1)
        low, down = min(top + 1, len(x) - 1), np.float32(y - top)
        for j in range(width):
            z = (j + np.float32(0.5)) * np.float32(x.shape[1] / width) - np.float32(0.5)
            z = max(z, np.float32(0))
            left = min(int(z), x.shape[1] - 1)
            right, far = min(left + 1, x.shape[1] - 1), np.float32(z - left)
            a, b = (1 - down) * (1 - far), (1 - down) * far
            c, d = down * (1 - far), down * far
            for k in range(channels):
                out[i, j, k] = (
                    a * x[top, left, k] + b * x[top, right, k] + c * x[low, left, k]
                    + d * x[low, right, k]
                )  # fmt: skip


@_loop
def gated(x, gate, out):
    """Every channel of x [rows, channels] times its gate [channels]."""
    for i in range(len(x)):
        for c in range(len(gate)):
            out[i, c] = x[i, c] * gate[c]


@_loop
def hard_swish(x, out):
    """x relu6(x + 3) / 6."""
    flat, to = x.reshape(-1), out.reshape(-1)
    for i in range(len(flat)):
        value = flat[i]
        six = min(max(value + np.float32(3), np.float32(0)), np.float32(6))
        to[i] = value * six * np.float32(1 / 6)


@_loop
def mean(x, rows, out):
    """The mean of the first rows of x [rows, channels]."""
    out[:] = 0
    for i in range(rows):
        for c in range(len(out)):
            out[c] += x[i, c]
    for c in range(len(out)):
        out[c] /= rows
