"""What the frames of one person at one size have in common, and what draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from radnerf.kernels.dispatch import Unsupported
from radnerf.kernels.tensors import HeadState, HeadTensors, TorsoState, TorsoTensors
from radnerf.types import of_each

# Transmittance behind which nothing is seen: half an 8-bit step.
UNSEEN = 1 / 512

Image = UInt8[np.ndarray, "h w 3"]


@dataclass
class Camera:
    """Of every frame.

    Attributes:
        focal, centre: in pixels.
        size: height and width, in pixels.
    """

    focal: float
    centre: tuple[float, float]
    size: tuple[int, int]


@dataclass
class Scene:
    """What is drawn, and how.

    Attributes:
        head_state: encodes audio codes [1, d] and eye controls [1].
        torso_state: encodes a camera-to-world matrix [4, 4], its motion predicted.
        occupied, box: cells that hold something of the head, and the corners of them all.
        near, step, max_samples, stop: of rays, see kernels/march and kernels/composite.
        torso_pixels: where the torso may be, of an image's pixels row by row.
        background: what is behind the person.
    """

    head: HeadTensors | Unsupported
    torso: TorsoTensors | Unsupported
    head_state: Callable[[Tensor, Tensor], HeadState]
    torso_state: Callable[[Tensor], TorsoState]
    occupied: Bool[Tensor, "rx ry rz"]
    box: Float[Tensor, "2 3"]
    near: float
    step: float
    max_samples: int
    stop: float
    camera: Camera
    torso_pixels: Bool[Tensor, " pixels"]
    background: Image

    def parts(self) -> tuple[HeadTensors, TorsoTensors]:
        """Head and torso, of a scene that a back end can take."""
        assert isinstance(self.head, HeadTensors) and isinstance(self.torso, TorsoTensors)
        return self.head, self.torso

    def detached_parts(self) -> tuple[HeadTensors, TorsoTensors]:
        """As parts(), in float32 and without gradients."""
        head, torso = self.parts()
        return of_each(head, _detached), of_each(torso, _detached)


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().float()


@runtime_checkable
class FrameRenderer(Protocol):
    """Draws a frame; the image is the caller's to keep."""

    def __call__(
        self,
        pose: Float[Tensor, "4 4"],
        code: Float[Tensor, " d"],
        eye: float,
        torso_motion: Float[Tensor, " 3"] | None = None,
        behind: Image | None = None,
    ) -> Image:
        """A frame.

        Args:
            pose: camera-to-world, in memory convention (data/clip.py).
            code: audio code.
            eye: opening of the eyes, 0 shut and 1 open.
            torso_motion: shift and rotation of the torso; predicted from the pose when not given.
            behind: what is behind the head, instead of the learned torso and the background.
        """
