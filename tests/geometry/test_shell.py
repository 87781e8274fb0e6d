import numpy as np
import torch

from radnerf.geometry.cameras import project
from radnerf.geometry.rotations import rotation_from_vector
from radnerf.geometry.shell import face_shell, triangulate

FRONT = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 3], [1, 0, 0, 0], [0, 0, 0, 1]])


def dome(n: int = 68, seed: int = 0) -> np.ndarray:
    """Points of a sphere's front, as (up, towards the camera, right)."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-0.25, 0.25, (2, n))
    return np.stack([x, np.sqrt(0.16 - x**2 - z**2), z], 1)


def test_triangulation_finds_the_points_again() -> None:
    points = dome()
    poses, views = [], []
    for yaw in np.linspace(-0.15, 0.15, 9):
        turn = torch.eye(4)
        turn[:3, :3] = rotation_from_vector(torch.tensor([yaw, 0.0, 0.3 * yaw]))
        pose = turn @ FRONT
        uv, _ = project(torch.from_numpy(points).float(), pose, 500.0, (100.0, 100.0))
        poses.append(pose.numpy())
        views.append(uv.numpy())
    found = triangulate(np.stack(views), np.stack(poses), 500.0, (100.0, 100.0))
    assert np.abs(found - points).max() < 1e-3


def test_shell_holds_the_surface_and_not_the_air_before_it() -> None:
    face = dome()
    inside = dome(500, seed=1) * [0.7, 1, 0.7]
    inside[:, 1] = np.sqrt(0.16 - inside[:, 0] ** 2 - inside[:, 2] ** 2)
    assert face_shell(inside, face).all()
    before = inside + np.array([0, 0.1, 0])
    assert not face_shell(before, face).any()
    deep = inside - np.array([0, 0.2, 0])
    assert not face_shell(deep, face).any()


def test_ears_may_lie_far_behind_beyond_the_landmarks() -> None:
    ear = np.array([[0.0, 0.05, 0.38]])
    assert face_shell(ear, dome()).all()
