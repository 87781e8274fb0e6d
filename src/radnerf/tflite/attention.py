"""The three operators of MediaPipe's attention mesh: looking closer at a part of a feature map.

A matrix [4, 4] takes pixels of the closer look to those of the map, first rows x and y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def part_matrix(
    points: Float[np.ndarray, "k 3"],
    part: Sequence[int],
    ends: tuple[int, int],
    size: tuple[int, int],
    scale: tuple[float, float],
    angle: float = 0.0,
) -> Float[np.ndarray, "4 4"]:
    """Landmarks2TransformMatrix: the look at a part of a face.

    Args:
        points: in pixels of the feature map.
        part: numbers of the points that it encloses.
        ends: of the two points whose line shall lie at `angle` (radians).
        size, scale: width and height of the look in pixels, and in boxes around the part.
    """
    left, right = points[ends[0], :2], points[ends[1], :2]
    turn = angle - np.arctan2(right[1] - left[1], right[0] - left[0])
    forth = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = points[list(part), :2] @ forth.T
    low, high = turned.min(0), turned.max(0)
    stretch = np.array(scale) * (high - low) / size
    matrix = np.eye(4, dtype=np.float32)
    matrix[:2, :2] = forth.T * stretch
    matrix[:2, 3] = forth.T @ (low + high) / 2 - matrix[:2, :2] @ np.array(size) / 2
    return matrix


def look(
    image: Float[np.ndarray, "h w c"], matrix: Float[np.ndarray, "4 4"], size: tuple[int, int]
) -> Float[np.ndarray, "y x c"]:
    """TransformTensorBilinear: the look itself, width x height, zero outside of the image."""
    across, down = (np.arange(side, dtype=np.float32) + np.float32(0.5) for side in size)
    x, y = (
        row[0] * across + row[1] * down[:, None] + row[3] - np.float32(0.5) for row in matrix[:2]
    )
    height, width = image.shape[:2]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    far, deep = (x - left)[..., None], (y - top)[..., None]
    upper = (1 - far) * image[top, left] + far * image[top, right]
    lower = (1 - far) * image[low, left] + far * image[low, right]
    return ((1 - deep) * upper + deep * lower) * inside[..., None]


def placed(
    points: Float[np.ndarray, "k 2"], matrix: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "k 2"]:
    """TransformLandmarks: points of the look, in the map."""
    return points @ matrix[:2, :2].T + matrix[:2, 3]
