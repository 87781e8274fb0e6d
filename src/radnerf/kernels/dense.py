"""Layers of small networks inside Numba loops, with all of the processor's vector units.

An array of rows of activations holds either pairs of bfloat16 (uint32, see pairs.py), which
processors with such products multiply twice as fast, or plain float32. Which of the two it is, is
its dtype, and decides what code a loop gets. A word is one element of such an array: two
activations, or one.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, overload
from torch import Tensor

from radnerf.kernels.numba_runtime import inlined, serial_loop
from radnerf.kernels.pairs import pair

LANES = 16  # outputs in a vector; rows of weights are padded to whole ones
ROWS = 4  # computed at once: their number of rows is rounded up to this
F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FLOATS, WORDS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


PAIRS = ir.VectorType(_BFloat(), 2 * LANES)


@cache
def can(feature: str) -> bool:
    """Whether loops may use something of the processor, by LLVM's name."""
    # NUMBA_CPU_FEATURES, where it is set, is what Numba compiles for.
    chosen = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    return f"+{feature}" in chosen.split(",")


def multiplies_pairs() -> bool:
    """Whether this processor multiplies pairs of bfloat16."""
    return can("avx512bf16")


# Whether there are 32 registers of whole vectors; else there are 16 of halves.
WIDE = can("avx512f")


