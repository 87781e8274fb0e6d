from __future__ import annotations

import platform
from pathlib import Path

import pytest

from radnerf.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_holes_between_blocks_are_given_back() -> None:
    def resident_mb() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))

    blocks = [bytes(100_000) for _ in range(3000)]  # below glibc's size for blocks of their own
    keep = blocks[::30] + blocks[-1:]
    del blocks
    before = resident_mb()
    give_back()
    assert resident_mb() < before - 100
    assert len(keep) == 101
