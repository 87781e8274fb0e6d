"""Every combination of encoder, audio conditioning and torso: built, trained, kept and drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from fields.tinycuda import stand_in
from hydra import compose, initialize_config_dir
from inference.fakes import make_bundle, turned

from radnerf import kernels
from radnerf.errors import KernelUnavailable
from radnerf.experiment.build import ClipFacts, build_stage, portrait_config
from radnerf.fields.cameras import CameraRefinement
from radnerf.geometry.cameras import rays_through
from radnerf.geometry.rotations import head_pose_vector
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.performer import load_portrait
from radnerf.kernels.frame import cpu
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.rendering.frame import PlainFrameRenderer, frame_renderer
from radnerf.rendering.portrait import Portrait
from radnerf.types import Batch, Conditioning, Rays

CONF = Path(__file__).parents[2] / "conf"
N_FRAMES, SIZE = 3, (12, 10)
VIEW = 25.0, (5.0, 6.0), SIZE
GRIDS = ("tiledgrid", "hashgrid")
SMALL = (
    "model.hidden=16",
    "model.grid_levels=2",
    "head.grid.shape=[8,8,8]",
    "torso.grid.shape=[8,8]",
    "model.marching_step=0.08",
    "model.max_samples=16",
    "model.stages.joint.landmark_driven=[0,0]",
)
COMBINATIONS = [
    [f"encoder={encoder}", f"conditioning={conditioning}", f"torso={torso}"]
    for encoder, conditioning, torso in product(
        (*GRIDS, "triplane", "frequency", "tinycudann"),
        ("coordinate", "concatenation", "attention"),
        ("pose", "anchors"),
    )
] + [
    ["encoder.ambient.dim=1"],
    ["encoder.ambient.dim=3"],
    ["encoder=frequency", "encoder.ambient.dim=1"],
    ["encoder=tinycudann", "encoder.spatial.network=[16,64,1]"],
    ["head.field.appearance_dim=0", "torso.field.code_dim=0"],
    ["torso.field.deforms=false"],
    ["head.grid.maximum=false"],
    ["model=radnerf_small"],
]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in())
    yield
    kernels.set_backend("auto")


def made(choices: list[str]) -> tuple[Portrait, StageModule]:
    """A small portrait, and the stage that trains all of it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*SMALL, *choices])
    facts = ClipFacts(6, N_FRAMES, ((-0.4, -0.3, -0.4), (0.4, 0.3, 0.4)), (0.0, 0.25))
    torch.manual_seed(0)
    portrait = Portrait.from_config(portrait_config(config, facts))
    return portrait, build_stage(config, "joint", portrait, Budget(steps=10))


def batch() -> Batch:
    """Every pixel of three frames, in random colors."""
    generator = torch.Generator().manual_seed(1)
    height, width = SIZE
    poses = torch.stack([turned(angle) for angle in (-8, 0, 9)])
    frame, row, column = torch.meshgrid(
        torch.arange(N_FRAMES), torch.arange(height), torch.arange(width), indexing="ij"
    )
    frame, uv = frame.flatten(), torch.stack([column, row], -1).view(-1, 2) + 0.5
    n = len(frame)
    colors = torch.rand(3, n, 3, generator=generator)
    return Batch(
        rays=Rays(*rays_through(poses, frame, uv, *VIEW[:2]), frame),
        xy=uv / torch.tensor([width, height]) * 2 - 1,
        target=colors[0],
        behind=colors[1],
        background=colors[2],
        torso_alpha=torch.rand(n, generator=generator),
        head=torch.ones(n, dtype=torch.bool),
        face=torch.ones(n, dtype=torch.bool),
        eyes=torch.arange(n) % 2 == 0,
        conditioning=Conditioning(
            audio=torch.rand(N_FRAMES, 8, 16, 6, generator=generator),
            eye=torch.tensor([0.1, 0.2, 0.3]),
            pose=head_pose_vector(poses),
            index=torch.arange(N_FRAMES),
            torso=torch.zeros(N_FRAMES, 3),
        ),
    )


