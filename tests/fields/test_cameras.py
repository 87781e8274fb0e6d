"""Cameras that learn where they stood."""

from __future__ import annotations

import torch
from inference.fakes import turned
from torch import Tensor

from radnerf.fields.cameras import CameraRefinement
from radnerf.fields.conditioning import Concatenation
from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField
from radnerf.fields.occupancy import OccupancyGrid
from radnerf.geometry.cameras import project, rays_through
from radnerf.geometry.rotations import rotation_from_vector
from radnerf.heads.marching import Marching, render_head
from radnerf.kernels.tensors import HeadState
from radnerf.types import Rays

# Wider than what the cameras see of it: its edges would be edges in the pictures.
BOX = [[-0.9, -0.9, -0.9], [0.9, 0.9, 0.9]]
SIZE, FOCAL, CENTRE = 12, 30.0, (6.0, 6.0)
MARCHING = Marching(step=0.1)


def rays_of(poses: Tensor) -> Rays:
    """Every pixel of every pose."""
    pixel = torch.arange(SIZE * SIZE)
    uv = torch.stack([pixel % SIZE, pixel // SIZE], -1).repeat(len(poses), 1) + 0.5
    frame = torch.arange(len(poses)).repeat_interleave(SIZE * SIZE)
    return Rays(*rays_through(poses, frame, uv, FOCAL, CENTRE), frame)


def scene() -> tuple[HeadField, OccupancyGrid, HeadState]:
    """A smooth colored cloud that nobody needs to learn."""
    torch.manual_seed(0)
    grid = GridEncoding(3, n_levels=2, n_features=4, base_resolution=4, finest_resolution=7)
    field = HeadField(grid, Concatenation(), BOX, n_frames=1, code_dim=2, hidden=16)
    with torch.no_grad():
        grid.table.uniform_(-1, 1)
        field.color_net.weights[-1].mul_(6)
        field.sigma_net.weights[-1][0].mul_(5)
    field.requires_grad_(False)
    state = field.state(torch.zeros(4, 2), torch.full((4,), 0.25), torch.full((4,), -1))
    return field, OccupancyGrid(BOX, [4, 4, 4], 0.01), state


def truth() -> Tensor:
    return torch.stack([turned(angle) for angle in (-10, -3, 4, 11)])


def displaced(poses: Tensor) -> Tensor:
    """All cameras turned by about 2 degrees and shifted."""
    generator = torch.Generator().manual_seed(5)
    moved = poses.clone()
    wrong = rotation_from_vector(0.02 * torch.randn(len(poses), 3, generator=generator))
    moved[:, :3, :3] = wrong @ poses[:, :3, :3]
    moved[:, :3, 3] += 0.02 * torch.randn(len(poses), 3, generator=generator)
    return moved


def test_wrong_cameras_move_back_towards_the_truth() -> None:
    field, grid, state = scene()
    index = torch.arange(4)
    target = render_head(field, grid, rays_of(truth()), state, MARCHING)[0].rgb
    start, cameras = displaced(truth()), CameraRefinement(4)
    rays = rays_of(start)
    optimizer = torch.optim.Adam(cameras.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.93)
    for _ in range(40):
        rendered = render_head(field, grid, cameras(rays, index), state, MARCHING)[0].rgb
        loss = (rendered - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    def off(poses: Tensor) -> Tensor:
        """Of every frame, by how many pixels points of the head are off."""
        points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
        pairs = zip(poses, truth(), strict=True)
        places = [[project(points, pose, FOCAL, CENTRE)[0] for pose in pair] for pair in pairs]
        return torch.stack([(a - b).norm(dim=1).mean() for a, b in places])

    before, after = off(start), off(cameras.poses(start))
    assert (after < 0.3 * before).all()


def test_poses_are_those_whose_rays_are_drawn() -> None:
    cameras, poses = CameraRefinement(3), truth()
    with torch.no_grad():
        cameras.rotation.normal_(std=0.1)
        cameras.shift.normal_(std=0.1)
    refined = cameras.poses(poses)
    rays = cameras(rays_of(poses), torch.tensor([0, 1, 2, -1]))
    expected = rays_of(refined)
    torch.testing.assert_close(rays.origins, expected.origins)
    torch.testing.assert_close(rays.directions, expected.directions, atol=1e-5, rtol=1e-5)
    assert torch.equal(refined[3], poses[3]) and not torch.equal(refined[:3], poses[:3])


def test_no_offset_is_no_change() -> None:
    rays = rays_of(truth())
    same = CameraRefinement(4)(rays, torch.arange(4))
    assert torch.equal(same.origins, rays.origins)
    torch.testing.assert_close(same.directions, rays.directions, atol=1e-7, rtol=0)
