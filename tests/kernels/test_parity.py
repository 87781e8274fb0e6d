"""Every back end of this machine against the plain-torch reference: values and gradients.

The reference runs on the CPU in float32, also where a back end is given 16-bit numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from kernels.devices import device_of, fast_backends
from torch import Tensor

from radnerf.kernels import available
from radnerf.kernels.composite import composite
from radnerf.kernels.encodings import frequency_encode, sh_encode
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.march import march
from radnerf.kernels.march.reference import fitted
from radnerf.kernels.mlp import mlp
from radnerf.kernels.occupancy import cells_of, raise_cells
from radnerf.kernels.ray_sums import distortion, sums_before
from radnerf.types import Samples, to_device

pytestmark = pytest.mark.usefixtures("several_threads")

SIZES = [0, 1, 7, 65_537]
MakeRays = Callable[[int], tuple[Tensor, Tensor]]


def with_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
    backend: str = "reference",
) -> list[Tensor]:
    """Outputs of function(backend, *inputs) and the inputs' gradients, brought to the CPU.

    The upstream gradient is the same in every call, and in eighths, which every dtype holds.
    """
    device = device_of(backend)
    inputs = [value.to(device).clone().requires_grad_() for value in inputs]
    outputs = function(backend, *inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(1)
    upstream = [(8 * torch.randn(o.shape, generator=generator)).round() / 8 for o in outputs]
    torch.autograd.backward(outputs, [u.to(o) for u, o in zip(upstream, outputs, strict=True)])
    gradients = []
    for value in inputs:
        assert value.grad is not None and value.grad.dtype == value.dtype
        gradients.append(value.grad)
    return [result.detach().cpu() for result in (*outputs, *gradients)]


def assert_parity(
    backend: str,
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
    relative: float,
) -> None:
    """Values and gradients of a back end are those of the reference in float32."""
    got = with_gradients(function, inputs, backend)
    expected = with_gradients(function, [value.float() for value in inputs])
    assert_alike([value.float() for value in got], expected, relative)


def assert_alike(got: Sequence[Tensor], expected: Sequence[Tensor], relative: float) -> None:
    """Equal up to a part of each tensor's own largest value."""
    for a, b in zip(got, expected, strict=True):
        scale = b.abs().max().item() if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=relative * max(scale, 1e-6))


GRIDS = {
    "paper 3D": GridLevels(),
    "paper 2D": GridLevels(dim=2),
    "public fine levels": GridLevels(drop_folded_axes=True),
    "1D": GridLevels(n_levels=6, log2_table_size=7, dim=1),
    "hash 1D": GridLevels(n_levels=6, log2_table_size=7, kind="hash", dim=1),
    "last axis first": GridLevels(dim=2, last_axis_first=True),
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
    assert_parity(backend, lambda b, x, t: grid_encode(x, t, levels, b), [x, table], 1e-3)


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
def test_grid_encode_of_many_points(backend: str) -> None:
    levels = GridLevels(n_levels=5, log2_table_size=14)
    x, table = torch.rand(65_537, 3), torch.randn(levels.n_entries, 2)
    results = []
    for b in (backend, "reference"):
        leaf = table.to(device_of(b)).clone().requires_grad_()
        encoded = grid_encode(x.to(leaf.device), leaf, levels, b)
        encoded.square().sum().backward()
        assert leaf.grad is not None
        results.append([encoded.detach().cpu(), leaf.grad.cpu()])
    assert_alike(*results, relative=1e-3)


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
def test_grid_encode_shares_the_table_among_more_threads_than_levels(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = GridLevels(n_levels=2, finest_resolution=40)
    x, table = torch.rand(4097, 3), torch.randn(levels.n_entries, 2)
    monkeypatch.setattr("radnerf.kernels.numba_runtime.threads", lambda: 5)
    monkeypatch.setattr("numba.set_num_threads", lambda n: None)
    assert_parity(backend, lambda b, x, t: grid_encode(x, t, levels, b), [x, table], 1e-4)


@pytest.mark.parametrize("backend", fast_backends("grid_encode"))
def test_grid_encode_survives_what_is_no_number(backend: str) -> None:
    levels = GridLevels()
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf], [0.5, 0.5, 0.5]])
    table = torch.randn(levels.n_entries, 2)
    device = device_of(backend)
    good = grid_encode(x.to(device), table.to(device), levels, backend)[1]
    torch.testing.assert_close(good.cpu(), grid_encode(x[1:], table, levels, "reference")[0])


