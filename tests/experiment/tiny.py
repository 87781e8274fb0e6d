"""The smallest experiment, and what to compare of it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from radnerf import ranks
from radnerf.experiment import run

REPOSITORY = Path(__file__).parents[2]
OVERRIDES = [
    "data=clip",
    "logger=none",
    "minutes=null",
    "previews=1",
    "trainer.accelerator=cpu",
    *(f"encoder.{grid}.n_levels=4" for grid in ("spatial", "ambient", "torso")),
    *(f"encoder.{grid}.log2_table_size=10" for grid in ("spatial", "ambient", "torso")),
    "model.portrait.head_grid.shape=[32,32,32]",
    "model.stages.head.warm_start_steps=10",
    "model.portrait.marching.max_samples=16",
    *(f"model.stages.{stage}.sampling.n_rays=512" for stage in ("lips", "torso", "joint")),
    # So that the number of rays goes up and down.
    "model.stages.head.samples_per_step=3000",
    "model.stages.head.sampling.n_first_rays=128",
]


def overrides(clip: Path, folder: Path, *more: str) -> list[str]:
    return [*OVERRIDES, f"data.root={clip}", f"outputs={folder}", *more]


def config(clip: Path, folder: Path, *more: str) -> DictConfig:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        composed = compose("train", overrides(clip, folder, *more))
    OmegaConf.set_readonly(composed, True)
    return composed


def digest(module: torch.nn.Module) -> str:
    """Of the bits of all parameters and buffers."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def train_and_tell(settings: DictConfig, notes: Path, *arguments: Any) -> dict[str, Any]:
    """An experiment in which every process notes what its portrait is after every stage."""
    module: Any = sys.modules[run.__module__]
    train = module._train

    def noted(config: DictConfig, stage: Any, *rest: Any) -> int:
        stopped = train(config, stage, *rest)
        note = notes / f"{stage.name}.{ranks.rank()}"
        note.write_text(f"{digest(stage.portrait)} {stage.global_step}")
        return stopped

    module._train = noted
    return module._experiment(settings, *arguments)
