"""The stage that finds the landmarks of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from radnerf.geometry.face68 import to_68
from radnerf.preprocess.landmarks.detect import bridge, check_face
from radnerf.preprocess.landmarks.finders import LandmarkFinder
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.video.decode import Video


@dataclass(frozen=True)
class Landmarks(Stage):
    """Landmarks in pixels of the clip's size (height, width), and in which frames none were seen.

    Short gaps are bridged.
    """

    name = "landmarks"
    seconds_a_frame = 0.009

    video: Video
    size: tuple[int, int]
    finder: LandmarkFinder

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("landmarks.npy", "unseen.npy", *self.finder.extra)

    def settings(self) -> dict[str, Any]:
        return self.video.facts | {"landmarks": self.finder.facts(), "size": self.size}

    def run(self, work: Workspace) -> None:
        found = self.finder.find(self.video, work)
        np.save(work.out / "unseen.npy", ~np.isfinite(found).all((1, 2)))
        points = bridge(found) * (self.size[1] / self.video.width)
        check_face(to_68(points), self.size)
        np.save(work.out / "landmarks.npy", points.astype(np.float32))
