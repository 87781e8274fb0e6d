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
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from radnerf.errors import UserError
from radnerf.files import passing, whole_file
from radnerf.sweep import current_job, overrides


class RunFolder:
    """A run's folder, locked by this process.

    Args:
        root: outputs/<id>.
        settings: the resolved config; a run that did not finish is gone on with only when its
            settings are the same.
        latest: whether `latest` points at it from now on.
    """

    def __init__(self, root: Path, settings: dict[str, Any], latest: bool = True) -> None:
        fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{root} cannot be made ({error}): choose outputs=FOLDER.") from error
        self.path, self._lock = self._unfinished(root, fingerprint) or self._new(root)
        self.resumed = (self.path / "run.json").is_file()
        self.state: dict[str, Any] = {"fingerprint": fingerprint, "finished": False, "seconds": {}}
        if self.resumed:
            self.state = json.loads((self.path / "run.json").read_text())
        self.state["overrides"] = overrides()
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
        """Mark the run as finished: the same command starts a new one from now on."""
        self.state["finished"] = True
        self.save()

    def release(self) -> None:
        """Let another process (or this one) have the folder."""
        self._lock.close()

    @staticmethod
    def _unfinished(root: Path, fingerprint: str) -> tuple[Path, IO[str]] | None:
        for note in sorted(root.glob("*/run.json"), reverse=True):
            if note.parent.is_symlink():
                continue
            try:
                state = json.loads(note.read_text())
            except ValueError:
                continue
            if state.get("fingerprint") == fingerprint and not state.get("finished"):
                lock = _lock(note.parent)
                if lock is not None:
                    return note.parent, lock
        return None

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
