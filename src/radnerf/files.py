"""Files that appear whole or not at all, and one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from radnerf.errors import UserError

UNFINISHED = ".part"  # in the name of a file that a killed process may leave behind

_passing: set[Path] = set()  # files and folders of this process that no exception may outlive


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process at a time goes through this block for a folder; the others wait."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def passing(path: Path) -> Iterator[Path]:
    """A file or folder that is gone when the block ends, whether it was made or not."""
    _passing.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _passing.discard(path)


def now_passing() -> list[Path]:
    """What a process that ends without leaving its blocks has to remove."""
    return list(_passing)


def remove_passing() -> None:
    """Remove it, in a process that ends with blocks that nobody leaves any more."""
    for path in now_passing():
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an exception.

    Missing folders are made, and the temporary file, so that a place nobody may write to is found
    before the work.

    Raises:
        UserError: the file cannot be written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{UNFINISHED}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with passing(part):
            part.touch()
            yield part
            part.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): free some space or choose "
            "another folder."
        ) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block ends without an exception.

    Raises:
        UserError: there is something at `path` already, or the folder cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists: choose another folder, or take this one away first.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with passing(part):
            part.mkdir(parents=True)
            yield part
            part.rename(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}).") from error
