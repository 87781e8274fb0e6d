from __future__ import annotations

import pytest
from torch import nn

from radnerf.data.datamodule import Sampling
from radnerf.heads import Head
from radnerf.losses import LossTerm
from radnerf.modules.budget import Budget
from radnerf.modules.head import HeadModule
from radnerf.modules.stage import LearningRates
from radnerf.rendering.portrait import Portrait


class PartHead(Head):
    """A head of two nets."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinate_net, self.other_net = nn.Linear(2, 2), nn.Linear(2, 2)

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        return {
            "coordinate": list(self.coordinate_net.parameters()),
            "net": list(self.other_net.parameters()),
        }


class Parts(Portrait):
    """What a head stage trains of a portrait."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.head = PartHead()
        self.audio_net = nn.Linear(2, 2)
        self.audio_net.rate_groups = lambda: {"audio": list(self.audio_net.parameters())}
        self.cameras = None


def module(progress: float, **kwargs: object) -> HeadModule:
    budget = Budget(minutes=1.0, used_s=60 * progress)
    rates = LearningRates(net=1.0, coordinate_factor=0.25, coordinate_from=0.2, final_factor=0.5)
    return HeadModule(Parts(), budget, rates, Sampling(), {"own": LossTerm(0.2)}, **kwargs)


@pytest.mark.parametrize(("progress", "fraction"), [(0.0, 1.0), (0.5, 0.65), (1.0, 0.3)])
def test_landmarks_drive_less_and_less(progress: float, fraction: float) -> None:
    stage = module(progress, landmark_driven=(1.0, 0.3))
    assert stage.landmark_driven_fraction == pytest.approx(fraction)
    assert module(progress).landmark_driven_fraction == 0


@pytest.mark.parametrize("progress", [0.0, 0.6])
def test_the_coordinate_rests_at_first_and_learns_slower(progress: float) -> None:
    stage = module(progress)
    optimizer = stage.configure_optimizers()["optimizer"]
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    decay = 0.5**progress
    assert rates["net"] == pytest.approx(decay)
    assert rates["coordinate"] == pytest.approx(0.25 * decay if progress else 0.0)


def test_more_of_a_stage_keeps_what_changed_over_it() -> None:
    stage = module(0.0, landmark_driven=(1.0, 0.3))
    stage.budget.extra = True
    assert stage.progress == 0 and stage.phase == 1
    assert stage.landmark_driven_fraction == pytest.approx(0.3)
