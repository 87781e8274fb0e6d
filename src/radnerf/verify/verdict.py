"""What can be said about a file: from its content credentials and from the picture itself."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radnerf.errors import UserError
from radnerf.provenance import credentials
from radnerf.provenance.credentials import COMPOSITE, RENDERED, Credentials
from radnerf.provenance.watermark import PORTRAIT_DIGITS, Detection, detect
from radnerf.verify.frames import frames_of

OURS, NOT_FOUND, CHANGED = 0, 1, 3  # exit codes; 2 is a file that cannot be read
SIGNED = (".mp4", ".mov", ".m4v", ".png")

_SHOWS = {
    RENDERED: "all of the picture is rendered",
    COMPOSITE: "a part of the picture is rendered",
}


@dataclass
class Verdict:
    """What was found in a file.

    Attributes:
        credentials: what its content credentials say; None if it has none.
        unread: why credentials were not looked for.
        watermark: what was read of a watermark, if it is certain enough.
    """

    file: Path
    credentials: Credentials | None
    unread: str | None
    watermark: Detection | None

    @property
    def signed_by_us(self) -> bool:
        return self.credentials is not None and self.credentials.ours

    @property
    def code(self) -> int:
        """Exit code: ours, nothing found, or ours and changed since it was signed."""
        if self.credentials is not None and self.credentials.ours and not self.credentials.intact:
            return CHANGED
        return OURS if self.signed_by_us or self.watermark is not None else NOT_FOUND

    @property
    def portrait(self) -> str | None:
        """First digits of the SHA-256 of the portrait file."""
        if self.watermark is not None:
            return self.watermark.portrait
        if self.credentials is not None and "portrait_sha256" in self.credentials.facts:
            return self.credentials.facts["portrait_sha256"][:PORTRAIT_DIGITS]
        return None

    def sentence(self) -> str:
        """All of it in one line, for people."""
        parts = [self._made(), self._signature(), self._picture()]
        return f"{self.file}: {'; '.join(part for part in parts if part)}."

    def _made(self) -> str:
        if self.code == NOT_FOUND:
            return "no mark of radnerf was found, which does not mean that the picture is real"
        return (
            f"made by radnerf from portrait {self.portrait}" if self.portrait else "made by radnerf"
        )

    def _signature(self) -> str:
        found = self.credentials
        if found is None:
            return f"not read: {self.unread}" if self.unread else "it has no content credentials"
        if not found.intact:
            return f"CHANGED since it was signed ({', '.join(found.problems) or 'invalid'})"
        who = (
            "on this machine"
            if found.known
            else f"by '{found.signer}', whom this machine does not know"
        )
        maker = "" if found.ours else f" as a work of {found.generator}"
        shows = _SHOWS.get(found.source_type or "", "")
        return f"signed {who}{maker} and unchanged since" + (f", {shows}" if shows else "")

    def _picture(self) -> str:
        if self.watermark is None:
            return "no watermark in the picture"
        power = math.floor(-math.log10(max(self.watermark.false_alarm, 1e-99)))
        return f"watermark found in the picture (mistaken less than once in 10^{power})"

    def json(self) -> dict[str, Any]:
        """All of it for programs."""
        mark = self.watermark
        return {
            "file": str(self.file),
            "made_by_radnerf": self.code != NOT_FOUND,
            "changed": self.code == CHANGED,
            "portrait": self.portrait,
            "credentials": None if self.credentials is None else asdict(self.credentials),
            "credentials_unread": self.unread,
            "watermark": None
            if mark is None
            else {
                "portrait": mark.portrait,
                "score": round(mark.score, 2),
                "false_alarm": mark.false_alarm,
                "tile_px": round(mark.period, 1),
            },
            "sentence": self.sentence(),
        }


def examine(path: Path) -> Verdict:
    """Look for everything that this software leaves in a file.

    Raises:
        UserError: neither a video nor a picture.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}: check the path.")
    found, unread = None, None
    try:
        found = credentials.read(path)
    except UserError as error:
        unread = str(error)
    try:
        mark = detect(frames_of(path))
    except UserError:
        if found is None or not found.ours:
            raise
        mark = None  # cut short, but its credentials can be read
    return Verdict(path, found, unread, mark if mark is not None and mark.found else None)
