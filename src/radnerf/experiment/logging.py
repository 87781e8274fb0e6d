"""W&B logging that never needs an account."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from radnerf.sweep import current_job


def wandb_logger(project: str, save_dir: str, offline: bool | None = None) -> WandbLogger:
    """Logger of a run; without an API key it writes offline files, to be synced later.

    Args:
        save_dir: the run's folder; its last two parts name the run.
        offline: None decides by whether there is a key.
    """
    if offline is None:
        offline = os.environ.get("WANDB_MODE") == "offline" or not has_key()
    if offline:
        print(f"W&B: no API key, logging offline to {save_dir}/wandb (`wandb sync` uploads it)")
    os.environ.setdefault("WANDB_SILENT", "true")
    name = "/".join(Path(save_dir).parts[-2:])
    job = current_job()
    group: dict[str, Any] = (
        {} if job is None else {"group": job.sweep, "job_type": "sweep", "tags": job.overrides}
    )
    return WandbLogger(project=project, save_dir=save_dir, offline=offline, name=name, **group)


def has_key() -> bool:
    """Whether W&B would find an API key: in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    return path.is_file() and f"machine {host}" in path.read_text()
