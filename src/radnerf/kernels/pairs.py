"""Pairs of bfloat16, and what loops on them are made of.

A pair is the uint32 that holds two neighbouring bfloat16: the low half is the first. Grid tables
and the inputs of matrix products are kept that way, which halves the memory that a lookup touches.
Where a loop multiplies pairs, weights have their even columns before their odd ones, so that it
becomes vector code.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from radnerf.kernels.numba_runtime import inlined

LOW, HIGH = np.uint32(0xFFFF), np.uint32(0xFFFF0000)
HALF = np.uint32(0x8000)  # rounds to the nearest when the lower half is cut off
SIXTEEN = np.uint32(16)
ROUNDING = np.float32(0.5)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
LARGEST = np.float32(15)  # logarithm of a density, see fields/head.py
E2, E3, E4, E5, E6 = (np.float32(1 / math.factorial(k)) for k in range(2, 7))


@intrinsic
def as_float(context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def as_bits(context, value):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@inlined
def first_of(pair):
    return as_float(pair << SIXTEEN)


@inlined
def second_of(pair):
    return as_float(pair & HIGH)


@inlined
def pair(first, second):
    return ((as_bits(first) + HALF) >> SIXTEEN) | ((as_bits(second) + HALF) & HIGH)


@inlined
def passes(activation):
    """Mask of the halves of a pair that the ReLU, which gave this activation, let through."""
    first = LOW if activation & np.uint32(0x7FFF) else np.uint32(0)
    second = HIGH if activation & np.uint32(0x7FFF0000) else np.uint32(0)
    return first | second


@inlined
def unit(x: Any) -> Any:
    """Into [0, 1]; NaN becomes 0."""
    x = x if x > ZERO else ZERO
    return x if x < ONE else ONE


@inlined
def exp(x: Any) -> Any:
    """To 2e-7 of itself, between exp(-87) and exp(87); loops with it become vector code."""
    x = min(max(x, np.float32(-87)), np.float32(87)) * LOG2_E
    whole = math.floor(x + np.float32(0.5))
    x = (x - whole) * LN_2
    series = E6
    for factor in (E5, E4, E3, E2, ONE, ONE):
        series = series * x + factor
    return series * as_float(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23))


@inlined
def sigmoid(x: Any) -> Any:
    return ONE / (ONE + exp(-x))


@inlined
def tanh(x):
    return ONE - TWO / (ONE + exp(TWO * x))


@inlined
def sum2(a, b, hashed):
    return np.uint32(a ^ b) if hashed else np.uint32(a + b)


@inlined
def sum3(a, b, c, hashed):
    return np.uint32(a ^ b ^ c) if hashed else np.uint32(a + b + c)


@inlined
def corners2(place, n, scale, first, mask, stride0, stride1, hashed, rows):
    """Table rows of the four corners around n points of place [2, n], into rows [4, n]."""
    for i in range(n):
        a = np.uint32(np.int32(place[0, i] * scale + ROUNDING)) * stride0
        b = np.uint32(np.int32(place[1, i] * scale + ROUNDING)) * stride1
        c, d = np.uint32(a + stride0), np.uint32(b + stride1)
        rows[0, i] = first + np.uint32(sum2(a, b, hashed) & mask)
        rows[1, i] = first + np.uint32(sum2(c, b, hashed) & mask)
        rows[2, i] = first + np.uint32(sum2(a, d, hashed) & mask)
        rows[3, i] = first + np.uint32(sum2(c, d, hashed) & mask)


@inlined
def corners3(place, n, scale, first, mask, stride0, stride1, stride2, hashed, rows):
    """Table rows of the eight corners around n points of place [3, n], into rows [8, n]."""
    for i in range(n):
        a = np.uint32(np.int32(place[0, i] * scale + ROUNDING)) * stride0
        b = np.uint32(np.int32(place[1, i] * scale + ROUNDING)) * stride1
        c = np.uint32(np.int32(place[2, i] * scale + ROUNDING)) * stride2
        d, e, f = np.uint32(a + stride0), np.uint32(b + stride1), np.uint32(c + stride2)
        rows[0, i] = first + np.uint32(sum3(a, b, c, hashed) & mask)
        rows[1, i] = first + np.uint32(sum3(d, b, c, hashed) & mask)
        rows[2, i] = first + np.uint32(sum3(a, e, c, hashed) & mask)
        rows[3, i] = first + np.uint32(sum3(d, e, c, hashed) & mask)
        rows[4, i] = first + np.uint32(sum3(a, b, f, hashed) & mask)
        rows[5, i] = first + np.uint32(sum3(d, b, f, hashed) & mask)
        rows[6, i] = first + np.uint32(sum3(a, e, f, hashed) & mask)
        rows[7, i] = first + np.uint32(sum3(d, e, f, hashed) & mask)
