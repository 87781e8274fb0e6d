"""Where a clip comes from: the built-in demo, a video, a public video, or a clip folder."""

from __future__ import annotations

import contextlib
import hashlib
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from radnerf.data.clip import TRAIN, Clip
from radnerf.errors import UserError
from radnerf.preprocess.landmarks.finders import LandmarkFinder
from radnerf.preprocess.parsing.parsers import Parser
from radnerf.preprocess.tracking.trackers import Tracker


@dataclass
class ClipSource:
    """What a data config says.

    Attributes:
        id: names the clip and its outputs; None takes the name of the video or folder.
        root: folder of the clip; None is <folder>/<id>, with the resolution when one is given.
        folder: where clips live.
        video: file to preprocess; it wins over everything else.
        url, sha256: of a public video, downloaded to <folder>/<id>/<id>.mp4 when it is not there.
        demo: settings of the built-in demo clip, when that is what this is.
        resolution: longer side that frames are scaled down to.
        preprocess: further options of preprocess_video.
        landmarks, parser, tracker: choices of the groups of these names; those of `preprocess`
            win.
    """

    id: str | None
    root: str | None = None
    folder: str = "data"
    video: str | None = None
    url: str | None = None
    sha256: str | None = None
    demo: dict[str, Any] | None = None
    resolution: int | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)
    landmarks: LandmarkFinder | None = None
    parser: Parser | None = None
    tracker: Tracker | None = None

    def __post_init__(self) -> None:
        if self.id is None:
            named_by = self.video or self.root
            if named_by is None:
                raise UserError("No video: give data.video=PATH, or data=clip data.root=FOLDER.")
            self.id = Path(named_by).stem

    @property
    def clip_root(self) -> Path:
        """Folder of the preprocessed clip."""
        if self.root is not None:
            return Path(self.root)
        suffix = f"_{self.resolution}" if self.resolution else ""
        return Path(self.folder) / f"{self.id}{suffix}"

    @property
    def synthetic(self) -> bool:
        """Whether the person is the built-in one, whom a video would replace."""
        return self.demo is not None and self.video is None

    def video_hash(self) -> str | None:
        """Hash of the video that the clip is made of; None where there is none here."""
        from radnerf.preprocess.stages import file_hash

        path = self._own_video if self.video is None else Path(self.video)
        return file_hash(path) if path.is_file() else None

    @property
    def _own_video(self) -> Path:
        return Path(self.folder) / f"{self.id}" / f"{self.id}.mp4"

    @property
    def _of_another_tool(self) -> bool:
        """Public folders hold their video, too: it must not be preprocessed over them."""
        has = {name for name in (TRAIN, "clip.json") if (self.clip_root / name).is_file()}
        return has == {TRAIN}

    def prepared(self) -> Path:
        """The clip folder as it is.

        Raises:
            UserError: it is not a preprocessed clip.
        """
        Clip.open(self.clip_root)
        return self.clip_root

    def prepare(self) -> Path:
        """Make the clip folder, or what is missing of it.

        Raises:
            UserError: the video cannot be had or cannot be used.
        """
        if self.video is not None:
            return self._from_video(Path(self.video))
        if self.demo is not None:
            return self._from_demo(self.demo)
        own_video = self._own_video
        if self._of_another_tool or (self.url is None and not own_video.is_file()):
            return self.prepared()
        if not own_video.is_file():
            _download(str(self.url), own_video, self.sha256)
        return self._from_video(own_video)

    def _from_video(self, video: Path) -> Path:
        from radnerf.preprocess import preprocess_video

        if not video.is_file():
            raise UserError(f"There is no video {video}: check data.video=PATH.")
        if self._of_another_tool:
            raise UserError(
                f"{self.clip_root} holds a clip of another tool: train on it with data=clip "
                f"data.root={self.clip_root}, or give this video another data.id=NAME."
            )
        chosen: dict[str, Any] = {
            "landmarks": self.landmarks,
            "parser": self.parser,
            "tracker": self.tracker,
        }
        given = {name: value for name, value in self.preprocess.items() if value is not None}
        preprocess_video(
            video,
            self.clip_root,
            clip_id=str(self.id),
            resolution=self.resolution,
            **(chosen | given),
        )
        return self.clip_root

    def _from_demo(self, settings: dict[str, Any]) -> Path:
        from radnerf.data.demo import make_demo_clip

        size = min(settings["size"], self.resolution or settings["size"])
        make_demo_clip(self.clip_root, **(settings | {"size": size}))
        return self.clip_root


def _download(url: str, path: Path, sha256: str | None) -> None:
    """Fetch a public video, whole or not at all.

    Raises:
        UserError: no network, or the file is not the expected one.
    """
    by_hand = f"put the video at {path} or give data.video=PATH"
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=20) as answer, temporary.open("wb") as file:
            blocks = max(1, int(answer.headers.get("Content-Length") or 0) >> 20)
            for _ in track(range(blocks + 1), f"downloading {path.name}", total=blocks):
                block = answer.read(1 << 20)
                digest.update(block)
                file.write(block)
            while block := answer.read(1 << 20):
                digest.update(block)
                file.write(block)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise UserError(f"{url} is not the expected file (its checksum differs): {by_hand}.")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{url} cannot be downloaded ({error}): {by_hand}.") from error
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # only if nothing came
