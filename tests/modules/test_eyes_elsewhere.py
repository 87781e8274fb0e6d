"""Rays beside the eyes are driven by other frames' eyes, all else as it was."""

from __future__ import annotations

import torch
from modules.test_head import module

from radnerf.kernels.tensors import HeadState
from radnerf.types import Rays


def test_only_rays_at_the_eyes_see_their_own_eyes() -> None:
    stage = module(0.5)
    n = 6
    state = HeadState(torch.rand(n, 3), torch.rand(n, 1), torch.rand(n, 4))
    frame = torch.arange(n).repeat_interleave(2)
    rays = Rays(torch.zeros(2 * n, 3), torch.ones(2 * n, 3), frame)
    at_eyes = torch.tensor([True, False] * n)
    moved, wider = stage.with_other_eyes(rays, at_eyes, state)
    for name in ("code", "appearance"):
        assert torch.equal(getattr(wider, name)[moved.frame], getattr(state, name)[frame])
    own, other = wider.eye[moved.frame[at_eyes]], wider.eye[moved.frame[~at_eyes]]
    assert torch.equal(own, state.eye)
    assert not torch.equal(other, state.eye)
    assert torch.equal(other.sort(0).values, state.eye.sort(0).values)
