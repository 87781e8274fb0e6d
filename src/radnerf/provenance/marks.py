"""Everything a video or picture says of itself: what is written into it, and how it is signed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.provenance import credentials, metadata
from radnerf.provenance.certificates import Identity
from radnerf.provenance.credentials import COMPOSITE, RENDERED
from radnerf.provenance.label import Label
from radnerf.provenance.watermark import PORTRAIT_DIGITS, Watermark

log = logging.getLogger(__name__)

Frame = UInt8[np.ndarray, "h w 3"]
NONE = "none"
UNMARKED = (
    "{what}: whoever provides such videos in the EU must mark them so that machines can tell, and "
    "whoever shows one must say so (AI Act, Art. 50); see docs/ethics.md."
)


@dataclass(frozen=True)
class Marks:
    """What marks the files of one portrait get, and what they say.

    One object serves any number of files. What shows something else than a rendering alone says so
    by `beside_truth` or `pasted_into`.

    Attributes:
        portrait: SHA-256 of the portrait file.
        audio: of the file with the driving sound; None for the clip's own.
        identity: who signs; None for nobody.
        watermark: whether the picture is marked.
        label: a line for people to read.
        source_type: IPTC digital source type, RENDERED or COMPOSITE.
        parent: the video that the rendering was pasted into.
    """

    portrait: str
    audio: str | None = None
    identity: Identity | None = None
    watermark: bool = True
    label: Label | None = None
    source_type: str = RENDERED
    parent: Path | None = None

    @classmethod
    def of(
        cls,
        portrait: str | Path,
        audio: str | Path | None = None,
        provenance: str = "local",
        watermark: str = "picture",
        label: str | bool = False,
        label_font: str | Path | None = None,
    ) -> Marks:
        """What the options ask for; what is left out is said in one line.

        Args:
            portrait, audio: files that the rendering is made from.
            provenance: local (a certificate made on this machine), none, or a PEM file.
            watermark: picture or none.
            label: true, or a text to show.

        Raises:
            UserError: an option cannot be used.
        """
        if watermark not in ("picture", NONE):
            raise UserError(f"watermark={watermark} is not a choice of picture, none.")
        off = [
            f"{name}=none"
            for name, value in (("provenance", provenance), ("watermark", watermark))
            if value == NONE
        ]
        if off:
            log.warning(UNMARKED.format(what=" ".join(off)))
        return cls(
            portrait=sha256(portrait),
            audio=None if audio is None else sha256(audio),
            identity=_identity(provenance),
            watermark=watermark != NONE,
            label=Label.of(label, label_font),
        )

    def beside_truth(self) -> Marks:
        """For pictures that show the filmed person next to the rendering."""
        return replace(self, source_type=COMPOSITE)

    def pasted_into(self, parent: Path) -> Marks:
        """For a rendering that was pasted into a video."""
        return replace(self, source_type=COMPOSITE, parent=parent)

    @property
    def facts(self) -> dict[str, str]:
        """What a file was made from: hashes, and no paths or names."""
        facts = {"portrait_sha256": self.portrait}
        return facts if self.audio is None else facts | {"audio_sha256": self.audio}

    def begin(self) -> Callable[[Frame], Frame]:
        """What to do to the frames of one video, in their order."""
        steps: list[Callable[[Frame], Frame]] = []
        if self.label is not None:
            steps.append(Label(self.label.text, self.label.font).draw)
        if self.watermark:
            steps.append(Watermark(self.portrait[:PORTRAIT_DIGITS]).mark)

        def marked(frame: Frame) -> Frame:
            for step in steps:
                frame = step(frame)
            return frame

        return marked

    def fields(self) -> dict[str, str]:
        """Metadata for the header of a video."""
        if self.identity is None and not self.watermark:
            return {}
        return {"AIGC": metadata.aigc(self.facts)}

    @contextmanager
    def sealed(self, video: Path) -> Iterator[None]:
        """When the block that writes a video ends well, complete its metadata and sign it."""
        yield
        if self.fields():
            metadata.append_xmp(video, metadata.xmp(self.source_type, self.facts))
        self._sign(video)

    def write_picture(self, path: Path, picture: Frame) -> None:
        """Write a marked PNG, whole or not at all.

        Raises:
            UserError: it cannot be written or signed.
        """
        with whole_file(path) as part:
            packet = metadata.xmp(self.source_type, self.facts) if self.fields() else None
            metadata.write_png(part, self.begin()(picture), packet)
            self._sign(part)

    def _sign(self, path: Path) -> None:
        if self.identity is not None:
            credentials.sign(path, self.identity, self.source_type, self.facts, self.parent)


def sha256(path: str | Path) -> str:
    """Of a file's content.

    Raises:
        UserError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    return digest.hexdigest()


def _identity(provenance: str) -> Identity | None:
    if provenance == NONE:
        return None
    if not credentials.installed():
        if provenance != "local":
            raise UserError(f"provenance={provenance}: {credentials.NOT_INSTALLED}.")
        log.warning("Not signed: %s.", credentials.NOT_INSTALLED)
        return None
    return Identity.local() if provenance == "local" else Identity.of_file(Path(provenance))
