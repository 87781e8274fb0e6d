import math

import numpy as np
import torch

from radnerf.data.clip import to_memory_pose, to_public_pose
from radnerf.geometry.cameras import project, rays_through
from radnerf.geometry.hull import cell_centres, visual_hull
from radnerf.geometry.rotations import (
    euler_xyz,
    head_pose_vector,
    rotation_from_euler,
    rotation_from_vector,
)

# Camera 3 units in front of the head, looking at it: image right is world z, image up is world x.
FRONT = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 3], [1, 0, 0, 0], [0, 0, 0, 1]])


def test_ray_through_a_projected_point_passes_it() -> None:
    points = torch.randn(50, 3) * 0.3
    pose = FRONT.clone()
    pose[:3, :3] = FRONT[:3, :3] @ rotation_from_vector(torch.tensor([0.1, -0.2, 0.05]))
    uv, depth = project(points, pose, 500.0, (110.0, 120.0))
    frame = torch.zeros(50, dtype=torch.long)
    origins, directions = rays_through(pose[None], frame, uv, 500.0, (110.0, 120.0))
    assert (depth > 0).all()
    distance = torch.linalg.cross(points - origins, directions).norm(dim=-1)
    assert distance.max() < 1e-5


def test_front_camera_by_hand() -> None:
    up_and_right = torch.tensor([[0.1, 0.0, 0.2]])
    uv, depth = project(up_and_right, FRONT, 300.0, (100.0, 100.0))
    assert torch.allclose(uv, torch.tensor([[120.0, 90.0]]), atol=1e-4)
    assert torch.allclose(depth, torch.tensor([3.0]))


def test_euler_angles_multiply_to_the_rotation() -> None:
    angles = torch.tensor([[0.3, -0.4, 1.2]], dtype=torch.float64)

    def about(axis: int, angle: float) -> np.ndarray:
        c, s = math.cos(angle), math.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = c
        matrix[i, j], matrix[j, i] = -s, s
        return matrix

    expected = about(0, 0.3) @ about(1, -0.4) @ about(2, 1.2)
    assert np.allclose(rotation_from_euler(angles)[0], expected)
    assert torch.allclose(euler_xyz(rotation_from_euler(angles)), angles)


def test_pose_vector_of_the_front_camera() -> None:
    vector = head_pose_vector(FRONT)
    assert torch.allclose(vector, torch.tensor([math.pi / 2, 0, math.pi / 2, 0, 3, 0]), atol=1e-6)


def test_public_poses_come_back_and_follow_the_public_axes() -> None:
    # Public: camera 0.75 in front (z), OpenGL axes, so that its rotation is the identity.
    public = np.eye(4)[None]
    public[0, 2, 3] = 0.75
    memory = to_memory_pose(public)
    assert np.allclose(memory[0], FRONT.numpy(), atol=1e-6)
    assert np.allclose(to_public_pose(memory), public, atol=1e-6)


def test_visual_hull_of_a_disc_is_a_cone_around_the_axis() -> None:
    size, focal, centre = 101, 300.0, (50.5, 50.5)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = (row + 0.5 - 50.5) ** 2 + (column + 0.5 - 50.5) ** 2 < 20**2
    box = torch.tensor([[-0.4, -0.4, -0.4], [0.4, 0.4, 0.4]])
    points = cell_centres(box, (21, 21, 21)).reshape(-1, 3)
    hull = visual_hull(points, FRONT[None], disc[None], focal, centre)
    radius = points[:, [0, 2]].norm(dim=-1) * focal / (3 - points[:, 1])
    assert hull[radius < 19].all() and not hull[radius > 21].any()


def test_visual_hull_forgives_few_misses_and_needs_a_view() -> None:
    masks = torch.ones(20, 11, 11, dtype=torch.bool)
    masks[0] = False
    poses = FRONT[None].repeat(20, 1, 1)
    inside, outside = torch.zeros(1, 3), torch.tensor([[9.0, 0, 0]])
    points = torch.cat([inside, outside])
    hull = visual_hull(points, poses, masks, 10.0, (5.5, 5.5), missable=0.05)
    assert hull.tolist() == [True, False]
    masks[1] = False
    assert not visual_hull(points, poses, masks, 10.0, (5.5, 5.5), missable=0.05).any()
