from __future__ import annotations

import pytest
from torch import nn

from radnerf.data.datamodule import Sampling
from radnerf.losses import PortraitLoss, Weighted
from radnerf.modules.budget import Budget
from radnerf.modules.head import HeadModule
from radnerf.modules.stage import LearningRates
from radnerf.rendering.portrait import Portrait


class Parts(Portrait):
    """What a head stage trains of a portrait."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.head = nn.ModuleDict({"ambient_net": nn.Linear(2, 2), "sigma_net": nn.Linear(2, 2)})
        self.audio_net = nn.Linear(2, 2)
        self.cameras = None


def module(progress: float, **kwargs: object) -> HeadModule:
    budget = Budget(minutes=1.0, used_s=60 * progress)
    rates = LearningRates(net=1.0, coordinate_factor=0.25, coordinate_from=0.2, final_factor=0.5)
    return HeadModule(
        Parts(), budget, rates, Sampling(), losses=PortraitLoss(region=Weighted(0.2)), **kwargs
    )


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.5, 0.65), (1.0, 0.3)])
def test_the_mouth_is_shown_less_and_less(progress: float, share: float) -> None:
    assert module(progress, shown=(1.0, 0.3)).shown_share == pytest.approx(share)
    assert module(progress).shown_share == 0
    assert module(progress).region_weight == pytest.approx(0.2 * progress)


@pytest.mark.parametrize("progress", [0.0, 0.6])
def test_the_coordinate_rests_at_first_and_learns_slower(progress: float) -> None:
    stage = module(progress)
    configured = stage.configure_optimizers()
    optimizer = configured["optimizer"]
    coordinate = set(stage.portrait.head["ambient_net"].parameters())
    rates = {
        "coordinate" if set(group["params"]) == coordinate else "other": group["lr"]
        for group in optimizer.param_groups
        if set(group["params"]) & set(stage.portrait.head.parameters())
    }
    decay = 0.5**progress
    assert rates["other"] == pytest.approx(decay)
    assert rates["coordinate"] == pytest.approx(0.25 * decay if progress else 0.0)
