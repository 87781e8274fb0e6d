"""A portrait's frame from what controls it: the one way from a control to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from radnerf.errors import UserError
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.tracks import background_image
from radnerf.rendering.frame import frame_renderer
from radnerf.rendering.portrait import Portrait

MAX_SIDE = 4096  # pixels

Image = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Control:
    """What a frame shows."""

    pose: Float[Tensor, "4 4"]  # camera-to-world, memory convention of data/clip.py
    code: Float[Tensor, " d"]  # audio code, see inference/speech.py
    eyes: float  # 0 shut, 1 as this person has them open
    torso_motion: Float[Tensor, " 3"] | None = None  # None: what goes with the pose
    background: Image | None = None  # None: the performer's own


class Performer:
    """Draws frames of a portrait, of one size and on one device.

    The portrait's weights are read when a renderer is made: not for portraits that still train.

    Args:
        portrait: on the device that draws.
        focal, centre: in pixels of the frames.
        size: height and width of the frames.
        background: what is behind the person where a control brings nothing else.
    """

    def __init__(
        self,
        portrait: Portrait,
        focal: float,
        centre: tuple[float, float],
        size: tuple[int, int],
        background: Image,
    ) -> None:
        self.portrait = portrait
        self.camera = focal, centre, size
        self.background = background
        self._behind: Image | None = None  # of the renderer

    @classmethod
    def of(
        cls,
        bundle: PortraitBundle,
        portrait: Portrait,
        background: str = "own",
        resolution: int | float | str | None = None,
    ) -> Performer:
        """Of a bundle's portrait.

        Args:
            portrait: see load_portrait().
            background: own | white | black | #rrggbb | image, see tracks.background_image.
            resolution: pixels of the longer side; None for that of the training clip.

        Raises:
            UserError: an option cannot be used.
        """
        scale = _scale(bundle.size, resolution)
        size = round(bundle.size[0] * scale), round(bundle.size[1] * scale)
        centre = bundle.centre[0] * scale, bundle.centre[1] * scale
        image = background_image(bundle, background, size)
        return cls(portrait, bundle.focal * scale, centre, size, image)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.camera[2]

    @torch.inference_mode()
    def draw(self, control: Control) -> Image:
        """The frame; it is the caller's to keep. Another background than before takes a while."""
        behind = self.background if control.background is None else control.background
        if behind is not self._behind:
            self._renderer = frame_renderer(self.portrait, *self.camera, behind)
            self._behind = behind
        return self._renderer(control.pose, control.code, control.eyes, control.torso_motion)


def load_portrait(bundle: PortraitBundle) -> Portrait:
    """The portrait of a bundle with its weights.

    Raises:
        UserError: the weights do not fit the portrait's configuration.
    """
    try:
        portrait = Portrait.from_config(bundle.portrait)
        portrait.load_state_dict(bundle.weights)
    except (RuntimeError, ValueError) as error:
        line = str(error).splitlines()[-1].strip()
        raise UserError(f"The portrait file is damaged: its weights do not fit ({line})") from error
    return portrait


def _scale(size: tuple[int, int], resolution: int | float | str | None) -> float:
    if resolution is None:
        return 1.0
    if not isinstance(resolution, int) or not 16 <= resolution <= MAX_SIDE:
        raise UserError(f"resolution={resolution} must be a whole number from 16 to {MAX_SIDE}.")
    return resolution / max(size)
