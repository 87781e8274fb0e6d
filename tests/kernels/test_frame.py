"""Whole frames by the CPU's and the GPU's renderers against the plain-torch operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from kernels.devices import HAS_GPU, device_of
from kernels.older_processor import passes_on_an_older_processor
from torch import Tensor

from radnerf import kernels
from radnerf.errors import KernelUnavailable
from radnerf.experiment.build import ClipFacts, portrait_config
from radnerf.heads.marching import Marching
from radnerf.kernels import available, dispatch
from radnerf.kernels.frame.cells import steps_to_occupied
from radnerf.rendering.frame import FrameRenderer, PlainFrameRenderer, frame_renderer
from radnerf.rendering.portrait import Portrait

pytestmark = pytest.mark.usefixtures("several_threads")

CONF = Path(__file__).parents[2] / "conf"
needs_triton = pytest.mark.skipif(
    "triton" not in available("march"), reason="neither a GPU nor TRITON_INTERPRET=1"
)
# PSNR of bfloat16 and of float16; fused, on a GPU, a sample may fall beyond its cell's border.
CLOSE = {"cpu": 50, "triton": 50 if HAS_GPU else 61}
CODE = torch.randn(64, generator=torch.Generator().manual_seed(2))
backends = pytest.mark.parametrize("backend", ["cpu", pytest.param("triton", marks=needs_triton)])


@pytest.fixture(autouse=True)
def _back_to_auto() -> Iterator[None]:
    yield
    kernels.set_backend("auto")


def make_portrait(encoder: str = "tiledgrid", **head: Any) -> Portrait:
    """A portrait that nobody trained, with contrast: colors, density and torso vary in space."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"encoder={encoder}"])
    facts = ClipFacts(44, 3, ((-0.5, -0.3, -0.4), (0.5, 0.3, 0.4)), (0.0, 0.25))
    parts = portrait_config(config, facts)
    parts["head"]["field"] |= head
    torch.manual_seed(0)
    portrait = Portrait.from_config(parts).eval()
    with torch.no_grad():
        audio = portrait.head.field.conditioning
        for grid in (portrait.head.field.spatial, audio.ambient, portrait.torso.field.grid):
            for level in range(grid.levels.n_levels):  # fine levels say little, as when trained
                rows = slice(grid.levels.offsets[level], grid.levels.offsets[level + 1])
                grid.table[rows].uniform_(-2, 2).mul_(0.7**level)
        for name, value in portrait.named_parameters():
            if "net.weights" in name and "audio" not in name:
                value.mul_(2)
        portrait.head.field.color_net.weights[-1] *= 5
        # Air between the clouds.
        portrait.head.field.sigma_net.weights[-1][0] *= 8
    cells = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 64)] * 3, indexing="ij"), -1)
    radius = cells.norm(dim=-1)
    portrait.head.grid.restrict((radius > 0.6) & (radius < 0.9))
    rows = torch.linspace(-1, 1, 128)[:, None].expand(128, 128)
    portrait.torso.grid.restrict(rows.T.roll(3, 0) > 0)
    return portrait


def camera(distance: float = 2.5, turned: bool = False) -> Tensor:
    """In front of the head, which looks along y; turned looks the other way."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    if turned:
        pose[:3, :3] = pose[:3, :3] @ torch.diag(torch.tensor([-1.0, 1, -1]))
    pose[:3, 3] = torch.tensor([0.05, distance, 0.02])
    return pose


def renderer(backend: str, portrait: Portrait, *view: Any) -> FrameRenderer:
    """Moves the portrait to the back end's device."""
    kernels.set_backend(backend)
    draw = frame_renderer(portrait.to(device_of(backend)), *view)
    assert backend_of(draw) == backend
    return draw


def backend_of(draw: FrameRenderer) -> str:
    """Whose class a renderer is."""
    if isinstance(draw, PlainFrameRenderer):
        return "reference"
    return type(draw).__module__.rpartition(".")[2]


def view_of(size: tuple[int, int]) -> tuple[Any, ...]:
    background = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    return 2.4 * max(size), (size[1] / 2 + 0.3, size[0] / 2 - 0.2), size, background


