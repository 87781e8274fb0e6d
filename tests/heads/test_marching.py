import math

import torch

from radnerf.fields.conditioning import AudioCoordinate
from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField, truncated_exp
from radnerf.fields.occupancy import VisibleGrid
from radnerf.heads.marching import Marching, render_head
from radnerf.losses import distortion
from radnerf.types import Rays, Samples

OFFSETS = torch.tensor([0, 3, 3, 7])
RAY = torch.tensor([0, 0, 0, 2, 2, 2, 2])
BOX = [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]


def samples() -> Samples:
    t = torch.tensor([1.0, 1.1, 1.4, 2.0, 2.1, 2.2, 2.5])
    return Samples(t, torch.full((7,), 0.1), RAY, OFFSETS, cell=torch.zeros(7).long())


def field(seed: int = 0) -> HeadField:
    torch.manual_seed(seed)
    grid = {"n_levels": 4, "base_resolution": 4, "finest_resolution": 16, "log2_table_size": 10}
    audio = AudioCoordinate(GridEncoding(2, **grid))
    head = HeadField(GridEncoding(3, **grid), audio, BOX, n_frames=3)
    for encoding in (head.spatial, audio.ambient):
        encoding.table.data.uniform_(-1, 1)
    return head


def test_where_samples_lie() -> None:
    directions = torch.nn.functional.normalize(torch.randn(3, 3), dim=-1).requires_grad_()
    rays = Rays(torch.randn(3, 3), directions, torch.zeros(3, dtype=torch.long))
    points = samples().points(rays)
    for point, t, ray in zip(points, samples().t, RAY, strict=True):
        assert torch.allclose(point, rays.origins[ray] + t * directions[ray], atol=1e-6)
    points.sum().backward()
    assert directions.grad is not None
    assert torch.allclose(directions.grad[:, 0], torch.tensor([3.5, 0.0, 8.8]))


def test_distortion_by_a_plain_loop() -> None:
    weights, t = torch.rand(7), samples().t
    expected = 0.0
    for first, last in ((0, 3), (3, 3), (3, 7)):
        for i in range(first, last):
            expected += float(weights[i] ** 2) * 0.1 / 3
            for j in range(first, last):
                expected += float(weights[i] * weights[j] * (t[i] - t[j]).abs())
    assert math.isclose(float(distortion(weights, samples())), expected / 3, rel_tol=1e-5)


def test_distortion_of_no_samples_is_nothing() -> None:
    none, nowhere = torch.zeros(0), torch.zeros(0).long()
    empty = Samples(none, none, nowhere, torch.zeros(3).long(), nowhere)
    assert float(distortion(torch.zeros(0), empty)) == 0.0


def test_truncated_exp_and_its_clamped_gradient() -> None:
    x = torch.tensor([1.0, 40.0, -40.0], requires_grad=True)
    y = truncated_exp(x)
    y.sum().backward()
    assert torch.allclose(y.detach()[:1], torch.tensor([math.e])) and torch.isfinite(y).all()
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.exp(torch.tensor([1.0, 15.0, -15.0])))


def test_driving_signals_reach_what_they_should() -> None:
    head = field()
    x, d = torch.rand(40, 3) - 0.5, torch.nn.functional.normalize(torch.randn(40, 3), dim=-1)
    frame = torch.arange(40) % 2
    code = torch.zeros(2, 64)
    index = torch.tensor([-1, -1])
    open_eyes = head.state(code, torch.tensor([1.0, 1.0]), index)
    base = head(x, d, frame, open_eyes)

    shut = head(x, d, frame, head.state(code, torch.tensor([0.0, 1.0]), index))
    changed = (shut.density - base.density).abs() > 1e-6
    assert changed[frame == 0].all() and not changed[frame == 1].any()
    assert torch.equal(shut.ambient, base.ambient)

    louder = code.clone()
    louder[1] = 1.0
    spoken = head(x, d, frame, head.state(louder, torch.tensor([1.0, 1.0]), index))
    moved = (spoken.ambient - base.ambient).abs().sum(-1) > 1e-6
    assert moved[frame == 1].all() and not moved[frame == 0].any()

    dressed = head(x, d, frame, head.state(code, torch.tensor([1.0, 1.0]), torch.tensor([0, -1])))
    assert torch.equal(dressed.density, base.density)
    assert ((dressed.rgb - base.rgb).abs().sum(-1) > 0)[frame == 0].all()


def test_a_ray_that_misses_is_empty_and_an_opaque_box_is_not() -> None:
    head, grid = field(), VisibleGrid(BOX, (8, 8, 8), threshold=0.01)
    rays = Rays(
        torch.tensor([[0.0, 3, 0], [0.0, 3, 0]]),
        torch.tensor([[0.0, -1, 0], [0.0, 1, 0]]),
        torch.zeros(2, dtype=torch.long),
    )
    state = head.state(torch.zeros(1, 64), torch.tensor([0.25]), torch.tensor([-1]))
    marching = Marching(step=0.02, max_samples=64)
    out, found = render_head(head, grid, rays, state, marching)
    assert out.alpha[0] > 0 and out.alpha[1] == 0 and (out.rgb[1] == 0).all()
    assert found.offsets.tolist() == [0, 50, 50]


def test_the_visible_shell_is_kept_and_the_hidden_inside_is_not() -> None:
    grid = VisibleGrid(BOX, (16, 16, 16), threshold=0.01, decay=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        # Rays down the y axis meet a wall at y = 0 that lets nothing through.
        x, z = torch.rand(2, 9000, generator=generator) - 0.5
        y = torch.rand(9000, generator=generator) - 0.5
        weight = ((y < 0) & (y > -0.06)).float()
        cells = grid.cells_of(torch.stack([x, y, z], 1))
        grid.observe(cells, weight, torch.ones(9000, dtype=torch.bool))
    grid.update(lambda points: points[:, 0], generator)
    kept = grid.occupied.any(0).any(-1)
    assert kept.tolist() == [6 <= i <= 8 for i in range(16)]


def test_nothing_is_ruled_out_along_rays_that_should_be_opaque_and_are_not() -> None:
    grid = VisibleGrid(BOX, (4, 4, 4), threshold=0.01, decay=0.5)
    points = torch.tensor([[-0.4, 0.0, 0.0], [0.4, 0.0, 0.0]])
    for _ in range(20):
        grid.observe(grid.cells_of(points), torch.zeros(2), torch.tensor([False, True]))
    assert grid.value[0, 2, 2] == 0.05 and grid.value[3, 2, 2] < 0.01
