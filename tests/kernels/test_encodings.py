"""Encodings against their definitions and scipy's spherical harmonics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch
from kernels.devices import device_of

from radnerf.kernels import available
from radnerf.kernels.encodings import frequency_encode, sh_encode

BACKENDS = available("encodings")


def harmonic(degree: int, order: int, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Complex Y_l^m at inclination theta and azimuth phi, whatever scipy calls it."""
    if hasattr(scipy.special, "sph_harm_y"):
        return scipy.special.sph_harm_y(degree, order, theta, phi)
    return scipy.special.sph_harm(order, degree, phi, theta)


@pytest.mark.parametrize("backend", BACKENDS)
def test_real_spherical_harmonics(backend: str) -> None:
    directions = torch.nn.functional.normalize(torch.randn(200, 3), dim=1)
    x, y, z = directions.double().numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            # scipy's have the factor (-1)^m, and so do the public grid implementations'.
            complex_value = harmonic(degree, abs(order), theta, phi)
            if order < 0:
                columns.append(math.sqrt(2) * complex_value.imag)
            elif order > 0:
                columns.append(math.sqrt(2) * complex_value.real)
            else:
                columns.append(complex_value.real)
    expected = torch.tensor(np.stack(columns, 1), dtype=torch.float32)
    directions = directions.to(device_of(backend))
    for degree in (2, 4):
        got = sh_encode(directions, degree, backend).cpu()
        torch.testing.assert_close(got, expected[:, : degree**2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_orthonormal_over_the_sphere(backend: str) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(8)
    phi = np.arange(16) * 2 * np.pi / 16
    z, azimuth = (v.ravel() for v in np.meshgrid(nodes, phi, indexing="ij"))
    ring = np.sqrt(1 - z**2)
    directions = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), z], 1)
    inputs = torch.tensor(directions, dtype=torch.float32, device=device_of(backend))
    encoded = sh_encode(inputs, 4, backend).cpu().double()
    area = torch.tensor(np.repeat(weights, 16) * 2 * np.pi / 16)
    gram = encoded.T @ (area[:, None] * encoded)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.double), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frequencies_in_their_order(backend: str) -> None:
    x = torch.tensor([[0.3, -0.7]], device=device_of(backend))
    got = frequency_encode(x, 2, backend)[0].tolist()
    expected = [0.3, -0.7]
    for factor in (1, 2):
        expected += [math.sin(factor * 0.3), math.sin(factor * -0.7)]
        expected += [math.cos(factor * 0.3), math.cos(factor * -0.7)]
    assert got == pytest.approx(expected, abs=1e-6)


def test_gradients_by_finite_differences() -> None:
    x = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: sh_encode(x, 4, "reference"), x)
    assert torch.autograd.gradcheck(lambda x: frequency_encode(x, 4, "reference"), x)


def test_only_four_bands_exist() -> None:
    with pytest.raises(ValueError, match="1 to 4"):
        sh_encode(torch.zeros(1, 3), 5)
