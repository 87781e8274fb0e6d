"""How speeds beside other programs are counted; how high they are, no test asks."""

import os
import signal
import sys
import time
from io import StringIO
from pathlib import Path

import pytest

from radnerf.benchmark import beside
from radnerf.benchmark.__main__ import main
from radnerf.benchmark.beside import BUSY, Programs, Quota, Turns
from radnerf.errors import UserError

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be stopped")


def test_turns_are_alone_and_beside_in_turn(monkeypatch):
    now, said = [0.0], []
    monkeypatch.setattr(beside.time, "perf_counter", lambda: now[0])
    turns = Turns(said.append, seconds=1.0, warm_up=2)
    while not turns.over:
        now[0] += 0.5 if said and said[-1] else 0.25
        turns.tick()
    assert said == [False, True, False, True, False]
    assert turns.rates == [4, 2, 4, 2]
    assert turns.report("x") == {
        "beside.x.alone": 4,
        "beside.x.beside": 2,
        "beside.x.ratio": 0.5,
        "beside.x.turns": "4 2 4 2",
    }


def test_a_unit_is_never_cut(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(beside.time, "perf_counter", lambda: now[0])
    turns = Turns(lambda on: None, seconds=1.0, count=2, warm_up=1)
    while not turns.over:
        turns.tick()
        now[0] += 4.0
    assert turns.rates == [0.25, 0.25]


def _ran(process) -> float:
    """Seconds that a process has run."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_programs_run_only_when_they_are_let():
    with Programs([[sys.executable, "-c", BUSY]]) as programs:
        (process,) = programs.running
        programs.switch(False)
        time.sleep(0.1)
        before = _ran(process)
        time.sleep(0.3)
        assert _ran(process) == before
        programs.switch(True)
        deadline = time.monotonic() + 20
        while _ran(process) < before + 0.1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _ran(process) >= before + 0.1
    assert process.returncode == -signal.SIGKILL


def test_a_quota_that_cannot_be_had_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(beside, "GROUPS", tmp_path / "nowhere")
    with pytest.raises(UserError, match="A quota needs root and control groups"):
        Quota(1.5)


def test_a_quota_is_set_and_taken_back(monkeypatch, tmp_path):
    monkeypatch.setattr(beside, "GROUPS", tmp_path)
    quota = Quota(1.5)
    assert (quota.group / "cgroup.procs").read_text() == str(os.getpid())
    quota.switch(True)
    assert (quota.group / "cpu.max").read_text() == "150000 100000"
    quota.switch(False)
    assert (quota.group / "cpu.max").read_text() == "max 100000"


@pytest.mark.parametrize("wrong", [["--beside", "many"], ["--beside", "1", "--quota", "1.5"]])
def test_what_is_no_neighbour_is_refused(wrong, capsys):
    assert main(wrong) == 1
    assert "--help" in capsys.readouterr().err


def test_the_table_has_every_row():
    from rich.console import Console

    report = {"beside.head.alone": 40.0, "beside.head.beside": 30.0, "beside.head.ratio": 0.75}
    out = StringIO()
    beside.show_beside(report | {"beside.head.turns": "40 30"}, Console(file=out, width=120))
    assert all(text in out.getvalue() for text in ("head", "steps/s", "0.75", "40 30"))
