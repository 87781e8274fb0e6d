"""The output folder of a run: found again after a kill, never shared by two processes.

outputs/<id>/<time>/   config.yaml, run.json, previews/, checkpoints/, portrait.safetensors,
                       metrics.json, test.mp4
outputs/<id>/latest    points at the newest
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from radnerf.errors import UserError
from radnerf.files import passing, whole_file
from radnerf.sweep import current_job, overrides

# What does not change which run it is; and, when more is wanted of it, how long it has trained.
NOT_SETTINGS = ("more", "force")
BUDGET = ("quality", "recipe", "minutes", "steps")


class RunFolder:
    """A run's folder, locked by this process.

    Args:
        root: outputs/<id>.
        settings: the resolved config; a run that did not finish is gone on with only when its
            settings are the same.
        latest: whether `latest` points at it from now on.
        clip: what the clip folder is known by; runs on what it was before are left alone.
        more: minutes that a finished run is to train longer, however long it has; None goes on
            with one that did not finish, or starts a new one.

    Raises:
        UserError: no place for it, or no run that `more` could go on with.
    """

    def __init__(
        self,
        root: Path,
        settings: dict[str, Any],
        latest: bool = True,
        more: float | None = None,
        clip: str | None = None,
    ) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{root} cannot be made ({error}): choose outputs=FOLDER.") from error
        marks: dict[str, Any] = dict(fingerprints(settings))
        if more is None:
            self.path, self._lock = self._unfinished(root, marks, clip) or self._new(root)
        else:
            self.path, self._lock = self._for_more(root, marks, clip)
        state = read_state(self.path)
        self.resumed = bool(state)
        self.state: dict[str, Any] = {
            **marks,
            "finished": False,
            "seconds": {},
            "steps": {},
            "wanted": {},
            "more": [],
        } | state
        if more is not None and self.state["finished"]:
            self.state["more"].append(float(more))
            self.state["finished"] = False
        self.state.setdefault("overrides", overrides())
        if job := current_job():
            self.state["sweep"] = job.sweep
        for name in ("previews", "checkpoints"):
            (self.path / name).mkdir(exist_ok=True)
        self.save()
        if latest:
            _point(root / "latest", self.path.name)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def save(self) -> None:
        """Write run.json."""
        write_text(self.path / "run.json", json.dumps(self.state, indent=1))

    def finish(self) -> None:
        """Mark the run as finished: the same command has nothing to do from now on."""
        self.state["finished"] = True
        self.save()

    def release(self) -> None:
        """Let another process (or this one) have the folder."""
        self._lock.close()

    @staticmethod
    def _unfinished(
        root: Path, marks: dict[str, Any], clip: str | None
    ) -> tuple[Path, IO[str]] | None:
        for path, state in _runs(root):
            if _of_another_clip(state, clip):
                continue
            if state.get("fingerprint") == marks["fingerprint"] and not state.get("finished"):
                lock = _lock(path)
                if lock is not None:
                    return path, lock
        return None

    @staticmethod
    def _for_more(root: Path, marks: dict[str, Any], clip: str | None) -> tuple[Path, IO[str]]:
        for path, state in _runs(root):
            if state.get("kind") != marks["kind"] or _of_another_clip(state, clip):
                continue
            if not state.get("finished") and not state.get("more"):
                raise UserError(
                    f"{path} has not finished: the same command without more= goes on with it."
                )
            lock = _lock(path)
            if lock is None:
                raise UserError(f"{path} is being trained: wait until that has ended.")
            return path, lock
        raise UserError(
            f"There is no finished run of these settings in {root} for more= to go on with: "
            "leave it out."
        )

    @staticmethod
    def _new(root: Path) -> tuple[Path, IO[str]]:
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for attempt in range(100):
            path = root / (f"{name}_{attempt}" if attempt else name)
            try:
                path.mkdir()
            except FileExistsError:
                continue
            lock = _lock(path)
            assert lock is not None
            return path, lock
        raise UserError(f"{root} has no room for another run at {name}: try again in a second.")


def finished_run(root: Path, settings: dict[str, Any], clip: str) -> Path | None:
    """The folder of the newest run of these settings, if it has finished and is still there.

    Args:
        clip: what the clip folder is known by; a run on what it was before does not count.
    """
    mark = fingerprints(settings)["fingerprint"]
    for path, state in _runs(root):
        if state.get("fingerprint") == mark and state.get("clip") == clip:
            return path if state.get("finished") else None
    return None


def fingerprints(settings: dict[str, Any]) -> dict[str, str]:
    """What runs are told apart by: all their settings, and all but how long they train."""
    marks = {}
    for name, without in (("fingerprint", NOT_SETTINGS), ("kind", (*NOT_SETTINGS, *BUDGET))):
        kept = {key: value for key, value in settings.items() if key not in without}
        marks[name] = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    return marks


def read_state(path: Path) -> dict[str, Any]:
    """What run.json of a folder says; empty where there is none that can be read."""
    try:
        return dict(json.loads((path / "run.json").read_text()))
    except (OSError, ValueError):
        return {}


def _runs(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run folders and their states, newest first."""
    for note in sorted(root.glob("*/run.json"), reverse=True):
        if not note.parent.is_symlink():
            yield note.parent, read_state(note.parent)


def _of_another_clip(state: dict[str, Any], clip: str | None) -> bool:
    return clip is not None and state.get("clip", clip) != clip


def _lock(folder: Path) -> IO[str] | None:
    """Exclusive lock on a run folder for the life of this process, or None when it is taken."""
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _point(link: Path, target: str) -> None:
    with passing(link.with_name(f".latest.{os.getpid()}")) as temporary:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text)
