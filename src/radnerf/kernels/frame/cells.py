"""What rays are told about the occupancy grid, ahead of all frames."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_cdt


def steps_to_occupied(
    occupied: Bool[np.ndarray, "rx ry rz"],
) -> UInt8[np.ndarray, "rx ry rz"]:
    """Cells to go, in any direction, to the next occupied one: 0 in an occupied cell."""
    if not occupied.any():  # as far as it counts
        return np.full(occupied.shape, 255, np.uint8)
    distance = distance_transform_cdt(~occupied, "chessboard")
    return np.clip(distance, 0, 255).astype(np.uint8)


def occupied_blocks(occupied: Bool[np.ndarray, "rx ry rz"], side: int) -> Float[np.ndarray, "n 3"]:
    """Places, in blocks of side^3 cells, of the blocks that hold an occupied cell."""
    whole = np.pad(occupied, [(0, -length % side) for length in occupied.shape])
    x, y, z = (length // side for length in whole.shape)
    blocks = whole.reshape(x, side, y, side, z, side).any((1, 3, 5))
    return np.argwhere(blocks).astype(np.float32)
