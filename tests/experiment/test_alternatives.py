"""Whole runs with other parts than the default's, on a clip of flat shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from radnerf.data.clip import Clip
from radnerf.experiment import run
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.file_driver import FileDriver

CONF = Path(__file__).parents[2] / "conf"
QUICK = (
    "data=clip",
    "steps=8",
    "logger=none",
    "previews=0",
    "stages=[preprocess,head,lips,torso,joint]",
    "model.max_samples=8",
    "model.stages.head.warm_start_steps=10",
    "head.grid.shape=[12,12,12]",
    *(f"model.stages.{name}.sampling.n_frames=2" for name in ("head", "lips", "torso", "joint")),
    *(f"model.stages.{name}.sampling.n_rays=64" for name in ("head", "lips", "torso", "joint")),
)


def portrait_of(
    clip: Path, folder: Path, *choices: str, kernels: str = "reference"
) -> PortraitBundle:
    """Train a little, and read the portrait's file."""
    where = (f"kernels={kernels}", f"data.root={clip}", f"outputs={folder}/outputs")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = compose("train", [*choices, *QUICK, *where])
    run(config)
    return PortraitBundle.load(folder / "outputs" / "tiny" / "latest" / "portrait.safetensors")


@pytest.mark.parametrize(
    "choices",
    [
        ["experiment=paper"],
        ["model=radnerf_small", "encoder=triplane", "torso=anchors"],
        ["model=radnerf_small", "encoder=frequency", "conditioning=concatenation"],
    ],
    ids=" ".join,
)
def test_a_run_ends_in_a_portrait_that_speaks(
    choices: list[str], tiny_clip: Path, tmp_path: Path
) -> None:
    bundle = portrait_of(tiny_clip, tmp_path, *choices)
    assert torch.equal(bundle.poses, torch.from_numpy(Clip.open(tiny_clip).poses))
    driver = FileDriver(bundle, tiny_clip / "aud.wav", eyes="1")
    assert next(iter(driver)).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("kernels", "choices"),
    [
        ("auto", ["model.grid_levels=4"]),
        ("reference", ["model.grid_levels=4", "model.refine_cameras=true", "torso=anchors"]),
    ],
)
def test_mixed_precision_learns_the_same(
    kernels: str, choices: list[str], tiny_clip: Path, tmp_path: Path
) -> None:
    exact, mixed = (
        portrait_of(tiny_clip, tmp_path / name, *choices, *precision, kernels=kernels).weights
        for name, precision in (("exact", []), ("mixed", ["+trainer.precision=bf16-mixed"]))
    )
    for name in (
        "head.field.spatial.table",
        "torso.field.torso_net.weights.0",
        "head.field.color_net.weights.1",
    ):
        alike = torch.nn.functional.cosine_similarity(exact[name], mixed[name], 0, 1e-12)
        assert exact[name].dtype == mixed[name].dtype == torch.float32
        assert float(alike.median()) > 0.99, name
    # Far from where they started, which is within 1e-4: they have learned.
    assert exact["head.field.spatial.table"].abs().max() > 0.01


def test_refined_poses_are_in_the_portrait(tiny_clip: Path, tmp_path: Path) -> None:
    choices = ["model.refine_cameras=true", "model.stages.head.rates.camera=1e-3"]
    bundle = portrait_of(tiny_clip, tmp_path, "model=radnerf_small", *choices)
    tracked = torch.from_numpy(Clip.open(tiny_clip).poses)
    off = (bundle.poses - tracked).abs().amax((1, 2))
    assert (off[: bundle.n_train] > 0).sum() >= 2 and off.max() < 0.05
    assert not off[bundle.n_train :].any(), "held-out frames stay as they were tracked"
