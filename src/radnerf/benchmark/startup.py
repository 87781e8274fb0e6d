"""What is waited for before the first frame, in processes of their own.

This file is also the program of such a process, so it imports nothing at its top that it times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radnerf.benchmark.report import Report

RENDERING = ("radnerf.inference.file_driver", "radnerf.rendering.frame")


def benchmark_startup(
    portrait: Path | None, conf: Path, backend: str, device: str, sizes: tuple[int, ...]
) -> Report:
    """Seconds of the import and of the first frame, with and without compiling, and the memory.

    The first frame counts from a portrait that is loaded to its pixels.

    Args:
        sizes: of the frames that are drawn; the first is timed, all count for the memory.
    """
    with TemporaryDirectory() as cache:
        folders = {"NUMBA_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache}
        task = [str(portrait or ""), str(conf), backend, device, *map(str, sizes)]
        cold, warm = (_process(task, folders) for _ in range(2))
    return {
        "startup.import_s": min(cold["import_s"], warm["import_s"]),
        "startup.import_loads_compilers": warm["loads_compilers"],
        "startup.first_frame_s": warm["first_frame_s"],
        "startup.compile_s": max(0.0, cold["first_frame_s"] - warm["first_frame_s"]),
        "memory.peak_mb": warm["peak_mb"],
    }


def _process(task: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, *task],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(portrait: str, conf: str, backend: str, device: str, *sizes: str) -> dict[str, Any]:
    began = time.perf_counter()
    for name in RENDERING:
        import_module(name)
    imported = time.perf_counter() - began
    compilers = [name for name in ("numba", "triton") if name in sys.modules]

    import torch

    from radnerf.benchmark.frames import Frames
    from radnerf.benchmark.portraits import load_subject, stand_in
    from radnerf.metrics.report import peak_memory_mb

    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place.index or 0)
    subject = load_subject(Path(portrait), place) if portrait else stand_in(Path(conf), place)
    began = time.perf_counter()
    Frames(subject, int(sizes[0]), backend).draw(0)
    first = time.perf_counter() - began
    for size in sizes[1:]:
        Frames(subject, int(size), backend).draw(0)
    return {
        "import_s": imported,
        "loads_compilers": ", ".join(compilers) or "none",
        "first_frame_s": first,
        "peak_mb": peak_memory_mb(place),
    }


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
