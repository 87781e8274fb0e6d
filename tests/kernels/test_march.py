"""Marching against a step-by-step walk in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from kernels.devices import device_of, fast_backends
from torch import Tensor

from radnerf.kernels import available
from radnerf.kernels.march import march
from radnerf.types import Samples, to_device

BACKENDS = available("march")


def march_on(backend: str, *inputs: Tensor, **options: float | Tensor) -> Samples:
    """march near 0.05, on the back end's device; its samples brought to the CPU."""
    device = device_of(backend)
    moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
    samples = march(*(v.to(device) for v in inputs), near=0.05, **moved, backend=backend)
    return to_device(samples, "cpu")


def walk(
    origin: Tensor, direction: Tensor, occupancy: Tensor, box: Tensor, near: float, step: float
) -> list[float]:
    """Middles of all occupied pieces of one ray, in double precision."""
    o, d, low, high = origin.double(), direction.double(), box[0].double(), box[1].double()
    fine = torch.linspace(0, 8, 400_001, dtype=torch.double)
    points = o + fine[:, None] * d
    inside = fine[((points >= low) & (points <= high)).all(1) & (fine >= near)].tolist()
    if not inside:
        return []
    kept, piece = [], 0
    while (t := inside[0] + (piece + 0.5) * step) < inside[-1]:
        part = (o + t * d - low) / (high - low)
        cell = [min(int(p * r), r - 1) for p, r in zip(part.tolist(), occupancy.shape, strict=True)]
        if occupancy[tuple(cell)]:
            kept.append(t)
        piece += 1
    return kept


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_are_those_of_a_walk(backend: str, box: Tensor) -> None:
    # A ball of cells: few samples lie so near a cell's border that precision decides.
    axes = [torch.arange(r) / (r - 1) * 2 - 1 for r in (16, 12, 20)]
    occupancy = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0) < 0.7
    origins = torch.tensor([[0.1, 0.05, 3.0], [2.0, 1.0, 0.3], [0.0, 0.1, 0.0]])
    directions = torch.tensor([[0.02, 0.03, -1.0], [-0.9, -0.4, 0.1], [0.3, 0.2, 0.5]])
    directions = torch.nn.functional.normalize(directions, dim=1)
    samples = march_on(backend, origins, directions, occupancy, box, step=0.05, max_samples=1000)
    for ray in range(3):
        expected = walk(origins[ray], directions[ray], occupancy, box, 0.05, 0.05)
        got = samples.t[samples.offsets[ray] : samples.offsets[ray + 1]]
        assert len(expected) > 5
        torch.testing.assert_close(got, torch.tensor(expected), atol=1e-4, rtol=0)
    assert samples.ray.tolist() == sorted(samples.ray.tolist())
    assert torch.equal(samples.dt, torch.full_like(samples.t, 0.05))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nearest_samples_are_kept(
    backend: str, box: Tensor, make_rays: Callable[[int], tuple[Tensor, Tensor]]
) -> None:
    occupancy = torch.ones(8, 8, 8, dtype=torch.bool)
    rays = make_rays(100)
    few, many = (
        march_on(backend, *rays, occupancy, box, step=0.03, max_samples=limit)
        for limit in (4, 1000)
    )
    assert few.offsets.diff().max() == 4
    for ray in range(100):
        a = few.t[few.offsets[ray] : few.offsets[ray + 1]]
        b = many.t[many.offsets[ray] : many.offsets[ray + 1]]
        assert torch.equal(a, b[:4])


@pytest.mark.parametrize("backend", BACKENDS)
def test_jitter_moves_a_rays_samples_by_its_part_of_a_step(
    backend: str, box: Tensor, make_rays: Callable[[int], tuple[Tensor, Tensor]]
) -> None:
    occupancy = torch.ones(8, 8, 8, dtype=torch.bool)
    rays = make_rays(60)
    inputs = (*rays, occupancy, box)
    middle = march_on(backend, *inputs, step=0.03, max_samples=3)
    start = march_on(backend, *inputs, step=0.03, max_samples=3, jitter=torch.zeros(60))
    both = (middle.offsets.diff() == 3) & (start.offsets.diff() == 3)
    assert both.any()
    for ray in both.nonzero().flatten().tolist():
        a = middle.t[middle.offsets[ray] : middle.offsets[ray] + 3]
        b = start.t[start.offsets[ray] : start.offsets[ray] + 3]
        torch.testing.assert_close(a - b, torch.full((3,), 0.015), atol=1e-5, rtol=0)


def test_a_step_must_lead_forward(box: Tensor) -> None:
    occupancy = torch.ones(2, 2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="must be positive"):
        march(torch.zeros(1, 3), torch.eye(3)[:1], occupancy, box, 0.0, 0.0, 4)


def counts(
    backend: str, origins: Tensor, directions: Tensor, occupancy: Tensor, box: Tensor
) -> list[int]:
    """Samples a ray."""
    samples = march_on(backend, origins, directions, occupancy, box, step=0.027, max_samples=8)
    assert samples.offsets[-1] == len(samples.t) == len(samples.ray) == len(samples.cell)
    return samples.offsets.diff().tolist()


@pytest.mark.parametrize("backend", fast_backends("march"))
def test_rays_that_are_no_numbers_have_no_samples(backend: str, box: Tensor) -> None:
    good = torch.tensor([0.0, 0.0, 3.0])
    bad = [torch.tensor([0.0, value, 3.0]) for value in (math.nan, math.inf, -math.inf)]
    ahead = torch.tensor([0.0, 0.0, -1.0])
    origins = torch.stack([good, *bad, good, good])
    directions = torch.stack([ahead, ahead, ahead, ahead, torch.full((3,), math.nan), ahead])
    full = torch.ones(4, 4, 4, dtype=torch.bool)
    assert counts(backend, origins, directions, full, box) == [8, 0, 0, 0, 0, 8]


@pytest.mark.parametrize("backend", fast_backends("march"))
def test_a_ray_without_a_direction_ends(backend: str, box: Tensor) -> None:
    empty = torch.zeros(4, 4, 4, dtype=torch.bool)
    assert counts(backend, torch.zeros(1, 3), torch.zeros(1, 3), empty, box) == [0]