def both(
    portrait: Portrait,
    size: tuple[int, int],
    pose: Tensor,
    backend: str = "cpu",
    eye: float = 0.8,
    motion: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The frame by a back end's renderer and by the plain operators."""
    view = view_of(size)
    fast = renderer(backend, portrait, *view)(pose, CODE, eye, motion)
    return fast, renderer("reference", portrait, *view)(pose, CODE, eye, motion)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = ((a.astype(float) - b.astype(float)) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


# Triton's interpreter is slow: its images are small, and where the fields hardly matter, it marches
# in large steps.
COARSE = Marching(step=0.06)
SIZES = [
    *(("cpu", size) for size in [(1, 1), (7, 5), (96, 81)]),
    *(pytest.param("triton", size, marks=needs_triton) for size in [(1, 1), (7, 5), (40, 33)]),
]


@pytest.mark.parametrize("encoder", ["tiledgrid", "hashgrid"])
@pytest.mark.parametrize(("backend", "size"), SIZES)
def test_frame_is_that_of_the_reference(encoder: str, backend: str, size: tuple[int, int]) -> None:
    fast, plain = both(make_portrait(encoder), size, camera(), backend)
    assert fast.shape == (*size, 3)
    assert psnr(fast, plain) > CLOSE[backend]


@backends
@pytest.mark.parametrize("what", ["the head", "the torso"])
def test_there_is_something_to_see(backend: str, what: str) -> None:
    """Else agreement means little."""
    portrait, other = make_portrait(), make_portrait()
    portrait.head.marching = other.head.marching = COARSE
    (other.head.grid if what == "the head" else other.torso.grid).occupied.fill_(False)
    with_it, _ = both(portrait, (40, 40), camera(), backend)
    without, _ = both(other, (40, 40), camera(), backend)
    assert psnr(with_it, without) < 25


@backends
@pytest.mark.parametrize("occupied", [True, False])
def test_full_and_empty_grids(backend: str, occupied: bool) -> None:
    portrait = make_portrait()
    for grid in (portrait.head.grid, portrait.torso.grid):
        grid.occupied.fill_(occupied)
    fast, plain = both(portrait, (40, 40), camera(), backend)
    assert psnr(fast, plain) > CLOSE[backend]


@backends
def test_rays_that_all_miss_show_torso_and_background(backend: str) -> None:
    fast, plain = both(make_portrait(), (40, 40), camera(turned=True), backend)
    assert psnr(fast, plain) > CLOSE[backend]


@backends
def test_camera_inside_the_box(backend: str) -> None:
    portrait = make_portrait()
    portrait.head.marching = COARSE
    fast, plain = both(portrait, (40, 40), camera(distance=0.1), backend)
    assert psnr(fast, plain) > CLOSE[backend]


@backends
def test_torso_that_is_told_where_to_be(backend: str) -> None:
    portrait, motion = make_portrait(), torch.tensor([0.2, -0.1, 0.3])
    portrait.torso.field.motion_map[6] = torch.tensor([-0.1, 0.05, -0.2])
    predicted, plain = both(portrait, (40, 40), camera(turned=True), backend)
    assert psnr(predicted, plain) > CLOSE[backend]
    told, plain = both(portrait, (40, 40), camera(turned=True), backend, motion=motion)
    assert psnr(told, plain) > CLOSE[backend] and psnr(told, predicted) < 40


@backends
def test_a_torso_that_is_not_tracked_stays(backend: str) -> None:
    portrait, motion = make_portrait(), torch.tensor([0.2, -0.1, 0.3])
    portrait.torso.field.tracked = False
    still, plain = both(portrait, (24, 24), camera(turned=True), backend)
    told, plain_told = both(portrait, (24, 24), camera(turned=True), backend, motion=motion)
    assert np.array_equal(still, told) and np.array_equal(plain, plain_told)
    assert psnr(still, plain) > CLOSE[backend]


@backends
def test_few_samples(backend: str) -> None:
    portrait = make_portrait()
    portrait.head.marching = Marching(step=0.02, max_samples=3)
    fast, plain = both(portrait, (20, 20), camera(), backend)
    assert psnr(fast, plain) > CLOSE[backend]


@backends
def test_rays_end_where_little_light_is_left(backend: str) -> None:
    portrait = make_portrait()
    portrait.head.marching = Marching(step=0.05, stop=0.5)
    fast, plain = both(portrait, (20, 20), camera(), backend)
    portrait.head.marching = Marching(step=0.05, stop=0)
    late = renderer("reference", portrait, *view_of((20, 20)))(camera(), CODE, 0.8)
    assert psnr(fast, plain) > psnr(fast, late) + 10


@needs_triton
def test_tiles_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    from radnerf.kernels.frame import triton_loops

    monkeypatch.setattr(triton_loops, "INTERPRETED_SIDE", 8)
    portrait = make_portrait()
    portrait.head.marching = COARSE
    fast, plain = both(portrait, (18, 23), camera(), "triton")
    assert psnr(fast, plain) > CLOSE["triton"]


@backends
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_camera_that_is_no_number_ends(backend: str) -> None:
    view = 20.0, (3.0, 3.0), (6, 6), np.zeros((6, 6, 3), np.uint8)
    draw = renderer(backend, make_portrait(), *view)
    for bad in (torch.nan, torch.inf):
        assert draw(camera().fill_(bad), torch.zeros(64), 1.0).shape == (6, 6, 3)


def test_small_pools_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = make_portrait()
    whole, _ = both(portrait, (64, 64), camera())
    kernels.set_backend("auto")
    monkeypatch.setattr("radnerf.kernels.frame.head.POOL", 20)
    monkeypatch.setattr("radnerf.kernels.frame.torso.PIXELS", 20)
    parts, _ = both(portrait, (64, 64), camera())
    assert psnr(whole, parts) > 55


def test_layers_of_uneven_width() -> None:
    """Not as wide as whole vectors."""
    fast, plain = both(make_portrait(hidden=42, geometry_dim=42, sh_degree=3), (64, 64), camera())
    assert psnr(fast, plain) > 53


def test_fog_is_as_bright_as_it_is() -> None:
    """Many samples, none of which weighs anything to speak of."""
    portrait = make_portrait()
    portrait.head.field.sigma_net.weights[-1].data[0] = 0  # density 1
    portrait.head.grid.occupied.fill_(True)
    portrait.head.marching = Marching(step=0.0019, max_samples=64)
    fast, plain = both(portrait, (32, 32), camera())
    assert psnr(fast, plain) > 55 and abs((fast.astype(float) - plain).mean()) < 0.1


def test_an_older_processor(tmp_path: Path) -> None:
    chosen = "frame_is_that_of_the_reference and cpu or head_alone and cpu"
    passes_on_an_older_processor(__file__, chosen, tmp_path)


def test_opaque_rays_take_the_surface_behind_for_like_it() -> None:
    """A ray that is given up early looks as if it had gone on, not darker."""
    portrait = make_portrait()
    portrait.head.marching = Marching(step=0.02, stop=0)
    fast, plain = both(portrait, (64, 64), camera())
    difference = fast.astype(float) - plain
    assert abs(difference.mean()) < 0.1 and psnr(fast, plain) > CLOSE["cpu"]


@backends
def test_frames_follow_what_drives_them_and_stay_as_they_were(backend: str) -> None:
    side = 64 if backend == "cpu" else 24
    background = np.full((side, side, 3), 128, np.uint8)
    view = 2.4 * side, (side / 2, side / 2), (side, side), background
    portrait = make_portrait()
    portrait.head.marching = COARSE
    draw = renderer(backend, portrait, *view)
    first = draw(camera(), CODE, 1.0)
    kept = first.copy()
    others = [
        draw(camera(), -CODE, 1.0),
        draw(camera(), CODE, 0.0),
        draw(camera(2.2), CODE, 1.0),
        draw(camera(), CODE, 1.0, torch.tensor([0.1, 0.05, 0.1])),
    ]
    assert np.array_equal(first, kept)
    assert all(psnr(first, other) < 45 for other in others)
    assert np.array_equal(draw(camera(), CODE, 1.0), kept)


@backends
def test_head_alone_over_a_picture(backend: str) -> None:
    portrait = make_portrait().to(device_of(backend))
    kernels.set_backend(backend)
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    view = 96.0, (20.0, 20.0), (40, 40), np.zeros((40, 40, 3), np.uint8)
    drive = camera(), torch.zeros(64, device=device_of(backend)), 1.0
    fast = frame_renderer(portrait, *view)(*drive, behind=picture)
    kernels.set_backend("reference")
    plain = frame_renderer(portrait, *view)(*drive, behind=picture)
    assert psnr(fast, plain) > 50
    assert (fast[0] == picture[0]).all(), "no head in the first row"


def test_what_it_cannot_take_goes_operator_by_operator_or_says_why() -> None:
    portrait = make_portrait(sh_degree=3)
    assert backend_of(renderer_of(portrait)) == "cpu"
    kernels.set_backend("reference")
    assert backend_of(renderer_of(portrait)) == "reference"
    kernels.set_backend("auto")
    portrait.head.field.conditioning.ambient = torch.nn.Identity()
    assert backend_of(renderer_of(portrait)) == "reference"
    kernels.set_backend("cpu")
    with pytest.raises(KernelUnavailable, match="frame/cpu: the ambient encoder is no grid"):
        renderer_of(portrait)


@needs_triton
@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({}, None),
        ({"sh_degree": 2}, None),
        ({"hidden": 48}, "a layer is 48 wide, not a power of two from 16 on"),
        ({"hidden": 8}, "a layer is 8 wide, not a power of two from 16 on"),
    ],
)
def test_what_the_gpu_renderer_takes(sizes: dict[str, int], reason: str | None) -> None:
    portrait = make_portrait(**sizes).to(device_of("triton"))
    kernels.set_backend("triton")
    if reason is None:
        assert backend_of(renderer_of(portrait)) == "triton"
        return
    with pytest.raises(KernelUnavailable, match=f"frame/triton: {reason}"):
        renderer_of(portrait)


