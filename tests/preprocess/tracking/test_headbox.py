from __future__ import annotations

import numpy as np
from preprocess_videos import camera_track, face_mesh

from radnerf.preprocess.tracking.headbox import head_box

SIZE, FOCAL = (120, 120), 288.0


def test_box_fits_an_ellipsoid_head() -> None:
    """Silhouettes of an ellipsoid, drawn by the closed form of a quadric's outline."""
    radii = np.array([0.38, 0.3, 0.28])
    rotation, shift = camera_track(60)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    camera = np.stack([(columns - 60) / FOCAL, (rows - 60) / FOCAL, np.ones(SIZE)], -1)
    poses = np.tile(np.eye(4), (60, 1, 1))
    poses[:, :3, :3] = rotation.swapaxes(1, 2)
    poses[:, :3, 3] = -np.einsum("tji,tj->ti", rotation, shift)

    def silhouette(i: int) -> np.ndarray:
        # A ray o + s d meets |x / r| = 1 where its discriminant is not negative.
        d = camera @ rotation[i] / radii
        o = poses[i, :3, 3] / radii
        return (d @ o) ** 2 >= (d**2).sum(-1) * (o @ o - 1)

    box, coverage = head_box(
        face_mesh().astype(np.float32), poses.astype(np.float32), silhouette, FOCAL, (60.0, 60.0)
    )
    assert coverage > 0.998
    for axis in (0, 2):
        assert -radii[axis] - 0.06 < box[0, axis] < -radii[axis] + 0.01
        assert radii[axis] - 0.01 < box[1, axis] < radii[axis] + 0.06
    # In depth: from behind the ears to before the nose.
    assert box[0, 1] < 0.12 - 0.1
    assert face_mesh()[:, 1].max() < box[1, 1] < face_mesh()[:, 1].max() + 0.1
