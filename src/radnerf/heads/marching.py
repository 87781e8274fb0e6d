"""Volume rendering of the head field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from radnerf.errors import UserError
from radnerf.fields.head import HeadField
from radnerf.fields.occupancy import OccupancyGrid
from radnerf.kernels.composite import composite
from radnerf.kernels.march import march
from radnerf.kernels.shade import shade
from radnerf.kernels.tensors import HeadState
from radnerf.registry import component
from radnerf.types import Rays, RenderOutput, Samples


@component("marching")
@dataclass(frozen=True)
class Marching:
    """How rays are sampled.

    Attributes:
        step: distance between samples in world units.
        max_samples: occupied samples a ray may have.
        near: distance at which rays start.
        stop: transmittance below which a ray is opaque.

    Raises UserError where rays would have no samples.
    """

    step: float = 2 * 3**0.5 / 128
    max_samples: int = 16
    near: float = 0.05
    stop: float = 1e-4

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise UserError(f"marching.step={self.step} must be above 0.")
        if self.max_samples < 1:
            raise UserError(f"marching.max_samples={self.max_samples} must be 1 or more.")


def render_head(
    field: HeadField,
    grid: OccupancyGrid,
    rays: Rays,
    state: HeadState,
    marching: Marching,
    jitter: Float[Tensor, " n"] | None = None,
    capacity: int | None = None,
) -> tuple[RenderOutput, Samples]:
    """Render rays through the head; colors are premultiplied by alpha.

    Args:
        state: rows that rays.frame refers to.
        jitter: in [0, 1), shifts each ray's samples by that many steps (training only).
        capacity: for so many samples, see march().
    """
    samples = march(
        rays.origins.detach(),
        rays.directions.detach(),
        grid.occupied,
        grid.box,
        marching.near,
        marching.step,
        marching.max_samples,
        jitter,
        capacity,
    )
    at_once = shade(field.tensors(), samples, rays, state, marching.stop)
    if at_once is not None:
        return at_once, samples
    ray = samples.ray
    out = field(samples.points(rays), rays.directions[ray], rays.frame[ray], state)
    moved = out.ambient.abs().sum(-1, keepdim=True)
    values, alpha, depth, weights = composite(
        out.density, torch.cat([out.rgb, moved], -1), samples, marching.stop
    )
    return RenderOutput(values[:, :3], alpha, values[:, 3], depth, weights), samples
