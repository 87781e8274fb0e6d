"""The stages of an experiment, in order: preprocess, head, lips, torso, joint, test."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from radnerf import kernels
from radnerf.callbacks import ExponentialMovingAverage, Preview, StageCheckpoint, StageProgress
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.experiment.evaluate import encode
from radnerf.experiment.folder import RunFolder, write_text
from radnerf.experiment.measure import find_portrait, measure, measure_again
from radnerf.fields.audio_net import mouth_codes, rest_code, smooth_track
from radnerf.inference.bundle import PortraitBundle
from radnerf.metrics.report import write_metrics
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.preprocess.source import ClipSource
from radnerf.rendering.portrait import Portrait

STAGES = ("preprocess", "head", "lips", "torso", "joint", "test")
TRAINING = STAGES[1:-1]

console = Console(highlight=False)


def run(config: DictConfig) -> dict[str, Any]:
    """Run an experiment and return its metrics (empty without the test stage).

    Raises:
        UserError: a setting or an input that cannot be used.
    """
    _quiet()
    stages = list(config.stages)
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        raise UserError(f"stages={stages} is not a choice of {', '.join(STAGES)}.")
    again = "test" in stages and not set(stages) & set(TRAINING)
    if config.ckpt is not None and not again:
        raise UserError("ckpt= is a portrait to test: give it together with stages=[test].")
    kernels.set_backend(config.kernels.backend)
    pl.seed_everything(config.seed, verbose=False)

    source = ClipSource(**OmegaConf.to_container(config.data, resolve=True))  # type: ignore[arg-type]
    began = time.monotonic()
    root = source.prepare() if "preprocess" in stages else source.prepared()
    preprocess_s = time.monotonic() - began
    if stages == ["preprocess"]:
        console.print(f"clip: {root}")
        return {}

    runs = Path(config.outputs) / str(source.id)
    ckpt = find_portrait(config.ckpt, runs) if again else None
    settings: Any = OmegaConf.to_container(config, resolve=True)
    folder = RunFolder(runs, settings, latest=ckpt is None)
    console.print(f"{'going on with' if folder.resumed else 'run'}: {folder.path}")
    write_text(folder.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    seconds: dict[str, float] = folder.state["seconds"]
    seconds.setdefault("preprocess", preprocess_s)
    if ckpt is not None:
        console.print(f"portrait: {ckpt}")
        metrics = measure_again(config, ckpt, root, folder.path)
        metrics["time.preprocess_s"] = seconds["preprocess"]
        _report(metrics, folder, _logger(config, folder))
        return metrics

    data = ClipDataModule(root, instantiate(config.audio.extractor), seed=config.seed)
    data.setup()
    portrait = _portrait(config, data)
    logger = _logger(config, folder)
    budgets = _budgets(config, [name for name in TRAINING if name in stages])
    for name, budget in budgets.items():
        final = folder.checkpoints / f"{name}.safetensors"
        if final.is_file():
            portrait.load_state_dict(load_file(final))
            continue
        module = instantiate(
            config.model.stages[name],
            portrait=portrait,
            budget=budget,
            seed=config.seed,
            _convert_="object",
        )
        _train(config, module, data, folder, logger)
        # The module's own: instantiate hands it a copy.
        seconds[name] = module.budget.elapsed_s
        _save_weights(portrait, final)
        (folder.checkpoints / f"{name}.ckpt").unlink(missing_ok=True)
        folder.save()

    taught = bool(config.model.stages.head.warm_start_steps)
    remember_rest(portrait, data, taught)
    refine_grid(portrait, data)
    bundle = _bundle(str(source.id), data, portrait)
    bundle.save(folder.path / "portrait.safetensors")
    console.print(f"portrait: {folder.path / 'portrait.safetensors'}")
    if "test" not in stages:
        folder.finish()
        return {}
    metrics = measure(config, portrait, bundle, data, folder.path)
    metrics |= {
        "time.preprocess_s": seconds["preprocess"],
        "time.train_s": sum(seconds.get(name, 0.0) for name in TRAINING),
    }
    _report(metrics, folder, logger)
    return metrics


def _portrait(config: DictConfig, data: ClipDataModule) -> Portrait:
    """The portrait of the config, with what only the clip knows filled in."""
    parts = OmegaConf.to_container(config.model.portrait, resolve=True)
    assert isinstance(parts, dict)
    n_frames, box = data.clip.n_train, [list(corner) for corner in data.clip.head_box]
    parts["audio_net"]["dim"] = data.audio.shape[-1]
    parts["head"] |= {"n_frames": n_frames, "box": box, "eye_range": list(data.eye_range)}
    parts["head_grid"]["box"] = box
    parts["torso"]["n_frames"] = n_frames
    if config.model.normalise_pose:
        pose = data.pose_vectors[:n_frames]
        scale = pose.std(0).clamp_min(1e-3)
        parts["torso"] |= {"pose_mean": pose.mean(0).tolist(), "pose_scale": scale.tolist()}
    portrait = Portrait.from_config(parts)  # type: ignore[arg-type]
    portrait.torso.fit_motion(data.pose_vectors[:n_frames], data.frames.torso_motion[:n_frames])
    return portrait


def _budgets(config: DictConfig, stages: list[str]) -> dict[str, Budget]:
    """Split the minutes and steps of all training among the stages by their shares."""
    shares = {name: float(config.model.stage_shares[name]) for name in stages}
    total = sum(shares.values())
    minutes, steps = config.minutes, config.steps
    if minutes is None and steps is None:
        raise UserError("Training has no end: give minutes=M or steps=N.")
    for name, value in (("minutes", minutes), ("steps", steps)):
        if value is not None and not value > 0:
            raise UserError(f"{name}={value} is not a budget: give a positive number.")
    return {
        name: Budget(
            minutes=None if minutes is None else float(minutes) * share / total,
            steps=None if steps is None else max(1, round(steps * share / total)),
        )
        for name, share in shares.items()
    }


def _train(
    config: DictConfig, module: StageModule, data: ClipDataModule, folder: RunFolder, logger: Any
) -> None:
    """Train one stage, from its last checkpoint when there is one."""
    checkpoint = folder.checkpoints / f"{module.name}.ckpt"
    resume = checkpoint.is_file()
    first_step = 0
    if resume:
        first_step = int(torch.load(checkpoint, weights_only=True)["global_step"])
        console.print(f"{module.name}: from step {first_step}")
    data.use(module.sampling, first_step)
    ema = ExponentialMovingAverage(**config.model.ema)
    trainer = instantiate(
        config.trainer,
        max_steps=-1,
        max_epochs=1,
        logger=logger,
        callbacks=[
            ema,
            StageCheckpoint(checkpoint, config.checkpoint_every_s),
            StageProgress(),
            Preview(folder.path / "previews", ema, n_pictures=config.previews),
        ],
    )
    trainer.fit(
        module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True
    )
    if trainer.interrupted:
        raise KeyboardInterrupt


@torch.no_grad()
def remember_rest(portrait: Portrait, data: ClipDataModule, taught: bool) -> None:
    """Give the portrait the audio code of its closed mouth.

    Args:
        taught: the codes stand for mouth shapes (see mouth_codes), so that no audio is needed.
    """
    portrait.eval()
    frames = torch.arange(data.clip.n_train)
    if taught:
        codes = mouth_codes(data.mouth[frames], portrait.audio_net.code_dim)
    else:
        codes = encode(portrait, data, frames)
    portrait.rest_code.copy_(rest_code(codes, data.mouth_opening[frames].to(codes.device)))


@torch.no_grad()
def refine_grid(portrait: Portrait, data: ClipDataModule, n_codes: int = 16) -> None:
    """Leave out of the head's grid what no frame needs, for mouths and eyes far from each other."""
    portrait.eval()
    codes = smooth_track(encode(portrait, data, torch.arange(data.clip.n_train)))
    eye = torch.linspace(float(data.eye.min()), float(data.eye.max()), n_codes)
    shuffle = torch.randperm(n_codes, generator=torch.Generator().manual_seed(0))
    portrait.refine_head_grid(codes[farthest_points(codes, n_codes)], eye[shuffle].to(codes.device))


