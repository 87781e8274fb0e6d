"""Who asks a program to end does not wait: whatever it is busy with, it is gone in a second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment.tiny import overrides

REPOSITORY = Path(__file__).parents[2]
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
# What is promised is one second; tests run beside others on machines that are busy.
PATIENCE_S = 10.0

# Main threads that hear nothing: in compiled code, in a library's wait, in their own clean-up.
DEAF = {
    "a compiled loop": """
    import numba, numpy

    @numba.njit(nogil=True)
    def forever(number):
        while number[0] > 0:
            number[0] = (number[0] * 1103515245 + 12345) % 2147483648 + 1

    forever(numpy.zeros(1, numpy.int64))
    begin()
    forever(numpy.ones(1, numpy.int64))
""",
    "threads of a pool": """
    pool = ThreadPoolExecutor(1)
    pool.submit(time.sleep, 3600)
    begin()
    time.sleep(3600)
""",
    "who does not listen": """
    begin()
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
""",
    "a call into a library": """
    begin()
    while True:
        ctypes.CDLL(None).usleep(999_999_999)
""",
}
PROGRAM = """
import ctypes, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from radnerf import files
from radnerf.runtime import programs

def begin():
    global half
    half = files.passing(Path("half"))
    half.__enter__().touch()
    print("begun", flush=True)

def work():
{}

programs.start(lambda: programs.ended(work))
"""


def started(*command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "NUMBA_NUM_THREADS": "2"},
    )


def end(process: subprocess.Popen[str], number: int) -> tuple[float, str]:
    """Seconds that it took to end, and what it said on stderr."""
    began = time.monotonic()
    process.send_signal(number)
    try:
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    return time.monotonic() - began, errors


@pytest.mark.parametrize("work", DEAF)
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_whoever_is_deaf_is_ended(work: str, number: int, code: int, tmp_path: Path) -> None:
    process = started("-c", PROGRAM.format(DEAF[work]), folder=tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    assert (tmp_path / "half").exists()
    took, errors = end(process, number)
    assert process.returncode == code and took < PATIENCE_S
    assert errors.count("\n") <= 1 and "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_a_warning_has_its_time(tmp_path: Path) -> None:
    slow = "    try:\n        begin()\n        time.sleep(60)\n    finally:\n        time.sleep(2)"
    process = started("-c", PROGRAM.format(slow), folder=tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    took, _ = end(process, signal.SIGUSR1)
    assert process.returncode == 138 and took > 2


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("moment", ["audio:", "run:", "head:   "])
def test_training_ends_at_any_moment(
    moment: str, number: int, code: int, lasting_tiny_clip: Path, tmp_path: Path
) -> None:
    """While it is imported, prepared and compiled, and while it trains."""
    options = overrides(lasting_tiny_clip, tmp_path, "steps=1000000", "checkpoint_every_s=1")
    process = started("-u", str(REPOSITORY / "train.py"), *options, folder=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(moment):
            break
    time.sleep(1.5)
    took, errors = end(process, number)
    assert process.returncode == code and took < PATIENCE_S, errors
    assert "Traceback" not in errors
    names = [path.name for path in tmp_path.rglob("*")]
    left = [name for name in names if ".part" in name or ".tmp" in name]
    assert not left
    if moment.startswith("head"):
        assert list(tmp_path.rglob("head.ckpt"))


@pytest.mark.parametrize("wait_s", [0.3, 0.8, 1.5])
@pytest.mark.parametrize("script", ["train.py", "render.py"])
def test_imports_are_no_excuse(script: str, wait_s: float, tmp_path: Path) -> None:
    files = ("portrait=no", "audio=no", "out=no.mp4") if script == "render.py" else ()
    process = started(str(REPOSITORY / script), *files, f"++outputs={tmp_path}", folder=tmp_path)
    time.sleep(wait_s)
    took, _ = end(process, signal.SIGTERM)
    # Before its first line the program has not taken over from the system, or it is through.
    assert process.returncode in (143, -signal.SIGTERM, 1) and took < PATIENCE_S


def test_workers_end_too(tmp_path: Path) -> None:
    """Processes that this one started, deaf as it is."""
    (tmp_path / "deaf.py").write_text(
        """
import os, time
from radnerf.runtime import signals
from radnerf.runtime.processes import Workers

def deaf(number, channel):
    channel.send(os.getpid())
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass

if __name__ == "__main__":
    signals.heed()
    with Workers(2, deaf) as workers:
        print(workers.receive(0), workers.receive(1), flush=True)
        workers.result()
"""
    )
    process = started("deaf.py", folder=tmp_path)
    assert process.stdout is not None
    workers = [int(word) for word in process.stdout.readline().split()]
    took, errors = end(process, signal.SIGTERM)
    assert process.returncode == 143 and took < PATIENCE_S, errors
    time.sleep(0.5)
    assert len(workers) == 2 and not any(map(runs, workers))


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended; nobody may have asked how it did."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
