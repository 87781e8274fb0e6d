"""Renders the frames of one portrait at one size, into 8-bit pixels in the machine's memory."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from radnerf import kernels
from radnerf.errors import KernelUnavailable
from radnerf.rendering.portrait import Portrait

log = logging.getLogger(__name__)

Image = UInt8[np.ndarray, "h w 3"]


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
            code: audio code (Portrait.encode_audio).
            eye: eye control, percent of the image area; 0.25 is open.
            torso_motion: shift and turn of the torso; predicted from the pose when not given.
            behind: what is behind the head, instead of the learned torso and the background.
        """


def frame_renderer(
    portrait: Portrait,
    focal: float,
    centre: tuple[float, float],
    size: tuple[int, int],
    background: Image,
) -> FrameRenderer:
    """The fastest renderer of a portrait that kernels.set_backend() lets choose.

    The portrait's weights are read now: train on, and the renderer goes on showing the old ones.

    Args:
        focal, centre: in pixels of the frames.
        size: height and width of the frames.
        background: what is behind the person, of that size.

    Raises:
        KernelUnavailable: the cpu back end was asked for and cannot take this portrait.
    """
    from radnerf.rendering.frame_cpu import CpuFrameRenderer, lacks

    chosen = kernels.get_backend()
    if chosen in ("auto", "cpu"):
        reason = lacks(portrait)
        if reason is None:
            return CpuFrameRenderer(portrait, focal, centre, size, background)
        if chosen == "cpu":
            raise KernelUnavailable(f"frame/cpu: {reason}")
        log.info("kernels: frames are rendered operator by operator (%s)", reason)
    return PlainFrameRenderer(portrait, focal, centre, size, background)


class PlainFrameRenderer:
    """Portrait.render for every frame, on any device and with any fields."""

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
        self.device = next(portrait.parameters()).device
        self.background = self._floats(background)

    def _floats(self, image: Image) -> Float[Tensor, "h w 3"]:
        return torch.from_numpy(image).to(self.device).float() / 255

    @torch.inference_mode()
    def __call__(
        self,
        pose: Float[Tensor, "4 4"],
        code: Float[Tensor, " d"],
        eye: float,
        torso_motion: Float[Tensor, " 3"] | None = None,
        behind: Image | None = None,
    ) -> Image:
        background = self.background if behind is None else self._floats(behind)
        image = self.portrait.render(
            pose.to(self.device),
            *self.camera,
            code,
            eye,
            background,
            torso_motion,
            with_torso=behind is None,
        )
        return (image * 255).round().byte().cpu().numpy()
