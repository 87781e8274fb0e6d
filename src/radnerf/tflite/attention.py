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


def placed(
    points: Float[np.ndarray, "k 2"], matrix: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "k 2"]:
    """TransformLandmarks: points of the look, in the map."""
    return points @ matrix[:2, :2].T + matrix[:2, 3]
