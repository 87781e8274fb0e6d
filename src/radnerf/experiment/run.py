"""The stages of an experiment, in order: preprocess, head, lips, torso, joint, test."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from radnerf import kernels, ranks
from radnerf.callbacks import (
    ExponentialMovingAverage,
    Preview,
    StageCheckpoint,
    StageProgress,
    StepControl,
)
from radnerf.data.clip import read_image
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.experiment import launch
from radnerf.experiment.compile import compile_ahead
from radnerf.experiment.evaluate import encode
from radnerf.experiment.folder import RunFolder, write_text
from radnerf.experiment.measure import PORTRAIT, find_portrait, measure, measure_again
from radnerf.fields.audio_net import mouth_codes, rest_code, smooth_track
from radnerf.inference.bundle import PortraitBundle
from radnerf.loggers import close, note_results
from radnerf.metrics.report import write_metrics
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.preprocess.judgement import warn
from radnerf.preprocess.source import ClipSource
from radnerf.rendering.portrait import Portrait, build
from radnerf.signals import leave

STAGES = ("preprocess", "head", "lips", "torso", "joint", "test")
TRAINING = STAGES[1:-1]
REFINEMENT = "radnerf.fields.cameras.CameraRefinement"

console = Console(highlight=False)


def run(config: DictConfig) -> dict[str, Any]:
    """Run an experiment and return its metrics (empty without the test stage).

    With several devices, a process is started for each, unless this one is among several already.

    Raises:
        UserError: a setting or an input that cannot be used.
    """
    if not launch.together(config.trainer):
        return _run(config)
    launch.adopt_slurm()
    with ranks.joined() if launch.started() else nullcontext():
        return _run(config)


def _run(config: DictConfig) -> dict[str, Any]:
    _quiet()
    stages = list(config.stages)
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        raise UserError(f"stages={stages} is not a choice of {', '.join(STAGES)}.")
    again = _only_tests(config)
    if config.ckpt is not None and not again:
        raise UserError("ckpt= is a portrait to test: give it together with stages=[test].")
    kernels.set_backend(config.kernels.backend)
    kernels.require()
    if stages != ["preprocess"]:
        launch.device(config.trainer)  # what is not there is missed before the work

    extractor = instantiate(config.audio.extractor)
    if set(stages) & set(TRAINING):
        # First of all: what is not there, or makes no sense, is found before the work.
        for part in (config.encoder.spatial, config.model.portrait.marching):
            build(OmegaConf.to_container(part, resolve=True))
        _say(f"audio: {extractor.summary}")
    settings: Any = OmegaConf.to_container(config.data, resolve=True)
    chosen = {name: instantiate(config[name]) for name in ("landmarks", "parser", "tracker")}
    source = ClipSource(**settings, **chosen)
    began = time.monotonic()
    with ranks.first_goes_first():
        prepare = "preprocess" in stages and ranks.rank() == 0
        root = source.prepare() if prepare else source.prepared()
    preprocess_s = time.monotonic() - began
    if ranks.rank() == 0:
        warn(root, config.strict)
    if stages == ["preprocess"]:
        _say(f"clip: {root}")
        return {}
    if launch.together(config.trainer) and ranks.count() == 1 and not again:
        count = launch.n_devices(config.trainer)
        if count > 1:
            _budgets(config, [name for name in TRAINING if name in stages])  # to refuse it once
            resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
            return launch.launch(count, _experiment, resolved, str(source.id), root, preprocess_s)
    return _experiment(config, str(source.id), root, preprocess_s)


def _experiment(
    config: DictConfig, clip_id: str, root: Path, preprocess_s: float
) -> dict[str, Any]:
    """Train and test on a clip folder; only the first process has metrics, and the run's folder."""
    again = _only_tests(config)
    if ranks.rank() > 0:
        return {} if again else _train_and_test(config, clip_id, root, None, None)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    runs = Path(config.outputs) / clip_id
    ckpt = find_portrait(config.ckpt, runs) if again else None
    folder = RunFolder(runs, settings, latest=ckpt is None)
    try:
        console.print(f"{'going on with' if folder.resumed else 'run'}: {folder.path}")
        write_text(folder.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        folder.state["seconds"].setdefault("preprocess", preprocess_s)
        with _logger(config, folder) as logger:
            if ckpt is None:
                return _train_and_test(config, clip_id, root, folder, logger)
            _say(f"portrait: {ckpt}")
            metrics = measure_again(config, ckpt, root, folder.path)
            metrics["time.preprocess_s"] = folder.state["seconds"]["preprocess"]
            _report(metrics, folder, logger)
            return metrics
    finally:
        folder.release()


def _train_and_test(
    config: DictConfig, clip_id: str, root: Path, folder: RunFolder | None, logger: Logger | None
) -> dict[str, Any]:
    _quiet()
    kernels.set_backend(config.kernels.backend)
    pl.seed_everything(config.seed, verbose=False)
    stages, path = list(config.stages), ranks.of_first(folder.path if folder else Path())

    data = ClipDataModule(root, instantiate(config.audio.extractor), seed=config.seed)
    with ranks.first_goes_first():
        data.setup()
    portrait, device = portrait_for(config, data), launch.device(config.trainer)
    budgets = _budgets(config, [name for name in TRAINING if name in stages])
    if budgets:
        _compile(config, portrait, data)
    for name, budget in budgets.items():
        final = path / "checkpoints" / f"{name}.safetensors"
        if ranks.of_first(final.is_file()):
            portrait.load_state_dict(load_file(final))
            continue
        module = instantiate(
            config.model.stages[name],
            portrait=portrait,
            budget=budget,
            seed=config.seed,
            _convert_="object",
        )
        stopped = _train(config, module, data, path, logger)
        if folder and module.progress >= 1:
            # The module's own: instantiate hands it a copy.
            folder.state["seconds"][name] = module.budget.elapsed_s
            _save_weights(portrait, final)
            final.with_suffix(".ckpt").unlink(missing_ok=True)
            folder.save()
        if stopped:
            _say(f"{name}: stopped at {module.progress:.0%}; the same command goes on from here")
            leave(stopped)
    ranks.part_ways()
    if folder is None:
        return {}

    portrait.to(device)  # from where Lightning has taken it at the end of a stage
    taught = bool(config.model.stages.head.warm_start_steps)
    remember_rest(portrait, data, taught)
    refine_grid(portrait, data)
    bundle = _bundle(clip_id, data, portrait)
    bundle.save(folder.path / PORTRAIT)
    _say(f"portrait: {folder.path / PORTRAIT}")
    if "test" not in stages:
        folder.finish()
        return {}
    seconds: dict[str, float] = folder.state["seconds"]
    metrics = measure(config, portrait, bundle, data, folder.path)
    metrics |= {
        "time.preprocess_s": seconds["preprocess"],
        "time.train_s": sum(seconds.get(name, 0.0) for name in TRAINING),
    }
    _report(metrics, folder, logger)
    return metrics


def _compile(config: DictConfig, portrait: Portrait, data: ClipDataModule) -> None:
    """Compile the kernels, and say so when it took long."""
    began = time.monotonic()
    trainer = launch.make_trainer(config.trainer, logger=False)
    status = console.status("compiling the kernels for this machine (kept for later runs)")
    precision = trainer.precision_plugin.forward_context
    with ranks.first_goes_first(), status:
        compile_ahead(portrait, data, trainer.strategy.root_device, precision)
    if (took := time.monotonic() - began) > 5:
        _say(f"kernels compiled in {took:.0f} s, kept for later runs")


def portrait_for(config: DictConfig, data: ClipDataModule) -> Portrait:
    """The portrait of the config, with what only the clip knows filled in."""
    parts = OmegaConf.to_container(config.model.portrait, resolve=True)
    assert isinstance(parts, dict)
    n_frames = data.clip.n_train
    box = [list(corner) for corner in config.model.head_box or data.clip.head_box]
    parts["audio_net"]["dim"] = data.audio.shape[-1]
    parts["head"] |= {"n_frames": n_frames, "box": box}
    parts["head"].setdefault("eye_range", list(data.eye_range))
    parts["head_grid"]["box"] = box
    parts["torso"]["n_frames"] = n_frames
    if config.model.refine_cameras:
        parts["cameras"] = {"_target_": REFINEMENT, "n_frames": n_frames}
    pose = data.pose_vectors[:n_frames]
    if config.model.normalise_pose:
        scale = pose.std(0).clamp_min(1e-3)
        parts["torso"] |= {"pose_mean": pose.mean(0).tolist(), "pose_scale": scale.tolist()}
    portrait = Portrait.from_config(parts)  # type: ignore[arg-type]
    if config.model.normalise_pose and portrait.torso.anchors is not None:
        portrait.torso.anchors.normalise(pose)
    portrait.torso.fit_motion(pose, data.frames.torso_motion[:n_frames])
    return portrait


def _budgets(config: DictConfig, stages: list[str]) -> dict[str, Budget]:
    """Split the minutes and steps of all training among the stages by their shares, 0 for none."""
    shares = {name: float(config.model.stage_shares[name]) for name in stages}
    shares = {name: share for name, share in shares.items() if share > 0}
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
    config: DictConfig, module: StageModule, data: ClipDataModule, path: Path, logger: Any
) -> int:
    """Train one stage, from its last checkpoint when there is one.

    Returns:
        Number of the signal that ended it, or 0.
    """
    checkpoint = path / "checkpoints" / f"{module.name}.ckpt"
    resume = ranks.of_first(checkpoint.is_file())
    first_step = 0
    if resume:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        first_step = int(saved["global_step"])
        _say(f"{module.name}: from step {first_step}")
    data.use(module.sampling, first_step)
    control, ema = StepControl(), ExponentialMovingAverage(**config.model.ema)
    trainer = launch.make_trainer(
        config.trainer,
        max_steps=-1,
        max_epochs=1,
        logger=logger or False,
        callbacks=[
            control,
            ema,
            StageCheckpoint(checkpoint, control, config.checkpoint_every_s),
            StageProgress(),
            Preview(path / "previews", ema, n_pictures=config.previews),
        ],
    )
    trainer.fit(
        module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True
    )
    return control.stop


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
        extractor=data.extractor.settings,
        poses=data.poses if portrait.cameras is None else portrait.cameras.poses(data.poses),
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


