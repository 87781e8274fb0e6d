"""The grid against a table read by hand, point by point."""

from __future__ import annotations

import math

import pytest
import torch
from kernels.devices import device_of

from radnerf.kernels import available
from radnerf.kernels.grid_encode import GridLevels, grid_encode

PRIMES = (1, 2654435761, 805459861)
BACKENDS = available("grid_encode")


def by_hand(
    x: list[float], table: list[list[float]], levels: GridLevels, drop: bool = False
) -> list[float]:
    """One point, written from the method's text: no shared code with the package."""
    out: list[float] = []
    first = 0
    span = levels.finest_resolution / levels.base_resolution
    for level in range(levels.n_levels):
        cells = levels.base_resolution * span ** (level / max(levels.n_levels - 1, 1))
        resolution = math.ceil(round(cells, 9))
        vertices = (resolution + 1) ** levels.dim
        rows = math.ceil(min(2**levels.log2_table_size, vertices) / 8) * 8
        position = [min(max(v, 0.0), 1.0) * (cells - 1) + 0.5 for v in x]
        corner = [math.floor(p) for p in position]
        total = [0.0] * levels.n_features
        for number in range(2**levels.dim):
            bits = [(number >> axis) & 1 for axis in range(levels.dim)]
            weight, index, stride = 1.0, 0, 1
            for axis, bit in enumerate(bits):
                part = position[axis] - corner[axis]
                weight *= part if bit else 1 - part
                if levels.kind == "hash" and vertices > rows:
                    index ^= ((corner[axis] + bit) * PRIMES[axis]) % 2**32
                elif not (drop and stride > rows):
                    index += (corner[axis] + bit) * stride
                stride *= resolution + 1
            for f in range(levels.n_features):
                total[f] += weight * table[first + index % rows][f]
        out += total
        first += rows
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("kind", ["tiled", "hash"])
@pytest.mark.parametrize("drop", [False, True])
def test_lookup_by_hand(backend: str, dim: int, kind: str, drop: bool) -> None:
    levels = GridLevels(
        n_levels=5,
        n_features=2,
        base_resolution=3,
        finest_resolution=40,
        log2_table_size=6,
        kind=kind,  # type: ignore[arg-type]
        dim=dim,
        drop_folded_axes=drop,
    )
    table = torch.randn(levels.n_entries, 2)
    x = torch.cat([torch.rand(40, dim), torch.tensor([[0.0] * dim, [1.0] * dim, [1.5] * dim])])
    expected = [by_hand(p, table.tolist(), levels, drop) for p in x.tolist()]
    device = device_of(backend)
    got = grid_encode(x.to(device), table.to(device), levels, backend).cpu()
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_linear_function_is_reproduced(backend: str, dim: int) -> None:
    """Vertices of a dense level that hold a linear function give it back between them."""
    levels = GridLevels(n_levels=1, n_features=1, base_resolution=7, finest_resolution=7, dim=dim)
    vertices = torch.cartesian_prod(*[torch.arange(8.0)] * dim).view(-1, dim).flip(-1)
    gradient = torch.arange(1.0, dim + 1)
    table = torch.zeros(levels.n_entries, 1)
    # A vertex at integer v lies at x = (v - 0.5) / 6.
    table[: len(vertices), 0] = ((vertices - 0.5) / 6) @ gradient
    x = torch.rand(100, dim, requires_grad=True)
    device = device_of(backend)
    encoded = grid_encode(x.to(device), table.to(device), levels, backend).cpu()
    torch.testing.assert_close(encoded[:, 0], x @ gradient, atol=1e-5, rtol=0)
    encoded.sum().backward()
    torch.testing.assert_close(x.grad, gradient.expand(100, dim), atol=1e-4, rtol=0)


def test_the_papers_levels() -> None:
    levels = GridLevels()
    assert levels.resolutions[0] == 16 and levels.resolutions[-1] == 2048
    assert levels.entries[0] == 4920  # 17^3 = 4913, up to a multiple of 8
    assert levels.entries[-1] == 2**16
    assert levels.n_entries == sum(levels.entries) and levels.n_outputs == 32


@pytest.mark.parametrize("kind", ["tiled", "hash"])
def test_gradients_by_finite_differences(kind: str) -> None:
    levels = GridLevels(
        n_levels=3,
        base_resolution=2,
        finest_resolution=9,
        log2_table_size=6,
        kind=kind,  # type: ignore[arg-type]
    )
    x = torch.rand(6, 3, dtype=torch.double, requires_grad=True)
    table = torch.randn(levels.n_entries, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: grid_encode(x, t, levels, "reference"), (x, table))


def test_a_table_of_another_shape_is_refused() -> None:
    levels = GridLevels(n_levels=2)
    with pytest.raises(ValueError, match="its levels need"):
        grid_encode(torch.rand(3, 3), torch.zeros(8, 2), levels)
    with pytest.raises(ValueError, match="x has 2 axes"):
        grid_encode(torch.rand(3, 2), torch.zeros(levels.n_entries, 2), levels)
