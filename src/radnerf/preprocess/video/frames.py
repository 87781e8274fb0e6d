"""The frames as the clip has them, each with its 68 landmarks beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from radnerf.data.clip import write_image
from radnerf.files import whole_file
from radnerf.geometry.face68 import to_68
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.streams import ahead, counted, on_threads
from radnerf.preprocess.video.decode import Video, read_frames


@dataclass(frozen=True)
class Frames(Stage):
    """The video's frames at the clip's size (height, width)."""

    name = "frames"
    needs = ("landmarks",)
    outputs = ("ori_imgs",)
    resumable = True
    seconds_a_frame = 0.006

    video: Video
    size: tuple[int, int]
    workers: int

    def settings(self) -> dict[str, Any]:
        return self.video.facts | {"size": self.size}

    def run(self, work: Workspace) -> None:
        points = to_68(np.load(work.root / "landmarks.npy"))
        folder = work.out / "ori_imgs"
        done = work.done("ori_imgs/{}.jpg")

        def write(item: tuple[int, UInt8[np.ndarray, "h w 3"]]) -> None:
            i, rgb = item
            if i < done:
                return
            with whole_file(folder / f"{i}.lms") as part:
                np.savetxt(part, points[i], fmt="%.4f")
            write_image(folder / f"{i}.jpg", rgb)

        decoded = counted(ahead(read_frames(self.video, self.size)), work.report)
        for _ in on_threads(write, enumerate(decoded), self.workers):
            pass
