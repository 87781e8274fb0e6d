"""All measurements in one run, as one flat report."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from radnerf import kernels
from radnerf.benchmark.ceilings import ceilings
from radnerf.benchmark.frames import SIZES, benchmark_frames, benchmark_scaling
from radnerf.benchmark.operators import Values, benchmark_operators
from radnerf.benchmark.portraits import load_subject, stand_in
from radnerf.benchmark.startup import benchmark_startup
from radnerf.benchmark.training import benchmark_training
from radnerf.files import whole_file
from radnerf.inference.driver import choose_device
from radnerf.metrics.report import peak_memory_mb

PACKAGES = ("radnerf", "torch", "numpy", "numba", "triton")
GPU_RAYS = 65_536  # of a training step there


@dataclass(frozen=True)
class Settings:
    """What to measure, and how thoroughly."""

    portrait: Path | None = None
    conf: Path = Path("conf")
    quick: bool = False
    backend: str = "auto"
    device: str = "auto"
    points: int = 0  # of the operators; 0 chooses
    sizes: tuple[int, ...] = SIZES


def run(settings: Settings) -> dict[str, Values]:
    """Measure everything.

    Raises:
        UserError: the portrait, the back end or the device cannot be used.
    """
    kernels.set_backend(settings.backend)
    device = choose_device(settings.device)
    seconds = 1.0 if settings.quick else 5.0
    points = settings.points or (8192 if settings.quick else 65_536)
    if settings.portrait is not None:
        subject = load_subject(settings.portrait, device)
    else:
        subject = stand_in(settings.conf, device)
    report: dict[str, Values] = {
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "kernels": settings.backend,
        "portrait": subject.name,
        "commit": _commit(),
        **{f"version.{name}": _version(name) for name in PACKAGES},
        "version.python": platform.python_version(),
    }
    rays = GPU_RAYS if device.type == "cuda" else None
    parts: dict[str, Callable[[], dict[str, Values]]] = {
        "ceilings": lambda: dict(ceilings(device, seconds / 5)),
        "start-up": lambda: dict(
            benchmark_startup(settings.portrait, settings.conf, settings.backend, device.type)
        ),
        "frames": lambda: benchmark_frames(subject, settings.backend, seconds, settings.sizes),
        "scaling": lambda: benchmark_scaling(subject, settings.backend, seconds / 5),
        "training": lambda: benchmark_training(
            subject, settings.conf, settings.backend, 2 * seconds, rays
        ),
        "operators": lambda: benchmark_operators(
            points,
            device,
            seconds / 2,
            {k: float(v) for k, v in report.items() if "ceiling" in k},  # type: ignore[arg-type]
        ),
    }
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(parts))
        for name, part in parts.items():
            progress.update(task, description=name)
            report |= part()
            progress.advance(task)
            if name == "scaling":  # of rendering: training needs more
                report["memory.peak_mb"] = peak_memory_mb(device)
    return report


def show(report: dict[str, Values], seconds: float) -> None:
    """A table on the terminal."""
    table = Table(title=f"{report['device']}, {report['portrait']}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in report.items():
        if not key.endswith(".reason"):
            reason = report.get(f"{key}.reason")
            table.add_row(key, str(reason) if value is None else _text(value))
    console = Console()
    console.print(table)
    console.print(f"{seconds:.0f} s")


def write(path: Path, report: dict[str, Values]) -> None:
    """The report as JSON; the file appears whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _text(value: Values) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Commit of the source, with a plus when there are changes; none outside a repository."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
