from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from radnerf.runtime.memory import release_memory

on_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory"
)


@on_glibc
def test_holes_between_blocks_are_given_back() -> None:
    def resident_mb() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))

    blocks = [bytes(100_000) for _ in range(3000)]  # below glibc's size for blocks of their own
    keep = blocks[::30] + blocks[-1:]
    del blocks
    before = resident_mb()
    release_memory()
    assert resident_mb() < before - 100
    assert len(keep) == 101


@on_glibc
def test_large_blocks_are_kept_for_the_next_step_until_they_are_given_back() -> None:
    program = """
import resource
from radnerf.runtime.memory import release_memory, retain_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(size << 20) for size in (3, 20, 5)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

retain_freed_memory()
first, second = new_pages(), new_pages()
release_memory()
print(first, second, new_pages())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second, after = map(int, done.stdout.split())
    assert second < 100 < first and after > 100
