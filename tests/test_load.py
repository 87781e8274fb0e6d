"""How much of the machine there is for this process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from radnerf import load

linux = pytest.mark.skipif(load.Meter().look() is None, reason="no figures of this system")


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process and those that it starts on one and the same core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def _burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@linux
def test_a_busy_neighbour_takes_half_of_a_core(one_core):
    assert load.cores() == 1
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            time.sleep(0.2)
            meter = load.Meter()
            _burn(1.0)
            found = meter.look()
        finally:
            neighbour.kill()
    assert found.seconds >= 1
    assert 0.1 < found.got < 0.7  # others of the machine may take still more
    assert 0.1 < found.left < 0.7
    assert found.idle < 0.2


@linux
def test_sleeping_is_not_waiting(one_core):
    meter = load.Meter()
    time.sleep(0.5)
    found = meter.look()
    assert found.ran < 0.2
    assert found.waited < 0.2


@linux
def test_every_look_begins_where_the_last_one_ended():
    meter = load.Meter()
    _burn(0.3)
    busy, calm = meter.look(), meter.look()
    assert busy.seconds >= 0.3
    assert calm.seconds < 0.2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_quotas_of_both_versions_of_groups(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert load._quota_of(tmp_path) == ([] if cores is None else [cores])


def test_a_quota_is_rounded_up_to_cores(monkeypatch):
    monkeypatch.setattr(load, "_processors", lambda: set(range(8)))
    for quota, cores in ((0.5, 1), (1.0, 1), (1.5, 2), (2.01, 2), (99.0, 8)):
        monkeypatch.setattr(load, "_quota", lambda quota=quota: quota)
        assert load.cores() == cores
