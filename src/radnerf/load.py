"""How many cores there are for this process, and how much of them other programs leave to it."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use: its affinity's, or fewer under a container's quota."""
    return max(1, math.ceil(allowance() - 0.05))


def allowance() -> float:
    """As cores(), with the fraction that a quota may have."""
    return min(float(len(_processors())), _quota())


def _processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> float:
    """Cores that the control groups of this process allow it, infinity if they say nothing."""
    quotas = [math.inf]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = GROUPS if not controllers else GROUPS / "cpu"
        here = root / path.lstrip("/")
        # In a container its own group is the root, whatever the path says.
        for folder in (root, *(p for p in (here, *here.parents) if root in p.parents)):
            quotas += _quota_of(folder)
    return min(quotas)


def _quota_of(folder: Path) -> list[float]:
    """The quota of a group of version 2 or 1; empty without one."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text()
    except (OSError, ValueError):
        return []
    return [] if quota in ("max", "-1") else [float(quota) / float(period)]


@dataclass(frozen=True)
class Load:
    """What became of the time between two looks.

    Attributes:
        seconds: that passed.
        ran: cores that this process used on average.
        waited: threads of it that wanted a core and had none, on average; a quota's pauses count.
        idle: cores that it could have had and nobody used, on average.
    """

    seconds: float
    ran: float
    waited: float
    idle: float

    @property
    def got(self) -> float:
        """Of the time that this process's threads wanted to run, the share that they ran."""
        return self.ran / max(self.ran + self.waited, 1e-9)

    @property
    def others(self) -> float:
        """Cores that this process could have had and other programs used, on average."""
        return max(0.0, allowance() - self.ran - self.idle)

    @property
    def left(self) -> float:
        """Share of the cores that others left to this process, used or not: 1 when it is alone."""
        return min(1.0, (self.ran + self.idle) / allowance())


class Meter:
    """Measures the load from one look to the next, on Linux; elsewhere it knows nothing."""

    def __init__(self) -> None:
        self._before = _read()
        self._threads: dict[str, tuple[int, int]] = _threads() if self._before else {}

    def look(self) -> Load | None:
        """The load since the last look, or since this meter was made; None where it is unknown."""
        now = _read()
        if now is None or self._before is None:
            return None
        threads, before = _threads(), self._threads
        ran, waited = (
            sum(times[i] - before.get(name, (0, 0))[i] for name, times in threads.items()) / 1e9
            for i in (0, 1)
        )
        seconds = max(now[0] - self._before[0], 1e-9)
        # The machine may have idle cores that a quota keeps from this process.
        idle = min((now[1] - self._before[1]) / seconds, max(0.0, allowance() - ran / seconds))
        self._before, self._threads = now, threads
        return Load(seconds, ran / seconds, waited / seconds, idle)


def _read() -> tuple[float, float] | None:
    """The time, and the idle seconds of this process's cores so far."""
    try:
        text = Path("/proc/stat").read_text()
        Path("/proc/self/schedstat").read_text()
    except OSError:
        return None
    names = {f"cpu{number}" for number in _processors()}
    lines = (line.split() for line in text.splitlines() if line.startswith("cpu"))
    ticks = sum(int(fields[4]) + int(fields[5]) for fields in lines if fields[0] in names)
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK")


def _threads() -> dict[str, tuple[int, int]]:
    """Nanoseconds that every thread of this process ran, and waited for a core."""
    times = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            ran, waited, _ = (task / "schedstat").read_text().split()
        except (OSError, ValueError):  # it has just ended
            continue
        times[task.name] = int(ran), int(waited)
    return times
