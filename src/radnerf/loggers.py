"""What a run tells its logger, whichever it is; W&B that never needs an account."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from radnerf.errors import UserError
from radnerf.sweep import current_job

MAX_TAG = 64  # W&B refuses longer ones


def wandb_logger(project: str, save_dir: str, offline: bool | None = None) -> WandbLogger:
    """Logger of a run; without an API key it writes offline files, to be synced later.

    A run that goes on after a kill goes on in W&B, too.

    Args:
        save_dir: the run's folder; its last two parts name the run.
        offline: None decides by whether there is a key.

    Raises:
        UserError: W&B cannot be reached, or does not take the key.
    """
    import wandb

    if offline is None:
        offline = os.environ.get("WANDB_MODE") == "offline" or not has_key()
    if offline:
        print(f"W&B: no API key, logging offline to {save_dir}/wandb (`wandb sync` uploads it)")
    os.environ.setdefault("WANDB_SILENT", "true")
    job = current_job()
    group: dict[str, Any] = {}
    if job is not None:
        tags = [tag[:MAX_TAG] for tag in job.overrides]
        group = {"group": job.sweep, "job_type": "sweep", "tags": tags}
    try:
        run = wandb.init(
            project=project,
            dir=save_dir,
            mode="offline" if offline else "online",
            name="/".join(Path(save_dir).parts[-2:]),
            id=run_id(save_dir),
            resume="allow",
            **group,
        )
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"W&B: {reason}; WANDB_MODE=offline logs to the run's folder.") from error
    # As Lightning has it for runs of its own.
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run, save_dir=save_dir)


def run_id(save_dir: str) -> str:
    """Name of a run's folder in W&B, the same whenever the run goes on."""
    home = f"{socket.gethostname()}:{Path(save_dir).resolve()}"
    return hashlib.sha256(home.encode()).hexdigest()[:12]


def has_key() -> bool:
    """Whether W&B would find an API key: in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    return path.is_file() and f"machine {host}" in path.read_text()


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """Logger of a run, into its folder's `tensorboard`.

    Raises:
        UserError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard needs the package: pip install 'radnerf[tensorboard]'.")
    return TensorBoardLogger(save_dir, name="", version="tensorboard", default_hp_metric=False)


def note_picture(loggers: Iterable[Logger], name: str, picture: np.ndarray, step: int) -> None:
    """Log a picture [h, w, 3] where there is a place for pictures."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, step, dataformats="HWC")


def note_results(
    logger: Logger | None,
    metrics: Mapping[str, Any],
    strip: np.ndarray | None,
    video: Path | None = None,
    portrait: Path | None = None,
) -> None:
    """Log a test: its numbers, the comparison strip, the video, and the portrait as an artifact.

    Args:
        portrait: file of it; None for a portrait of before.
    """
    if not logger:
        return
    numbers = {name: float(v) for name, v in metrics.items() if isinstance(v, int | float)}
    logger.log_metrics({f"test/{name}": value for name, value in numbers.items()})
    if strip is not None:
        note_picture([logger], "test/strip", strip, 0)
    if not isinstance(logger, WandbLogger):
        return
    import wandb

    run = logger.experiment
    if video is not None:
        run.log({"test/video": wandb.Video(str(video), format="mp4")})
    if portrait is not None:
        name = f"portrait-{portrait.parent.parent.name}"
        artifact = wandb.Artifact(name, type="portrait", metadata=numbers)
        artifact.add_file(str(portrait))
        run.log_artifact(artifact)


def close(logger: Logger, failed: bool = False) -> None:
    """Finish the logger's run, so that the next run of this process has one of its own."""
    logger.finalize("failed" if failed else "success")
    if isinstance(logger, WandbLogger):
        logger.experiment.finish(exit_code=int(failed))
