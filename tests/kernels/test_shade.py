"""The head shaded as one, against its operators one by one in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kernels.older_processor import passes_on_an_older_processor
from torch import Tensor

from radnerf import kernels
from radnerf.fields.conditioning import AudioCoordinate, Concatenation
from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField
from radnerf.fields.occupancy import OccupancyGrid
from radnerf.heads import marching as rendering_head
from radnerf.heads.marching import Marching, render_head
from radnerf.kernels import dispatch
from radnerf.kernels.dispatch import unsupported_reason
from radnerf.kernels.shade import cpu
from radnerf.types import Rays

pytestmark = pytest.mark.usefixtures("several_threads")

BOX = [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]
TILED: dict[str, Any] = {
    "n_levels": 5, "base_resolution": 4, "finest_resolution": 64, "log2_table_size": 10
}  # fmt: skip
FRAMES = 3
# Of errors, relative to plain torch's norms: about twice what 16-bit products reach.
RENDERED, GRADIENTS = 4e-3, 0.1
LIMITS = {"ambient": 0.005, "weights": 0.007}


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    before = kernels.get_backend()
    kernels.set_backend("cpu")
    yield
    kernels.set_backend(before)


def field(
    grid: dict[str, Any] | None = None, density: float = 1.0, product: float = 0.5, **kwargs: Any
) -> HeadField:
    """A head of random weights; density scales the logarithm of its density.

    Its audio grid is coarse: where rounding moves a coordinate to another cell, the gradient jumps.
    """
    torch.manual_seed(0)
    coarse = TILED | {"finest_resolution": 8} | (grid or {})
    audio = AudioCoordinate(GridEncoding(2, **coarse), product)
    made = HeadField(GridEncoding(3, **(TILED | (grid or {}))), audio, BOX, FRAMES, **kwargs)
    for encoding in (made.spatial, audio.ambient):
        encoding.table.data.uniform_(-1, 1)
    made.sigma_net.weights[-1].data[0] *= density
    return made


def rays(n: int, frames: int = FRAMES) -> Rays:
    """Towards the box from one side, every seventh past it."""
    generator = torch.Generator().manual_seed(n)
    origins = torch.rand(n, 3, generator=generator) * 0.8 - 0.4
    origins[:, 1] = 3
    directions = torch.randn(n, 3, generator=generator) * 0.02
    directions[:, 1] = -1
    directions[::7, 1] = 1
    frame = torch.randint(frames, (n,), generator=generator)
    return Rays(origins, torch.nn.functional.normalize(directions, dim=-1), frame)


def results(
    made: HeadField, seen: Rays, marching: Marching, frames: int = FRAMES
) -> dict[str, Tensor]:
    """What is rendered, and the gradients of everything that is learned."""
    generator = torch.Generator().manual_seed(2)
    code = torch.randn(frames, 64, generator=generator, requires_grad=True)
    made.zero_grad()
    index = torch.arange(frames) % FRAMES
    state = made.state(code, torch.rand(frames, generator=generator), index)
    grid = OccupancyGrid(BOX, (8, 8, 8), threshold=0.01)
    jitter = torch.rand(len(seen.frame), generator=generator)
    out, _ = render_head(made, grid, seen, state, marching, jitter)
    rendered = {
        "rgb": out.rgb, "alpha": out.alpha, "depth": out.depth, "ambient": out.ambient,
        "weights": out.weights,
    }  # fmt: skip
    upstream = [torch.randn(value.shape, generator=generator) for value in rendered.values()]
    torch.autograd.backward(list(rendered.values()), upstream)
    gradients = {name: p.grad for name, p in made.named_parameters()} | {"code": code.grad}
    assert all(gradient is not None for gradient in gradients.values())
    found = rendered | {f"of {name}": g for name, g in gradients.items() if g is not None}
    return {name: value.detach().clone() for name, value in found.items()}


def in_parts(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> dict[str, Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(rendering_head, "shade", lambda *_: None)
        return results(*arguments)


def assert_near_plain_torch(*arguments: Any) -> None:
    """What is rendered, and the gradients, against plain torch: products are of 16 bits."""
    kernels.set_backend("reference")
    expected = results(*arguments)
    kernels.set_backend("cpu")
    found = results(*arguments)
    for name, value in expected.items():
        error = float((found[name] - value).norm() / (value.norm() + 1e-12))
        limit = GRADIENTS if name.startswith("of ") else LIMITS.get(name, RENDERED)
        assert error <= limit, f"{name}: {error:.4f} is above {limit}"


@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_numbers_of_rays(n: int) -> None:
    assert_near_plain_torch(field(), rays(n), Marching(step=0.03, max_samples=40))


@pytest.mark.parametrize(
    "grid",
    [{"kind": "hash"}, {"drop_folded_axes": True}, {"last_axis_first": True}, {"n_levels": 1}],
    ids=lambda grid: next(iter(grid)),
)
def test_kinds_of_grids(grid: dict[str, Any]) -> None:
    assert_near_plain_torch(field(grid), rays(200), Marching(0.03, 40))


@pytest.mark.parametrize(
    "settings",
    [{"product": 0.0}, {"appearance_dim": 0}, {"hidden": 42, "geometry_dim": 30, "sh_degree": 2}],
    ids=["no product", "no appearance", "other widths"],
)
def test_kinds_of_heads(settings: dict[str, Any]) -> None:
    assert_near_plain_torch(field(**settings), rays(200), Marching(0.03, 40))


@pytest.mark.parametrize("density", [0.1, 30.0], ids=["fog", "wall"])
def test_fog_and_walls(density: float) -> None:
    made = field(density=density)
    assert_near_plain_torch(made, rays(200), Marching(step=0.03, max_samples=40))


def test_more_frames_than_rays() -> None:
    assert_near_plain_torch(field(), rays(20, 64), Marching(0.03, 40), 64)


def test_an_older_processor(tmp_path: Path) -> None:
    passes_on_an_older_processor(__file__, "numbers_of_rays or other", tmp_path)


def test_what_is_behind_a_wall_is_never_shaded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = field(density=0.0)  # density 1 everywhere, which a large step makes a wall
    seen, asked = rays(50), []
    rows_for = cpu._rows

    def watched(*arguments: Any) -> Any:
        asked.append(rows_for(*arguments))
        return asked[-1]

    monkeypatch.setattr(cpu, "_rows", watched)
    grid, state = (
        OccupancyGrid(BOX, (8, 8, 8), threshold=0.01),
        made.state(
            torch.zeros(FRAMES, 64), torch.zeros(FRAMES), torch.zeros(FRAMES, dtype=torch.long)
        ),
    )
    for stop, per_ray in ((1e-4, 20), (0.95, cpu.AT_ONCE[0])):
        _, samples = render_head(made, grid, seen, state, Marching(0.05, 40, stop=stop))
        shaded = torch.from_numpy(asked.pop().row >= 0).long()
        of_rays = torch.zeros(50).long().index_add_(0, samples.ray, shaded)
        assert of_rays.max() == per_ray
    assert samples.offsets.diff().max() == 20


def test_a_broken_network_is_not_hidden() -> None:
    made = field()
    made.sigma_net.weights[0].data[0, 0] = torch.nan
    found = results(made, rays(50), Marching(step=0.03, max_samples=40))
    assert any(not torch.isfinite(value).all() for value in found.values())


def test_what_cannot_be_shaded_as_one_says_why() -> None:
    def reason(made: HeadField, seen: Rays) -> str:
        return unsupported_reason("shade", "cpu", made.tensors(), seen) or ""

    seen = rays(5)
    assert reason(field(), seen) == ""
    assert "odd" in reason(field(hidden=33), seen)
    other = HeadField(GridEncoding(3, **TILED), Concatenation(), BOX, FRAMES)
    assert "Concatenation" in reason(other, seen)
    assert "3 dimensions" in reason(field({"n_features": 4, "n_levels": 2}), seen)
    assert "float64" in reason(field().double(), seen)
    moving = Rays(seen.origins.requires_grad_(), seen.directions, seen.frame)
    assert "cameras" in reason(field(), moving)


def test_what_cannot_be_shaded_as_one_goes_operator_by_operator(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="radnerf.kernels.dispatch")
    monkeypatch.setattr(dispatch, "_logged", set())
    arguments = field(hidden=33), rays(20), Marching(0.03, 40)
    for _ in range(2):
        found = results(*arguments)
    assert caplog.messages == [
        "kernels: shade runs operator by operator (shade/cpu: a hidden layer is of odd width)"
    ]
    for name, value in in_parts(monkeypatch, *arguments).items():
        assert torch.equal(found[name], value)
