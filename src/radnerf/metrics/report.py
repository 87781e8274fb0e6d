"""metrics.json: one flat object with fixed names."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from radnerf.files import whole_file

# What every report holds; null when it could not be measured, then with NAME.reason beside it.
KEYS = (
    "head.psnr",
    "full.psnr",
    "full.ssim",
    "full.lmd",
    "full.lpips",
    "control.shuffled_audio.lmd",
    "control.frozen_mouth.lmd",
    "control.mean_frame.psnr",
    "time.preprocess_s",
    "time.train_s",
    "speed.render_fps",
    "memory.peak_mb",
    "device",
    "seed",
    "frames.train",
    "frames.test",
)
Value = float | int | str | None


def write_metrics(path: str | Path, values: Mapping[str, Value]) -> None:
    """Write a report; the file appears whole or not at all.

    Numbers that are not finite become null. A null of KEYS that the caller gives no NAME.reason
    for says that it was not measured. Further names may be given.

    Raises:
        UserError: the file cannot be written.
    """
    report: dict[str, Value] = {}
    for name in (*KEYS, *(name for name in values if name not in KEYS)):
        value = values.get(name)
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        report[name] = round(value, 4) if isinstance(value, float) else value
        if value is None and name in KEYS and f"{name}.reason" not in values:
            report[f"{name}.reason"] = "not measured"
    with whole_file(Path(path)) as part:
        part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_metrics(path: Path) -> dict[str, Any]:
    """A report that was written before; empty where there is none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def peak_memory_mb(device: torch.device) -> float:
    """Most memory this process has held so far, in MB: of the GPU on one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource  # does not exist on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
