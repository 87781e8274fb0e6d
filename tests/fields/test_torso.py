import torch

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.torso import TorsoField


def field() -> TorsoField:
    torch.manual_seed(0)
    grid = GridEncoding(2, n_levels=4, base_resolution=4, finest_resolution=16)
    grid.table.data.uniform_(-1, 1)
    return TorsoField(grid, n_frames=3, pose_octaves=1)


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


def test_motion_is_predicted_from_the_pose_when_it_is_not_given() -> None:
    torso = field()
    pose = torch.randn(200, 6)
    true = torch.randn(6, 3) * 0.05
    torso.fit_motion(pose, pose @ true + 0.02)
    assert torch.allclose(torso.predicted_motion(pose), pose @ true + 0.02, atol=0.01)
    index = torch.full((5,), -1)
    assert torch.equal(torso.state(pose[:5], index).motion, torso.predicted_motion(pose[:5]))


def test_individual_codes_change_training_frames_alone() -> None:
    torso = field()
    state = torso.state(torch.zeros(3, 6), torch.tensor([-1, -1, 2]))
    assert torch.equal(state.features[0], state.features[1])
    assert not torch.equal(state.features[0], state.features[2])
