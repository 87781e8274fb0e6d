"""Every back end of this machine against the plain-torch reference: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from radnerf.kernels import available
from radnerf.kernels.composite import composite
from radnerf.kernels.encodings import frequency_encode, sh_encode
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.march import march
from radnerf.kernels.mlp import mlp
from radnerf.types import Samples

SIZES = [0, 1, 7, 4097]
MakeRays = Callable[[int], tuple[Tensor, Tensor]]


def fast_backends(op: str) -> list[str]:
    return [name for name in available(op) if name != "reference"]


def with_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Outputs and the inputs' gradients, for an upstream gradient that every call shares."""
    inputs = [value.clone().requires_grad_() for value in inputs]
    outputs = function(*inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(o.shape, generator=generator) for o in outputs]
    torch.autograd.backward(outputs, upstream)
    gradients = []
    for value in inputs:
        assert value.grad is not None
        gradients.append(value.grad)
    return [output.detach() for output in outputs] + gradients


def assert_alike(got: Sequence[Tensor], expected: Sequence[Tensor], relative: float) -> None:
    """Equal up to a part of each tensor's own largest value."""
    for a, b in zip(got, expected, strict=True):
        scale = b.abs().max().item() if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=relative * max(scale, 1e-6))


GRIDS = {
    "paper 3D": GridLevels(),
    "paper 2D": GridLevels(dim=2),
    "public fine levels": GridLevels(drop_folded_axes=True),
    "hash 3D": GridLevels(n_levels=6, log2_table_size=12, kind="hash"),
    "hash 2D": GridLevels(n_levels=6, log2_table_size=10, kind="hash", dim=2),
    "4 features": GridLevels(n_levels=3, n_features=4, finest_resolution=50, log2_table_size=12),
    "1 feature": GridLevels(n_levels=1, n_features=1, dim=2, base_resolution=5),
    "more than 2^32 dense vertices": GridLevels(n_levels=2, finest_resolution=8192),
}


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("n", SIZES)
def test_grid_encode(backend: str, name: str, n: int) -> None:
    levels = GRIDS[name]
    # Some points lie outside the box and are clamped.
    x = torch.rand(n, levels.dim) * 1.1 - 0.05
    table = torch.randn(levels.n_entries, levels.n_features)
    results = [
        with_gradients(lambda x, table, b=b: grid_encode(x, table, levels, b), [x, table])
        for b in (backend, "reference")
    ]
    assert_alike(*results, relative=1e-3)


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
def test_grid_encode_of_many_points(backend: str) -> None:
    levels = GridLevels(log2_table_size=14)
    x, table = torch.rand(65_537, 3), torch.randn(levels.n_entries, 2)
    results = []
    for b in (backend, "reference"):
        leaf = table.clone().requires_grad_()
        encoded = grid_encode(x, leaf, levels, b)
        encoded.square().sum().backward()
        assert leaf.grad is not None
        results.append([encoded.detach(), leaf.grad])
    assert_alike(*results, relative=1e-3)


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
def test_grid_encode_shares_the_table_among_more_threads_than_levels(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = GridLevels(n_levels=2, finest_resolution=40)
    x, table = torch.rand(4097, 3), torch.randn(levels.n_entries, 2)
    monkeypatch.setattr("radnerf.kernels.numba_runtime.threads", lambda: 5)
    monkeypatch.setattr("numba.set_num_threads", lambda n: None)
    results = [
        with_gradients(lambda x, table, b=b: grid_encode(x, table, levels, b), [x, table])
        for b in (backend, "reference")
    ]
    assert_alike(*results, relative=1e-4)


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
def test_grid_encode_survives_what_is_no_number(backend: str) -> None:
    levels = GridLevels()
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf], [0.5, 0.5, 0.5]])
    table = torch.randn(levels.n_entries, 2)
    good = grid_encode(x, table, levels, backend)[1]
    torch.testing.assert_close(good, grid_encode(x[1:], table, levels, "reference")[0])


OCCUPANCIES = {
    "speckled": lambda: torch.rand(37, 20, 64) > 0.9,
    "dense speckles": lambda: torch.rand(32, 32, 32) > 0.4,
    "one cell": lambda: torch.zeros(65, 33, 64).index_fill_(0, torch.tensor(30), 1).bool(),
    "full": lambda: torch.ones(16, 16, 16, dtype=torch.bool),
    "empty": lambda: torch.zeros(16, 16, 16, dtype=torch.bool),
}


@pytest.mark.parametrize("backend", fast_backends("march"))
@pytest.mark.parametrize("name", OCCUPANCIES)
@pytest.mark.parametrize("jittered", [False, True])
@pytest.mark.parametrize("step", [0.027, 0.002])
@pytest.mark.parametrize("n", [0, 1, 7, 1025])
def test_march(
    backend: str, name: str, jittered: bool, step: float, n: int, box: Tensor, make_rays: MakeRays
) -> None:
    origins, directions = make_rays(n)
    occupancy = OCCUPANCIES[name]()
    jitter = torch.rand(n) if jittered else None
    a, b = (
        march(origins, directions, occupancy, box, 0.05, step, 16, jitter, backend=chosen)
        for chosen in (backend, "reference")
    )
    # Not nearly: exactly the same samples.
    for field in ("t", "dt", "ray", "offsets"):
        assert torch.equal(getattr(a, field), getattr(b, field)), field


