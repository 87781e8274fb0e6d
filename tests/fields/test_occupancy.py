import pytest
import torch
from torch import Tensor

from radnerf.fields.occupancy import OccupancyGrid, VisibleGrid

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def grid(**settings: float) -> OccupancyGrid:
    return OccupancyGrid(BOX, (16, 16, 16), **({"threshold": 10.0} | settings))  # type: ignore[arg-type]


def ball(radius: float, centre: float = 0.0) -> object:
    return lambda x: 100.0 * ((x - centre).norm(dim=-1) < radius).float()


def cells() -> Tensor:
    axis = (torch.arange(16) + 0.5) / 8 - 1
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)


def test_keeps_the_ball_and_its_shell_and_drops_the_rest() -> None:
    occupancy = grid()
    for step in range(8):
        occupancy.update(ball(0.5), torch.Generator().manual_seed(step))
    distance = cells().norm(dim=-1)
    assert occupancy.occupied[distance < 0.45].all()
    assert not occupancy.occupied[distance > 0.5 + 3 * 3**0.5 / 8].any()


def test_maximum_over_the_driving_signal() -> None:
    occupancy = grid()
    here, there = ball(0.3, centre=-0.4), ball(0.3, centre=0.4)
    for step in range(6):
        occupancy.update(here if step % 2 else there, torch.Generator().manual_seed(step))
    points = cells()
    for centre in (-0.4, 0.4):
        assert occupancy.occupied[(points - centre).norm(dim=-1) < 0.2].all()


def test_a_mean_drops_what_few_frames_need() -> None:
    rare, always = torch.tensor([[0.1, 0.1, 0.1]]), torch.tensor([[0.6, 0.6, 0.6]])
    seen = {}
    for maximum in (True, False):
        box = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        # By the mean of 1 in 20: 0.4 / 20 = 0.02.
        visible = VisibleGrid(box, (8, 8, 8), 0.1, 0.98, dilation=0, maximum=maximum)
        for step in range(400):
            weights = torch.tensor([0.4 * (step % 20 == 0), 0.4])
            cells = visible.cells_of(torch.cat([rare, always]))
            visible.observe(cells, weights, torch.tensor([True, True]))
        visible.update(lambda x: x[:, 0], torch.Generator())
        seen[maximum] = [bool(visible.occupied_at(point)) for point in (rare, always)]
        mean = visible.value[0, 0, 0].item()
    assert seen == {True: [True, True], False: [False, True]}
    assert mean == pytest.approx(0.02, rel=0.2)


def test_what_was_once_needed_fades_when_it_no_longer_is() -> None:
    occupancy = grid(decay=0.5)
    occupancy.update(ball(0.5), torch.Generator().manual_seed(0))
    assert occupancy.occupied.any()
    for step in range(30):
        occupancy.update(lambda x: torch.zeros(len(x)), torch.Generator().manual_seed(step))
    assert occupancy.value.max().item() < 1e-6


def test_ruled_out_cells_are_never_asked_nor_occupied() -> None:
    occupancy = grid()
    candidate = cells()[..., 0] < 0
    occupancy.restrict(candidate)
    asked = []

    def query(points: Tensor) -> Tensor:
        asked.append(points)
        return torch.full((len(points),), 50.0)

    occupancy.update(query, torch.Generator().manual_seed(0))
    assert asked[0][:, 0].max() <= 0
    assert len(asked[0]) == 16**3 // 2
    assert torch.equal(occupancy.occupied, candidate)


def test_2d_lookup_by_hand() -> None:
    occupancy = OccupancyGrid(((-1.0, -1.0), (1.0, 1.0)), (4, 4), threshold=0.01)
    occupancy.occupied.fill_(False)
    occupancy.occupied[3, 0] = True
    points = torch.tensor([[0.75, -0.75], [-0.75, 0.75], [1.5, -0.75], [0.51, -0.51]])
    assert occupancy.occupied_at(points).tolist() == [True, False, False, True]


def test_cells_of_a_long_box_count_its_last_axis_first() -> None:
    occupancy = OccupancyGrid(((0.0, -1.0, 10.0), (2.0, 1.0, 14.0)), (2, 4, 8), threshold=0.01)
    points = torch.tensor(
        [[0.1, -0.9, 10.1], [1.9, 0.1, 12.6], [2.0, 1.0, 14.0], [-9.0, 9.0, torch.nan]]
    )
    cells = occupancy.cells_of(points).tolist()
    assert cells == [0, 1 * 32 + 2 * 8 + 5, 63, 3 * 8]


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_fraction_of_the_cells_is_asked(fraction: float) -> None:
    occupancy, asked = grid(), []

    def query(points: Tensor) -> Tensor:
        asked.append(len(points))
        return torch.ones(len(points))

    occupancy.update(query, torch.Generator().manual_seed(0), fraction)
    assert sum(asked) == pytest.approx(fraction * 16**3, rel=0.1)


def test_refined_cells_are_those_that_some_round_needs() -> None:
    occupancy = grid()
    occupancy.restrict(cells()[..., 0] < 0.5)
    centres = (-0.4, 0.4)

    def query(points: Tensor, i: int) -> Tensor:
        return ball(0.3, centres[i % 2])(points)  # type: ignore[operator]

    finer = occupancy.refined(query, 40, 50.0, torch.Generator().manual_seed(0), factor=3)
    assert finer.shape == (48, 48, 48)
    axis = (torch.arange(48) + 0.5) / 24 - 1
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    distance = torch.stack([(points - c).norm(dim=-1) for c in centres]).amin(0)
    allowed = points[..., 0] < 0.5
    half_diagonal = 3**0.5 / 48
    assert finer[allowed & (distance < 0.3 - half_diagonal)].all()
    assert not finer[distance > 0.3 + half_diagonal].any()
    assert not finer[~allowed].any()
