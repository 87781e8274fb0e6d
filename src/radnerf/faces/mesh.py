"""478 points of each face, followed from frame to frame (Grishchenko et al., 2020)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.faces.detector import FaceDetector
from radnerf.faces.region import Region
from radnerf.tflite.network import Network

PRESENCE = 0.5
SAME_FACE = 0.5  # overlap of the regions of one face
OUTER_EYES = (33, 263)
PARTS = ("lips", "left_eye", "right_eye")  # in the order in which the network looks at them
IRISES = {"left": (468, "left_eye"), "right": (473, "right_eye")}
LIDS = 16  # the first points of an eye, around its opening


class FaceMesh:
    """The 478 points of a region's face."""

    def __init__(self, path: Path) -> None:
        self.network = Network.load(path)
        looks = self.network.options("Landmarks2TransformMatrix")
        # Which points the closer looks are for stands in the network.
        self.parts = {
            part: np.array(look["subset_idxs"]) for part, look in zip(PARTS, looks, strict=True)
        }

    def __call__(
        self, frame: UInt8[np.ndarray, "h w 3"], region: Region
    ) -> Float[np.ndarray, "478 3"] | None:
        """In pixels of the frame (z: away from the camera); None where no face is."""
        size = self.network.size
        shown = region.shown(frame, size, cv2.BORDER_REPLICATE)
        found = self.network(shown * np.float32(1 / 255))
        if 1 / (1 + np.exp(-found["conv_faceflag"].item())) <= PRESENCE:
            return None
        points = np.zeros((478, 3), np.float32)
        points[:468] = found["output_mesh_identity"].reshape(-1, 3)
        for part, numbers in self.parts.items():
            points[numbers, :2] = found[f"output_{part}"].reshape(-1, 2)
        for side, (first, eye) in IRISES.items():
            iris = slice(first, first + 5)
            points[iris, :2] = found[f"output_{side}_iris"].reshape(-1, 2)
            points[iris, 2] = points[self.parts[eye][:LIDS], 2].mean()
        return region.placed(points / size[0])


class FaceTracker:
    """Points of the faces of frames: where they were is looked first, and whole frames for more.

    Args:
        detector, mesh: the files of the two networks.
        most: faces in a frame.
        follow: whether the frames are a video; else none influences another.
    """

    def __init__(self, detector: Path, mesh: Path, most: int, follow: bool) -> None:
        self.detector, self.mesh = FaceDetector(detector), FaceMesh(mesh)
        self.most, self.follow = most, follow
        self.seen: list[Region] = []

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"]) -> list[Float[np.ndarray, "478 3"]]:
        frame = np.ascontiguousarray(frame)
        new = self.detector(frame)[: self.most] if len(self.seen) < self.most else []
        found = [self.mesh(frame, region) for region in distinct([*new, *self.seen])]
        faces = [points for points in found if points is not None]
        if self.follow:
            self.seen = [Region.around(points[:, :2], points[OUTER_EYES, :2]) for points in faces]
        return faces


def distinct(regions: list[Region]) -> list[Region]:
    """Of regions of the same face the last."""
    kept: list[Region] = []
    for region in regions:
        kept = [other for other in kept if region.overlap(other) <= SAME_FACE]
        kept.append(region)
    return kept
