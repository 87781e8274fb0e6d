"""The 68-point face: which mesh points it takes, and what is measured on it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# Point of the 478-point face mesh for each of the 68 landmarks (iBUG order, image left to right):
# jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, outer lips 48-59, inner lips 60-67.
MESH_TO_68: tuple[int, ...] = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)

JAW = slice(0, 17)
BROWS = slice(17, 27)
NOSTRILS = slice(31, 36)
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
EYES = slice(36, 48)
OUTER_EYE_CORNERS = (36, 45)
OUTER_LIPS = slice(48, 60)
MOUTH = slice(48, 68)
INNER_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))  # upper, lower


def mouth_opening(landmarks: Float[np.ndarray, "*n 68 2"]) -> Float[np.ndarray, "*n"]:
    """Mean gap between the inner lips, in distances between the outer eye corners.

    Independent of the image's scale and of a roll of the head; NaN where landmarks are NaN.
    """
    upper, lower = np.array(INNER_LIP_PAIRS).T
    gap = np.linalg.norm(landmarks[..., upper, :] - landmarks[..., lower, :], axis=-1).mean(-1)
    left, right = OUTER_EYE_CORNERS
    eyes = np.linalg.norm(landmarks[..., right, :] - landmarks[..., left, :], axis=-1)
    return np.asarray(gap / eyes)
