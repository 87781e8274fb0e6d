"""Layers inside Numba loops against torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite import binding
from torch import Tensor

from radnerf.kernels.dense import LANES, ROWS, layer, packed

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
    room = -(-n // ROWS) * ROWS
    rows, bias_rows = np.zeros(room, np.int64), np.zeros(room, np.int64)
    rows[:n], bias_rows[:n] = which, of_bias
    biases = np.zeros((len(bias), n_outputs), np.float32)
    biases[:, : bias.shape[1]] = bias
    out = np.full((begin + room + 1, n_outputs // 2), 7, np.uint32)
    words = as_words(x)
    place = (words, 0, words.shape[1], 1)
    if across:
        place = (np.ascontiguousarray(words.T), 0, 1, len(x))
    weights = results = None
    if last is not None:
        weights, results = np.zeros((len(last), n_outputs), np.float32), np.zeros((len(last), room))
        weights[:, : last.shape[1]], results = last, results.astype(np.float32)
    layer(*place, rows, n, packed(matrix), biases, bias_rows, out, begin, weights, results)
    assert (out[:begin] == 7).all() and (out[begin + room :] == 7).all()
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


def test_processors_without_such_products(tmp_path: Path) -> None:
    """The same tests, compiled for what this processor would be without its newest parts."""
    features = binding.get_host_cpu_features()
    if not any(name.startswith("avx512") and has for name, has in features.items()):
        pytest.skip("the other tests already are for such a processor")
    older = {name: has and not name.startswith("avx512") for name, has in features.items()}
    environment = {
        "NUMBA_CPU_FEATURES": ",".join("-+"[has] + name for name, has in older.items()),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-k", "layers or number"]
    done = subprocess.run(
        [*command, __file__], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
