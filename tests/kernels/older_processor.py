"""Tests, compiled for what this processor would be without its newest parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import binding


def passes_on_an_older_processor(file: str, chosen: str, cache: Path) -> None:
    """Run some of a file's tests in a process of their own, where loops have no AVX-512.

    Args:
        chosen: as of pytest's -k.
        cache: for what is compiled.
    """
    features = binding.get_host_cpu_features()
    if not any(has and name.startswith("avx512") for name, has in features.items()):
        pytest.skip("this processor is one")
    older = {name: has and not name.startswith("avx512") for name, has in features.items()}
    environment = {
        "NUMBA_CPU_FEATURES": ",".join("-+"[has] + name for name, has in older.items()),
        "NUMBA_CACHE_DIR": str(cache),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-k", chosen, file],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]
