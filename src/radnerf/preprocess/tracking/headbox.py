"""The box in space that holds the head: depth from the face's shape, the rest from silhouettes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float

from radnerf.conventions import OUTER_EYE_DISTANCE
from radnerf.geometry.cameras import rays_through
from radnerf.geometry.face68 import EAR_MESH
from radnerf.geometry.hull import cell_centres, visual_hull

MAX_VIEWS = 48
SEARCH = 2.2 * OUTER_EYE_DISTANCE  # half side of the searched region, up and right
CELLS = (64, 8, 64)
MARGIN = 0.05
# Behind the ears' front edge nothing but the outline of ears and hair is seen.
BEHIND_EARS = 0.6 * OUTER_EYE_DISTANCE
BEFORE_NOSE = 0.1 * OUTER_EYE_DISTANCE


def head_box(
    shape: Float[np.ndarray, "k 3"],
    poses: Float[np.ndarray, "t 4 4"],
    read_head: Callable[[int], Bool[np.ndarray, "h w"]],
    focal: float,
    centre: tuple[float, float],
) -> tuple[Float[np.ndarray, "2 3"], float]:
    """Tight box (min, max) around the head in world units.

    Returns:
        The box, and the fraction of head pixels (over frames spread over the clip) whose rays
        pass through it.
    """
    views = np.unique(np.linspace(0, len(poses) - 1, min(len(poses), MAX_VIEWS)).astype(int))
    masks = torch.from_numpy(np.stack([read_head(int(i)) for i in views]))
    cameras = torch.from_numpy(poses[views]).float()
    ears = (0, 16) if len(shape) == 68 else EAR_MESH
    back, front = float(shape[list(ears), 1].mean()), float(shape[:, 1].max())
    depth = (back - BEHIND_EARS, front + BEFORE_NOSE)
    search = torch.tensor([[-SEARCH, depth[0], -SEARCH], [SEARCH, depth[1], SEARCH]]).float()
    cells = cell_centres(search, CELLS).reshape(-1, 3)
    inside = cells[visual_hull(cells, cameras, masks, focal, centre, missable=0.4)]
    face = torch.from_numpy(shape).float()
    held = torch.cat([inside, face])
    low, high = held.amin(0), held.amax(0)
    low[1], high[1] = depth
    middle, half = (low + high) / 2, (high - low) / 2 * (1 + MARGIN)
    half[1] = (high[1] - low[1]) / 2
    pixels = _head_rays(masks, cameras, focal, centre)
    for _ in range(5):
        box = torch.stack([middle - half, middle + half])
        coverage = _fraction_through(box, *pixels)
        if coverage > 0.998:
            break
        half = half * torch.tensor([1.04, 1.0, 1.04])
    return box.numpy(), round(coverage, 5)


def _head_rays(
    masks: Bool[torch.Tensor, "v h w"],
    cameras: Float[torch.Tensor, "v 4 4"],
    focal: float,
    centre: tuple[float, float],
) -> tuple[Float[torch.Tensor, "n 3"], Float[torch.Tensor, "n 3"]]:
    """Rays of every 7th head pixel."""
    frame, row, column = masks.nonzero()[::7].unbind(-1)
    uv = torch.stack([column, row], -1) + 0.5
    return rays_through(cameras, frame, uv, focal, centre)


def _fraction_through(
    box: Float[torch.Tensor, "2 3"],
    origins: Float[torch.Tensor, "n 3"],
    directions: Float[torch.Tensor, "n 3"],
) -> float:
    """Fraction of rays that pass through the box (slab test)."""
    if not len(origins):
        return 0.0
    a, b = (box[0] - origins) / directions, (box[1] - origins) / directions
    near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
    return float((far > near.clamp_min(0)).float().mean())
