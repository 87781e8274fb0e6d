"""The choice tracker=bfm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from radnerf.geometry.face68 import to_68
from radnerf.preprocess.bfm.files import model_files, read_model
from radnerf.preprocess.bfm.rasteriser import pytorch3d_rasteriser, require_pytorch3d
from radnerf.preprocess.bfm.track import Settings, track_face
from radnerf.preprocess.landmarks import face
from radnerf.preprocess.tracking.trackers import FOCAL, ReadFrame, Track, Tracker
from radnerf.runtime.devices import choose_device


@dataclass(frozen=True)
class BfmTracker(Tracker):
    """The Basel Face Model fitted to the landmarks, then to the colors of the frames.

    Attributes:
        path: folder with the model, see bfm/files.py, or its 01_MorphableModel.mat in there.
        photometric: fit to the colors too, which needs pytorch3d.
        side: longer side, pixels, at which colors are compared.
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
            to_68(landmarks).astype(np.float32),
            size,
            Settings(focal=focal, first_focal=FOCAL * size[1], side=self.side),
            read_frame,
            pytorch3d_rasteriser() if self.photometric else None,
            report,
        )
        return Track(*face.to_unit(poses, shape), focal, found)
