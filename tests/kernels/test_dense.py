"""Layers inside Numba loops against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.kernels.dense import LANES, ROWS, dense, multiplies_pairs, packed

needs_pairs = pytest.mark.skipif(not multiplies_pairs(), reason="no products of bfloat16 here")
DTYPES = [np.float32, pytest.param(np.uint32, marks=needs_pairs)]
# Of an output, a sum of dozens of products, relative to the largest.
LIMIT = {np.float32: 1e-5, np.uint32: 2e-2}


def as_words(rows: Tensor, dtype: type) -> np.ndarray:
    if dtype == np.float32:
        return rows.contiguous().numpy()
    return rows.bfloat16().contiguous().view(torch.int32).numpy().view(np.uint32)


def as_floats(words: np.ndarray) -> Tensor:
    if words.dtype == np.float32:
        return torch.from_numpy(words)
    return torch.from_numpy(words.view(np.int32)).view(torch.bfloat16).float()


def layer(
    x: Tensor,
    matrix: Tensor,
    bias: Tensor,
    which: Tensor,
    dtype: type,
    across: bool = False,
    last: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The layer's outputs of the rows, and the last layer's."""
    n, outputs = len(which), -(-len(matrix) // LANES) * LANES
    room = -(-n // ROWS) * ROWS
    rows, words = np.zeros(room, np.int64), as_words(x, dtype)
    rows[:n] = which
    padded = np.zeros((1, outputs), np.float32)
    padded[0, : len(bias)] = bias
    # A row more: torch views nothing of an empty array.
    out = np.zeros((room + 1, outputs if dtype == np.float32 else outputs // 2), dtype)
    place = (
        (np.ascontiguousarray(words.T), 0, 1, len(x)) if across else (words, 0, words.shape[1], 1)
    )
    weights, results = None, None
    if last is not None:
        weights, results = np.zeros((len(last), outputs), np.float32), np.zeros((len(last), room))
        weights[:, : last.shape[1]], results = last, results.astype(np.float32)
    dense(*place, rows, n, packed(matrix, dtype), padded, out, weights, results)
    found = torch.zeros(0) if results is None else torch.from_numpy(results[:, :n])
    return as_floats(out)[:n, : len(matrix)], found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 7, 256])
@pytest.mark.parametrize("across", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 16), (32, 64), (64, 66), (74, 32), (10, 112)])
def test_layers(dtype: type, n: int, across: bool, inputs: int, outputs: int) -> None:
    x, matrix, bias = torch.randn(n + 3, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    last, which = torch.randn(3, outputs), torch.randperm(n + 3)[:n]
    found, results = layer(x, matrix, bias, which, dtype, across, last)
    expected = torch.relu(x[which] @ matrix.T + bias)
    assert found.shape == expected.shape
    if n:
        assert (found - expected).abs().max() <= LIMIT[dtype] * expected.abs().max()
        expected = last @ expected.T
        assert (results - expected).abs().max() <= LIMIT[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_last_layer_is_not_asked_for(dtype: type) -> None:
    x, matrix, which = torch.randn(5, 8), torch.randn(48, 8), torch.arange(5)
    found, _ = layer(x, matrix, torch.zeros(48), which, dtype)
    expected = torch.relu(x @ matrix.T)
    assert (found - expected).abs().max() <= LIMIT[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none(dtype: type) -> None:
    x, matrix = torch.ones(4, 2), torch.ones(16, 2)
    x[1, 0] = torch.nan
    found, results = layer(
        x, matrix, torch.zeros(16), torch.arange(4), dtype, last=torch.ones(1, 16)
    )
    assert torch.isnan(found).all(1).tolist() == [False, True, False, False]
    assert torch.isnan(results[0]).tolist() == [False, True, False, False]


def test_an_odd_number_of_inputs_is_filled_up() -> None:
    matrix = torch.randn(16, 3)
    words = packed(matrix, np.uint32)
    assert words.shape == (2, 16)
    assert torch.equal(as_floats(words[1])[1::2], torch.zeros(16))
    assert torch.equal(as_floats(words[1])[::2], matrix[:, 2].bfloat16().float())
