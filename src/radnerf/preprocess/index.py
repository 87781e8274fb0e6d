"""The stage that makes a folder a clip: camera, split, eyes, head box and where all came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from radnerf.conventions import FPS, HEAD
from radnerf.data.clip import eye_ratio, write_transforms
from radnerf.geometry.face68 import to_68
from radnerf.preprocess.landmarks.finders import LandmarkFinder
from radnerf.preprocess.pictures import read_parsing
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.tracking.headbox import head_box
from radnerf.preprocess.video.decode import Video


@dataclass(frozen=True)
class Index(Stage):
    """transforms_*.json of all tools, and clip.json of ours.

    Attributes:
        size: of the frames, height and width.
        finder: knows where the eye track comes from.
    """

    name = "index"
    needs = ("poses", "parsing", "layers")
    outputs = ("transforms_train.json", "transforms_val.json", "clip.json")

    video: Video
    clip_id: str
    size: tuple[int, int]
    finder: LandmarkFinder

    def settings(self) -> dict[str, Any]:
        return {"id": self.clip_id, "file": self.video.path.name} | self.finder.eye_facts()

    def run(self, work: Workspace) -> None:
        points = to_68(np.load(work.root / "landmarks.npy"))
        solved = np.load(work.root / "poses.npz")
        focal_px = float(solved["focal"])
        area = np.array([eye_ratio(p, *self.size) for p in points])
        eye = smooth_eye(self.finder.eye_track(work.root, area))
        center = (self.size[1] / 2, self.size[0] / 2)
        box, coverage = head_box(
            solved["shape"],
            solved["poses"],
            lambda i: read_parsing(work.root, i) == HEAD,
            focal_px,
            center,
        )
        unseen = np.load(work.root / "unseen.npy")
        write_transforms(work.out, solved["poses"], eye, focal_px, center, unseen)
        meta = {
            "format": 1,
            "id": self.clip_id,
            "fps": FPS,
            "size": list(self.size),
            "head_box": np.round(box, 4).tolist(),
            "focal_px": focal_px,
            "tracking": json.loads(str(solved["report"])) | {"head_box_coverage": coverage},
            "source": {
                "file": self.video.path.name,
                "size": [self.video.height, self.video.width],
                "fps": round(self.video.source_fps, 3),
                "rotation": self.video.rotation,
                "codec": self.video.codec,
            },
        }
        (work.out / "clip.json").write_text(json.dumps(meta, indent=1))


def smooth_eye(eye: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Eye ratio without the landmarks' tremble: weights 1, 2, 1, blinks keep their depth."""
    padded = np.pad(eye, 1, mode="edge")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
