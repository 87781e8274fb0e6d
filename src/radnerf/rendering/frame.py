"""Renders the frames of one portrait at one size, into 8-bit pixels in the machine's memory."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from radnerf import kernels
from radnerf.errors import KernelUnavailable
from radnerf.kernels.dispatch import triton_interprets
from radnerf.rendering.frame_parts import Image
from radnerf.rendering.portrait import Portrait

log = logging.getLogger(__name__)


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
            eye: opening of the eyes, 0 shut and 1 open.
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
        KernelUnavailable: the cpu or triton back end was asked for and cannot take this portrait.
    """
    from radnerf.rendering import frame_cpu, frame_triton

    # As kernels.pick: auto takes the first that can, never Triton's interpreter.
    chosen = kernels.get_backend()
    by_auto = ["cpu"] if triton_interprets() else ["triton", "cpu"]
    reasons = []
    for name, lacks, renderer in (
        ("triton", frame_triton.lacks, frame_triton.TritonFrameRenderer),
        ("cpu", frame_cpu.lacks, frame_cpu.CpuFrameRenderer),
    ):
        if name not in (by_auto if chosen == "auto" else [chosen]):
            continue
        reason = lacks(portrait)
        if reason is None:
            return renderer(portrait, focal, centre, size, background)
        reasons.append(f"frame/{name}: {reason}")
    if reasons and chosen != "auto":
        raise KernelUnavailable(reasons[0])
    if reasons:
        log.info("kernels: frames are rendered operator by operator (%s)", "; ".join(reasons))
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
