"""What only the Triton kernels can get wrong: bounds, layouts, and what their compiler refuses."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch
from kernels.devices import device_of
from torch import Tensor

from radnerf import kernels
from radnerf.kernels import available
from radnerf.kernels.composite import composite
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.march import march
from radnerf.kernels.mlp import mlp
from radnerf.types import Samples, to_device

pytest.importorskip("triton")
DEVICE = device_of("triton")

KERNELS = {
    "composite": ["_forward", "_backward"],
    "frame": ["head_kernel", "finish_kernel"],
    "encodings": ["_frequency", "_frequency_gradient", "_harmonics", "_harmonics_gradient"],
    "grid_encode": ["_encode", "_table_gradient", "_x_gradient"],
    "march": ["_walk"],
    "mlp": ["_forward"],
    "occupancy": ["_fade", "_raise"],
    "ray_sums": ["_sums"],
}


@pytest.mark.parametrize("gpu", ["80:float32:1", "90:float16:64"])
def test_every_kernel_compiles_for_gpus(gpu: str, tmp_path: Path) -> None:
    """The interpreter runs much that Triton's compiler, which needs no GPU, does not take."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compile_triton.py")
    said = subprocess.run(
        [sys.executable, str(script), gpu],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert said.returncode == 0, said.stderr[-3000:]
    compiled = Counter(said.stdout.splitlines())
    target = f"sm_{gpu[:2]}"
    expected = {f"{op}.{name} {target}" for op, names in KERNELS.items() for name in names}
    assert set(compiled) == expected
    # All dimensions, both walks.
    assert compiled[f"grid_encode._encode {target}"] == 3
    assert compiled[f"march._walk {target}"] == compiled[f"ray_sums._sums {target}"] == 2


def test_every_kernel_is_in_the_list_of_those_compiled() -> None:
    """A kernel is what is launched."""
    folder = Path(kernels.__file__).parent
    files = {path.parent.name: path for path in folder.glob("*/triton.py")}
    launched = {
        op: sorted(set(re.findall(r"launch\(\s*(\w+)", path.read_text())))
        for op, path in files.items()
    }
    assert launched == {op: sorted(names) for op, names in KERNELS.items()}


needs_triton = pytest.mark.skipif(
    "triton" not in available("march"), reason="neither a GPU nor TRITON_INTERPRET=1"
)


@needs_triton
def test_a_frame_that_does_not_exist_reads_nothing() -> None:
    around = torch.full((5, 16), math.nan, device=DEVICE)
    around[2:4] = 1.0
    frame = torch.tensor([0, 1, 2, -1, 2**40, -(2**40)], device=DEVICE)
    out = mlp(
        torch.zeros(6, 8, device=DEVICE),
        [torch.zeros(16, 8, device=DEVICE)],
        "triton",
        around[2:4],
        frame,
    )
    assert torch.equal(out[:2].cpu(), torch.ones(2, 16)) and (out[2:] == 0).all()


@needs_triton
def test_what_is_no_number_stays_in_its_row() -> None:
    x = torch.randn(40, 20, device=DEVICE)
    weights = [torch.randn(33, 20, device=DEVICE), torch.randn(3, 33, device=DEVICE)]
    clean = mlp(x, weights, "triton")
    x[7, 3] = math.nan
    spoilt = mlp(x, weights, "triton")
    others = torch.arange(40) != 7
    assert spoilt[7].isnan().all() and torch.equal(spoilt[others], clean[others])


@needs_triton
def test_transposed_inputs_and_upstream_gradients_are_read_as_they_lie() -> None:
    levels = GridLevels(n_levels=3, dim=2, log2_table_size=8)
    table = torch.randn(levels.n_entries, 2)
    x, weight, upstream = torch.rand(50, 2), torch.randn(4, 6), torch.randn(50, 4)
    gradients = []
    for backend in ("triton", "reference"):
        device = device_of(backend)
        leaf = table.to(device).clone().requires_grad_()
        features = grid_encode(x.to(device), leaf, levels, backend)
        # Either layout reaches the grid, depending on the backend.
        out = mlp(features, [weight.to(device)], backend)
        out.backward(upstream.T.contiguous().T.to(device))
        assert leaf.grad is not None
        gradients.append(leaf.grad.cpu())
        direct = torch.autograd.grad(
            grid_encode(x.to(device), leaf, levels, backend),
            leaf,
            torch.arange(300.0, device=device).view(6, 50).T,
        )
        gradients.append(direct[0].cpu())
    torch.testing.assert_close(gradients[0], gradients[2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients[1], gradients[3], atol=1e-2, rtol=1e-4)


@needs_triton
def test_where_all_rays_miss_there_is_nothing_to_see(box: Tensor) -> None:
    away = torch.tensor([[0.0, 0.0, 1.0]]).expand(100, 3).to(DEVICE)
    occupancy = torch.ones(4, 4, 4, dtype=torch.bool, device=DEVICE)
    box = box.to(DEVICE)
    samples = march(3 * away, away, occupancy, box, 0.05, 0.027, 8, backend="triton")
    assert len(samples.t) == 0 and (samples.offsets == 0).all()
    density = torch.empty(0, device=DEVICE, requires_grad=True)
    values = torch.empty(0, 4, device=DEVICE, requires_grad=True)
    seen, alpha, depth, weights = composite(density, values, samples, backend="triton")
    (seen.sum() + alpha.sum() + depth.sum() + weights.sum()).backward()
    assert seen.shape == (100, 4)
    assert not (seen.any() or alpha.any() or depth.any())
    assert density.grad is not None and density.grad.shape == (0,)


@needs_triton
def test_a_ray_with_more_samples_than_a_tile() -> None:
    """Tiles pass on their light to the next, and backward what is behind them."""
    tile = import_module("radnerf.kernels.composite.triton").TILE
    counts = torch.tensor([3 * tile + 5, 0, tile, tile + 1])
    m = int(counts.sum())
    samples = Samples(
        t=torch.rand(m),
        dt=torch.full((m,), 0.02),
        ray=torch.repeat_interleave(torch.arange(4), counts),
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]),
        cell=torch.zeros(m, dtype=torch.long),
    )
    density, values = 5 * torch.rand(m), torch.randn(m, 3)
    results = []
    for backend in ("triton", "reference"):
        device = device_of(backend)
        leaves = [value.to(device).clone().requires_grad_() for value in (density, values)]
        outputs = composite(*leaves, to_device(samples, device), backend=backend)
        sum(output.square().sum() for output in outputs).backward()
        results.append([value.cpu() for value in (*outputs, *(leaf.grad for leaf in leaves))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
