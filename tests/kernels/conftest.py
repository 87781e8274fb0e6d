"""Inputs of the kernels' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

BOX = torch.tensor([[-1.0, -0.5, -1.0], [1.0, 0.5, 1.0]])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def box() -> Tensor:
    return BOX


@pytest.fixture
def make_rays() -> Callable[[int], tuple[Tensor, Tensor]]:
    """Rays from 3 units away around the box; about a third of them miss it."""

    def make(n: int) -> tuple[Tensor, Tensor]:
        origins = 3 * torch.nn.functional.normalize(torch.randn(n, 3), dim=1)
        directions = -origins / 3 + 0.25 * torch.randn(n, 3)
        return origins, torch.nn.functional.normalize(directions, dim=1)

    return make
