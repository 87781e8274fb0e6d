"""The points of a face, 68 or a mesh of 478: which is which, and what is measured on them."""

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
# The face's outline from below one ear to below the other, in the mesh and in 68 points.
JAW_MESH = np.array([58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288])
JAW_BELOW_EARS = np.arange(3, 14)


N_MESH = 478
FOREHEAD, CHIN, SUBNASALE = 10, 152, 2
OUTER_EYES_MESH = (33, 263)
EAR_MESH = (127, 356)  # where the cheek meets the ear
EYELIDS_MESH = np.array(
    (
        *(7, 163, 144, 145, 153, 154, 155, 173, 157, 158, 159, 160, 161, 246),
        *(249, 390, 373, 374, 380, 381, 382, 398, 384, 385, 386, 387, 388, 466),
    )
)
BROWS_MESH = np.array(
    [70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276]
)
IRISES_MESH = np.arange(468, 478)
# Six points around each eye, in the order of the irises: image left, then right.
EYES_MESH = np.array([MESH_TO_68[LEFT_EYE], MESH_TO_68[RIGHT_EYE]])


def to_68(landmarks: Float[np.ndarray, "*t k c"]) -> Float[np.ndarray, "*t 68 2"]:
    """The 68-point convention, x and y only, of either kind of landmarks."""
    points = landmarks[..., :2]
    return points if points.shape[-2] == 68 else points[..., list(MESH_TO_68), :]


def mouth_opening(landmarks: Float[np.ndarray, "*n 68 2"]) -> Float[np.ndarray, "*n"]:
    """Mean gap between the inner lips, in distances between the outer eye corners.

    Independent of the image's scale and of a roll of the head; NaN where landmarks are NaN.
    """
    upper, lower = np.array(INNER_LIP_PAIRS).T
    gap = np.linalg.norm(landmarks[..., upper, :] - landmarks[..., lower, :], axis=-1).mean(-1)
    left, right = OUTER_EYE_CORNERS
    eyes = np.linalg.norm(landmarks[..., right, :] - landmarks[..., left, :], axis=-1)
    return np.asarray(gap / eyes)
