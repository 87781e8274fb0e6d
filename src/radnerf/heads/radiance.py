"""A head that is a radiance field: samples along rays, where an occupancy grid says there is any.

RAD-NeRF sections 3.2 and 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from radnerf.fields.head import HeadField
from radnerf.fields.occupancy import OccupancyGrid
from radnerf.geometry.hull import cell_centres
from radnerf.heads.base import Head, rate_groups
from radnerf.heads.marching import Marching, render_head
from radnerf.kernels.tensors import HeadState
from radnerf.registry import component
from radnerf.types import Rays, RenderOutput, Samples

POINTS_AT_ONCE = 1 << 17  # that the field is asked about
FAINT = 0.02  # alpha of a sample that is not worth a cell of the refined grid


@component("head")
class RadianceHead(Head):
    """A field, the grid of the cells that it fills, and how rays are marched through them."""

    def __init__(self, field: HeadField, grid: OccupancyGrid, marching: Marching) -> None:
        super().__init__()
        self.field = field
        self.grid = grid
        self.marching = marching

    @property
    def eye_control(self) -> bool:  # type: ignore[override]
        return self.field.eye_control

    def state(
        self, code: Float[Tensor, "f d"], eye: Float[Tensor, " f"], index: Int[Tensor, " f"]
    ) -> HeadState:
        return self.field.state(code, eye, index)

    def render(
        self,
        rays: Rays,
        state: HeadState,
        jitter: Float[Tensor, " n"] | None = None,
        capacity: int | None = None,
    ) -> tuple[RenderOutput, Samples]:
        return render_head(self.field, self.grid, rays, state, self.marching, jitter, capacity)

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        """The net that gives the audio coordinate has a rate of its own."""
        groups = rate_groups(self)
        coordinate = {
            parameter
            for name, parameter in self.named_parameters()
            if "ambient_net" in name.split(".")
        }
        groups["coordinate"] = [p for p in groups["net"] if p in coordinate]
        groups["net"] = [p for p in groups["net"] if p not in coordinate]
        return groups

    def warm_start(self, codes: Float[Tensor, "t d"], mouth: Float[Tensor, "t k"]) -> None:
        self.field.conditioning.warm_start(codes, mouth)

    @torch.no_grad()
    def carve(self, inside: Callable[[Float[Tensor, "n 3"]], Bool[Tensor, " n"]]) -> None:
        grid = self.grid
        points = cell_centres(grid.box.cpu(), grid.shape).reshape(-1, 3)  # type: ignore[arg-type]
        grid.restrict(inside(points).view(grid.shape).to(grid.box.device))

    @torch.no_grad()
    def before_step(self, state: HeadState, generator: torch.Generator) -> None:
        """Raise the grid to what these frames need."""

        def density(points: Tensor) -> Tensor:
            answers = []
            for part in points.split(POINTS_AT_ONCE):
                frame = torch.randint(
                    len(state.code), (len(part),), generator=generator, device=part.device
                )
                answers.append(self.field.density(part, frame, state)[0])
            return torch.cat(answers)

        self.grid.update(density, generator)

    @torch.no_grad()
    def after_render(
        self, out: RenderOutput, samples: Samples, settled: Bool[Tensor, " n"]
    ) -> None:
        """Tell the grid what the rays saw."""
        assert out.weights is not None  # render() gives them
        settled = settled.index_select(0, samples.ray)
        self.grid.observe(samples.cell, out.weights.detach(), settled)

    @torch.no_grad()
    def finalize(self, codes: Float[Tensor, "k d"], eye: Float[Tensor, " k"]) -> dict[str, Any]:
        """Exchange the grid for one twice as fine, without the air around the surface.

        Training needs the air: a surface may move there. A cell is needed when any of the codes
        and eyes needs it.
        """
        step, index = self.marching.step, torch.full((1,), -1, device=codes.device)

        def alpha(points: Tensor, i: int) -> Tensor:
            state = self.state(codes[i : i + 1], eye[i : i + 1], index)
            parts = []
            for part in points.split(POINTS_AT_ONCE):
                frame = torch.zeros(len(part), dtype=torch.long, device=part.device)
                parts.append(1 - torch.exp(-self.field.density(part, frame, state)[0] * step))
            return torch.cat(parts)

        generator = torch.Generator(codes.device).manual_seed(0)
        self.grid.refine(self.grid.refined(alpha, len(codes), FAINT, generator))
        return {"grid": {"shape": list(self.grid.shape)}}
