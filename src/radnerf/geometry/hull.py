"""The visual hull: where in space a silhouette seen from many cameras can be."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from radnerf.geometry.cameras import project


def cell_centres(
    box: Float[Tensor, "2 3"], shape: tuple[int, int, int]
) -> Float[Tensor, "x y z 3"]:
    """Centres of a box's cells in world units."""
    axes = [
        box[0, k] + (torch.arange(n, device=box.device) + 0.5) / n * (box[1, k] - box[0, k])
        for k, n in enumerate(shape)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def visual_hull(
    points: Float[Tensor, "n 3"],
    poses: Float[Tensor, "t 4 4"],
    masks: Bool[Tensor, "t h w"],
    focal: float,
    centre: tuple[float, float],
    missable: float = 0.05,
) -> Bool[Tensor, " n"]:
    """Which points fall on the mask in all views but a fraction `missable` of those that see them.

    A view in which a point lies outside the image says nothing about it; a point that no view
    sees is outside the hull.
    """
    height, width = masks.shape[1:]
    left = torch.arange(len(points), device=points.device)  # points that are not ruled out yet
    viewed = torch.zeros(len(points), device=points.device)
    missed = torch.zeros(len(points), device=points.device)
    for pose, mask in zip(poses, masks, strict=True):
        uv, depth = project(points[left], pose, focal, centre)
        column, row = uv.floor().long().unbind(-1)
        inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        hit = mask[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        viewed[left] += inside
        missed[left] += inside & ~hit
        left = left[missed[left] <= missable * len(poses)]
    hull = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    hull[left] = (viewed[left] > 0) & (missed[left] <= missable * viewed[left])
    return hull