def packed(matrix: Float[Tensor, "o i"], dtype: type) -> np.ndarray:
    """A matrix as dense() wants it: [words of the input, outputs padded to whole vectors].

    Args:
        dtype: np.uint32 for pairs of bfloat16, else np.float32.
    """
    padded = torch.zeros(-(-len(matrix) // LANES) * LANES, matrix.shape[1] + matrix.shape[1] % 2)
    padded[: len(matrix), : matrix.shape[1]] = matrix
    if dtype == np.float32:
        return padded.T.contiguous().numpy()
    halves = padded.bfloat16().view(len(padded), -1, 2).transpose(0, 1).contiguous()
    return halves.view(torch.int32)[..., 0].numpy().view(np.uint32)


def _splat(builder, value):
    """A vector of one value."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(WORDS, [0] * LANES))


def _called(builder, name, result, arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def _vector(builder, pointer, offset, kind):
    """Pointer to a vector that begins so many elements further."""
    return builder.bitcast(builder.gep(pointer, [offset]), kind.as_pointer())


def _product(builder, total, x, weight):
    """total plus x times weight, x and weight being vectors of words."""
    if x.type == FLOATS:
        return _called(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [x, weight, total])
    x, weight = (builder.bitcast(value, PAIRS) for value in (x, weight))
    return _called(builder, "llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, [total, x, weight])


def _positive(builder, vector):
    """ReLU; NaN stays, for a broken network must show."""
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered("<", vector, zero), zero, vector)


def _store(builder, vectors, pointer, is_pairs):
    """Keep neighbouring vectors of a row, as words."""
    for k in range(0, len(vectors), 2 if is_pairs else 1):
        if not is_pairs:
            words = vectors[k]
        elif k + 1 < len(vectors):
            name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
            words = _called(builder, name, PAIRS, [vectors[k + 1], vectors[k]])
            words = builder.bitcast(words, WORDS)
        else:
            name, half = "llvm.x86.avx512bf16.cvtneps2bf16.512", ir.VectorType(_BFloat(), LANES)
            words = _called(builder, name, half, [vectors[k]])
            words = builder.bitcast(words, ir.VectorType(I32, LANES // 2))
        place = ir.Constant(I64, k * LANES // 2 if is_pairs else k * LANES)
        builder.store(words, _vector(builder, pointer, place, words.type), align=4)


def _row_sums(builder, rows):
    """The sums over each of ROWS vectors, as one vector."""

    def chosen(a, b, lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    def added(a, b):
        return builder.fadd(a, b, flags=["reassoc", "contract"])

    for half in (8, 4):
        lower, upper = list(range(half)), list(range(half, 2 * half))
        rows = [added(chosen(row, row, lower), chosen(row, row, upper)) for row in rows]
    a, b, c, d = rows
    ab, cd = (
        added(chosen(x, y, [0, 1, 4, 5]), chosen(x, y, [2, 3, 6, 7])) for x, y in ((a, b), (c, d))
    )
    return added(chosen(ab, cd, [0, 2, 4, 6]), chosen(ab, cd, [1, 3, 5, 7]))


def _repeated(builder, count, body):
    """Call body, which emits code, for every number below count; at least once."""
    before, inside, after = builder.block, *(builder.append_basic_block() for _ in range(2))
    builder.branch(inside)
    builder.position_at_end(inside)
    i = builder.phi(I64)
    i.add_incoming(ir.Constant(I64, 0), before)
    body(i)
    following = builder.add(i, ir.Constant(I64, 1))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    builder.position_at_end(after)


def _block(n_vectors):
    """An intrinsic that computes ROWS rows of n_vectors vectors of outputs of dense().

    first: of the rows. column: first of the outputs.
    """

    @intrinsic
    def block(
        context, x, start, of_row, of_word, which, first, weights, column, bias, out, last,
        results,
    ):  # fmt: skip
        is_pairs = x.dtype == types.uint32
        word = WORDS if is_pairs else FLOATS
        is_last = not isinstance(last, types.NoneType)

        def generate(context, builder, signature, arguments):
            arrays = {
                i: context.make_array(kind)(context, builder, arguments[i])
                for i, kind in enumerate(signature.args)
                if isinstance(kind, types.Array)
            }
            x, which, weights, bias, out = (arrays[i].data for i in (0, 4, 6, 8, 9))
            _, start, of_row, of_word, _, first, _, column, *_ = arguments
            n_words, n_outputs = cgutils.unpack_tuple(builder, arrays[6].shape)
            _, of_out = cgutils.unpack_tuple(builder, arrays[9].shape)
            add, mul = builder.add, builder.mul

            def number(value):
                return ir.Constant(I64, value)

            def vectors(pointer, place, kind):
                places = [add(place, number(v * LANES)) for v in range(n_vectors)]
                return [
                    builder.load(_vector(builder, pointer, place, kind), align=4)
                    for place in places
                ]

            # Sums stay in registers: LLVM makes them of memory that nobody takes the address of.
            inputs, sums = [], []
            for r in range(ROWS):
                row = builder.load(builder.gep(which, [add(first, number(r))]))
                inputs.append(add(start, mul(row, of_row)))
                for total in vectors(bias, column, FLOATS):
                    sums.append(cgutils.alloca_once_value(builder, total))

            def multiply(k):
                matrix = vectors(weights, add(mul(k, n_outputs), column), word)
                for r in range(ROWS):
                    value = builder.load(builder.gep(x, [add(inputs[r], mul(k, of_word))]))
                    value = _splat(builder, value)
                    for v in range(n_vectors):
                        total = sums[r * n_vectors + v]
                        new = _product(builder, builder.load(total), value, matrix[v])
                        builder.store(new, total)

            _repeated(builder, n_words, multiply)
            rows = [
                [_positive(builder, builder.load(total)) for total in sums[at : at + n_vectors]]
                for at in range(0, len(sums), n_vectors)
            ]
            words = builder.udiv(column, number(2)) if is_pairs else column
            for r in range(ROWS):
                place = add(mul(add(first, number(r)), of_out), words)
                _store(builder, rows[r], builder.gep(out, [place]), is_pairs)

            def reduce(output):
                last, results = arrays[10], arrays[11]
                _, across = cgutils.unpack_tuple(builder, last.shape)
                weights = vectors(last.data, add(mul(output, across), column), FLOATS)
                parts = []
                for row in rows:
                    part = builder.fmul(row[0], weights[0], flags=["contract"])
                    for value, weight in zip(row[1:], weights[1:], strict=True):
                        product = builder.fmul(value, weight, flags=["contract"])
                        part = builder.fadd(part, product, flags=["contract"])
                    parts.append(part)
                new = _row_sums(builder, parts)
                _, across = cgutils.unpack_tuple(builder, results.shape)
                place = add(mul(output, across), first)
                place = _vector(builder, results.data, place, new.type)
                before = builder.load(place, align=4)
                nothing = ir.Constant(new.type, [0.0] * ROWS)
                is_first = builder.icmp_signed("==", column, number(0))
                before = builder.select(is_first, nothing, before)
                builder.store(builder.fadd(before, new), place, align=4)

            if is_last:
                n_results, _ = cgutils.unpack_tuple(builder, arrays[10].shape)
                _repeated(builder, n_results, reduce)
            return context.get_dummy_value()

        index = types.int64
        return types.void(
            x, index, index, index, which, index, weights, index, bias, out, last, results
        ), generate

    return block


_block4, _block2, _block1 = _block(4), _block(2), _block(1)


@serial_loop
def dense(x, start, of_row, of_word, which, n, weights, bias, out, last, results):
    """A layer's ReLU(weights x + bias) of n rows, rounded up to whole ROWS of them.

    Args:
        x, start, of_row, of_word: element (r, k) of the input is x.flat[start + r of_row + k
            of_word], in words.
        which: rows of the input that are asked for; [n, rounded up].
        weights: [words of the input, outputs], see packed().
        bias: [1, outputs].
        out: [>= n, words of the outputs].
        last, results: None, or a last layer [o, outputs] in float32, and where its outputs of the
            rows go, [o, >= n].
    """
    column, n_outputs = 0, weights.shape[1]
    if WIDE:
        while column + 4 * LANES <= n_outputs:
            for i in range(0, n, ROWS):
                _block4(
                    x, start, of_row, of_word, which, i, weights, column, bias, out, last,
                    results,
                )  # fmt: skip
            column += 4 * LANES
        if column + 2 * LANES <= n_outputs:
            for i in range(0, n, ROWS):
                _block2(
                    x, start, of_row, of_word, which, i, weights, column, bias, out, last,
                    results,
                )  # fmt: skip
            column += 2 * LANES
    while column < n_outputs:
        for i in range(0, n, ROWS):
            _block1(
                x, start, of_row, of_word, which, i, weights, column, bias, out, last,
                results,
            )  # fmt: skip
        column += LANES


def put(x, k, column, a, b):
    """Make these activations 2 k and 2 k + 1 of a column."""


def put_row(x, row, begin, values):
    """Make these activations, an even number, those of a row from word `begin` on."""


@inlined
def _put_floats(x, k, column, a, b):
    x[2 * k, column], x[2 * k + 1, column] = a, b


@inlined
def _put_pair(x, k, column, a, b):
    x[k, column] = pair(a, b)


@inlined
def _put_row_of_floats(x, row, begin, values):
    for k in range(len(values)):
        x[row, begin + k] = values[k]


@inlined
def _put_row_of_pairs(x, row, begin, values):
    for k in range(len(values) // 2):
        x[row, begin + k] = pair(values[2 * k], values[2 * k + 1])


@overload(put, inline="always")
def _put(x, k, column, a, b):
    if x.dtype == types.float32:
        return lambda x, k, column, a, b: _put_floats(x, k, column, a, b)
    return lambda x, k, column, a, b: _put_pair(x, k, column, a, b)


@overload(put_row, inline="always")
def _put_row(x, row, begin, values):
    if x.dtype == types.float32:
        return lambda x, row, begin, values: _put_row_of_floats(x, row, begin, values)
    return lambda x, row, begin, values: _put_row_of_pairs(x, row, begin, values)