def farthest_points(points: Float[Tensor, "n d"], count: int) -> Int[Tensor, " count"]:
    """Indices of points of which each is as far as possible from those before it."""
    chosen = [(points - points.mean(0)).norm(dim=1).argmin()]
    distance = (points - points[chosen[0]]).norm(dim=1)
    for _ in range(count - 1):
        chosen.append(distance.argmax())
        distance = distance.minimum((points - points[chosen[-1]]).norm(dim=1))
    return torch.stack(chosen)


def _save_weights(portrait: Portrait, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    save_file(
        {name: value.contiguous() for name, value in portrait.state_dict().items()}, temporary
    )
    temporary.replace(path)


def _bundle(clip_id: str, data: ClipDataModule, portrait: Portrait) -> PortraitBundle:
    return PortraitBundle(
        id=clip_id,
        portrait=portrait.config,
        weights=portrait.state_dict(),
        extractor=asdict(data.extractor),  # type: ignore[call-overload]
        poses=data.poses,
        eye=data.eye,
        torso_motion=data.frames.torso_motion,
        focal=data.clip.focal,
        centre=data.clip.centre,
        size=data.clip.size,
        fps=data.clip.fps,
        background=data.frames.background,
        n_train=data.clip.n_train,
        lead=data.lead,
    )


def _logger(config: DictConfig, folder: RunFolder) -> Any:
    return instantiate(config.logger, save_dir=str(folder.path)) if config.logger else False


def _report(metrics: dict[str, Any], folder: RunFolder, logger: Any) -> None:
    """Write and log the metrics: the run is finished."""
    write_metrics(folder.path / "metrics.json", metrics)
    console.print(f"metrics: {folder.path / 'metrics.json'}")
    if logger:
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        logger.log_metrics({f"test/{key}": value for key, value in numbers.items()})
    folder.finish()


def _quiet() -> None:
    """Lightning's advice is for its own users, not for ours."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
