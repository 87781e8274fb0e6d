"""Layers inside Numba loops against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kernels.older_processor import passes_on_an_older_processor
from torch import Tensor

from radnerf.kernels.dense import LANES, ROWS, add_products, layer, layer_gradient, packed, paired

LIMIT = 2e-2  # of an output, a sum of dozens of products, relative to the largest


def as_words(rows: Tensor) -> np.ndarray:
    return rows.bfloat16().contiguous().view(torch.int32).numpy().view(np.uint32)


def as_floats(words: np.ndarray) -> Tensor:
    return torch.from_numpy(words.view(np.int32)).view(torch.bfloat16).float()


def outputs_of(
    x: Tensor,
    matrix: Tensor,
    bias: Tensor,
    of_bias: Tensor,
    which: Tensor,
    last: Tensor | None = None,
    across: bool = False,
    begin: int = 0,
) -> tuple[Tensor, Tensor]:
    """A layer's outputs of the rows, and the last layer's."""
    n, n_outputs = len(which), -(-len(matrix) // LANES) * LANES
    padded = -(-n // ROWS) * ROWS
    rows, bias_rows = np.zeros(padded, np.int64), np.zeros(padded, np.int64)
    rows[:n], bias_rows[:n] = which, of_bias
    biases = np.zeros((len(bias), n_outputs), np.float32)
    biases[:, : bias.shape[1]] = bias
    out = np.full((begin + padded + 1, n_outputs // 2), 7, np.uint32)
    words = as_words(x)
    place = (words, 0, words.shape[1], 1)
    if across:
        place = (np.ascontiguousarray(words.T), 0, 1, len(x))
    weights = results = None
    if last is not None:
        weights = np.zeros((len(last), n_outputs), np.float32)
        results = np.zeros((len(last), padded))
        weights[:, : last.shape[1]], results = last, results.astype(np.float32)
    layer(*place, rows, n, packed(matrix), biases, bias_rows, out, begin, weights, results)
    assert (out[:begin] == 7).all() and (out[begin + padded :] == 7).all()
    found = torch.zeros(0) if results is None else torch.from_numpy(results[:, :n])
    return as_floats(out)[begin : begin + n, : len(matrix)], found


@pytest.mark.parametrize("n", [0, 1, 7, 256])
@pytest.mark.parametrize("across", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 16), (32, 64), (64, 66), (74, 32), (10, 112)])
def test_layers(n: int, across: bool, inputs: int, outputs: int) -> None:
    x, matrix, bias = (
        torch.randn(n + 3, inputs),
        torch.randn(outputs, inputs),
        torch.randn(5, outputs),
    )
    last, which, of_bias = (
        torch.randn(3, outputs),
        torch.randperm(n + 3)[:n],
        torch.randint(5, (n,)),
    )
    found, results = outputs_of(x, matrix, bias, of_bias, which, last, across, begin=n % 5)
    expected = torch.relu(x[which] @ matrix.T + bias[of_bias])
    assert found.shape == expected.shape
    if n:
        assert (found - expected).abs().max() <= LIMIT * expected.abs().max()
        expected = last @ expected.T
        assert (results - expected).abs().max() <= LIMIT * expected.abs().max()


def test_a_last_layer_is_not_asked_for() -> None:
    x, matrix, zeros = torch.randn(5, 8), torch.randn(48, 8), torch.zeros(5).long()
    found, _ = outputs_of(x, matrix, torch.zeros(1, 48), zeros, torch.arange(5))
    expected = torch.relu(x @ matrix.T)
    assert (found - expected).abs().max() <= LIMIT * expected.abs().max()


def test_what_is_no_number_stays_none() -> None:
    x, zeros = torch.ones(4, 2), torch.zeros(4).long()
    x[1, 0] = torch.nan
    found, results = outputs_of(
        x, torch.ones(16, 2), torch.zeros(1, 16), zeros, torch.arange(4), torch.ones(1, 16)
    )
    assert torch.isnan(found).all(1).tolist() == [False, True, False, False]
    assert torch.isnan(results[0]).tolist() == [False, True, False, False]


def test_an_odd_number_of_inputs_is_filled_up() -> None:
    matrix = torch.randn(16, 3)
    words = packed(matrix)
    assert words.shape == (2, 16)
    assert torch.equal(as_floats(words[1])[1::2], torch.zeros(16))
    assert torch.equal(as_floats(words[1])[::2], matrix[:, 2].bfloat16().float())


@pytest.mark.parametrize("n", [0, 1, 7, 256])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (16, 64), (66, 112)])
def test_slopes_of_layers(n: int, masked: bool, inputs: int, outputs: int) -> None:
    """Back through a matrix [outputs, inputs], to the inputs that ReLU let pass."""
    padded, width = -(-n // ROWS) * ROWS, -(-inputs // LANES) * LANES
    upstream, matrix = torch.randn(padded + 3, outputs), torch.randn(outputs, inputs)
    upstream[n + 3 :] = 0
    hidden = torch.relu(torch.randn(padded + 5, width))
    out = np.full((padded + 2, width // 2), 7, np.uint32)
    active = as_words(hidden) if masked else None
    terms, of_term = np.ones((3, width), np.float32), np.zeros(padded, np.int64)
    of_term[:n] = torch.arange(n) % 3
    place = as_words(upstream), 3 * outputs // 2
    if masked:
        layer_gradient(*place, n, packed(matrix.T), active, 4, out, 1, terms, of_term)
    else:
        layer_gradient(*place, n, packed(matrix.T), active, 4, out, 1, None, None)
    assert (out[0] == 7).all() and (out[padded + 1 :] == 7).all()
    expected = upstream[3:][:n] @ matrix
    if masked:
        expected = torch.where(hidden[4:][:n, :inputs] > 0, expected, 0)
    found = as_floats(out)[1 : n + 1, :inputs]
    assert n == 0 or (found - expected).abs().max() <= LIMIT * expected.abs().max()
    if masked:
        sums = torch.ones(3, inputs).index_add(0, torch.arange(n) % 3, expected)
        assert (torch.from_numpy(terms[:, :inputs]) - sums).abs().max() <= LIMIT * sums.abs().max()


@pytest.mark.parametrize("pairs", [0, 1, 4, 128])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (16, 64), (32, 112)])
def test_products_of_layers(pairs: int, inputs: int, outputs: int) -> None:
    """What a matrix gets from the gradients of its outputs and its inputs, added up over rows."""
    n = 2 * pairs
    x, upstream = torch.randn(n + 2, inputs), torch.randn(n + 2, outputs)
    one, two = np.zeros((pairs, inputs), np.uint32), np.zeros((pairs, outputs), np.uint32)
    paired(as_words(x), 1, n, one)
    paired(as_words(upstream), 2, n, two)
    before = torch.randn(inputs, outputs)
    out = before.numpy().copy()
    add_products(one, 0, 1, inputs, inputs, pairs, two, out)
    if pairs == 0:
        assert np.array_equal(out, before)
        return
    expected = x[1 : n + 1].T @ upstream[2 : n + 2]

    def evens_first(width: int) -> Tensor:
        return torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])

    expected = before + expected[evens_first(inputs)][:, evens_first(outputs)]
    assert np.abs(out - expected.numpy()).max() <= LIMIT * expected.abs().max()


def test_an_older_processor(tmp_path: Path) -> None:
    passes_on_an_older_processor(__file__, "layers or number", tmp_path)
