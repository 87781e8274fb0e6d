"""What a portrait file needs beside the network: the clip that the checkpoint was trained on.

Letters: T video frames, C audio feature width.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from radnerf.audio import attention_windows, read_features
from radnerf.conventions import FPS
from radnerf.data.clip import Clip, n_train_frames, to_memory_pose
from radnerf.errors import UserError
from radnerf.fields.audio_net import rest_code
from radnerf.geometry.eyes import OPEN_EYE
from radnerf.geometry.face68 import mouth_opening
from radnerf.inference.performer import MAX_SIDE
from radnerf.rendering.portrait import Portrait

FEATURE_FILES = ("aud_eo.npy", "aud_hu.npy", "aud_ds.npy", "aud.npy")
FRAMES_AT_ONCE = 256


@dataclass
class Source:
    """Camera, tracks and background of the training video."""

    id: str
    poses: Float[Tensor, "t 4 4"]  # memory convention
    eye: Float[Tensor, " t"]
    focal: float
    centre: tuple[float, float]
    size: tuple[int, int]
    fps: float
    background: UInt8[Tensor, "h w 3"]
    n_train: int
    clip: Clip | None  # none when there are but the poses

    @classmethod
    def open(cls, path: Path) -> Source:
        """Of a clip folder, or of a transforms JSON alone: then the background is white.

        Raises:
            UserError: neither of them.
        """
        if not path.exists():
            raise UserError(f"There is no clip {path}: check the path.")
        return cls._of_clip(path) if path.is_dir() else cls._of_transforms(path)

    @classmethod
    def _of_clip(cls, root: Path) -> Source:
        clip = Clip.open(root)
        return cls(
            id=root.resolve().name,
            poses=torch.from_numpy(clip.poses),
            eye=torch.from_numpy(clip.eye),
            focal=clip.focal,
            centre=clip.centre,
            size=clip.size,
            fps=clip.fps,
            background=torch.from_numpy(clip.background()),
            n_train=clip.n_train,
            clip=clip,
        )

    @classmethod
    def _of_transforms(cls, path: Path) -> Source:
        try:
            transforms = json.loads(path.read_text())
            frames = transforms["frames"]
            poses = np.array([frame["transform_matrix"] for frame in frames], np.float64)
            eye = [float(frame.get("eye_ratio", OPEN_EYE)) for frame in frames]
            focal = float(transforms["focal_len"])
            centre = float(transforms["cx"]), float(transforms["cy"])
            size = 2 * int(centre[1]), 2 * int(centre[0])  # as the public code
        except (ArithmeticError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read as camera poses ({error!r}).") from error
        if poses.shape != (len(frames), 4, 4) or not len(frames) or not np.isfinite(poses).all():
            raise UserError(f"{path} holds no list of 4 x 4 camera poses.")
        if not (0 < focal < math.inf and min(size) >= 2 and max(size) <= MAX_SIDE):
            raise UserError(
                f"{path} holds no usable camera: its focal_len is {focal} and its frames would be "
                f"{size[1]} x {size[0]} pixels."
            )
        return cls(
            id=path.stem,
            poses=torch.from_numpy(to_memory_pose(poses)),
            eye=torch.tensor(eye),
            focal=focal,
            centre=centre,
            size=size,
            fps=FPS,
            background=torch.full((*size, 3), 255, dtype=torch.uint8),
            n_train=n_train_frames(len(frames)),
            clip=None,
        )

    def features(self, width: int) -> tuple[str, Float[np.ndarray, "t 16 c"]] | None:
        """Name and windows of the clip's audio features that are so wide, if it has any."""
        for name in FEATURE_FILES if self.clip else ():
            path = self.clip.root / name  # type: ignore[union-attr]
            if path.is_file():
                windows = read_features(path)
                if windows.shape[2] == width:
                    return name, windows
        return None


@torch.no_grad()
def resting_mouth(portrait: Portrait, source: Source) -> tuple[Float[Tensor, " d"], bool]:
    """Audio code of the closed mouth, and whether it was found in the clip.

    Without the clip's features and landmarks, it is the code of silence beyond a recording's ends.
    """
    width = portrait.audio_net.dim
    found, clip = source.features(width), source.clip
    if found is None or clip is None or not clip.path("ori_imgs", 0, "lms").is_file():
        return portrait.encode_audio(torch.zeros(1, 8, 16, width))[0], False
    windows = torch.from_numpy(found[1])
    frames = torch.from_numpy(clip.audio_ids[: source.n_train]).clamp_max(len(windows) - 1)
    codes = [
        portrait.encode_audio(attention_windows(windows, part))
        for part in frames.split(FRAMES_AT_ONCE)
    ]
    landmarks = np.stack([clip.landmarks(i) for i in range(source.n_train)])
    return rest_code(torch.cat(codes), torch.from_numpy(mouth_opening(landmarks))), True
