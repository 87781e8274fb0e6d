"""Stages with stamps: each publishes its files at once and is skipped while its inputs stay.

A stage is a class beside the code that it runs. It works in a folder of its own below
`<clip>/.stages/`; its files move to their places when it is done, and a stamp, written last,
records the hash of all that went in. A run that is killed or interrupted at any moment leaves no
stamp, so the next run does that stage again and no other; a resumable one, which works frame by
frame, goes on after the last frame it wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from radnerf.errors import UserError
from radnerf.files import UNFINISHED

log = logging.getLogger(__name__)

STAMPS = ".stages"
BEGUN = "begun.json"  # in a stage's folder: what its unfinished files were made from


@dataclass
class Workspace:
    """What a stage gets: where finished files are, where to put its own, how to report."""

    root: Path  # the clip, with the files of the stages before
    out: Path  # this stage's files, published when it returns
    report: Callable[[int], None]  # frames done

    def done(self, *patterns: str) -> int:
        """How many frames a run that was cut off has finished.

        Args:
            patterns: files of a frame that it writes, such as "parsing/{}.png".
        """
        frame = 0
        while all((self.out / pattern.format(frame)).exists() for pattern in patterns):
            frame += 1
        return frame


class Stage(ABC):
    """One step of the preprocessing; a subclass's fields are what it works on and with.

    Attributes:
        name: of its stamp, and in the progress bar.
        version: rises when its code makes something else.
        resumable: it writes whole files, frame by frame, and asks its workspace which are done.
        seconds_a_frame: on two cores at 450 x 450, for the first estimate.
    """

    name: str
    version: int = 1
    resumable: bool = False
    seconds_a_frame: float = 0.001

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose outputs it reads."""
        return ()

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """Files and folders of the clip that it makes."""

    def settings(self) -> dict[str, Any]:
        """Every parameter and the content of every file that changes what it makes."""
        return {}

    @abstractmethod
    def run(self, work: Workspace) -> None:
        """Write the outputs into the workspace.

        Raises:
            UserError: the video cannot be used, and why.
        """


def run_stages(stages: Sequence[Stage], root: Path, n_frames: int) -> dict[str, float]:
    """Bring a clip folder up to date, stage by stage, with a progress bar.

    Returns:
        Seconds each stage took: this time, or when it last ran.

    Raises:
        UserError: from a stage; or the folder cannot be written.
    """
    stamps: dict[str, str] = {}
    seconds: dict[str, float] = {}
    folder = root / STAMPS
    with _progress() as progress:
        for stage in stages:
            stamp = _stamp(stage, stamps)
            stamps[stage.name] = stamp
            have = _read_stamp(folder / f"{stage.name}.json")
            current = have.get("stamp") == stamp
            if current and all((root / name).exists() for name in stage.outputs):
                seconds[stage.name] = float(have.get("seconds", 0.0))
                continue
            estimate = max(1.0, stage.seconds_a_frame * n_frames)
            task = progress.add_task(f"{stage.name:<10}", total=n_frames, eta=f"~{estimate:.0f} s")
            began = time.monotonic()
            _run(stage, stamp, root, partial(_advance, progress, task))
            seconds[stage.name] = round(time.monotonic() - began, 3)
            progress.update(task, completed=n_frames, eta="")
            _write_stamp(
                folder / f"{stage.name}.json", {"stamp": stamp, "seconds": seconds[stage.name]}
            )
            log.info("%s: %.1f s", stage.name, seconds[stage.name])
    return seconds


def seconds_of(root: Path) -> dict[str, float]:
    """Seconds each stage of a clip folder took when it last ran, in that order."""
    paths = sorted((root / STAMPS).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return {path.stem: float(_read_stamp(path).get("seconds", 0.0)) for path in paths}


def _advance(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done, eta="")


def _run(stage: Stage, stamp: str, root: Path, report: Callable[[int], None]) -> None:
    folder = root / STAMPS
    place = folder / f"{stage.name}.part"
    try:
        (folder / f"{stage.name}.json").unlink(missing_ok=True)
        if not stage.resumable or _read_stamp(place / BEGUN).get("stamp") != stamp:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            _write_stamp(place / BEGUN, {"stamp": stamp})
        for half in place.rglob(f".*{UNFINISHED}*"):
            half.unlink()
        stage.run(Workspace(root, place, report))
        for name in stage.outputs:
            target = root / name
            if target.is_dir():
                shutil.rmtree(target)
            (place / name).replace(target)
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise UserError(
            f"{error.filename or root} cannot be written ({error.strerror or error}): "
            "free some space or choose another folder."
        ) from error
    except Exception:
        shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)


def _stamp(stage: Stage, stamps: dict[str, str]) -> str:
    """Hash of all that goes into a stage."""
    facts = {
        "name": stage.name,
        "version": stage.version,
        "settings": stage.settings(),
        "needs": {name: stamps[name] for name in stage.needs},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _read_stamp(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _write_stamp(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".tmp")
    part.write_text(json.dumps(content))
    part.replace(path)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a clip folder for this run; a second run waits until the first is done.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        (root / STAMPS).mkdir(parents=True, exist_ok=True)
        handle = os.open(root / STAMPS / "lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(
            f"{root} cannot be written ({error.strerror}): choose another folder."
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("Another run is preprocessing %s; waiting for it.", root)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def file_hash(path: Path) -> str:
    """Hash of a file's content."""
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _progress() -> Progress:
    return Progress(
        TextColumn("preprocess {task.description}"),
        BarColumn(),
        TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[eta]}"),
    )
