"""The smallest experiment, and what to compare of it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from radnerf.experiment import run
from radnerf.fields.occupancy import OccupancyGrid, VisibleGrid
from radnerf.runtime import ranks

REPOSITORY = Path(__file__).parents[2]
OVERRIDES = [
    "data=clip",
    "logger=none",
    "previews=1",
    "trainer.accelerator=cpu",
    *(f"encoder.{grid}.n_levels=4" for grid in ("spatial", "ambient", "torso")),
    *(f"encoder.{grid}.log2_table_size=10" for grid in ("spatial", "ambient", "torso")),
    "head.grid.shape=[32,32,32]",
    "model.stages.head.warm_start_steps=10",
    "model.max_samples=16",
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


def grids(part: slice) -> dict[str, np.ndarray]:
    """Two kinds of grids after they saw a part of some samples."""
    generator = torch.Generator().manual_seed(0)
    points, weights, settled = (torch.rand(600, k, generator=generator) for k in (3, 1, 1))
    box = [[0, 0, 0], [1, 1, 1]]
    visible = VisibleGrid(box, [4, 5, 6], threshold=0.7, decay=0.6)
    for first in (0, 300):
        seen = slice(first + part.start, first + part.stop)
        visible.observe(visible.cells_of(points[seen]), weights[seen, 0], settled[seen, 0] < 0.8)
    dense = OccupancyGrid(box, [8, 8, 8], threshold=0.8)
    for grid in (visible, dense):
        grid.update(lambda x: x.prod(-1) + 0.1, generator)
    return {
        f"{kind}.{name}": value.numpy()
        for kind, grid in (("visible", visible), ("dense", dense))
        for name, value in grid.state_dict().items()
    }


def grids_and_training(
    settings: DictConfig, notes: Path, *arguments: Any
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return grids(ranks.part(300)), train_and_tell(settings, notes, *arguments)


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
