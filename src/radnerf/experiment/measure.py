"""The test stage: of a portrait just trained, or of one trained before."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from radnerf.audio import make_extractor
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.experiment import launch
from radnerf.experiment.cross import evaluate_cross
from radnerf.experiment.evaluate import evaluate
from radnerf.experiment.folder import read_state
from radnerf.experiment.plan import step_metrics, too_few
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.performer import load_portrait
from radnerf.rendering.portrait import Portrait

PORTRAIT = "portrait.safetensors"


def measure(
    config: DictConfig,
    portrait: Portrait,
    bundle: PortraitBundle,
    data: ClipDataModule,
    folder: Path,
    file: Path,
    steps: Mapping[str, int],
    wanted: Mapping[str, int],
) -> dict[str, Any]:
    """Metrics of a portrait on a clip's held-out frames, and its videos in the folder.

    Args:
        bundle: the portrait with the clip's tracks.
        file: the portrait's, which the videos' marks name.
        steps: that each stage of it had.
        wanted: steps that the recipe had for them.

    Raises:
        UserError: test.audio cannot be used.
    """
    weights, mark = config.metrics, instantiate(config.marks)
    beside_truth = mark(portrait=file, audio=data.clip.root / "aud.wav").beside_truth()
    video, lpips, syncnet = folder / "test.mp4", weights.lpips, weights.syncnet
    note = too_few(steps, wanted)
    metrics = evaluate(portrait, data, video, beside_truth, config.seed, lpips, syncnet, note)
    if config.test.audio is not None:
        device = str(next(portrait.parameters()).device)
        marks = mark(portrait=file, audio=config.test.audio)
        metrics |= evaluate_cross(
            bundle, data, config.test.audio, folder / "cross.mp4", marks, syncnet, device
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    metrics |= {"memory.peak_mb": peak, "seed": config.seed}
    return metrics | step_metrics(steps, wanted)


def measure_again(config: DictConfig, ckpt: Path, root: Path, folder: Path) -> dict[str, Any]:
    """Metrics of a portrait file on the clip folder `root`, which need not be its own.

    Its audio features are extracted as when it was trained, whatever `audio=` says.

    Raises:
        UserError: not a portrait, or not a clip.
    """
    bundle = PortraitBundle.load(ckpt)
    data = ClipDataModule(root, make_extractor(bundle.extractor), seed=config.seed)
    data.setup()
    clip = data.clip
    bundle = replace(
        bundle,
        poses=data.poses,
        eye=data.eye,
        torso_motion=data.frames.torso_motion,
        focal=clip.focal,
        centre=clip.centre,
        size=clip.size,
        fps=clip.fps,
        background=data.frames.background,
        n_train=clip.n_train,
    )
    portrait = load_portrait(bundle).to(launch.device(config.trainer))
    state = read_state(ckpt.parent)  # empty for a portrait that was taken elsewhere
    steps, wanted = state.get("steps", {}), state.get("wanted", {})
    metrics = measure(config, portrait, bundle, data, folder, ckpt, steps, wanted)
    return metrics | {"portrait": str(ckpt)}


def find_portrait(ckpt: str | Path | None, runs: Path) -> Path:
    """The portrait file that a test is of.

    Args:
        ckpt: a portrait file or a run's folder; None is the newest that the runs left.

    Raises:
        UserError: there is none.
    """
    if ckpt is None:
        found = [path for path in runs.glob(f"*/{PORTRAIT}") if not path.parent.is_symlink()]
        if not found:
            raise UserError(
                f"There is no trained portrait in {runs}: train one first, or give ckpt=PATH of a "
                f"{PORTRAIT} or a run's folder."
            )
        return max(found, key=lambda path: path.parent.name)
    path = Path(ckpt)
    if path.is_dir() and not (path / PORTRAIT).is_file():
        raise UserError(f"The folder {path} has no {PORTRAIT}: give ckpt=PATH of a finished run.")
    return path / PORTRAIT if path.is_dir() else path
