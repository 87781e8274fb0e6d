"""Workers end with their parent and with one another, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from radnerf.errors import UserError
from radnerf.runtime.processes import Workers

SCRIPT = """
import sys, time
from radnerf.runtime.processes import Workers

def sleep(number, channel):
    channel.send("asleep")
    time.sleep(100)

if __name__ == "__main__":
    with Workers(2, sleep) as workers:
        print([workers.receive(number) for number in (0, 1)], flush=True)
        workers.result()
"""


def deed(number: int, channel: Connection, deeds: list[str]) -> int:
    """What a worker of the tests does."""
    if deeds[number] == "refuse":
        raise UserError("That cannot be.")
    if deeds[number] == "err":
        raise RuntimeError("a bug")
    if deeds[number] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if deeds[number] == "sleep":
        time.sleep(100)
    return number


@pytest.mark.parametrize(
    ("deeds", "words"),
    [
        (["work", "die"], "Process 2 of 2 was ended by SIGKILL"),
        (["sleep", "refuse"], "That cannot be."),
        (["err", "sleep"], "its error is above"),
    ],
)
def test_one_that_fails_ends_the_others(
    deeds: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=words), Workers(2, deed, deeds) as workers:
        workers.result()
    assert not any(process.is_alive() for process in workers.processes)
    errors = capfd.readouterr().err
    assert ("a bug" in errors) == ("err" in deeds) and ("Traceback" in errors) == ("err" in deeds)


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    source = Path(__file__).parents[2] / "src"
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(source)},
    ) as parent:
        assert parent.stdout is not None and "asleep" in parent.stdout.readline()
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(parent.pid, 0)
                time.sleep(0.05)
