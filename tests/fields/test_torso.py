from typing import Any

import torch

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.torso import HeadAnchors, TorsoField
from radnerf.geometry.cameras import project
from radnerf.geometry.rotations import head_pose_vector, rotation_from_vector


def field(**kwargs: Any) -> TorsoField:
    torch.manual_seed(0)
    grid = GridEncoding(2, n_levels=4, base_resolution=4, finest_resolution=16)
    grid.table.data.uniform_(-1, 1)
    return TorsoField(grid, n_frames=3, pose_octaves=1, **kwargs)


def poses(count: int) -> torch.Tensor:
    """Cameras about 3 units in front of a head, all a little different."""
    pose = torch.eye(4).repeat(count, 1, 1)
    front = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    pose[:, :3, :3] = rotation_from_vector(0.1 * torch.randn(count, 3)) @ front
    pose[:, :3, 3] = torch.tensor([0.0, 3.0, 0.0]) + 0.1 * torch.randn(count, 3)
    return pose


def test_the_torso_is_moved_as_it_was_told() -> None:
    torso = field()
    pose, index = torch.zeros(2, 6), torch.tensor([-1, -1])
    turn = 0.3
    motion = torch.tensor([[0.0, 0.0, 0.0], [0.2, -0.1, turn]])
    state = torso.state(pose, index, motion)
    still = torch.rand(50, 2) - 0.5
    rotation = torch.tensor([[0.955336, -0.295520], [0.295520, 0.955336]])
    moved = still @ rotation.T + motion[1, :2]
    zero, one = torch.zeros(50, dtype=torch.long), torch.ones(50, dtype=torch.long)
    for a, b in zip(torso(still, zero, state), torso(moved, one, state), strict=True):
        assert torch.allclose(a, b, atol=1e-2)


def test_without_deformation_the_pose_does_not_bend_it() -> None:
    xy, frame = torch.rand(50, 2) - 0.5, torch.arange(2).repeat(25)
    still = torch.zeros(2, 3)
    places = {}
    for deforms in (True, False):
        torso = field(deforms=deforms, code_dim=0)
        seen: list[torch.Tensor] = []
        torso.grid.register_forward_pre_hook(lambda _grid, at, seen=seen: seen.append(at[0]))
        torso(xy, frame, torso.state(torch.randn(2, 6), torch.tensor([-1, -1]), still))
        places[deforms] = seen[0] * 2 - 1
    assert torch.allclose(places[False], xy * torso.shrink, atol=1e-6)
    assert not torch.allclose(places[True], xy * torso.shrink, atol=1e-3)


def test_motion_is_predicted_from_the_pose_when_it_is_not_given() -> None:
    torso = field()
    pose = torch.randn(200, 6)
    true = torch.randn(6, 3) * 0.05
    torso.fit(pose, pose @ true + 0.02)
    assert torch.allclose(torso.predicted_motion(pose), pose @ true + 0.02, atol=0.01)
    index = torch.full((5,), -1)
    assert torch.equal(torso.state(pose[:5], index).motion, torso.predicted_motion(pose[:5]))


def test_individual_codes_change_training_frames_alone() -> None:
    torso = field()
    state = torso.state(torch.zeros(3, 6), torch.tensor([-1, -1, 2]))
    assert torch.equal(state.features[0], state.features[1])
    assert not torch.equal(state.features[0], state.features[2])


def test_anchors_are_where_the_camera_sees_them() -> None:
    torch.manual_seed(0)
    anchors, pose = HeadAnchors(), poses(6)
    places = anchors(head_pose_vector(pose))
    for row, camera in zip(places, pose, strict=True):
        uv, depth = project(anchors.points, camera, focal=1.0, centre=(0.0, 0.0))
        assert depth.min() > 2
        torch.testing.assert_close(row.view(3, 2), uv, atol=1e-5, rtol=1e-4)


def test_anchors_in_standard_deviations() -> None:
    torch.manual_seed(0)
    anchors, pose = HeadAnchors(), head_pose_vector(poses(50))
    anchors.normalise(pose)
    places = anchors(pose)
    torch.testing.assert_close(places.mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(places.std(0), torch.ones(6), atol=1e-3, rtol=0)


def test_anchors_drive_the_deformation_and_learn() -> None:
    torso = field(anchors=HeadAnchors())
    pose = head_pose_vector(poses(2))
    state = torso.state(pose, torch.tensor([-1, -1]))
    assert not torch.equal(state.features[0], state.features[1])
    rgb, alpha = torso(torch.rand(40, 2) - 0.5, torch.arange(40) % 2, state)
    (rgb.sum() + alpha.sum()).backward()
    assert (torso.anchors.points.grad.abs() > 0).all()


def test_an_untracked_torso_does_not_move_as_one_piece() -> None:
    torso = field(tracked=False)
    pose = torch.randn(9, 6)
    torso.fit(pose, torch.randn(9, 3))
    assert not torso.state(pose, torch.full((9,), -1), torch.ones(9, 3)).motion.any()


def test_codes_can_be_left_out() -> None:
    torso = field(code_dim=0)
    state = torso.state(torch.zeros(2, 6), torch.tensor([0, 1]))
    assert torch.equal(state.features[0], state.features[1])
    assert torso(torch.rand(5, 2), torch.zeros(5, dtype=torch.long), state)[0].shape == (5, 3)
