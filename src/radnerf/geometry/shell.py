"""Where a face's surface can be, from its landmarks alone.

From one side a camera cannot tell a surface from a fog before it; a field that may put density
anywhere in the head's box learns the fog first. Landmarks seen under many poses give the depth.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree


def triangulate(
    landmarks: Float[np.ndarray, "t k 2"],
    poses: Float[np.ndarray, "t 4 4"],
    focal: float,
    centre: tuple[float, float],
) -> Float[np.ndarray, "k 3"]:
    """Points nearest to their viewing rays in all frames (least squares), in world units.

    Args:
        landmarks: pixels.
        poses: camera-to-world, OpenCV camera axes.
    """
    xy = (landmarks.astype(np.float64) - centre) / focal
    rays = np.concatenate([xy, np.ones_like(xy[..., :1])], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    rotation, origin = poses[:, :3, :3].astype(np.float64), poses[:, :3, 3].astype(np.float64)
    directions = np.einsum("tij,tkj->tki", rotation, rays)
    # Projector onto the plane across each ray; the sum is singular only for one single ray.
    across = np.eye(3) - directions[..., :, None] * directions[..., None, :]
    left = across.sum(0) + 1e-9 * np.eye(3)
    right = np.einsum("tkij,tj->ki", across, origin)
    return np.linalg.solve(left, right[..., None])[..., 0]


def face_shell(
    cells: Float[np.ndarray, "n 3"],
    face: Float[np.ndarray, "k 3"],
    before: float = 0.04,
    behind: float = 0.10,
) -> Bool[np.ndarray, " n"]:
    """Which points lie near the surface that a face's landmarks span, seen from the front.

    Between landmarks the surface is their interpolation (mouth and eyes reach some way behind it);
    beyond them it may come forward a little and recede fast, as hair and ears do.

    Args:
        cells, face: world units, (up, towards the camera, right).
        before, behind: distances in front of and behind the surface.
    """
    plane = face[:, [0, 2]]
    distance, nearest = cKDTree(plane).query(cells[:, [0, 2]])
    depth = LinearNDInterpolator(plane, face[:, 1])(cells[:, [0, 2]])
    beyond = np.isnan(depth)
    depth = np.where(beyond, face[nearest, 1], depth)
    distance = np.where(beyond, distance, 0.0)
    front = depth + before + 0.3 * distance
    back = depth - behind - 3.0 * distance
    return (cells[:, 1] < front) & (cells[:, 1] > back)