OCCUPANCIES = {
    "speckled": lambda: torch.rand(37, 20, 64) > 0.9,
    "dense speckles": lambda: torch.rand(32, 32, 32) > 0.4,
    "one cell": lambda: torch.zeros(65, 33, 64).index_fill_(0, torch.tensor(30), 1).bool(),
    "full": lambda: torch.ones(16, 16, 16, dtype=torch.bool),
    "empty": lambda: torch.zeros(16, 16, 16, dtype=torch.bool),
}


def march_on(
    backend: str,
    origins: Tensor,
    directions: Tensor,
    occupancy: Tensor,
    box: Tensor,
    step: float,
    max_samples: int,
    jitter: Tensor | None = None,
    capacity: int | None = None,
) -> Samples:
    """Samples, brought to the CPU."""
    device = device_of(backend)
    inputs = [value.to(device) for value in (origins, directions, occupancy, box)]
    jitter = None if jitter is None else jitter.to(device)
    return to_device(march(*inputs, 0.05, step, max_samples, jitter, capacity, backend), "cpu")


@pytest.mark.parametrize("backend", fast_backends("march"))
@pytest.mark.parametrize("name", OCCUPANCIES)
@pytest.mark.parametrize("jittered", [False, True])
@pytest.mark.parametrize(
    ("n", "step"), [(0, 0.027), (1, 0.027), (7, 0.002), (1025, 0.002), (65_537, 0.027)]
)
def test_march(
    backend: str, name: str, jittered: bool, step: float, n: int, box: Tensor, make_rays: MakeRays
) -> None:
    origins, directions = make_rays(n)
    occupancy = OCCUPANCIES[name]()
    jitter = torch.rand(n) if jittered else None
    a, b = (
        march_on(chosen, origins, directions, occupancy, box, step, 16, jitter)
        for chosen in (backend, "reference")
    )
    # Not nearly: exactly the same samples.
    for field in ("t", "dt", "ray", "offsets", "cell"):
        assert torch.equal(getattr(a, field), getattr(b, field)), field


@pytest.mark.parametrize("backend", fast_backends("march"))
def test_march_along_the_axes_and_from_inside(backend: str, box: Tensor) -> None:
    origins = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.2, 3.0], [-1.0, -0.5, -1.0], [0, 0, 5.0]])
    directions = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 0, 1], [0, 0, 1]])
    occupancy = torch.rand(32, 32, 32) > 0.7
    a, b = (
        march_on(chosen, origins, directions, occupancy, box, 0.01, 500)
        for chosen in (backend, "reference")
    )
    assert torch.equal(a.t, b.t) and torch.equal(a.offsets, b.offsets)
    assert torch.equal(a.cell, b.cell) and occupancy.view(-1)[a.cell].all()
    assert len(a.t) > 20


@pytest.mark.parametrize("backend", fast_backends("march"))
@pytest.mark.parametrize("name", OCCUPANCIES)
@pytest.mark.parametrize("n", [0, 1, 1025])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0, 1.5])
def test_march_into_a_capacity(
    backend: str, name: str, n: int, fraction: float, box: Tensor, make_rays: MakeRays
) -> None:
    given = (*make_rays(n), OCCUPANCIES[name](), box, 0.027, 16)
    capacity = int(fraction * len(march_on("reference", *given).t)) + (fraction > 1)
    a, b = (march_on(chosen, *given, capacity=capacity) for chosen in (backend, "reference"))
    for field in ("t", "dt", "ray", "offsets", "cell"):
        assert torch.equal(getattr(a, field), getattr(b, field)), field


def test_what_room_means(box: Tensor, make_rays: MakeRays) -> None:
    given = (*make_rays(50), OCCUPANCIES["dense speckles"](), box, 0.027, 16)
    whole = march_on("reference", *given)
    last = int((whole.offsets.diff() > 1).nonzero()[20])
    n, capacity = int(whole.offsets[last]), int(whole.offsets[last]) + 1
    some = march_on("reference", *given, capacity=capacity)
    assert torch.equal(some.offsets, whole.offsets.clamp_max(n))
    for field in ("t", "ray", "cell"):
        assert torch.equal(getattr(some, field)[:n], getattr(whole, field)[:n])
    left = [v[n:].tolist() for v in (some.t, some.dt, some.ray, some.cell)]
    assert left == [[0], [0], [49], [0]]


