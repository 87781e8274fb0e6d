"""Compositing against the sum written out in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from kernels.devices import device_of
from torch import Tensor

from radnerf.kernels import available
from radnerf.kernels.composite import composite
from radnerf.types import Samples, to_device

BACKENDS = available("composite")
COUNTS = [3, 0, 1, 16, 7]


def some_samples(dtype: torch.dtype = torch.float32) -> Samples:
    counts = torch.tensor(COUNTS)
    t = torch.cat([torch.linspace(1, 2, c, dtype=dtype) for c in COUNTS])
    return Samples(
        t=t,
        dt=torch.rand(len(t)).to(dtype) * 0.1 + 0.05,
        ray=torch.repeat_interleave(torch.arange(len(COUNTS)), counts),
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]),
        cell=torch.zeros(len(t), dtype=torch.long),
    )


def brute_force(
    density: Tensor, values: Tensor, samples: Samples, stop: float
) -> tuple[list[list[float]], list[float]]:
    """Rows of values, alpha, depth; and the samples' weights."""
    rows, weights = [], [0.0] * len(density)
    for ray in range(len(COUNTS)):
        light, row = 1.0, [0.0] * (values.shape[1] + 2)
        for i in range(int(samples.offsets[ray]), int(samples.offsets[ray + 1])):
            if light < stop:
                break
            opacity = 1 - math.exp(-density[i].item() * samples.dt[i].item())
            parts = [*values[i].tolist(), 1.0, samples.t[i].item()]
            row = [total + light * opacity * part for total, part in zip(row, parts, strict=True)]
            weights[i] = light * opacity
            light *= 1 - opacity
        rows.append(row)
    return rows, weights


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stop", [1e-4, 0.3])
def test_sum_written_out(backend: str, stop: float) -> None:
    samples = some_samples()
    density, values = torch.rand(len(samples.t)) * 20, torch.randn(len(samples.t), 3)
    expected, of_samples = map(torch.tensor, brute_force(density, values, samples, stop))
    device = device_of(backend)
    inputs = density.to(device), values.to(device), to_device(samples, device)
    seen, alpha, depth, weights = composite(*inputs, stop, backend)
    got = torch.cat([seen, alpha[:, None], depth[:, None]], 1).cpu()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.cpu(), of_samples, atol=1e-6, rtol=1e-5)
    assert alpha[1] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_behind_an_opaque_sample_has_no_gradient(backend: str) -> None:
    samples = to_device(some_samples(), device_of(backend))
    density = torch.zeros_like(samples.t)
    density[samples.offsets[3] + 2] = 1e4
    density.requires_grad_()
    values = torch.randn(len(density), 2, device=density.device, requires_grad=True)
    seen, _, _, weights = composite(density, values, samples, backend=backend)
    (seen.sum() + weights.square().sum()).backward()
    assert values.grad is not None and density.grad is not None
    behind = slice(int(samples.offsets[3]) + 3, int(samples.offsets[4]))
    assert (values.grad[behind] == 0).all() and (density.grad[behind] == 0).all()
    assert values.grad[samples.offsets[3] + 2].tolist() == [1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_are_what_each_sample_adds(backend: str) -> None:
    samples = some_samples()
    m = len(samples.t)
    device = device_of(backend)
    density, each = 20 * torch.rand(m).to(device), torch.eye(m, device=device)
    values, _, _, weights = composite(density, each, to_device(samples, device), 0.0, backend)
    assert torch.allclose(values.sum(0), weights, atol=1e-6) and (weights > 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_what_is_too_dense_for_an_exponential(backend: str) -> None:
    samples = Samples(
        t=torch.arange(7.0),
        dt=torch.full((7,), 0.1),
        ray=torch.tensor([0, 0, 0, 2, 2, 2, 2]),
        offsets=torch.tensor([0, 3, 3, 7]),
        cell=torch.zeros(7, dtype=torch.long),
    )
    density = torch.tensor([0.0, 950.0, 5.0, 0.0, 1e6, 1e30, 3.0])
    density = density.to(device_of(backend)).requires_grad_()
    moved = to_device(samples, density.device)
    *_, weights = composite(density, torch.ones_like(density)[:, None], moved, backend=backend)
    weights.sum().backward()
    assert torch.allclose(weights.cpu(), torch.tensor([0.0, 1, 0, 0, 1, 0, 0]))
    assert density.grad is not None and density.grad.isfinite().all()
    assert ((weights == 0) | (weights > torch.finfo(torch.float32).smallest_normal)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_density_that_is_no_number_shows(backend: str) -> None:
    samples = to_device(some_samples(), device_of(backend))
    density = torch.ones_like(samples.t)
    density[1] = torch.nan
    values = torch.ones_like(density)[:, None]
    seen, alpha, depth, weights = composite(density, values, samples, backend=backend)
    assert all(value[0].isnan().all() for value in (seen, alpha, depth))
    assert weights[1].isnan() and not alpha[1:].isnan().any()


def test_gradients_by_finite_differences() -> None:
    samples = some_samples(torch.double)
    density = (torch.rand(len(samples.t), dtype=torch.double) * 10).requires_grad_()
    values = torch.randn(len(samples.t), 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda d, v: composite(d, v, samples, backend="reference"), (density, values)
    )
