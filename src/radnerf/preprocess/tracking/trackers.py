"""Who finds the head's pose in every frame: the choices of `tracker=`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8

from radnerf.preprocess.landmarks import face
from radnerf.preprocess.options import Option
from radnerf.preprocess.tracking.poses import solve_poses

FOCAL = 2.4  # image widths; hardly observable in a portrait video, so a setting

ReadFrame = Callable[[int], UInt8[np.ndarray, "h w 3"]]


@dataclass
class Track:
    """Where the head was: cameras around a head that stands still."""

    poses: Float[np.ndarray, "t 4 4"]  # camera-to-world, memory convention
    shape: Float[np.ndarray, "k 3"]  # the face's landmarks, world units
    focal: float  # pixels
    report: dict[str, Any]


@dataclass(frozen=True)
class Tracker(Option):
    """Finds the head's pose in every frame."""

    needs: ClassVar[tuple[str, ...]] = ("landmarks",)  # stages whose results it reads

    @abstractmethod
    def track(
        self,
        landmarks: Float[np.ndarray, "t k c"],
        size: tuple[int, int],
        focal: float | None,
        read_frame: ReadFrame,
        report: Callable[[int], None],
    ) -> Track:
        """Poses of all frames, the face between its outer eye corners as clips have it.

        Args:
            landmarks: 478 mesh points (x, y, z) or 68 points, pixels.
            size: height and width of the frames.
            focal: pixels, or None where the tracker has to choose.
            read_frame: frame i, RGB.
            report: called with the number of frames done.
        """


@dataclass(frozen=True)
class BundleTracker(Tracker):
    """Bundle adjustment of one rigid face shape over all frames, see poses.py."""

    def track(
        self,
        landmarks: Float[np.ndarray, "t k c"],
        size: tuple[int, int],
        focal: float | None,
        read_frame: ReadFrame,
        report: Callable[[int], None],
    ) -> Track:
        focal = focal or FOCAL * size[1]
        first = face.mean_shape(landmarks)
        poses, shape, found = solve_poses(
            landmarks[..., :2],
            size,
            focal,
            first,
            face.trust(first),
            face.STD_68 if len(first) == 68 else face.STD_MESH,
        )
        return Track(*face.to_unit(poses, shape), focal, found.as_dict())
