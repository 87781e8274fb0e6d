from __future__ import annotations

import torch

from radnerf.experiment.finish import farthest_points


def test_points_far_from_each_other_come_first() -> None:
    crowd = 0.01 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    far = torch.tensor([[5.0, 0.0], [0.0, 7.0], [-6.0, 0.0]])
    chosen = farthest_points(torch.cat([crowd, far]), 4)
    assert chosen[0] < 50
    assert sorted(chosen[1:].tolist()) == [50, 51, 52]
