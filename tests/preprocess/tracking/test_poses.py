from __future__ import annotations

import numpy as np
import pytest
from preprocess_videos import camera_track, face_68, face_mesh, seen
from scipy.spatial.transform import Rotation

from radnerf.preprocess.landmarks.face import mean_shape, to_unit, trust
from radnerf.preprocess.report.accuracy import degrees_off
from radnerf.preprocess.tracking.poses import solve_poses

SIZE, FOCAL, FRAMES = (450, 450), 1080.0, 150


def flat_and_deep(shape: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of the true poses as a detector gives them, and the true rotations."""
    rotation, shift = camera_track(FRAMES)
    random = np.random.default_rng(3)
    xy = seen(shape, rotation, shift, FOCAL, SIZE)
    xy = xy + noise * random.normal(size=xy.shape)
    depth = np.einsum("tj,kj->tk", rotation[:, 2], shape) * FOCAL / 3
    depth = depth + 4 * random.normal(size=depth.shape)
    return np.concatenate([xy, depth[..., None]], -1).astype(np.float32), rotation


def turned(poses: np.ndarray) -> np.ndarray:
    """World-to-camera rotations."""
    return poses[:, :3, :3].swapaxes(1, 2)


@pytest.mark.parametrize(("noise", "limit"), [(0.0, 0.1), (1.0, 0.5)])
@pytest.mark.parametrize("shape", [face_68(), face_mesh()], ids=["68", "478"])
def test_recovers_relative_poses(shape: np.ndarray, noise: float, limit: float) -> None:
    landmarks, true = flat_and_deep(shape, noise)
    first = mean_shape(landmarks)
    poses, _, report = solve_poses(landmarks[..., :2], SIZE, FOCAL, first, trust(first))
    off = degrees_off(turned(poses), true)
    assert np.percentile(off, 95) < limit
    assert off.max() < 1.5 * limit
    assert report.rmse_px == pytest.approx(noise * np.sqrt(2), abs=0.15)


@pytest.mark.parametrize(("noise", "limit"), [(0.0, 0.1), (1.0, 0.5)])
def test_recovers_the_demo_s_true_poses(noise: float, limit: float) -> None:
    """The demo's character speaks and blinks while it moves."""
    from radnerf.data.demo.character import face
    from radnerf.data.demo.landmarks import landmarks as demo_landmarks
    from radnerf.data.demo.motion import project
    from radnerf.data.demo.writer import Scene

    scene = Scene(10.0, 64, seed=0)
    motion = scene.motion
    xy = np.zeros((len(scene), 68, 2))
    for i in range(len(scene)):
        shown = face(float(scene.opening[i]), float(scene.width[i]), float(motion.lid[i]))
        points = demo_landmarks(scene.rest, scene.table, shown)
        xy[i] = project(points, motion.rotation[i], motion.origin[i], SIZE[0])
    xy += noise * np.random.default_rng(5).normal(size=xy.shape)
    first = mean_shape(xy.astype(np.float32))
    poses, _, _ = solve_poses(xy, SIZE, FOCAL, first, trust(first))
    off = degrees_off(turned(poses), turned(motion.poses))
    assert np.percentile(off, 95) < limit
    assert off.max() < 1.5 * limit


def test_projects_onto_the_landmarks_and_keeps_the_frame_of_the_first_shape() -> None:
    landmarks, true = flat_and_deep(face_mesh(), 0.0)
    first = mean_shape(landmarks)
    poses, shape = solve_poses(landmarks[..., :2], SIZE, FOCAL, first, trust(first))[:2]
    poses, shape = to_unit(poses, shape)
    assert np.linalg.norm(shape[263] - shape[33]) == pytest.approx(0.30, abs=1e-5)
    rotation = turned(poses)
    shift = -np.einsum("tij,tj->ti", rotation, poses[:, :3, 3])
    off = seen(shape, rotation, shift, FOCAL, SIZE) - landmarks[..., :2]
    assert np.abs(off).max() < 0.1
    # The world of the truth is the face's own, up to the mesh's idea of upright.
    off = Rotation.from_matrix(rotation @ true.swapaxes(1, 2)).magnitude()
    assert np.rad2deg(off).max() < 8


def test_moving_mouth_does_not_move_the_head() -> None:
    rotation, shift = camera_track(FRAMES)
    shape = np.repeat(face_68()[None], FRAMES, 0)
    jaw = 0.04 * (1 + np.sin(np.arange(FRAMES)))
    shape[:, 3:14, 0] -= jaw[:, None]
    shape[:, 54:60, 0] -= jaw[:, None]
    xy = np.concatenate(
        [seen(shape[t], rotation[t : t + 1], shift[t : t + 1], FOCAL, SIZE) for t in range(FRAMES)]
    )
    first = mean_shape(xy.astype(np.float32))
    poses, _, _ = solve_poses(xy, SIZE, FOCAL, first, trust(first))
    assert degrees_off(turned(poses), rotation).max() < 0.3


def test_smoothing_removes_trembling_without_lag() -> None:
    landmarks, true = flat_and_deep(face_68(), 1.0)
    first = mean_shape(landmarks)
    poses, _, report = solve_poses(landmarks[..., :2], SIZE, FOCAL, first, trust(first))
    assert report.jitter_deg < 0.3 * report.pnp_jitter_deg
    found = np.unwrap(Rotation.from_matrix(turned(poses) @ true[0].T).as_euler("xyz")[:, 1])
    wanted = Rotation.from_matrix(true @ true[0].T).as_euler("xyz")[:, 1]
    lags = range(-4, 5)
    match = [np.corrcoef(found[5:-5], np.roll(wanted, lag)[5:-5])[0, 1] for lag in lags]
    assert lags[int(np.argmax(match))] == 0


def test_short_and_still_clips() -> None:
    landmarks, _ = flat_and_deep(face_68(), 0.0)
    still = np.repeat(landmarks[:1, :, :2], 30, 0)
    first = mean_shape(still)
    poses, _, report = solve_poses(still, SIZE, FOCAL, first, trust(first))
    assert np.isfinite(poses).all()
    assert np.ptp(poses, axis=0).max() < 1e-3
    assert report.jitter_deg < 1e-3
