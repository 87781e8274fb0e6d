"""Sweeps: every job leaves a note, and one that fails does not stop the others.

<sweep>/multirun.yaml      what was asked
<sweep>/<number>/job.json  overrides, status, error and the command that repeats the job alone
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from radnerf.files import whole_file

NOTE = "job.json"


@dataclass
class Job:
    """One job of a sweep."""

    folder: str
    overrides: list[str]
    command: str
    status: str = "running"  # then finished or failed
    error: str | None = None

    @property
    def sweep(self) -> str:
        """Name of the sweep that the job belongs to."""
        return Path(self.folder).parent.name

    def note(self, status: str, error: str | None = None) -> None:
        """Write the job's state, whole or not at all."""
        self.status, self.error = status, error
        folder = Path(self.folder)
        with whole_file(folder / NOTE) as part:
            part.write_text(json.dumps(asdict(self), indent=1))


def overrides() -> list[str]:
    """What this process was asked for on the command line; nothing outside Hydra."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def current_job(script: str = "train.py") -> Job | None:
    """The job that this process runs, or None outside a sweep."""
    if not HydraConfig.initialized():
        return None
    settings = HydraConfig.get()
    if settings.mode != RunMode.MULTIRUN:
        return None
    return Job(
        folder=str(Path(settings.sweep.dir) / settings.sweep.subdir),
        overrides=overrides(),
        command=shlex.join(["python", script, *overrides()]),
    )


def distribute_cores() -> None:
    """Give each of a sweep's parallel jobs on this machine its part of the cores."""
    n_jobs = int(HydraConfig.get().launcher.get("n_jobs") or 1)
    if n_jobs == 1:
        return
    import numba
    import torch

    from radnerf.load import cores

    threads = max(1, cores() // n_jobs) if n_jobs > 0 else 1
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """The notes of a sweep's jobs, by their numbers."""
    notes = [json.loads(path.read_text()) for path in folder.glob(f"*/{NOTE}")]
    return sorted(notes, key=lambda note: (len(note["folder"]), note["folder"]))


def summary(folder: Path) -> tuple[str, int]:
    """Lines about a sweep, and how many of its jobs did not finish."""
    jobs = read_jobs(folder)
    failed = [job for job in jobs if job["status"] != "finished"]
    lines = [f"sweep: {folder}: {len(jobs) - len(failed)} of {len(jobs)} jobs finished"]
    for job in failed:
        lines += [f"  {job['status']}: {job['error'] or 'no word'}", f"    {job['command']}"]
    return "\n".join(lines), len(failed)
