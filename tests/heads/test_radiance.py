"""The head that is a radiance field, through what all heads are asked."""

from __future__ import annotations

import pytest
import torch
from inference.fakes import make_portrait_config, turned

from radnerf.geometry.cameras import rays_through
from radnerf.heads import Head, RadianceHead
from radnerf.registry import build
from radnerf.rendering.portrait import Portrait
from radnerf.types import Rays, RenderOutput

CODES, EYE = torch.linspace(-1, 1, 3)[:, None].expand(3, 64), torch.tensor([0.0, 0.5, 1.0])


@pytest.fixture
def portrait() -> Portrait:
    torch.manual_seed(0)
    portrait = Portrait.from_config(make_portrait_config())
    with torch.no_grad():
        portrait.head.field.spatial.table.uniform_(-1, 1)
        portrait.head.field.sigma_net.weights[-1][0].abs_().mul_(20)
    return portrait


@pytest.fixture
def head(portrait: Portrait) -> RadianceHead:
    assert isinstance(portrait.head, RadianceHead)
    return portrait.head


def rays() -> Rays:
    """Through every pixel of a frame."""
    pixel = torch.arange(100)
    frame = torch.zeros_like(pixel)
    uv = torch.stack([pixel % 10, pixel // 10], -1) + 0.5
    return Rays(*rays_through(turned(5)[None], frame, uv, 24.0, (5.0, 5.0)), frame)


def rendered(head: Head) -> RenderOutput:
    return head.render(rays(), head.state(CODES[:1], EYE[:1], torch.tensor([-1])))[0]


def test_every_parameter_follows_one_learning_rate(head: RadianceHead) -> None:
    groups = head.rate_groups()
    everything = [id(p) for parameters in groups.values() for p in parameters]
    assert sorted(everything) == sorted(id(p) for p in head.parameters())
    assert [id(p) for p in groups["grid"]] == [
        id(head.field.spatial.table),
        id(head.field.conditioning.ambient.table),
    ]
    assert set(groups["coordinate"]) == set(head.field.conditioning.ambient_net.parameters())


def test_what_cameras_do_not_see_is_carved_away(head: RadianceHead) -> None:
    assert (rendered(head).alpha > 0.1).any()
    head.carve(lambda points: points[:, 2] > 0)
    left, right = head.grid.occupied.chunk(2, 2)
    assert not left.any() and right.all()
    head.carve(lambda points: points[:, 2] < 0)
    assert not (rendered(head).alpha > 0).any()


def test_before_a_step_cells_without_density_drop_out(head: RadianceHead) -> None:
    state = head.state(CODES, EYE, torch.full((3,), -1))
    with torch.no_grad():
        head.field.sigma_net.weights[-1][0] = -1e6
        for _ in range(3):
            head.grid.value.zero_()
            head.before_step(state, torch.Generator().manual_seed(0))
    assert not head.grid.occupied.any()


def test_a_portrait_made_from_the_final_config_is_the_same(portrait: Portrait) -> None:
    before = rendered(portrait.head)
    portrait.finalize(CODES, EYE)
    assert portrait.config["head"]["grid"]["shape"] == [16, 16, 16]
    assert portrait.config["head"]["field"] == make_portrait_config()["head"]["field"]
    again = Portrait.from_config(portrait.config)
    again.load_state_dict(portrait.state_dict())
    torch.testing.assert_close(rendered(again.head).alpha, rendered(portrait.head).alpha)
    torch.testing.assert_close(rendered(again.head).alpha, before.alpha, atol=0.2, rtol=0)


def test_its_parts_are_of_their_kinds() -> None:
    config = make_portrait_config()["head"]
    assert isinstance(build(config, "head"), RadianceHead)
    with pytest.raises(Exception, match="RadianceHead"):
        build(config | {"grid": config["marching"]}, "head")
