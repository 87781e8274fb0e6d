"""What the choices of landmarks=, parser= and tracker= have in common: facts for the stamps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from radnerf.errors import UserError
from radnerf.models import Model, obtained
from radnerf.preprocess.stages import file_hash


@dataclass(frozen=True)
class Option:
    """A choice whose fields and files are all that changes its result.

    Fields with compare=False do not change it and are left out of the stamp.
    """

    def files(self) -> tuple[Path, ...]:
        """The files it reads.

        Raises:
            UserError: one is missing, and how to get it.
        """
        return ()

    def check(self) -> None:
        """Find out before the work whether it can be done.

        Raises:
            UserError: a file or a package is missing, and how to get it.
        """
        self.files()

    def facts(self) -> dict[str, Any]:
        """For a stamp: the choice, its settings, and its files by their content."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        files = [file_hash(path) for path in self.files()]
        if files:  # what is in them counts, not where they lie
            settings.pop("path", None)
        return {"choice": type(self).__qualname__, **settings, "files": files}


def existing(path: str | Path | None, name: str, advice: str) -> Path:
    """The file or folder of an option.

    Args:
        name: of the option, as in `parser.path`.
        advice: what it takes and how to get it.

    Raises:
        UserError: none is given, or it is not there.
    """
    if path is None:
        raise UserError(f"{name} is missing: {advice}.")
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{name}={path} does not exist: {advice}.")
    return found


def network(model: Model, folder: str | Path | None, name: str) -> Path:
    """A network's file in the folder of an option, else where it is kept; fetched at first use.

    Raises:
        UserError: it is not there, and how to get it.
    """
    if folder is None:
        return obtained(model)
    advice = f"give the folder that `python -m radnerf.models --to FOLDER` makes ({model.name})"
    return existing(Path(folder) / model.name, name, advice)