@needs_triton
def test_auto_takes_a_gpu_but_not_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = make_portrait().to(device_of("triton"))
    on_gpu = device_of("triton") == "cuda"
    assert backend_of(renderer_of(portrait)) == ("triton" if on_gpu else "cpu")
    monkeypatch.setattr(dispatch, "triton_interprets", lambda: False)
    monkeypatch.setitem(dispatch.BACKENDS, "triton", lambda tensors: None)
    assert backend_of(renderer_of(portrait)) == "triton"


@needs_triton
def test_fewer_harmonics() -> None:
    portrait = make_portrait(sh_degree=2)
    portrait.head.marching = COARSE
    fast, plain = both(portrait, (20, 20), camera(), "triton")
    assert psnr(fast, plain) > CLOSE["triton"]


def renderer_of(portrait: Portrait) -> FrameRenderer:
    background = np.zeros((8, 8, 3), np.uint8)
    return frame_renderer(portrait, 20.0, (4.0, 4.0), (8, 8), background)


def test_steps_to_the_next_occupied_cell() -> None:
    occupied = np.zeros((7, 5, 9), bool)
    occupied[2, 1, 4] = True
    index = np.stack(np.meshgrid(*map(np.arange, occupied.shape), indexing="ij"))
    expected = np.abs(index - np.array([2, 1, 4])[:, None, None, None]).max(0)
    assert np.array_equal(steps_to_occupied(occupied), expected)
    assert (steps_to_occupied(np.zeros((3, 3, 3), bool)) > 3).all()


def test_refining_the_grid_leaves_the_picture() -> None:
    portrait = make_portrait()
    before, _ = both(portrait, (64, 64), camera())
    kernels.set_backend("auto")
    cells = int(portrait.head.grid.occupied.sum())
    portrait.finalize(CODE.expand(6, 64), torch.full((6,), 0.8))
    assert portrait.head.grid.occupied.shape == (128, 128, 128)
    assert int(portrait.head.grid.occupied.sum()) < 8 * cells
    again = Portrait.from_config(portrait.config)
    again.load_state_dict(portrait.state_dict())
    after, _ = both(again, (64, 64), camera())
    assert psnr(before, after) > 40
