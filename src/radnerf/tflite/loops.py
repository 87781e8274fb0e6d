"""Loops of small convolution networks, compiled on first use and kept on disk.

Left to itself LLVM re-reads the sums for the few channels that these networks have, so the inner
blocks of convolutions are written out as vectors. One file, because Numba compiles anew only when
the file of a loop itself has changed.

An image is [pixels, channels], channels padded to whole vectors of LANES, pixels to whole ROWS.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import inspect
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
    """An intrinsic: ROWS pixels from i on, n_vectors vectors of outputs from a column on."""

    @intrinsic
    def block(
        context, x, starts, i, pieces, of_piece, n, weights, column, bias, slope, residual,
        of_residual, out,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            x, starts, i, pieces, of_piece, n, weights, column, *rest = _arrays(
                context, builder, signature, arguments
            )
            bias, slope, residual, of_residual, out = rest
            emit, add, mul = _Emitter(builder), builder.add, builder.mul
            (x, _), (weights, (_, width)) = x, weights
            rows = [add(i, emit.number(r)) for r in range(ROWS)]
            places = [builder.load(builder.gep(starts[0], [row])) for row in rows]
            first = emit.load(bias[0], column, n_vectors)
            # In registers, though written as memory: LLVM finds that nobody else looks at it.
            sums = [[cgutils.alloca_once_value(builder, value) for value in first] for _ in rows]
            for row in sums:
                for total, value in zip(row, first, strict=True):
                    builder.store(value, total)

            def multiply(piece, k):
                line = mul(add(mul(piece, n), k), width)
                matrix = emit.load(weights, add(line, column), n_vectors)
                shift = add(mul(piece, of_piece), k)
                for place, row in zip(places, sums, strict=True):
                    value = emit.splat(builder.load(builder.gep(x, [add(place, shift)])))
                    for total, vector in zip(row, matrix, strict=True):
                        new = emit.multiply_add(value, vector, builder.load(total))
                        builder.store(new, total)

            emit.repeat(pieces, lambda piece: emit.repeat(n, lambda k: multiply(piece, k)))
            slopes = emit.load(slope[0], column, n_vectors)
            for row, totals in zip(rows, sums, strict=True):
                place = add(mul(mul(row, of_residual), width), column)
                more = emit.load(residual[0], place, n_vectors)
                done = [
                    emit.prelu(builder.fadd(builder.load(total), term), factor)
                    for total, term, factor in zip(totals, more, slopes, strict=True)
                ]
                emit.store(out[0], add(mul(row, width), column), done)
            return context.get_dummy_value()

        index = types.int64
        return types.void(
            x, starts, index, index, index, index, weights, index, bias, slope, residual, index, out
        ), generate  # fmt: skip

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


@intrinsic
def _blend(context, x, places, weights, out, to, width):
    """out.flat[to : to + width] from four such places of x.flat, weighted."""

    def generate(context, builder, signature, arguments):
        x, places, weights, out, to, width = _arrays(context, builder, signature, arguments)
        emit = _Emitter(builder)
        places = cgutils.unpack_tuple(builder, places)
        factors = [emit.splat(weight) for weight in cgutils.unpack_tuple(builder, weights)]

        def vector(v):
            column = builder.mul(v, emit.number(LANES))
            total = ZERO
            for place, factor in zip(places, factors, strict=True):
                (value,) = emit.load(x[0], builder.add(place, column))
                total = emit.multiply_add(value, factor, total)
            emit.store(out[0], builder.add(to, column), [total])

        emit.repeat(builder.sdiv(width, emit.number(LANES)), vector)
        return context.get_dummy_value()

    return types.void(x, places, weights, out, types.int64, types.int64), generate


_dense2, _dense1 = _dense_block(2), _dense_block(1)
_window3, _window5 = (_window_block(side) for side in SIDES)


def _loop(function: Callable[..., None]) -> Callable[..., None]:
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    }
    function = inspect.unwrap(function)  # without what tests wrap around it to check its shapes
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither beside the package nor in the user's folder can the result be kept.
        return numba.njit(**options)(function)


def _inlined(function: Callable[..., None]) -> Callable[..., None]:
    return numba.njit(inline="always", error_model="numpy")(inspect.unwrap(function))


@_inlined
def _between(x, z, y, out, pixel):
    """A pixel of out is what x shows at column z, row y."""
    height, width, channels = x.shape
    left, top = min(int(z), width - 1), min(int(y), height - 1)
    right, low = min(left + 1, width - 1), min(top + 1, height - 1)
    far, deep = np.float32(z - left), np.float32(y - top)
    near, high = np.float32(1) - far, np.float32(1) - deep
    places = (
        (top * width + left) * channels,
        (top * width + right) * channels,
        (low * width + left) * channels,
        (low * width + right) * channels,
    )
    weights = (high * near, high * far, deep * near, deep * far)
    _blend(x, places, weights, out, pixel * channels, channels)


@_loop
def dense(
    x, starts, pieces, of_piece, n, weights, bias, slope, residual, of_residual, out
):  # fmt: skip
    """prelu(x weights + bias + residual); x' row r is in pieces of n numbers from starts[r] on.

    Args:
        x: flat. starts: [rows]. of_piece: numbers from one piece's beginning to the next one's.
        weights: [pieces * n, width]. bias, slope: [width]. out: [rows, width].
        residual, of_residual: [rows, width] and 1, or [1, width] and 0.
    """
    width = weights.shape[1]
    column = 0
    while column + 2 * LANES <= width:
        for i in range(0, len(out), ROWS):
            _dense2(
                x, starts, i, pieces, of_piece, n, weights, column, bias, slope, residual,
                of_residual, out,
            )  # fmt: skip
        column += 2 * LANES
    if column < width:
        for i in range(0, len(out), ROWS):
            _dense1(
                x, starts, i, pieces, of_piece, n, weights, column, bias, slope, residual,
                of_residual, out,
            )  # fmt: skip


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
    """An image [h, w, c] at another size, pixel centres at halves."""
    height, width, _ = out.shape
    for i in range(height):
        y = (i + np.float32(0.5)) * np.float32(len(x) / height) - np.float32(0.5)
        for j in range(width):
            z = (j + np.float32(0.5)) * np.float32(x.shape[1] / width) - np.float32(0.5)
            _between(x, max(z, np.float32(0)), max(y, np.float32(0)), out, i * width + j)


@_loop
def look(x, matrix, out):
    """An image [h, w, c] where a matrix [>= 2, 4] takes the pixels of out; zero outside of it."""
    height, width, _ = out.shape
    half = np.float32(0.5)
    for i in range(height):
        for j in range(width):
            u, v = j + half, i + half
            z = matrix[0, 0] * u + matrix[0, 1] * v + matrix[0, 3] - half
            y = matrix[1, 0] * u + matrix[1, 1] * v + matrix[1, 3] - half
            if 0 <= z <= x.shape[1] - 1 and 0 <= y <= x.shape[0] - 1:
                _between(x, z, y, out, i * width + j)
            else:
                out[i, j] = 0


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
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        for c in range(len(out)):
            out[c] += x[i, c] + x[i + 1, c] + x[i + 2, c] + x[i + 3, c]
    for i in range(whole, rows):
        for c in range(len(out)):
            out[c] += x[i, c]
    for c in range(len(out)):
        out[c] /= rows
