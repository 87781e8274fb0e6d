"""Short trainings on a small demo clip, without the run around them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from radnerf import kernels
from radnerf.audio import MelExtractor
from radnerf.data.datamodule import ClipDataModule
from radnerf.data.demo import make_demo_clip
from radnerf.experiment.build import build_portrait, build_stage
from radnerf.modules.budget import Budget
from radnerf.rendering.portrait import Portrait

CONF = Path(__file__).parents[2] / "conf"
SMALL = (
    "trainer=cpu",
    "encoder.spatial.n_levels=8",
    "encoder.spatial.finest_resolution=256",
    "model.stages.head.samples_per_step=6000",
    "model.stages.head.sampling.n_frames=12",
    "model.stages.head.warm_start_steps=100",
)


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*SMALL, *overrides])


def small_clip(folder: Path, seconds: float = 5.0, size: int = 64) -> ClipDataModule:
    """The demo clip, small."""
    make_demo_clip(folder / "demo", seconds, size)
    data = ClipDataModule(folder / "demo", MelExtractor())
    data.setup()
    return data


def fresh(data: ClipDataModule, *overrides: str) -> Portrait:
    """An untrained portrait of a clip."""
    torch.manual_seed(0)
    return build_portrait(composed(*overrides), data)


def trained(
    data: ClipDataModule, portrait: Portrait, stage: str, steps: int, *overrides: str
) -> Portrait:
    """A copy of a portrait after some steps of a stage."""
    config = composed(*overrides)
    kernels.set_backend(config.kernels.backend)
    torch.manual_seed(0)
    module = build_stage(config, stage, copy.deepcopy(portrait), Budget(steps=steps))
    data.use(module.sampling)
    trainer = instantiate(config.trainer, max_steps=-1, max_epochs=1, logger=False)
    trainer.fit(module, datamodule=data)
    return module.portrait.eval()
