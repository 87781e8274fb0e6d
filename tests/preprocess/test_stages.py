from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from radnerf.errors import UserError
from radnerf.files import UNFINISHED
from radnerf.preprocess.stages import STAMPS, Stage, Workspace, locked, run_stages


@dataclass
class Given(Stage):
    """A stage whose declaration is made of what a test gives."""

    name: str
    made: tuple[str, ...]
    body: Callable[[Workspace], None]
    read: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    resumable: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        return self.read

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.made

    def settings(self) -> dict[str, Any]:
        return self.options

    def run(self, work: Workspace) -> None:
        self.body(work)


class Counter:
    """Two stages, the second reading the first, and how often each ran."""

    def __init__(self) -> None:
        self.runs = {"first": 0, "second": 0}

    def first(self, work: Workspace) -> None:
        self.runs["first"] += 1
        (work.out / "a.txt").write_text("a")

    def second(self, work: Workspace) -> None:
        self.runs["second"] += 1
        (work.out / "folder").mkdir()
        (work.out / "folder" / "b.txt").write_text((work.root / "a.txt").read_text() + "b")

    def stages(self, one: int = 1, two: int = 1, version: int = 1) -> list[Stage]:
        return [
            Given("first", ("a.txt",), self.first, options={"one": one}, version=version),
            Given("second", ("folder",), self.second, ("first",), {"two": two}),
        ]


def test_unchanged_stages_are_skipped(tmp_path: Path) -> None:
    counter = Counter()
    run_stages(counter.stages(), tmp_path, 1)
    run_stages(counter.stages(), tmp_path, 1)
    assert counter.runs == {"first": 1, "second": 1}
    assert (tmp_path / "folder" / "b.txt").read_text() == "ab"


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({"two": 2}, {"first": 1, "second": 2}),
        ({"one": 2}, {"first": 2, "second": 2}),
        ({"version": 2}, {"first": 2, "second": 2}),
    ],
)
def test_a_change_runs_what_depends_on_it(
    tmp_path: Path, change: dict[str, int], runs: dict[str, int]
) -> None:
    counter = Counter()
    run_stages(counter.stages(), tmp_path, 1)
    run_stages(counter.stages(**change), tmp_path, 1)
    assert counter.runs == runs


def test_a_missing_output_is_made_again(tmp_path: Path) -> None:
    counter = Counter()
    run_stages(counter.stages(), tmp_path, 1)
    (tmp_path / "a.txt").unlink()
    run_stages(counter.stages(), tmp_path, 1)
    assert counter.runs == {"first": 2, "second": 1}


def test_a_failed_stage_leaves_nothing_and_keeps_the_rest(tmp_path: Path) -> None:
    counter = Counter()

    def fail(work: Workspace) -> None:
        counter.second(work)
        raise RuntimeError("half way")

    first, second = counter.stages()
    with pytest.raises(RuntimeError):
        run_stages([first, Given("second", second.outputs, fail, second.needs)], tmp_path, 1)
    assert not (tmp_path / "folder").exists()
    assert sorted(p.name for p in (tmp_path / STAMPS).iterdir()) == ["first.json"]
    run_stages([first, second], tmp_path, 1)
    assert counter.runs == {"first": 1, "second": 2}


def _slow_run(root: Path) -> None:
    def slow(work: Workspace) -> None:
        (work.out / "folder").mkdir()
        for i in range(1000):
            (work.out / "folder" / f"{i}.txt").write_text("x")
            time.sleep(0.01)

    with locked(root):
        first, _ = Counter().stages()
        run_stages([first, Given("second", ("folder",), slow, ("first",))], root, 1)


def test_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_slow_run, args=(tmp_path,))
    child.start()
    begun = tmp_path / STAMPS / "second.part" / "folder" / "3.txt"
    deadline = time.monotonic() + 30
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert begun.exists()
    assert not (tmp_path / "folder").exists()
    counter = Counter()
    with locked(tmp_path):  # the dead run's lock is gone
        run_stages(counter.stages(), tmp_path, 1)
    assert counter.runs == {"first": 0, "second": 1}
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["b.txt"]
    assert not (tmp_path / STAMPS / "second.part").exists()


class Interrupted(BaseException):
    """As Ctrl-C, which would end the tests if one let it through."""


def test_a_stage_goes_on_at_the_frame_where_it_was_interrupted(tmp_path: Path) -> None:
    written: list[int] = []

    def run(setting: int, last: str = "", resumable: bool = True) -> None:
        def write(work: Workspace) -> None:
            for i in range(work.done("a/{}.txt", "b/{}.txt"), 6):
                for name in ("a", "b"):
                    (work.out / name).mkdir(exist_ok=True)
                    (work.out / name / f"{i}.txt").write_text("x")
                    if f"{name}{i}" == last:
                        (work.out / name / f".4.77{UNFINISHED}.txt").write_text("half")
                        raise Interrupted
                written.append(i)

        stage = Given("s", ("a", "b"), write, (), {"setting": setting}, resumable=resumable)
        run_stages([stage], tmp_path, 6)

    def interrupted(setting: int) -> None:
        with pytest.raises(Interrupted):
            run(setting, "a3")
        assert written == [0, 1, 2]
        written.clear()

    interrupted(1)
    run(1)
    assert written == [3, 4, 5]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [f"{i}.txt" for i in range(6)]

    for setting, resumable in ((3, True), (2, False)):  # begun with another setting; cannot go on
        written.clear()
        interrupted(2)
        run(setting, resumable=resumable)
        assert written == [0, 1, 2, 3, 4, 5]


def _hold(root: Path, seconds: float) -> None:
    with locked(root):
        (root / "held").touch()
        time.sleep(seconds)
        (root / "held").unlink()


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path, 0.5))
    child.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "held").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with locked(tmp_path):
        assert not (tmp_path / "held").exists()
    child.join()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), locked(tmp_path / "file" / "clip"):
        pass


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    def full(work: Workspace) -> None:
        raise OSError(28, "No space left on device", str(work.out / "a.txt"))

    with pytest.raises(UserError, match="No space left"):
        run_stages([Given("first", ("a.txt",), full)], tmp_path, 1)
    assert not (tmp_path / "a.txt").exists()
