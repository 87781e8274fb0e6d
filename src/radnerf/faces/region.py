"""Turned squares of a frame: what a network is shown, and where what it saw lies in the frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

MARGIN = 1.5  # side of a face's region, in longer sides of what is known of the face


@dataclass(frozen=True)
class Region:
    """A square in pixels of the frame; `angle` (radians) is that of the eyes' line."""

    x: float  # of its middle
    y: float
    side: float
    angle: float = 0.0

    @classmethod
    def around(cls, points: Float[np.ndarray, "k 2"], eyes: Float[np.ndarray, "eye=2 2"]) -> Region:
        """The region of a face whose box encloses the points."""
        low, high = points.min(0), points.max(0)
        x, y = (low + high) / 2
        right, down = eyes[1] - eyes[0]
        side = MARGIN * float((high - low).max())
        return cls(float(x), float(y), side, float(np.arctan2(down, right)))

    @property
    def axes(self) -> Float[np.ndarray, "2 2"]:
        """One side, as a vector to the right and one down, in columns."""
        turn = np.array(
            [
                [np.cos(self.angle), -np.sin(self.angle)],
                [np.sin(self.angle), np.cos(self.angle)],
            ]
        )
        return self.side * turn

    def shown(
        self, frame: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], border: int
    ) -> UInt8[np.ndarray, "y x 3"]:
        """What the frame shows there.

        Args:
            size: height and width in pixels.
            border: what lies outside of the frame, one of OpenCV's kinds.
        """
        height, width = size
        forth = np.eye(3)
        # Corners go to corners, so that pixel (0, 0) shows the region's corner itself.
        forth[:2, :2] = self.axes / (width, height)
        forth[:2, 2] = (self.x, self.y) - self.axes.sum(1) / 2
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(frame, forth, (width, height), flags=flags, borderMode=border)

    def placed(self, points: Float[np.ndarray, "k c"]) -> Float[np.ndarray, "k c"]:
        """Points of the region, in sides, as pixels of the frame; z is only scaled."""
        placed = points * self.side
        placed[:, :2] = (points[:, :2] - 0.5) @ self.axes.T + (self.x, self.y)
        return placed

    def overlap(self, other: Region) -> float:
        """Intersection over union of the two, as if they were upright."""
        sides = [
            max(
                0.0,
                min(a + self.side / 2, b + other.side / 2)
                - max(a - self.side / 2, b - other.side / 2),
            )
            for a, b in ((self.x, other.x), (self.y, other.y))
        ]
        common = sides[0] * sides[1]
        return common / (self.side**2 + other.side**2 - common)
