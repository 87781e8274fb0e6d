"""Renders the frames of one portrait at one size, into 8-bit pixels in the machine's memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from radnerf.geometry.rotations import head_pose_vector
from radnerf.heads import RadianceHead
from radnerf.kernels import frame
from radnerf.kernels.dispatch import Unsupported
from radnerf.kernels.frame import Camera, FrameRenderer, Image, Scene
from radnerf.kernels.tensors import HeadState, TorsoState
from radnerf.rendering.portrait import Portrait
from radnerf.torsos import PlanarTorso

__all__ = ["FrameRenderer", "Image", "PlainFrameRenderer", "frame_renderer", "scene_of"]


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
    at_once = frame.frame_renderer(scene_of(portrait, focal, centre, size, background))
    return at_once or PlainFrameRenderer(portrait, focal, centre, size, background)


def scene_of(
    portrait: Portrait,
    focal: float,
    centre: tuple[float, float],
    size: tuple[int, int],
    background: Image,
) -> Scene | Unsupported:
    """A portrait's frames, as the operators on whole frames take them."""
    head, torso = portrait.head, portrait.torso
    if not isinstance(head, RadianceHead):
        return Unsupported(f"the head is a {type(head).__name__}")
    if not isinstance(torso, PlanarTorso):
        return Unsupported(f"the torso is a {type(torso).__name__}")
    grid, marching = head.grid, head.marching
    device = grid.occupied.device
    index = torch.full((1,), -1, device=device)
    height, width = size
    pixel = torch.arange(height * width)
    uv = torch.stack([pixel % width, pixel // width], -1) + 0.5
    xy = (uv / torch.tensor([width, height]) * 2 - 1).to(device)

    def head_state(code: Float[Tensor, "1 d"], eye: Float[Tensor, " 1"]) -> HeadState:
        return head.state(code, eye, index)

    def torso_state(pose: Float[Tensor, "4 4"]) -> TorsoState:
        return torso.state(head_pose_vector(pose[None]), index)

    return Scene(
        head=head.field.tensors(),
        torso=torso.field.tensors(),
        head_state=head_state,
        torso_state=torso_state,
        occupied=grid.occupied,
        box=grid.box,
        near=marching.near,
        step=marching.step,
        max_samples=marching.max_samples,
        stop=marching.stop,
        camera=Camera(focal, centre, size),
        torso_pixels=torso.grid.occupied_at(xy),
        background=background,
    )


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