def marched(n: int, box: Tensor, make_rays: MakeRays) -> Samples:
    occupancy = torch.rand(16, 16, 16) > 0.5
    return march(*make_rays(n), occupancy, box, 0.05, 0.03, 16, backend="reference")


def composite_of(samples: Samples) -> Callable[..., tuple[Tensor, ...]]:
    def run(backend: str, density: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        moved = to_device(samples, device_of(backend))
        return composite(density, values, moved, backend=backend)

    return run


@pytest.mark.parametrize("backend", fast_backends("composite"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("channels", [0, 1, 5])
def test_composite(backend: str, n: int, channels: int, box: Tensor, make_rays: MakeRays) -> None:
    samples = marched(n, box, make_rays)
    density = 100 * torch.rand(len(samples.t)) ** 2
    values = torch.randn(len(samples.t), channels)
    assert_parity(backend, composite_of(samples), [density, values], 1e-5)


@pytest.mark.parametrize("backend", available("composite"))
def test_composite_leaves_spare_room_alone(backend: str, box: Tensor, make_rays: MakeRays) -> None:
    samples = marched(50, box, make_rays)
    n, unused = len(samples.t), 9
    inputs = [100 * torch.rand(n) ** 2, torch.randn(n, 4)]
    expected = with_gradients(composite_of(samples), inputs, backend)
    wild = [torch.cat([value, 1e30 * torch.ones(unused, *value.shape[1:])]) for value in inputs]
    filled_up = composite_of(fitted(samples, n + unused))

    def run(*given: Any) -> tuple[Tensor, ...]:
        *of_rays, weights = filled_up(*given)
        assert not weights[n:].any()
        return (*of_rays, weights[:n])

    *outputs, of_density, of_values = with_gradients(run, wild, backend)
    assert not of_density[n:].any() and not of_values[n:].any()
    assert_alike([*outputs, of_density[:n], of_values[:n]], expected, 1e-6)


@pytest.mark.parametrize("backend", fast_backends("composite"))
def test_composite_of_infinite_density_is_opaque_and_has_finite_gradients(
    backend: str, box: Tensor, make_rays: MakeRays
) -> None:
    samples = to_device(marched(50, box, make_rays), device_of(backend))
    density = torch.full_like(samples.t, 1e30).requires_grad_()
    _, alpha, _, weights = composite(
        density, torch.ones_like(density)[:, None], samples, backend=backend
    )
    (alpha.sum() + weights.square().sum()).backward()
    hit = samples.offsets.diff() > 0
    assert torch.equal(alpha, hit.float()) and hit.any() and not hit.all()
    assert density.grad is not None and density.grad.isfinite().all()


def sums_of(samples: Samples) -> Callable[..., Tensor]:
    def run(backend: str, values: Tensor) -> Tensor:
        return sums_before(values, to_device(samples, device_of(backend)), backend)

    return run


@pytest.mark.parametrize("backend", fast_backends("ray_sums"))
@pytest.mark.parametrize("n", SIZES)
def test_sums_along_rays(backend: str, n: int, box: Tensor, make_rays: MakeRays) -> None:
    samples = marched(n, box, make_rays)
    assert_parity(backend, sums_of(samples), [torch.randn(len(samples.t))], 1e-5)


@pytest.mark.parametrize("backend", available("ray_sums"))
def test_sums_along_rays_leave_spare_room_alone(
    backend: str, box: Tensor, make_rays: MakeRays
) -> None:
    samples = marched(50, box, make_rays)
    n, unused = len(samples.t), 9
    values, upstream = torch.randn(n + unused), torch.randn(n + unused)
    values[n:] = upstream[n:] = 1e30
    found = []
    for capacity in (n, n + unused):
        leaf = values[:capacity].to(device_of(backend)).requires_grad_()
        sums = sums_of(fitted(samples, capacity))(backend, leaf)
        sums.backward(upstream[:capacity].to(sums))
        assert leaf.grad is not None
        found.append([sums.detach().cpu(), leaf.grad.cpu()])
    assert not any(value[n:].any() for value in found[1])
    assert_alike([value[:n] for value in found[1]], found[0], 1e-6)


@pytest.mark.parametrize("backend", available("ray_sums"))
def test_sums_along_rays_by_hand(backend: str) -> None:
    samples = Samples(
        t=torch.zeros(5),
        dt=torch.zeros(5),
        ray=torch.tensor([0, 0, 0, 2, 2]),
        offsets=torch.tensor([0, 3, 3, 5]),
        cell=torch.zeros(5).long(),
    )
    values = torch.tensor([1.0, 2, 4, 8, 16], requires_grad=True)
    sums = sums_of(samples)(backend, values.to(device_of(backend)))
    assert sums.tolist() == [0, 1, 3, 0, 8]
    sums.backward(torch.tensor([1.0, 2, 4, 8, 16]).to(sums))
    assert values.grad is not None and values.grad.tolist() == [6, 4, 0, 16, 0]


@pytest.mark.parametrize("backend", fast_backends("ray_sums"))
def test_a_huge_value_does_not_swallow_the_sums_before_it(backend: str) -> None:
    n = 40  # more than a tile
    none, nowhere = torch.zeros(n), torch.zeros(n).long()
    samples = Samples(none, none, nowhere, torch.tensor([0, n]), nowhere)
    values = torch.ones(n)
    values[-1] = 1e30
    sums = sums_of(samples)(backend, values.to(device_of(backend)))
    assert sums.tolist() == list(range(n))


@pytest.mark.parametrize("backend", fast_backends("ray_sums"))
@pytest.mark.parametrize("n", SIZES)
def test_spread_of_weights(backend: str, n: int, box: Tensor, make_rays: MakeRays) -> None:
    samples = marched(n, box, make_rays)
    unused = 9 if n else 0
    filled_up = fitted(samples, len(samples.t) + unused)

    def run(backend: str, weights: Tensor) -> Tensor:
        filled = torch.cat([weights, weights.new_ones(unused)])
        return distortion(filled, to_device(filled_up, device_of(backend)), backend)

    assert_parity(backend, run, [torch.rand(len(samples.t)) ** 2], 1e-5)


@pytest.mark.parametrize("backend", fast_backends("occupancy"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("shape", [(4, 9, 128), (7, 5)])
def test_cells_of_points(backend: str, n: int, shape: tuple[int, ...]) -> None:
    box = torch.tensor([[-1.0, -0.5, -0.3], [1.0, 0.5, 0.9]])[:, : len(shape)]
    # Some lie outside, and some on the borders of cells.
    points = torch.cat([3 * torch.rand(n, 3) - 1.5, (8 * torch.randn(n, 3)).round() / 8])
    points = points[:, : len(shape)]
    device = device_of(backend)
    found = cells_of(points.to(device), box.to(device), shape, backend)
    assert torch.equal(found.cpu(), cells_of(points, box, shape, "reference"))


@pytest.mark.parametrize("backend", available("occupancy"))
@pytest.mark.parametrize("n", SIZES)
def test_occupancy_update(backend: str, n: int) -> None:
    """Against plain Python; many samples share a cell."""
    value, weight = torch.rand(50), torch.rand(n)
    cell, settled = torch.randint(50, (n,)), torch.rand(n) < 0.3
    expected = value.tolist()
    for faded in set(cell[settled].tolist()):
        expected[faded] *= 0.5
    for i, w in zip(cell.tolist(), weight.tolist(), strict=True):
        expected[i] = max(expected[i], w)
    value, cell, weight, settled = (
        x.to(device_of(backend)) for x in (value, cell, weight, settled)
    )
    raise_cells(value, cell, weight, settled, 0.5, backend)
    assert torch.allclose(value.cpu(), torch.tensor(expected))


MLPS = {
    "ambient": ([32, 64, 64, 2], 3),
    "density": ([64, 64, 64, 65], 1),
    "color": ([80, 64, 3], 0),
    "one layer": ([5, 7], 4),
    "many frames": ([16, 32, 4], 50),
    "uneven": ([12, 40, 24, 33, 5], 3),
    "wide": ([6, 200, 24, 3], 2),
}


def mlp_inputs(name: str, n: int) -> tuple[list[Tensor], Tensor | None]:
    """Points, weights, biases; and the points' frames.

    No point puts a hidden unit on the ReLU's edge, where rounding decides about its gradient.
    """
    widths, frames = MLPS[name]
    x = torch.randn(n + n // 10 + 5, widths[0])
    weights = [torch.randn(o, i) / i**0.5 for i, o in pairwise(widths)]
    bias = torch.randn(frames, widths[1]) if frames else torch.zeros(1, widths[1])
    frame = torch.randint(len(bias), (len(x),))
    hidden, clear = x.double(), torch.ones(len(x), dtype=torch.bool)
    for weight in weights[:-1]:
        hidden = hidden @ weight.double().T + (bias[frame] if weight is weights[0] else 0)
        clear &= (hidden.abs() > 1e-5).all(1)
        hidden = hidden.relu()
    clear = clear.nonzero()[:n, 0]
    assert len(clear) == n
    if not frames:
        return [x[clear], *weights], None
    return [x[clear], *weights, bias], frame[clear]


def run_mlp(backend: str, inputs: Sequence[Tensor], frame: Tensor | None) -> Tensor:
    x, *rest = inputs
    if frame is None:
        return mlp(x, rest, backend)
    return mlp(x, rest[:-1], backend, rest[-1], frame.to(x.device))


@pytest.mark.parametrize("backend", fast_backends("mlp"))
@pytest.mark.parametrize("name", MLPS)
@pytest.mark.parametrize("n", SIZES)
def test_mlp_in_float32(backend: str, name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor without bfloat16 products computes."""
    monkeypatch.setattr("radnerf.kernels.mlp.cpu.matrix_dtype", lambda: torch.float32)
    inputs, frame = mlp_inputs(name, n)
    assert_parity(backend, lambda b, *i: run_mlp(b, i, frame), inputs, 2e-5)


@pytest.mark.parametrize("name", MLPS)
def test_mlp_in_bfloat16_is_as_near_as_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radnerf.kernels.mlp.cpu.matrix_dtype", lambda: torch.bfloat16)
    inputs, frame = mlp_inputs(name, 4097)
    expected = with_gradients(lambda b, *i: run_mlp(b, i, frame), inputs)
    got = with_gradients(lambda b, *i: run_mlp(b, i, frame), inputs, "cpu")

    def autocast(backend: str, *values: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return run_mlp(backend, values, frame).float()

    usual = with_gradients(autocast, inputs)
    for a, b, c in zip(got, expected, usual, strict=True):
        assert a.dtype == torch.float32
        # Autocast leaves the frame's bias in float32; rounding it costs 2^-8 at most.
        assert (a - b).norm() <= max(2 * (c - b).norm(), 2**-8 * b.norm())


@pytest.mark.parametrize("backend", fast_backends("mlp"))
def test_mlp_gives_no_gradient_that_nobody_asked_for(backend: str) -> None:
    inputs, frame = mlp_inputs("ambient", 7)
    inputs = [value.to(device_of(backend)) for value in inputs]
    inputs[1].requires_grad_()
    run_mlp(backend, inputs, frame).sum().backward()
    assert inputs[1].grad is not None
    assert all(value.grad is None for value in inputs if value is not inputs[1])


@pytest.mark.parametrize("backend", fast_backends("encodings"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("octaves", [0, 1, 10])
def test_frequency_encode(backend: str, n: int, octaves: int) -> None:
    x = torch.rand(n, 3) * 2 - 1
    assert_parity(backend, lambda b, x: frequency_encode(x, octaves, b), [x], 1e-5)


@pytest.mark.parametrize("backend", fast_backends("encodings"))
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("degree", [2, 3, 4])
def test_sh_encode(backend: str, n: int, degree: int) -> None:
    directions = torch.nn.functional.normalize(torch.randn(n, 3), dim=1)
    assert_parity(backend, lambda b, d: sh_encode(d, degree, b), [directions], 1e-5)


# 16-bit tables and activations: back ends that take them, and how much of a tensor's largest value
# rounding may cost (the sums are float32).
HALVES = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def half_backends(op: str) -> list[str]:
    return [name for name in fast_backends(op) if name == "triton"]


@pytest.mark.parametrize("backend", half_backends("grid_encode"))
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["4 features", "1 feature", "hash 2D"])
def test_grid_encode_of_a_16_bit_table(backend: str, dtype: torch.dtype, name: str) -> None:
    levels = GRIDS[name]
    x = torch.rand(1025, levels.dim)
    table = torch.randn(levels.n_entries, levels.n_features, dtype=dtype)
    tolerance = HALVES[dtype]
    assert_parity(backend, lambda b, x, t: grid_encode(x, t, levels, b), [x, table], tolerance)


@pytest.mark.parametrize("backend", half_backends("encodings"))
@pytest.mark.parametrize("dtype", HALVES)
def test_encodings_of_16_bits(backend: str, dtype: torch.dtype) -> None:
    x = torch.nn.functional.normalize(torch.randn(1025, 3), dim=1).to(dtype)
    assert_parity(backend, lambda b, x: frequency_encode(x, 10, b), [x], HALVES[dtype])
    assert_parity(backend, lambda b, x: sh_encode(x, 4, b), [x], HALVES[dtype])


@pytest.mark.parametrize("backend", half_backends("ray_sums"))
@pytest.mark.parametrize("dtype", HALVES)
def test_sums_along_rays_of_16_bits(
    backend: str, dtype: torch.dtype, box: Tensor, make_rays: MakeRays
) -> None:
    samples = marched(1025, box, make_rays)
    values = torch.rand(len(samples.t)).to(dtype)
    assert_parity(backend, sums_of(samples), [values], HALVES[dtype])


@pytest.mark.parametrize("backend", half_backends("composite"))
@pytest.mark.parametrize("dtype", HALVES)
def test_composite_of_16_bits(
    backend: str, dtype: torch.dtype, box: Tensor, make_rays: MakeRays
) -> None:
    samples = marched(1025, box, make_rays)
    density = (100 * torch.rand(len(samples.t)) ** 2).to(dtype)
    values = torch.randn(len(samples.t), 4, dtype=dtype)
    assert_parity(backend, composite_of(samples), [density, values], HALVES[dtype])


def mlp_of_rounded_operands(
    inputs: Sequence[Tensor], frame: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Every operand rounded to a dtype, sums in float32: the same ReLUs let through."""
    x, *weights = (value.to(dtype).float() for value in inputs)
    bias = weights.pop() if frame is not None else None
    hidden = x @ weights[0].T
    if bias is not None and frame is not None:
        hidden = hidden + bias[frame]
    for weight in weights[1:]:
        hidden = hidden.relu().to(dtype).float() @ weight.T
    return hidden


@pytest.mark.parametrize("backend", half_backends("mlp"))
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", [name for name in MLPS if name != "wide"])
def test_mlp_of_16_bits(backend: str, dtype: torch.dtype, name: str) -> None:
    inputs, frame = mlp_inputs(name, 1025)
    expected = with_gradients(lambda b, *i: mlp_of_rounded_operands(i, frame, dtype), inputs)
    rounded = [value.to(dtype) for value in inputs]
    got = with_gradients(lambda b, *i: run_mlp(b, i, frame), rounded, backend)
    assert all(value.dtype == dtype for value in got)
    assert_alike([value.float() for value in got], expected, HALVES[dtype])


@pytest.mark.parametrize("backend", half_backends("mlp"))
@pytest.mark.parametrize("dtype", HALVES)
def test_mlp_under_autocast_rounds_its_operands_only(backend: str, dtype: torch.dtype) -> None:
    inputs, frame = mlp_inputs("ambient", 1025)
    # The frame's bias is no operand.
    inputs[-1] = inputs[-1].to(dtype).float()

    def run(backend: str, *values: Tensor) -> Tensor:
        with torch.autocast(device_of(backend), dtype):
            return run_mlp(backend, values, frame)

    expected = with_gradients(lambda b, *i: mlp_of_rounded_operands(i, frame, dtype), inputs)
    got = with_gradients(run, inputs, backend)
    assert_alike(got, expected, HALVES[dtype])
    assert got[0].dtype == torch.float32
    # The outputs are not rounded; another order of adding up may round some unit otherwise.
    exact = (got[0].cpu() - expected[0]).abs() < 1e-5 * (1 + expected[0].abs())
    assert exact.float().mean() > 0.95
