"""All measurements in one run, as one flat report."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from radnerf import kernels
from radnerf.benchmark.ceilings import ceilings
from radnerf.benchmark.frames import benchmark_frames, benchmark_scaling
from radnerf.benchmark.operators import benchmark_operators
from radnerf.benchmark.portraits import load_subject, stand_in
from radnerf.benchmark.report import Report, complete, failures
from radnerf.benchmark.startup import benchmark_startup
from radnerf.benchmark.training import benchmark_training
from radnerf.errors import UserError
from radnerf.runtime.devices import choose_device

PACKAGES = ("radnerf", "torch", "numpy", "numba", "triton")


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        seconds: of each table row or so; every figure has some calls more to be sure of.
        points: of the operators.
        sizes, sides: of frames, in pixels, for speeds and for how the cost grows.
        clips: frames of clips, likewise.
        matrix_side, reads: of the machine's ceilings.
        rays: of a training step; None for the default config's.
    """

    seconds: float = 5.0
    points: int = 65_536
    sizes: tuple[int, ...] = (256, 450, 512)
    sides: tuple[int, ...] = (128, 256, 512)
    clips: tuple[int, ...] = (250, 2_500, 25_000)
    matrix_side: int = 2048
    reads: int = 1 << 22
    rays: int | None = None

    def for_gpu(self) -> Plan:
        """The plan with as much work a call as keeps a GPU busy."""
        return replace(
            self,
            points=16 * self.points,
            matrix_side=4 * self.matrix_side,
            reads=16 * self.reads,
            rays=self.rays or 65_536,
        )


FULL = Plan()
QUICK = Plan(seconds=1.0, points=8192, sides=(64, 128, 256))


def run(
    plan: Plan, portrait: Path | None, conf: Path, backend: str = "auto", device: str = "auto"
) -> Report:
    """Measure everything.

    Args:
        portrait: a portrait file; None for a stand-in.
        conf: the folder with the default configuration.

    Raises:
        UserError: the portrait, the configuration, the back end or the device cannot be used.
    """
    if not (conf / "train.yaml").is_file():
        raise UserError(f"There is no {conf / 'train.yaml'}: give --conf, a checkout's folder.")
    before = kernels.get_backend()
    kernels.set_backend(backend)
    place = choose_device(device)
    if place.type == "cuda":
        plan = plan.for_gpu()
        torch.cuda.set_device(place.index or 0)
    subject = load_subject(portrait, place) if portrait else stand_in(conf, place)
    report: Report = {
        "device": _device_name(place),
        "threads": torch.get_num_threads(),
        "points": plan.points,
        "load_average": _load(),
        "kernels": backend,
        "portrait": subject.name,
        "commit": _commit(),
        "version.python": platform.python_version(),
        **{f"version.{name}": _version(name) for name in PACKAGES},
    }

    def wrong() -> str | None:
        """Why no speed may be given, once an operator has failed."""
        failed = failures(report)
        return f"parity failed: {', '.join(failed)}" if failed else None

    seconds = plan.seconds
    parts: dict[str, Callable[[], Report]] = {
        "ceilings": lambda: ceilings(place, seconds / 5, plan.matrix_side, plan.reads),
        "operators": lambda: benchmark_operators(plan.points, place, seconds / 2, report, backend),
        "frames": lambda: benchmark_frames(subject, backend, seconds, plan.sizes, wrong()),
        "scaling": lambda: benchmark_scaling(
            subject, backend, seconds, plan.sides, plan.clips, wrong()
        ),
        "start-up": lambda: benchmark_startup(portrait, conf, backend, str(place), plan.sizes),
        "training": lambda: benchmark_training(
            subject, conf, backend, 2 * seconds, plan.rays, wrong()
        ),
    }
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=len(parts))
            for name, part in parts.items():
                progress.update(task, description=name)
                report |= part()
                progress.advance(task)
    finally:
        kernels.set_backend(before)
    return complete(report, plan.sizes)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores"


def _load() -> float | None:
    """Programs that wanted a core in the last minute: figures of a busy machine are low."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str | None:
    """Commit of the source, with a plus when there are changes; None outside a repository."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
