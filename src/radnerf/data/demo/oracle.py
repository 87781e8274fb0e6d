"""How far mouth and eyes are open, measured on pictures of the demo's character alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from radnerf.data.clip import to_public_pose
from radnerf.data.demo.character import (
    EYE_X,
    EYE_Y,
    EYE_Z,
    LID_BOTTOM,
    LID_RADIUS,
    LID_TOP,
    MAX_GAP,
    MOUTH_Y,
)
from radnerf.data.demo.motion import CM, WORLD_SCALE, project

# The window of the mouth in the head's frame, cm: x, top, bottom, and z of the lips' plane.
_HALF_WIDTH, _TOP, _BOTTOM, _DEPTH = 1.3, MOUTH_Y + 0.9, MOUTH_Y - 2.0, 8.9
_COLUMNS, _ROWS = 27, 59
_EYE_HALF_WIDTH = 1.0  # of the window of an eye, cm


def mouth_opening_from_frames(
    frames: UInt8[np.ndarray, "t h w 3"], poses: Float[np.ndarray, "t 4 4"]
) -> Float[np.ndarray, " t"]:
    """Fraction of the mouth's window that shows teeth, tongue or the dark inside, one a frame.

    The window is resampled from each square frame by its camera (poses in memory convention), so
    that head motion does not count. Lips and skin are lit and red; the inside is dark, teeth gray.
    """
    x = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _COLUMNS)
    y = np.linspace(_TOP, _BOTTOM, _ROWS)
    grid = np.stack([*np.meshgrid(x, y), np.full((_ROWS, _COLUMNS), _DEPTH)], -1)
    grid[..., 2] -= 0.15 * grid[..., 0] ** 2
    inside = _inner_fraction(frames, poses, grid.reshape(-1, 3))
    return inside * (_TOP - _BOTTOM) / MAX_GAP


def eye_opening_from_frames(
    frames: UInt8[np.ndarray, "t h w 3"], poses: Float[np.ndarray, "t 4 4"]
) -> Float[np.ndarray, " t"]:
    """Fraction of both eyes' windows that shows the eyeball instead of the lids, one a frame.

    As mouth_opening_from_frames: the lids are red, white and iris are not. Lashes count as
    eyeball, so that shut eyes are a little above 0.
    """
    u, v = np.meshgrid(
        np.linspace(-_EYE_HALF_WIDTH, _EYE_HALF_WIDTH, _COLUMNS),
        np.linspace(-LID_BOTTOM, LID_TOP, _COLUMNS),
    )
    z = EYE_Z + np.sqrt(LID_RADIUS**2 - u**2 - v**2)
    eyes = [np.stack([side * EYE_X + u, EYE_Y + v, z], -1).reshape(-1, 3) for side in (-1, 1)]
    return _inner_fraction(frames, poses, np.concatenate(eyes))


def _inner_fraction(
    frames: UInt8[np.ndarray, "t h w 3"],
    poses: Float[np.ndarray, "t 4 4"],
    points: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, " t"]:
    """Fraction of points of the head's frame (cm) whose pixels are dark or gray, not red."""
    size = frames.shape[1]
    scores = []
    for frame, pose in zip(frames, to_public_pose(poses), strict=True):
        rotation = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
        origin = pose[:3, 3] * (CM * WORLD_SCALE)
        uv = project(points, rotation, origin, size)
        u, v = (np.clip(uv - 0.5, 0, size - 1.001)).T
        i, j = v.astype(int), u.astype(int)
        a, b = (v - i)[:, None], (u - j)[:, None]
        image = frame.astype(np.float32)
        color = (image[i, j] * (1 - b) + image[i, j + 1] * b) * (1 - a) + (
            image[i + 1, j] * (1 - b) + image[i + 1, j + 1] * b
        ) * a
        brightest = color.max(-1)
        saturation = 1 - color.min(-1) / np.maximum(brightest, 1)
        dark = np.clip((165 - brightest) / 50, 0, 1)
        gray = np.clip((0.32 - saturation) / 0.10, 0, 1)
        scores.append(float(np.maximum(dark, gray).mean()))
    return np.array(scores)
