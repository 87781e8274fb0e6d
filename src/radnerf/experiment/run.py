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
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.console import Console
from safetensors.torch import load_file, save_file

from radnerf import kernels
from radnerf.callbacks import StepControl, checkpoint_of
from radnerf.data.clip import identity, read_image
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.experiment import launch, plan
from radnerf.experiment.build import build_portrait, build_stage, check_restorable
from radnerf.experiment.compile import compile_ahead, trial_seconds
from radnerf.experiment.finish import finalize, portrait_file, remember_rest
from radnerf.experiment.folder import RunFolder, finished_run, write_text
from radnerf.experiment.measure import PORTRAIT, find_portrait, measure, measure_again
from radnerf.files import whole_file
from radnerf.loggers import close, note_results
from radnerf.metrics.report import read_metrics, write_metrics
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.preprocess.report import warn
from radnerf.preprocess.source import ClipSource
from radnerf.provenance.consent import Consent
from radnerf.registry import load_plugins
from radnerf.rendering.portrait import Portrait
from radnerf.runtime import ranks
from radnerf.runtime.signals import leave

STAGES = ("preprocess", *plan.TRAINING, "test")
ANOTHER_SEED = 1_000_003  # times the number of the round, so that more steps are others

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
    with ranks.process_group() if launch.started() else nullcontext():
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
    plan.budgets(config, _training(config))  # one that is none is found before there is a folder
    load_plugins(config.plugins)
    kernels.set_backend(config.kernels.backend)
    kernels.require()
    if stages != ["preprocess"]:
        launch.device(config.trainer)  # what is not there is missed before the work

    extractor = instantiate(config.audio.extractor)
    if _training(config):
        # First of all: what is not there, or makes no sense, is found before the work.
        check_restorable(config, extractor)
        _say(f"audio: {extractor.summary}")
    settings: Any = OmegaConf.to_container(config.data, resolve=True)
    chosen = {name: instantiate(config[name]) for name in ("landmarks", "parser", "tracker")}
    source = ClipSource(**settings, **chosen)
    consent = None
    if _training(config) and ranks.rank() == 0:
        # Before the work, while the user is there; from here on it is in the clip's folder alone.
        consent = Consent.of(
            source.clip_root, config.consent, source.synthetic, source.video_hash()
        )
        kept_apart = OmegaConf.merge(config, {"consent": None})
        assert isinstance(kept_apart, DictConfig)
        config = kept_apart
    began = time.monotonic()
    with ranks.rank_zero_first():
        prepare = "preprocess" in stages and ranks.rank() == 0
        root = source.prepare() if prepare else source.prepared()
    preprocess_s = time.monotonic() - began
    if ranks.rank() == 0:
        warn(root, config.strict)
    if consent:
        consent.keep(root)
    if stages == ["preprocess"]:
        _say(f"clip: {root}")
        return {}
    if not again and (done := ranks.from_rank_zero(_finished(config, str(source.id), root))):
        _say(
            f"finished already ({done}); more=10 goes on for ten minutes, "
            "seed= or force=true begins anew"
        )
        return read_metrics(done / "metrics.json")
    if launch.together(config.trainer) and ranks.count() == 1 and not again:
        count = launch.n_devices(config.trainer)
        if count > 1:
            # Not resolved: what only the clip knows is filled in later.
            plain = OmegaConf.create(OmegaConf.to_container(config))
            return launch.launch(count, _experiment, plain, str(source.id), root, preprocess_s)
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
    more = None if again else config.more
    clip = identity(root)
    folder = RunFolder(runs, settings, latest=ckpt is None, more=more, clip=clip)
    try:
        console.print(f"{'going on with' if folder.resumed else 'run'}: {folder.path}")
        if not folder.resumed:
            write_text(folder.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            folder.state["clip"] = clip
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
    load_plugins(config.plugins)
    kernels.set_backend(config.kernels.backend)
    pl.seed_everything(config.seed, verbose=False)
    path, extra = ranks.from_rank_zero(
        (folder.path, folder.state["more"]) if folder else (Path(), [])
    )

    data = ClipDataModule(root, instantiate(config.audio.extractor), seed=config.seed)
    with ranks.rank_zero_first():
        data.setup()
    portrait, device = build_portrait(config, data), launch.device(config.trainer)
    stages = _training(config)
    rounds = [plan.budgets(config, stages)]
    rounds += [plan.more_budgets(config, stages, minutes) for minutes in extra]
    if any(rounds):
        trial_s = _compile(config, portrait, data)
        if folder:
            folder.state["wanted"] = folder.state["wanted"] or plan.wanted_steps(config, stages)
            _announce(config, folder, rounds[0], trial_s)
    for number, budgets in enumerate(rounds):
        home = path / f"more_{number}" if number else path
        for name, budget in budgets.items():
            final = checkpoint_of(home, name).with_suffix(".safetensors")
            if ranks.from_rank_zero(final.is_file()):
                portrait.load_state_dict(load_file(final))
                continue
            module = build_stage(config, name, portrait, budget)
            module.seed = data.seed = config.seed + ANOTHER_SEED * number
            _stage(config, module, data, home, folder, logger)
    ranks.leave_process_group()
    if folder is None:
        return {}

    portrait.to(device)  # from where Lightning has taken it at the end of a stage
    taught = bool(config.model.stages.head.warm_start_steps)
    remember_rest(portrait, data, taught)
    finalize(portrait, data)
    bundle = portrait_file(clip_id, data, portrait)
    bundle.save(folder.path / PORTRAIT)
    _say(f"portrait: {folder.path / PORTRAIT}")
    if "test" not in config.stages:
        folder.finish()
        return {}
    seconds: dict[str, float] = folder.state["seconds"]
    had, wanted = folder.state["steps"], folder.state["wanted"]
    file = folder.path / PORTRAIT
    metrics = measure(config, portrait, bundle, data, folder.path, file, had, wanted)
    metrics |= {
        "time.preprocess_s": seconds["preprocess"],
        "time.train_s": sum(seconds.get(name, 0.0) for name in plan.TRAINING),
    }
    _report(metrics, folder, logger)
    return metrics


def _stage(
    config: DictConfig,
    module: StageModule,
    data: ClipDataModule,
    home: Path,
    folder: RunFolder | None,
    logger: Logger | None,
) -> None:
    """Train a stage to its end and keep its weights.

    Args:
        home: the folder of its checkpoints and previews.
        folder: of the run, for the first process.

    Raises:
        SystemExit, KeyboardInterrupt: a signal asked for it; what there is has been saved.
    """
    stopped = _train(config, module, data, home, logger)
    if folder and module.progress >= 1:
        name, checkpoint = module.name, checkpoint_of(home, module.name)
        had, seconds = folder.state["steps"], folder.state["seconds"]
        # The module's own: instantiate hands it a copy.
        seconds[name] = seconds.get(name, 0.0) + module.budget.elapsed_s
        had[name] = had.get(name, 0) + module.global_step
        _save_weights(module.portrait, checkpoint.with_suffix(".safetensors"))
        checkpoint.unlink(missing_ok=True)
        folder.save()
        if few := plan.too_few({name: had[name]}, folder.state["wanted"]):
            _say(f"{few} of quality={config.quality.name}; more=MINUTES goes on in the end")
    if stopped:
        _say(f"{module.name}: stopped at {module.progress:.0%}; the same command goes on from here")
        leave(stopped)


def _compile(config: DictConfig, portrait: Portrait, data: ClipDataModule) -> float | None:
    """Compile the kernels, and say so when it took long.

    Returns:
        Seconds of a trial step; None where it would tell nothing of the stages' steps.
    """
    began = time.monotonic()
    trainer = launch.make_trainer(config.trainer, logger=False)
    device, precision = trainer.strategy.root_device, trainer.precision_plugin.forward_context
    status = console.status("compiling the kernels for this machine (kept for later runs)")
    with ranks.rank_zero_first(), status:
        compile_ahead(portrait, data, device, precision)
    if (took := time.monotonic() - began) > 5:
        _say(f"kernels compiled in {took:.0f} s, kept for later runs")
    n_samples = config.model.stages.head.get("samples_per_step")
    if config.model.stage_costs is None or n_samples is None or ranks.rank() > 0:
        return None
    n_rays = max(1, n_samples // ranks.count() // config.model.max_samples)
    return trial_seconds(portrait, data, device, n_rays, precision)


def _announce(
    config: DictConfig, folder: RunFolder, budgets: dict[str, Budget], trial_s: float | None
) -> None:
    """Say how long the training will be."""
    if extra := folder.state["more"]:
        _say(f"training: {extra[-1]:g} more minutes")
        return
    recipe, finals = plan.recipe(config), {p.stem for p in folder.checkpoints.glob("*.safetensors")}
    left = {
        name: budget.steps or recipe.get(name, 0)
        for name, budget in budgets.items()
        if name not in finals
    }
    quality = f"quality={config.quality.name}"
    took = ""
    if trial_s is not None:
        seconds = plan.forecast(left, config.model.stage_costs, trial_s)
        took = f"about {plan.duration(seconds)} on this machine"
    if config.minutes is not None:
        then = f"; {quality} would take {took}" if took and not config.steps else ""
        _say(f"training: {config.minutes:g} minutes by the clock{then}")
        return
    steps = ", ".join(f"{name} {count:,}" for name, count in left.items())
    asked = "" if config.steps else f" ({quality})"
    _say(f"training: {steps} steps{asked}" + (f": {took}" if took else ""))


def _train(
    config: DictConfig, module: StageModule, data: ClipDataModule, path: Path, logger: Any
) -> int:
    """Train one stage, from its last checkpoint when there is one.

    Returns:
        Number of the signal that ended it, or 0.
    """
    checkpoint = checkpoint_of(path, module.name)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    resume = ranks.from_rank_zero(checkpoint.is_file())
    first_step = 0
    if resume:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        first_step = int(saved["global_step"])
        _say(f"{module.name}: from step {first_step}")
    data.use(module.sampling, first_step)
    control = StepControl()
    chosen = [instantiate(settings) for settings in config.callbacks.values() if settings]
    trainer = launch.make_trainer(
        config.trainer,
        max_steps=-1,
        max_epochs=1,
        logger=logger or False,
        default_root_dir=str(path),
        callbacks=[control, *chosen],
    )
    trainer.fit(
        module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True
    )
    return control.stop


def _save_weights(portrait: Portrait, path: Path) -> None:
    weights = {name: value.contiguous() for name, value in portrait.state_dict().items()}
    with whole_file(path) as part:
        save_file(weights, part)


def _training(config: DictConfig) -> list[str]:
    """The training stages that are asked for, in their order."""
    return [name for name in plan.TRAINING if name in config.stages]


def _only_tests(config: DictConfig) -> bool:
    """Whether a portrait of before is tested."""
    return "test" in config.stages and not _training(config)


def _finished(config: DictConfig, clip_id: str, root: Path) -> Path | None:
    """The run that this command has finished before, unless it is to do more now."""
    if config.force or config.more is not None or ranks.rank() > 0:
        return None
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return finished_run(Path(config.outputs) / clip_id, settings, identity(root))


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