@pytest.mark.parametrize("choices", COMBINATIONS, ids=" ".join)
def test_a_step_moves_every_parameter_and_the_file_keeps_it(
    choices: list[str], tmp_path: Path
) -> None:
    portrait, module = made(choices)
    kernels.set_backend("reference")
    before = {name: value.detach().clone() for name, value in portrait.named_parameters()}
    optimizer = module.configure_optimizers()["optimizer"]
    loss, _ = module.loss(batch())
    loss.backward()
    resting = {
        name
        for name, value in portrait.named_parameters()
        if value.numel() and (value.grad is None or not value.grad.any())
    }
    bent = {name for name in before if name.startswith("torso.field.deform_net")}
    assert resting == (bent if choices == ["torso.field.deforms=false"] else set())
    optimizer.step()
    for name, value in portrait.named_parameters():
        assert value.isfinite().all()
        moved = not torch.equal(value, before[name])
        assert moved == (value.numel() > 0 and name not in resting), name

    portrait.eval()
    path = tmp_path / "portrait.safetensors"
    make_bundle(portrait=portrait.config, weights=portrait.state_dict()).save(path)
    again = load_portrait(PortraitBundle.load(path)).eval()
    background = np.full((*SIZE, 3), 90, np.uint8)
    code = torch.randn(64, generator=torch.Generator().manual_seed(2))
    frames = [
        PlainFrameRenderer(each, *VIEW, background)(turned(3), code, 0.2)
        for each in (portrait, again)
    ]
    assert np.array_equal(*frames)
    assert (frames[0] != 90).mean() > 0.2, "there is something to see"

    kernels.set_backend("auto")
    draw = frame_renderer(again, *VIEW, background)
    group, _, choice = choices[0].partition("=")
    whole = not group.startswith("encoder") or (
        choice in GRIDS and choices[1] == "conditioning=coordinate"
    )
    assert isinstance(draw, cpu.Renderer if whole else PlainFrameRenderer)
    error = draw(turned(3), code, 0.2).astype(float) - frames[0]
    assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) > 45


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (["encoder=triplane"], "the audio enters by RegionAttention, not by a coordinate"),
        (["conditioning=concatenation"], "the audio enters by Concatenation"),
        (["encoder=triplane", "conditioning=coordinate"], "the spatial encoder is no grid"),
        (["encoder=frequency"], "the spatial encoder is no grid"),
        (["encoder.ambient.dim=1"], "the ambient grid is not of 2 dimensions"),
    ],
)
def test_the_fast_renderer_says_why_it_cannot_draw(choices: list[str], reason: str) -> None:
    portrait, _ = made(choices)
    kernels.set_backend("cpu")
    with pytest.raises(KernelUnavailable, match=f"frame/cpu: {reason}"):
        frame_renderer(portrait, *VIEW, np.zeros((*SIZE, 3), np.uint8))


def test_the_head_stage_refines_cameras_at_their_own_rate_and_the_torso_stage_does_not() -> None:
    portrait, _ = made([])
    portrait.cameras = CameraRefinement(N_FRAMES)
    kernels.set_backend("reference")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*SMALL])
    head, torso = (
        build_stage(config, name, portrait, Budget(steps=10), **changes)
        for name, changes in (
            ("head", {"landmark_driven": [0, 0], "samples_per_step": None}),
            ("torso", {}),
        )
    )
    assert portrait.cameras not in torso.trained_parts
    cameras = set(portrait.cameras.parameters())
    groups = head.configure_optimizers()["optimizer"].param_groups
    (group,) = [group for group in groups if cameras & set(group["params"])]
    assert set(group["params"]) == cameras and group["initial_lr"] == 1e-5
    head.loss(batch())[0].backward()
    assert all(bool(value.grad.any()) for value in cameras)  # type: ignore[union-attr]
