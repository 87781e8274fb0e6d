"""What is waited for before the first frame, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

IMPORT = """
import json, sys, time
began = time.perf_counter()
import radnerf.inference.driver, radnerf.rendering.frame
print(json.dumps([time.perf_counter() - began, "numba" in sys.modules, "triton" in sys.modules]))
"""
FIRST_FRAME = """
import sys, time
from pathlib import Path
import torch
from radnerf import kernels
from radnerf.benchmark.portraits import load_subject, stand_in
from radnerf.rendering.frame import frame_renderer
portrait, conf, backend, device = sys.argv[1:]
kernels.set_backend(backend)
device = torch.device(device)
subject = load_subject(Path(portrait), device) if portrait else stand_in(Path(conf), device)
began = time.perf_counter()
draw = frame_renderer(subject.portrait, *subject.view(256))
draw(subject.poses[0], subject.codes[0], 0.25)
print(time.perf_counter() - began)
"""


def benchmark_startup(
    portrait: Path | None, conf: Path, backend: str, device: str
) -> dict[str, float | bool]:
    """Seconds of the import, and from a loaded portrait to its first frame, compiled before."""
    imported, numba, triton = json.loads(_python(IMPORT))
    first = _python(FIRST_FRAME, str(portrait or ""), str(conf), backend, device)
    return {
        "startup.import_s": imported,
        "startup.import_loads_compilers": numba or triton,
        "startup.first_frame_s": float(first),
    }


def _python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]
