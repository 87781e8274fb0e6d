"""Who finds the head's pose in every frame: the choices of `tracker=`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8

from radnerf.preprocess.bfm.files import model_files, read_model
from radnerf.preprocess.bfm.rasteriser import pytorch3d_rasteriser, require_pytorch3d
from radnerf.preprocess.bfm.track import Settings, track_face
from radnerf.preprocess.landmarks import face
from radnerf.preprocess.options import Option
from radnerf.preprocess.tracking.poses import solve_poses
from radnerf.runtime.devices import choose_device

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
            face.SPREAD_68 if len(first) == 68 else face.SPREAD_MESH,
        )
        return Track(*face.to_unit(poses, shape), focal, found.as_dict())


@dataclass(frozen=True)
class BfmTracker(Tracker):
    """The Basel Face Model fitted to the landmarks, then to the colours of the frames.

    Attributes:
        path: folder with the model, see bfm/files.py, or its 01_MorphableModel.mat in there.
        photometric: fit to the colours too, which needs pytorch3d.
        side: longer side, pixels, at which colours are compared.
        device: auto is a GPU if there is one.
    """

    needs: ClassVar[tuple[str, ...]] = ("landmarks", "frames")

    path: str | None = None
    photometric: bool = True
    side: int = 256
    device: str = field(default="auto", compare=False)

    def files(self) -> tuple[Path, ...]:
        return model_files(self.path)

    def check(self) -> None:
        super().check()
        if self.photometric:
            require_pytorch3d()

    def track(
        self,
        landmarks: Float[np.ndarray, "t k c"],
        size: tuple[int, int],
        focal: float | None,
        read_frame: ReadFrame,
        report: Callable[[int], None],
    ) -> Track:
        device = choose_device(self.device)
        poses, shape, focal, found = track_face(
            read_model(self.files()).to(device),
            face.to_68(landmarks).astype(np.float32),
            size,
            Settings(focal=focal, first_focal=FOCAL * size[1], side=self.side),
            read_frame,
            pytorch3d_rasteriser() if self.photometric else None,
            report,
        )
        return Track(*face.to_unit(poses, shape), focal, found)
