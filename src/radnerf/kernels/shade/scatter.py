"""Gradients of grid tables, a level at a time."""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from radnerf.kernels.lookup import fraction_of
from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import ONE, ZERO, corners2, corners3, first_of, second_of

CHUNK = 256  # rows at a time


def _adder(width):
    """An intrinsic that adds weight times its first `width` numbers from array[index] on."""

    @intrinsic
    def add(context, array, index, weight, a, b, c, d):
        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(ir.FloatType(), width)

            def filled(numbers):
                value = ir.Constant(vector, ir.Undefined)
                for k, number in enumerate(numbers):
                    place = ir.Constant(ir.IntType(32), k)
                    value = builder.insert_element(value, number, place)
                return value

            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            where = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
            product = builder.fmul(
                filled(arguments[3 : 3 + width]), filled(width * [arguments[2]]), flags=["contract"]
            )
            total = builder.fadd(builder.load(where, align=4), product, flags=["contract"])
            builder.store(total, where, align=4)

        return types.void(array, types.int64, *(types.float32,) * 5), generate

    return add


_add_two, _add_four = _adder(2), _adder(4)


@inlined
def _scatter(out, row, next_row, weight, fraction, u, v):
    """Add to two neighbours along the first axis, which mostly are neighbours in the table."""
    rest = ONE - fraction
    if next_row == row + np.uint32(1):
        _add_four(out, 2 * np.int64(row), weight, rest * u, rest * v, fraction * u, fraction * v)
    else:
        _add_two(out, 2 * np.int64(row), weight, rest * u, rest * v, u, v)
        _add_two(out, 2 * np.int64(next_row), weight, fraction * u, fraction * v, u, v)


@inlined
def clear(grid, level, out):
    """Zeros, which are then in this core's cache."""
    first, end = grid.firsts[level] - level, len(out)
    if level + 1 < len(grid.firsts):
        end = grid.firsts[level + 1] - level - 1
    out[first:end] = ZERO


@serial_loop
def scatter_level2(begin, end, place, upstream, grid, level, out):
    """A level's part of a table's gradient [entries, 2], from rows begin .. end.

    place [2, R]; upstream [R]: pairs, gradients of the level's features.
    """
    clear(grid, level, out)
    scale, mask = grid.scales[level], grid.masks[level]
    base = np.uint32(grid.firsts[level] - level)  # without the copies of first rows
    a, b = grid.strides[level, 0], grid.strides[level, 1]
    out = out.reshape(-1)
    here, rows = np.empty((2, CHUNK), np.float32), np.empty((4, CHUNK), np.uint32)
    for start in range(begin, end, CHUNK):
        n, gradient = min(end - start, CHUNK), upstream[start:]
        here[:, :n] = place[:, start : start + n]
        corners2(here, n, scale, base, mask, a, b, grid.hashed[level], rows)
        for i in range(n):
            f, g = fraction_of(here, 0, i, scale), fraction_of(here, 1, i, scale)
            u, v = first_of(gradient[i]), second_of(gradient[i])
            _scatter(out, rows[0, i], rows[1, i], ONE - g, f, u, v)
            _scatter(out, rows[2, i], rows[3, i], g, f, u, v)


@serial_loop
def scatter_level3(begin, end, place, upstream, grid, level, out):
    """As scatter_level2(), in three dimensions."""
    clear(grid, level, out)
    scale, mask = grid.scales[level], grid.masks[level]
    base = np.uint32(grid.firsts[level] - level)
    a, b, c = grid.strides[level, 0], grid.strides[level, 1], grid.strides[level, 2]
    out = out.reshape(-1)
    here, rows = np.empty((3, CHUNK), np.float32), np.empty((8, CHUNK), np.uint32)
    fractions = np.empty((5, CHUNK), np.float32)
    for start in range(begin, end, CHUNK):
        n, gradient = min(end - start, CHUNK), upstream[start:]
        here[:, :n] = place[:, start : start + n]
        corners3(here, n, scale, base, mask, a, b, c, grid.hashed[level], rows)
        for i in range(n):
            g, h = fraction_of(here, 1, i, scale), fraction_of(here, 2, i, scale)
            fractions[0, i], fractions[1, i] = (ONE - g) * (ONE - h), g * (ONE - h)
            fractions[2, i], fractions[3, i] = (ONE - g) * h, g * h
            fractions[4, i] = fraction_of(here, 0, i, scale)
        for i in range(n):
            u, v, f = first_of(gradient[i]), second_of(gradient[i]), fractions[4, i]
            for k in range(4):
                _scatter(out, rows[2 * k, i], rows[2 * k + 1, i], fractions[k, i], f, u, v)
