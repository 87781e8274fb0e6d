"""How far the mouth is open, measured on pictures of the demo's character alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from radnerf.data.clip import to_public_pose
from radnerf.data.demo.character import MAX_GAP, MOUTH_Y
from radnerf.data.demo.motion import CM, WORLD_SCALE, project

# The window of the mouth in the head's frame, cm: x, top, bottom, and z of the lips' plane.
_HALF_WIDTH, _TOP, _BOTTOM, _DEPTH = 1.3, MOUTH_Y + 0.9, MOUTH_Y - 2.0, 8.9
_COLUMNS, _ROWS = 27, 59


def mouth_opening_from_frames(
    frames: UInt8[np.ndarray, "t h w 3"], poses: Float[np.ndarray, "t 4 4"]
) -> Float[np.ndarray, " t"]:
    """Share of the mouth's window that shows teeth, tongue or the dark inside, one a frame.

    The window is resampled from each square frame by its camera (poses in memory convention), so
    that head motion does not count. Lips and skin are lit and red; the inside is dark, teeth grey.
    """
    size = frames.shape[1]
    public = to_public_pose(poses)
    x = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _COLUMNS)
    y = np.linspace(_TOP, _BOTTOM, _ROWS)
    grid = np.stack([*np.meshgrid(x, y), np.full((_ROWS, _COLUMNS), _DEPTH)], -1)
    grid[..., 2] -= 0.15 * grid[..., 0] ** 2
    scores = []
    for frame, pose in zip(frames, public, strict=True):
        rotation = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
        origin = pose[:3, 3] * (CM * WORLD_SCALE)
        uv = project(grid.reshape(-1, 3), rotation, origin, size)
        u, v = (np.clip(uv - 0.5, 0, size - 1.001)).T
        i, j = v.astype(int), u.astype(int)
        a, b = (v - i)[:, None], (u - j)[:, None]
        image = frame.astype(np.float32)
        colour = (image[i, j] * (1 - b) + image[i, j + 1] * b) * (1 - a) + (
            image[i + 1, j] * (1 - b) + image[i + 1, j + 1] * b
        ) * a
        brightest = colour.max(-1)
        saturation = 1 - colour.min(-1) / np.maximum(brightest, 1)
        dark = np.clip((165 - brightest) / 50, 0, 1)
        grey = np.clip((0.32 - saturation) / 0.10, 0, 1)
        scores.append(float(np.maximum(dark, grey).mean()))
    return np.array(scores) * (_TOP - _BOTTOM) / MAX_GAP
