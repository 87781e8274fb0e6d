"""A torso that is a plane, deformed by the head pose (RAD-NeRF section 3.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.fields.occupancy import OccupancyGrid
from radnerf.fields.torso import TorsoField
from radnerf.kernels.tensors import TorsoState
from radnerf.registry import component
from radnerf.runtime.devices import host_waits
from radnerf.torsos.base import Torso


@component("torso")
class PlanarTorso(Torso):
    """A field of the image plane, and the grid of the cells that it fills."""

    def __init__(self, field: TorsoField, grid: OccupancyGrid) -> None:
        super().__init__()
        self.field = field
        self.grid = grid

    def state(
        self,
        pose: Float[Tensor, "f 6"],
        index: Int[Tensor, " f"],
        motion: Float[Tensor, "f 3"] | None = None,
    ) -> TorsoState:
        return self.field.state(pose, index, motion)

    def render(
        self, xy: Float[Tensor, "n 2"], frame: Int[Tensor, " n"], state: TorsoState
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        """RGB (straight) and alpha, only where the grid says so."""
        needed = self.grid.occupied_at(xy)
        if torch.is_grad_enabled() and host_waits(xy.device):  # to be told how many these are
            rgb, alpha = self.field(xy, frame, state)
            rgb, alpha = rgb.to(xy.dtype), alpha.to(xy.dtype)
            return torch.where(needed[:, None], rgb, 0), torch.where(needed, alpha, 0)
        rgb, alpha = self.field(xy[needed], frame[needed], state)
        index = needed.nonzero()
        full_rgb = xy.new_zeros(len(xy), 3).index_put((index[:, 0],), rgb.to(xy.dtype))
        full_alpha = xy.new_zeros(len(xy)).index_put((index[:, 0],), alpha.to(xy.dtype))
        return full_rgb, full_alpha

    def fit(self, pose: Float[Tensor, "t 6"], motion: Float[Tensor, "t 3"]) -> None:
        self.field.fit(pose, motion)

    @torch.no_grad()
    def before_step(self, state: TorsoState, generator: torch.Generator) -> None:
        """Raise the grid to the coverage that these frames need."""

        def coverage(points: Tensor) -> Tensor:
            frame = torch.randint(
                len(state.features), (len(points),), generator=generator, device=points.device
            )
            return self.field(points, frame, state)[1]

        self.grid.update(coverage, generator)
