"""Layers of small networks inside Numba loops, at the rate of the processor's vector units.

Activations and weights are words: pairs of bfloat16, see pairs.py. Sums have 32 bits. Processors
with AVX512-BF16 multiply pairs at twice the rate of float32; the others unfold them first.

Letters: n rows, K words of an input, O outputs, a whole number of vectors of LANES.

A network's gradient takes three steps a layer: layer_gradient() goes back through its matrix,
paired() puts neighbouring rows together, and add_products() sums over them what the matrix gets.
"""

# Numba infers the types: float32 arrays, int64 offsets.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, UInt32
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic
from torch import Tensor

from radnerf.kernels.numba_runtime import serial_loop
from radnerf.kernels.pairs import HIGH, LOW, SIXTEEN, ZERO, pair

LANES = 16  # outputs in a vector
ROWS = 4  # computed at once: their number is rounded up to a multiple of this
F32, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
FLOATS, WORDS, HALVES = (ir.VectorType(kind, LANES) for kind in (F32, I32, I16))
FUSED = ["contract"]


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
    # As Numba chooses what it compiles for.
    chosen = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return f"+{feature}" in chosen.split(",")


# Whether there are 32 registers of whole vectors; else there are 16 of halves.
WIDE = can("avx512f")


def packed(matrix: Float[Tensor, "o i"]) -> UInt32[np.ndarray, "K O"]:
    """A matrix as layer() wants it: pairs of inputs, and outputs filled up to whole vectors."""
    outputs, inputs = matrix.shape
    words = np.zeros((-(-inputs // 2), -(-outputs // LANES) * LANES), np.uint32)
    _pack(matrix.detach().numpy(), words)
    return words


@serial_loop
def _pack(matrix, words):
    outputs, inputs = matrix.shape
    for k in range(len(words)):
        for o in range(outputs):
            last = matrix[o, 2 * k + 1] if 2 * k + 1 < inputs else ZERO
            words[k, o] = pair(matrix[o, 2 * k], last)


class _Emitter:
    """Code for vectors, at the place of an LLVM builder."""

    def __init__(self, builder):
        self.builder = builder

    def number(self, value):
        return ir.Constant(I64, value)

    def at(self, pointer, place, kind):
        """Pointer to a vector that begins at an element."""
        return self.builder.bitcast(self.builder.gep(pointer, [place]), kind.as_pointer())

    def load(self, pointer, place, count, kind=FLOATS):
        """Neighbouring vectors."""
        places = [self.builder.add(place, self.number(v * LANES)) for v in range(count)]
        return [self.builder.load(self.at(pointer, p, kind), align=2) for p in places]

    def splat(self, value):
        zero = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        first = self.builder.insert_element(zero, value, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, zero, ir.Constant(WORDS, [0] * LANES))

    def call(self, name, result, *arguments):
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)

    def unfolded(self, words):
        """The firsts and the seconds of words of pairs, as floats."""
        builder = self.builder
        first = builder.shl(words, ir.Constant(WORDS, [16] * LANES))
        second = builder.and_(words, ir.Constant(WORDS, [0xFFFF0000] * LANES))
        return [builder.bitcast(half, FLOATS) for half in (first, second)]

    def products(self, totals, words, matrix):
        """Every row's totals plus its word of the input times the vectors of a matrix' row."""
        name = f"llvm.fmuladd.v{LANES}f32"
        if can("avx512bf16"):
            matrix = [self.builder.bitcast(vector, PAIRS) for vector in matrix]
        else:
            matrix = [self.unfolded(vector) for vector in matrix]
        new = []
        for row, word in zip(totals, words, strict=True):
            x = self.splat(word)
            if can("avx512bf16"):
                x, name = self.builder.bitcast(x, PAIRS), "llvm.x86.avx512bf16.dpbf16ps.512"
                new.append(
                    [self.call(name, FLOATS, t, x, w) for t, w in zip(row, matrix, strict=True)]
                )
                continue
            first, second = self.unfolded(x)
            row = [
                self.call(name, FLOATS, first, w[0], t) for t, w in zip(row, matrix, strict=True)
            ]
            new.append(
                [self.call(name, FLOATS, second, w[1], t) for t, w in zip(row, matrix, strict=True)]
            )
        return new

    def rounded(self, vector):
        """Halves of pairs, as 16-bit numbers."""
        if can("avx512bf16"):
            kind = ir.VectorType(_BFloat(), LANES)
            half = self.call("llvm.x86.avx512bf16.cvtneps2bf16.512", kind, vector)
            return self.builder.bitcast(half, HALVES)
        bits = self.builder.bitcast(vector, WORDS)
        bits = self.builder.add(bits, ir.Constant(WORDS, [0x8000] * LANES))
        bits = self.builder.lshr(bits, ir.Constant(WORDS, [16] * LANES))
        return self.builder.trunc(bits, HALVES)

    def halves(self, words, row, column, count):
        """Pointers to the halves of neighbouring vectors of a row of words."""
        builder, (data, (_, across)) = self.builder, words
        data = builder.bitcast(data, I16.as_pointer())
        place = builder.add(builder.mul(builder.mul(row, across), self.number(2)), column)
        places = [builder.add(place, self.number(v * LANES)) for v in range(count)]
        return [self.at(data, place, HALVES) for place in places]

    def row_sums(self, rows):
        """The sums over each of ROWS vectors, as one vector."""

        def chosen(a, b, *lanes):
            mask = ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
            return self.builder.shuffle_vector(a, b, mask)

        def added(a, b):
            return self.builder.fadd(a, b)

        for half in (8, 4):
            lower, upper = range(half), range(half, 2 * half)
            rows = [added(chosen(row, row, *lower), chosen(row, row, *upper)) for row in rows]
        a, b, c, d = rows
        ab = added(chosen(a, b, 0, 1, 4, 5), chosen(a, b, 2, 3, 6, 7))
        cd = added(chosen(c, d, 0, 1, 4, 5), chosen(c, d, 2, 3, 6, 7))
        return added(chosen(ab, cd, 0, 2, 4, 6), chosen(ab, cd, 1, 3, 5, 7))

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

    def multiplied(self, totals, x, places, of_word, weights, width, column, n_words):
        """Totals [rows][vectors] plus the products of all words, from column on.

        places: of the rows in x. width: of a row of weights.
        """
        builder, count = self.builder, len(totals[0])
        # In registers, though written as memory: LLVM finds that nobody else looks at it.
        sums = [[cgutils.alloca_once_value(builder, total) for total in row] for row in totals]

        def multiply(k):
            shift = builder.mul(k, of_word)
            words = [builder.load(builder.gep(x, [builder.add(place, shift)])) for place in places]
            row = builder.add(builder.mul(k, width), column)
            matrix = self.load(weights, row, count, WORDS)
            before = [[builder.load(total) for total in row] for row in sums]
            after = self.products(before, words, matrix)
            for old, new in zip(sums, after, strict=True):
                for total, value in zip(old, new, strict=True):
                    builder.store(value, total)

        self.repeat(n_words, multiply)
        return [[builder.load(total) for total in row] for row in sums]


def _arrays(context, builder, signature, arguments):
    """Data and second length of every array among the arguments, and the other arguments."""
    found = []
    for kind, argument in zip(signature.args, arguments, strict=True):
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, argument)
            argument = array.data, cgutils.unpack_tuple(builder, array.shape)
        found.append(argument)
    return found


def _layer_block(n_vectors):
    """An intrinsic for ROWS rows, from row i on, and n_vectors vectors from a column on."""

    @intrinsic
    def block(
        context, x, start, of_row, of_word, which, i, weights, column, bias, of_bias, out, begin,
        last, results,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            (
                x,
                start,
                of_row,
                of_word,
                which,
                i,
                weights,
                column,
                bias,
                of_bias,
                out,
                begin,
                *rest,
            ) = _arrays(context, builder, signature, arguments)
            emit, add, mul = _Emitter(builder), builder.add, builder.mul
            weights, (n_words, width) = weights
            places, totals = [], []
            for r in range(ROWS):
                place = add(i, emit.number(r))
                row = builder.load(builder.gep(which[0], [place]))
                places.append(add(start, mul(row, of_row)))
                row = builder.load(builder.gep(of_bias[0], [place]))
                totals.append(emit.load(bias[0], add(mul(row, width), column), n_vectors))
            totals = emit.multiplied(totals, x[0], places, of_word, weights, width, column, n_words)
            zero = ir.Constant(FLOATS, [0.0] * LANES)
            for r, row in enumerate(totals):
                # What is no number passes: a broken network must show.
                row[:] = [builder.select(builder.fcmp_ordered("<", t, zero), zero, t) for t in row]
                halves = emit.halves(out, add(add(begin, i), emit.number(r)), column, n_vectors)
                for to, total in zip(halves, row, strict=True):
                    builder.store(emit.rounded(total), to, align=2)
            if isinstance(signature.args[-1], types.Array):
                (last, (n_results, _)), (results, (_, room)) = rest

                def reduce(output):
                    matrix = emit.load(last, add(mul(output, width), column), n_vectors)
                    parts = []
                    for row in totals:
                        part = builder.fmul(row[0], matrix[0], flags=FUSED)
                        for total, weight in zip(row[1:], matrix[1:], strict=True):
                            product = builder.fmul(total, weight, flags=FUSED)
                            part = builder.fadd(part, product, flags=FUSED)
                        parts.append(part)
                    new = emit.row_sums(parts)
                    to = emit.at(results, add(mul(output, room), i), new.type)
                    is_first = builder.icmp_signed("==", column, emit.number(0))
                    zero = ir.Constant(new.type, [0.0] * ROWS)
                    before = builder.select(is_first, zero, builder.load(to, align=4))
                    builder.store(builder.fadd(before, new), to, align=4)

                emit.repeat(n_results, reduce)
            return context.get_dummy_value()

        index = types.int64
        return types.void(
            x, index, index, index, which, index, weights, index, bias, of_bias, out, index, last,
            results,
        ), generate  # fmt: skip

    return block


_layer4, _layer2, _layer1 = _layer_block(4), _layer_block(2), _layer_block(1)


@serial_loop
def layer(
    x, start, of_row, of_word, which, n, weights, bias, of_bias, out, begin, last, results
):  # fmt: skip
    """A layer's ReLU(weights x + bias) of n rows, rounded up to a multiple of ROWS.

    Args:
        x, start, of_row, of_word: word k of row r is x.flat[start + r of_row + k of_word].
        which: rows of the input that are asked for; [n, rounded up].
        weights: [K, O], see packed().
        bias, of_bias: [b, O], and the row of it for each of the n rows.
        out, begin: [rows, O / 2]: gets words of the outputs from row `begin` on.
        last, results: None, or a last layer [o, O] in float32, and where its outputs of the rows
            go, [o, >= n rounded up].
    """
    column, width = 0, weights.shape[1]
    if WIDE:
        while column + 4 * LANES <= width:
            for i in range(0, n, ROWS):
                _layer4(
                    x, start, of_row, of_word, which, i, weights, column, bias, of_bias, out,
                    begin, last, results,
                )  # fmt: skip
            column += 4 * LANES
        if column + 2 * LANES <= width:
            for i in range(0, n, ROWS):
                _layer2(
                    x, start, of_row, of_word, which, i, weights, column, bias, of_bias, out,
                    begin, last, results,
                )  # fmt: skip
            column += 2 * LANES
    while column < width:
        for i in range(0, n, ROWS):
            _layer1(
                x, start, of_row, of_word, which, i, weights, column, bias, of_bias, out, begin,
                last, results,
            )  # fmt: skip
        column += LANES


def _gradient_block(n_vectors):
    @intrinsic
    def block(
        context, x, start, i, weights, column, active, begin, out, place, terms, of_term
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            (x, (_, of_row)), start, i, (weights, (n_words, width)), column, *rest = _arrays(
                context, builder, signature, arguments
            )
            active, begin, out, place, terms, of_term = rest
            emit, add = _Emitter(builder), builder.add
            zero, none = ir.Constant(FLOATS, [0.0] * LANES), ir.Constant(HALVES, [0] * LANES)
            rows = [add(i, emit.number(r)) for r in range(ROWS)]
            places = [add(start, builder.mul(row, of_row)) for row in rows]
            totals = [[zero] * n_vectors for _ in rows]
            one = emit.number(1)
            totals = emit.multiplied(totals, x, places, one, weights, width, column, n_words)
            for row, total in zip(rows, totals, strict=True):
                if isinstance(signature.args[5], types.Array):
                    passed = emit.halves(active, add(begin, row), column, n_vectors)
                    for v, halves in enumerate(passed):
                        # Activations are not negative: as numbers, those that passed are above 0.
                        is_on = builder.icmp_signed(">", builder.load(halves, align=2), none)
                        total[v] = builder.select(is_on, total[v], zero)
                halves = emit.halves(out, add(place, row), column, n_vectors)
                for to, value in zip(halves, total, strict=True):
                    builder.store(emit.rounded(value), to, align=2)
                if isinstance(signature.args[9], types.Array):
                    which = builder.load(builder.gep(of_term[0], [row]))
                    begins = add(builder.mul(which, width), column)
                    for v, value in enumerate(total):
                        to = emit.at(terms[0], add(begins, emit.number(v * LANES)), FLOATS)
                        builder.store(builder.fadd(builder.load(to, align=4), value), to, align=4)
            return context.get_dummy_value()

        index = types.int64
        return types.void(
            x, index, index, weights, index, active, index, out, index, terms, of_term
        ), generate

    return block


def _sums_block(n_vectors):
    @intrinsic
    def block(context, x, start, of_row, of_word, i, n_words, y, column, out):
        def generate(context, builder, signature, arguments):
            (x, _), start, of_row, of_word, i, n_words, (y, (_, width)), column, (out, _) = _arrays(
                context, builder, signature, arguments
            )
            emit, add, mul = _Emitter(builder), builder.add, builder.mul
            rows = [add(i, emit.number(r)) for r in range(ROWS)]
            places = [add(start, mul(row, of_row)) for row in rows]
            to = [add(mul(row, width), column) for row in rows]
            totals = [emit.load(out, place, n_vectors) for place in to]
            totals = emit.multiplied(totals, x, places, of_word, y, width, column, n_words)
            for place, total in zip(to, totals, strict=True):
                for v, value in enumerate(total):
                    pointer = emit.at(out, add(place, emit.number(v * LANES)), FLOATS)
                    builder.store(value, pointer, align=4)
            return context.get_dummy_value()

        index = types.int64
        return types.void(x, index, index, index, index, index, y, index, out), generate

    return block


_gradient4, _gradient1 = _gradient_block(4), _gradient_block(1)
_sums4, _sums1 = _sums_block(4), _sums_block(1)


@serial_loop
def layer_gradient(x, start, n, weights, active, begin, out, place, terms, of_term):
    """Gradients of n inputs of a layer, rounded up to a multiple of ROWS, from its outputs': x.

    Args:
        x, start: word k of row r is x.flat[start + r x.shape[1] + k].
        weights: [K, O]: packed() from the transposed matrix.
        active, begin: activations of the inputs [rows, O / 2], and where their rows begin: the
            gradients of those that ReLU held back are 0. Or None.
        out, place: [rows, O / 2]: gets words of the gradients from row `place` on.
        terms, of_term: [t, O], to whose rows of_term [n rounded up] the gradients are added. Or
            None.
    """
    column, width = 0, weights.shape[1]
    if WIDE:
        while column + 4 * LANES <= width:
            for i in range(0, n, ROWS):
                _gradient4(x, start, i, weights, column, active, begin, out, place, terms, of_term)
            column += 4 * LANES
    while column < width:
        for i in range(0, n, ROWS):
            _gradient1(x, start, i, weights, column, active, begin, out, place, terms, of_term)
        column += LANES


@serial_loop
def paired(x, begin, n, out):
    """Rows two by two: out [n / 2, 2 K] has a column's two numbers in a word, evens first.

    x [rows, K]: words of rows begin .. begin + n, an even number.
    """
    half = out.shape[1] // 2
    for k in range(n // 2):
        one, two = x[begin + 2 * k], x[begin + 2 * k + 1]
        for j in range(half):
            out[k, j] = (one[j] & LOW) | (two[j] << SIXTEEN)
        for j in range(half):
            out[k, half + j] = (one[j] >> SIXTEEN) | (two[j] & HIGH)


@serial_loop
def add_products(x, start, of_row, of_word, n, n_words, y, out):
    """Add to out [n, O], n a multiple of ROWS, the products of x with y [n_words, O].

    Word k of row r of x is x.flat[start + r of_row + k of_word].
    """
    column, width = 0, y.shape[1] if n_words else 0
    if WIDE:
        while column + 4 * LANES <= width:
            for i in range(0, n, ROWS):
                _sums4(x, start, of_row, of_word, i, n_words, y, column, out)
            column += 4 * LANES
    while column < width:
        for i in range(0, n, ROWS):
            _sums1(x, start, of_row, of_word, i, n_words, y, column, out)
        column += LANES
