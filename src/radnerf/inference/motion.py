"""What a portrait does beside speaking: where head and torso are and how open the eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.performer import Control
from radnerf.inference.tracks import (
    EyeTrack,
    PoseTrack,
    TorsoTrack,
    eye_track,
    pose_track,
    torso_track,
)


@dataclass
class Motion:
    """Tracks, which may be exchanged while frames are drawn."""

    poses: PoseTrack
    torso: TorsoTrack | None  # None: what goes with the poses
    eyes: EyeTrack

    @classmethod
    def of(
        cls, bundle: PortraitBundle, pose: str = "own", eyes: str | float = "own", seed: int = 0
    ) -> Motion:
        """Of a bundle's portrait.

        Args:
            pose: own | hold | orbit | path, see tracks.pose_track.
            eyes: own | blink | number, see tracks.eye_track.
            seed: of the blinks.

        Raises:
            UserError: an option cannot be used.
        """
        return cls(
            pose_track(bundle, pose), torso_track(bundle, pose), eye_track(bundle, eyes, seed)
        )

    def controls(self, first: int, codes: Sequence[Float[Tensor, " d"]]) -> list[Control]:
        """What the frames from number `first` on show, one for each code."""
        frames = first + np.arange(len(codes))
        poses, eyes = self.poses(frames), self.eyes(frames).tolist()
        torso = [None] * len(codes) if self.torso is None else self.torso(frames)
        return list(map(Control, poses, codes, eyes, torso))