def _only_tests(config: DictConfig) -> bool:
    """Whether a portrait of before is tested."""
    return "test" in config.stages and not set(config.stages) & set(TRAINING)


@contextmanager
def _logger(config: DictConfig, folder: RunFolder) -> Iterator[Logger | None]:
    """Logger of the run, which knows its config, for as long as the context lasts."""
    if not config.logger:
        yield None
        return
    logger = instantiate(config.logger, save_dir=str(folder.path))
    try:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
        yield logger
    except BaseException:
        close(logger, failed=True)
        raise
    close(logger)


def _report(metrics: dict[str, Any], folder: RunFolder, logger: Logger | None) -> None:
    """Write and log the metrics: the run is finished."""
    write_metrics(folder.path / "metrics.json", metrics)
    _say(f"metrics: {folder.path / 'metrics.json'}")
    video, portrait = folder.path / "test.mp4", folder.path / PORTRAIT
    strip = read_image(video.with_suffix(".png"))
    note_results(logger, metrics, strip, video, portrait if portrait.is_file() else None)
    folder.finish()


def _say(line: str) -> None:
    if ranks.rank() == 0:
        console.print(line)


def _quiet() -> None:
    """Lightning's advice is for its own users, not for ours."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    if ranks.rank() > 0:
        logging.getLogger("radnerf").setLevel(logging.WARNING)
