"""The torso that is a plane, through what all torsos are asked."""

from __future__ import annotations

import torch
from inference.fakes import make_portrait_config

from radnerf.registry import build
from radnerf.torsos import PlanarTorso


def torso() -> PlanarTorso:
    torch.manual_seed(0)
    built: PlanarTorso = build(make_portrait_config()["torso"], "torso")
    return built


def test_it_is_drawn_where_its_grid_says_so() -> None:
    made, xy = torso(), torch.rand(200, 2) * 2 - 1
    frame, state = torch.zeros(200).long(), made.state(torch.zeros(1, 6), torch.tensor([-1]))
    made.grid.restrict(torch.arange(8)[:, None].expand(8, 8) < 4)
    rgb, alpha = made.render(xy, frame, state)
    left = xy[:, 0] < 0
    assert (alpha[left] > 0).all() and not alpha[~left].any() and not rgb[~left].any()
    with torch.no_grad():
        again = made.render(xy, frame, state)
    torch.testing.assert_close(again, (rgb, alpha))


def test_cells_without_coverage_drop_out() -> None:
    made = torso()
    state = made.state(torch.zeros(2, 6), torch.tensor([0, 1]))
    with torch.no_grad():
        made.field.torso_net.weights[0].abs_()
        made.field.torso_net.weights[1].abs_()
        made.field.grid.table.fill_(1.0)
        made.field.torso_net.weights[-1][0] = -50
    for _ in range(3):
        made.grid.value.zero_()
        made.before_step(state, torch.Generator().manual_seed(0))
    assert float(made.grid.occupied.float().mean()) < 0.5
