"""The perceptron against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernels.devices import device_of

from radnerf.kernels import available
from radnerf.kernels.mlp import mlp

BACKENDS = available("mlp")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("frames", [3, 40])
def test_numpy(backend: str, frames: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6))
    first, second = rng.normal(size=(16, 6)), rng.normal(size=(5, 16)) / 4
    bias, frame = rng.normal(size=(frames, 16)), rng.integers(frames, size=50)
    expected = np.maximum(x @ first.T + bias[frame], 0) @ second.T
    device = device_of(backend)
    x, *rest, bias = (
        torch.tensor(v, dtype=torch.float32, device=device) for v in (x, first, second, bias)
    )
    got = mlp(x, rest, backend, bias, torch.tensor(frame, device=device)).cpu()
    error = np.abs(got.numpy() - expected).max() / np.abs(expected).max()
    assert error < (2e-2 if backend == "cpu" else 1e-5)


def test_gradients_by_finite_differences() -> None:
    sizes = [(9, 4), (6, 4), (3, 6), (2, 6)]
    x, first, second, bias = (
        torch.randn(*size, dtype=torch.double, requires_grad=True) for size in sizes
    )
    frame = torch.arange(9) % 2
    assert torch.autograd.gradcheck(
        lambda x, first, second, bias: mlp(x, [first, second], "reference", bias, frame),
        (x, first, second, bias),
    )


def test_a_frames_bias_needs_its_frame() -> None:
    with pytest.raises(ValueError, match="go together"):
        mlp(torch.zeros(2, 3), [torch.zeros(4, 3)], None, torch.zeros(1, 4))
