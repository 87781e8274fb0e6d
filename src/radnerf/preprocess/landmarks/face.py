"""What the landmarks mean: trust in each point, and the face's own frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from radnerf.conventions import OUTER_EYE_DISTANCE
from radnerf.geometry.face68 import (
    BROWS,
    BROWS_MESH,
    CHIN,
    EYELIDS_MESH,
    EYES,
    FOREHEAD,
    IRISES_MESH,
    JAW,
    MOUTH,
    N_MESH,
    NOSTRILS,
    OUTER_EYES_MESH,
    SUBNASALE,
)
from radnerf.geometry.face68 import OUTER_EYE_CORNERS as OUTER_EYES_68

MOVING, HALF_MOVING = 0.05, 0.3
# How far mean_shape may be off, in its own size: the mesh has seen many faces, the 68 have not.
STD_MESH, STD_68 = 0.02, 0.7


def trust(shape: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, " k"]:
    """Weight of each landmark for the head's pose: lips, jaw and gaze move with the speech."""
    weights = np.ones(len(shape))
    if len(shape) == 68:
        weights[JAW] = MOVING
        weights[BROWS] = HALF_MOVING
        weights[[37, 38, 40, 41, 43, 44, 46, 47]] = HALF_MOVING
        weights[MOUTH] = MOVING
        # The upper ends of the jaw line stand at the ears and do not move.
        weights[[0, 1, 15, 16]] = HALF_MOVING
        return weights
    weights[shape[:, 0] < shape[SUBNASALE, 0]] = MOVING
    weights[EYELIDS_MESH] = HALF_MOVING
    weights[BROWS_MESH] = HALF_MOVING
    weights[IRISES_MESH] = MOVING
    return weights


def mean_shape(landmarks: Float[np.ndarray, "t k c"]) -> Float[np.ndarray, "k 3"]:
    """A first face shape in the world's frame and unit (up, towards the camera, right).

    The mesh brings its own depth; 68 flat points get that of an ellipsoid, which the bundle
    adjustment then corrects.
    """
    shape = _mean_of_mesh(landmarks) if landmarks.shape[1] == N_MESH else _mean_of_68(landmarks)
    return in_world(shape)


def in_world(shape: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3"]:
    """The same shape with outer eye corners OUTER_EYE_DISTANCE apart and the head's middle at 0."""
    left, right = shape[list(OUTER_EYES_68 if len(shape) == 68 else OUTER_EYES_MESH)]
    scaled = shape * (OUTER_EYE_DISTANCE / np.linalg.norm(right - left))
    eyes = (left + right) / 2 * (OUTER_EYE_DISTANCE / np.linalg.norm(right - left))
    # A head is about 1.8 times as deep as its outer eye corners are wide, eyes half way up.
    return scaled - eyes + np.array([0.0, 0.85 * OUTER_EYE_DISTANCE, 0.0])


def _mean_of_mesh(landmarks: Float[np.ndarray, "t 478 3"]) -> Float[np.ndarray, "478 3"]:
    step = max(1, len(landmarks) // 500)
    points = landmarks[::step].astype(np.float64)
    points = np.stack([-points[..., 1], -points[..., 2], points[..., 0]], -1)
    rigid = np.ones(N_MESH, bool)
    rigid[points.mean(0)[:, 0] < points.mean(0)[SUBNASALE, 0]] = False
    rigid[IRISES_MESH] = False
    mean = points[0]
    for _ in range(3):
        target = mean - mean[rigid].mean(0)
        centred = points - points[:, rigid].mean(1, keepdims=True)
        u, singular, vt = np.linalg.svd(centred[:, rigid].transpose(0, 2, 1) @ target[rigid])
        scale = singular.sum(-1) / (centred[:, rigid] ** 2).sum((1, 2))
        mean = np.median(scale[:, None, None] * centred @ (u @ vt), axis=0)
    right = mean[263] - mean[33] + mean[291] - mean[61]
    up = mean[FOREHEAD] - mean[CHIN]
    right = right / np.linalg.norm(right)
    up = up - right * (up @ right)
    up = up / np.linalg.norm(up)
    return mean @ np.stack([up, np.cross(right, up), right], -1)


def _mean_of_68(landmarks: Float[np.ndarray, "t 68 c"]) -> Float[np.ndarray, "68 3"]:
    points = landmarks[..., :2].astype(np.float64)
    eyes = points[:, EYES].mean(1, keepdims=True)
    left, right = OUTER_EYES_68
    width = np.linalg.norm(points[:, right] - points[:, left], axis=-1)[:, None, None]
    flat = np.median((points - eyes) / width, axis=0)  # in outer eye distances
    across, down = flat[:, 0], flat[:, 1]
    # Half axes of a face, in outer eye distances, and how far the nose stands out of it.
    depth = 1.0 * np.sqrt(np.maximum(0.02, 1 - (across / 0.95) ** 2 - ((down - 0.3) / 1.6) ** 2))
    depth[27:31] += np.linspace(0.05, 0.25, 4)
    depth[NOSTRILS] += 0.1
    return np.stack([-down, depth, across], -1)


def to_unit(
    poses: Float[np.ndarray, "t 4 4"], shape: Float[np.ndarray, "k 3"]
) -> tuple[Float[np.ndarray, "t 4 4"], Float[np.ndarray, "k 3"]]:
    """Scale and move the world so that the shape stands as `in_world` has it; images are kept."""
    left, right = shape[list(OUTER_EYES_68 if len(shape) == 68 else OUTER_EYES_MESH)]
    scale = OUTER_EYE_DISTANCE / np.linalg.norm(right - left)
    moved = in_world(shape)
    poses = poses.copy()
    poses[:, :3, 3] = poses[:, :3, 3] * scale + (moved[0] - shape[0] * scale)
    return poses.astype(np.float32), moved.astype(np.float32)