@pytest.mark.parametrize("backend", fast_backends("march"))
def test_march_along_the_axes_and_from_inside(backend: str, box: Tensor) -> None:
    origins = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.2, 3.0], [-1.0, -0.5, -1.0], [0, 0, 5.0]])
    directions = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 0, 1], [0, 0, 1]])
    occupancy = torch.rand(32, 32, 32) > 0.7
    a, b = (
        march(origins, directions, occupancy, box, 0.05, 0.01, 500, backend=chosen)
        for chosen in (backend, "reference")
    )
    assert torch.equal(a.t, b.t) and torch.equal(a.offsets, b.offsets)
    assert len(a.t) > 20


def marched(n: int, box: Tensor, make_rays: MakeRays) -> Samples:
    occupancy = torch.rand(16, 16, 16) > 0.5
    return march(*make_rays(n), occupancy, box, 0.05, 0.03, 16, backend="reference")


@pytest.mark.parametrize("backend", fast_backends("composite"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("channels", [0, 1, 5])
def test_composite(backend: str, n: int, channels: int, box: Tensor, make_rays: MakeRays) -> None:
    samples = marched(n, box, make_rays)
    density = 100 * torch.rand(len(samples.t)) ** 2
    values = torch.randn(len(samples.t), channels)
    results = [
        with_gradients(
            lambda density, values, b=b: composite(density, values, samples, backend=b),
            [density, values],
        )
        for b in (backend, "reference")
    ]
    assert_alike(*results, relative=1e-5)


@pytest.mark.parametrize("backend", fast_backends("composite"))
def test_composite_of_infinite_density_is_opaque_and_has_finite_gradients(
    backend: str, box: Tensor, make_rays: MakeRays
) -> None:
    samples = marched(50, box, make_rays)
    density = torch.full_like(samples.t, 1e30).requires_grad_()
    _, alpha, _ = composite(density, torch.ones(len(density), 1), samples, backend=backend)
    alpha.sum().backward()
    hit = samples.offsets.diff() > 0
    assert torch.equal(alpha, hit.float()) and hit.any() and not hit.all()
    assert density.grad is not None and density.grad.isfinite().all()


MLPS = {
    "ambient": ([32, 64, 64, 2], 3),
    "density": ([64, 64, 64, 65], 1),
    "colour": ([80, 64, 3], 0),
    "one layer": ([5, 7], 4),
    "many frames": ([16, 32, 4], 50),
}


def mlp_inputs(name: str, n: int) -> tuple[list[Tensor], Tensor | None]:
    widths, frames = MLPS[name]
    inputs = [torch.randn(n, widths[0])]
    inputs += [torch.randn(o, i) / i**0.5 for i, o in pairwise(widths)]
    if not frames:
        return inputs, None
    inputs.append(torch.randn(frames, widths[1]))
    return inputs, torch.randint(frames, (n,))


def run_mlp(backend: str, inputs: Sequence[Tensor], frame: Tensor | None) -> Tensor:
    x, *rest = inputs
    if frame is None:
        return mlp(x, rest, backend)
    return mlp(x, rest[:-1], backend, rest[-1], frame)


@pytest.mark.parametrize("backend", fast_backends("mlp"))
@pytest.mark.parametrize("name", MLPS)
@pytest.mark.parametrize("n", SIZES)
def test_mlp_in_float32(backend: str, name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor without bfloat16 products computes."""
    monkeypatch.setattr("radnerf.kernels.mlp.cpu.matrix_dtype", lambda: torch.float32)
    inputs, frame = mlp_inputs(name, n)
    results = [
        with_gradients(lambda *i, b=b: run_mlp(b, i, frame), inputs) for b in (backend, "reference")
    ]
    assert_alike(*results, relative=2e-5)


@pytest.mark.parametrize("name", MLPS)
def test_mlp_in_bfloat16_is_as_near_as_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radnerf.kernels.mlp.cpu.matrix_dtype", lambda: torch.bfloat16)
    inputs, frame = mlp_inputs(name, 4097)
    expected = with_gradients(lambda *i: run_mlp("reference", i, frame), inputs)
    got = with_gradients(lambda *i: run_mlp("cpu", i, frame), inputs)

    def autocast(*values: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return run_mlp("reference", values, frame).float()

    usual = with_gradients(autocast, inputs)
    for a, b, c in zip(got, expected, usual, strict=True):
        assert a.dtype == torch.float32
        # Autocast leaves the frame's bias in float32; rounding it costs 2^-8 at most.
        assert (a - b).norm() <= max(2 * (c - b).norm(), 2**-8 * b.norm())


def test_mlp_gives_no_gradient_that_nobody_asked_for() -> None:
    inputs, frame = mlp_inputs("ambient", 7)
    inputs[1].requires_grad_()
    run_mlp("cpu", inputs, frame).sum().backward()
    assert inputs[1].grad is not None
    assert all(value.grad is None for value in inputs if value is not inputs[1])


@pytest.mark.parametrize("backend", fast_backends("encodings"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("octaves", [0, 1, 10])
def test_frequency_encode(backend: str, n: int, octaves: int) -> None:
    x = torch.rand(n, 3) * 2 - 1
    results = [
        with_gradients(lambda x, b=b: frequency_encode(x, octaves, b), [x])
        for b in (backend, "reference")
    ]
    assert_alike(*results, relative=1e-5)


@pytest.mark.parametrize("backend", fast_backends("encodings"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("degree", [2, 3, 4])
def test_sh_encode(backend: str, n: int, degree: int) -> None:
    directions = torch.nn.functional.normalize(torch.randn(n, 3), dim=1)
    results = [
        with_gradients(lambda d, b=b: sh_encode(d, degree, b), [directions])
        for b in (backend, "reference")
    ]
    assert_alike(*results, relative=1e-5)
