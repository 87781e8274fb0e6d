"""Pinhole cameras: pixels to rays and points to pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def pixel_directions(
    uv: Float[Tensor, "*n 2"], focal: float, centre: tuple[float, float]
) -> Float[Tensor, "*n 3"]:
    """Unit directions in the camera's frame (x right, y down, z forward) of image points.

    uv in pixels; the centre of the first pixel is at 0.5.
    """
    x = (uv[..., 0] - centre[0]) / focal
    y = (uv[..., 1] - centre[1]) / focal
    return torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)


def rays_through(
    pose: Float[Tensor, "f 4 4"],
    frame: Int[Tensor, " n"],
    uv: Float[Tensor, "n 2"],
    focal: float,
    centre: tuple[float, float],
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Origins and unit directions in the world of n pixels, each of its own frame's camera."""
    directions = pixel_directions(uv, focal, centre)
    rotated = (pose[:, :3, :3][frame] @ directions[..., None])[..., 0]
    return pose[:, :3, 3][frame], rotated


def project(
    points: Float[Tensor, "n 3"],
    pose: Float[Tensor, "4 4"],
    focal: float,
    centre: tuple[float, float],
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    """Image points in pixels and depth along the optical axis of world points."""
    camera = (points - pose[:3, 3]) @ pose[:3, :3]
    uv = camera[:, :2] / camera[:, 2:].clamp_min(1e-6) * focal + torch.tensor(
        centre, dtype=points.dtype, device=points.device
    )
    return uv, camera[:, 2]
