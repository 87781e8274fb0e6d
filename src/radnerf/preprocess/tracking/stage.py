"""The stage that finds the head's pose in every frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from radnerf.preprocess.pictures import frame_reader
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.tracking.trackers import Tracker


@dataclass(frozen=True)
class Poses(Stage):
    """Poses, face shape and focal length.

    Attributes:
        size: of the frames, height and width.
        focal: in image widths, None where the tracker has to choose.
    """

    name = "poses"
    outputs = ("poses.npz",)

    size: tuple[int, int]
    focal: float | None
    tracker: Tracker

    @property
    def needs(self) -> tuple[str, ...]:
        return self.tracker.needs

    def settings(self) -> dict[str, Any]:
        return {"focal": self.focal, "tracker": self.tracker.facts()}

    def run(self, work: Workspace) -> None:
        points = np.load(work.root / "landmarks.npy")
        focal_px = self.focal and self.focal * self.size[1]
        track = self.tracker.track(
            points, self.size, focal_px, frame_reader(work.root), work.report
        )
        with (work.out / "poses.npz").open("wb") as file:
            np.savez(
                file,
                poses=track.poses,
                shape=track.shape,
                focal=track.focal,
                report=json.dumps(track.report),
            )
