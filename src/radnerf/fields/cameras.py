"""Training cameras that may move a little, to make up for what head tracking got wrong."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.geometry.rotations import rotation_from_vector, turned
from radnerf.registry import component
from radnerf.types import Rays


@component("cameras")
class CameraRefinement(nn.Module):
    """A rotation and a shift of every training frame's camera; frames without any are left alone.

    Args:
        n_frames: number of training frames.
    """

    def __init__(self, n_frames: int) -> None:
        super().__init__()
        self.rotation = nn.Parameter(torch.zeros(n_frames, 3))  # axis times radians, in the world
        self.shift = nn.Parameter(torch.zeros(n_frames, 3))  # world units

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the learning rate that they follow: see LearningRates."""
        return {"camera": [self.rotation, self.shift]}

    def forward(self, rays: Rays, index: Int[Tensor, " f"]) -> Rays:
        """Rays of refined cameras; index is the training frame of each row, -1 for none."""
        known = (index >= 0)[:, None]
        rotation = rotation_from_vector(self.rotation[index.clamp_min(0)] * known)
        shift = self.shift[index.clamp_min(0)] * known
        directions = turned(rotation[rays.frame], rays.directions)
        return Rays(rays.origins + shift[rays.frame], directions, rays.frame)

    @torch.no_grad()
    def poses(self, poses: Float[Tensor, "t 4 4"]) -> Float[Tensor, "t 4 4"]:
        """Camera-to-world matrices of a clip whose first frames were trained on, refined."""
        refined, n = poses.clone(), len(self.rotation)
        rotation = rotation_from_vector(self.rotation).to(poses)
        refined[:n, :3, :3] = rotation @ poses[:n, :3, :3]
        refined[:n, :3, 3] += self.shift.to(poses)
        return refined
