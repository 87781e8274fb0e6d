"""Rotations as vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf.geometry.rotations import euler_xyz, rotation_from_euler, rotation_from_vector, turned

LENGTHS = [0.0, 1e-30, 1e-6, 0.0999, 0.1, 0.1001, 1.0, 3.14159265, 6.0]


def crossing(vector: Tensor) -> Tensor:
    """The matrix of v x ..."""
    axes = torch.eye(3).to(vector).expand(*vector.shape, 3)
    return torch.linalg.cross(vector[..., None, :].expand_as(axes), axes).mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", LENGTHS)
def test_rotation_is_the_exponential(length: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(5, 2, 3, dtype=dtype), dim=-1)
    expected = torch.matrix_exp(crossing(length * axis).double())
    limit = 3e-7 if dtype == torch.float32 else 1e-13
    assert (rotation_from_vector(length * axis) - expected).abs().max() < limit * max(1, length)


@pytest.mark.parametrize("length", [0.0, 1e-6, 0.0999, 0.1001, 2.0])
def test_rotation_is_smooth(length: float) -> None:
    axis = torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)
    vector = (length * axis).requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_vector, vector, atol=1e-8, rtol=1e-6)


def test_euler_angles_come_back() -> None:
    angles = torch.tensor([[0.1, -0.4, 3.0], [-2.0, 1.2, 0.0]])
    assert torch.allclose(euler_xyz(rotation_from_euler(angles)), angles, atol=1e-6)


def test_turned_is_the_product_even_under_autocast() -> None:
    torch.manual_seed(0)
    rotation, vector = rotation_from_vector(torch.randn(7, 3)), torch.randn(7, 3)
    expected = (rotation.double() @ vector.double()[..., None])[..., 0]
    with torch.autocast("cpu", torch.bfloat16):
        found = turned(rotation, vector)
    assert found.dtype == torch.float32 and (found - expected).abs().max() < 1e-6
