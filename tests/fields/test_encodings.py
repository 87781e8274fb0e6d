"""Encoders against lookups and waves worked out by hand, and against a stand-in of a library."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from fields.tinycuda import stand_in

from radnerf.errors import UserError
from radnerf.fields.encodings import (
    Encoding,
    FrequencyEncoding,
    GridEncoding,
    TinyCudaEncoding,
    TriplaneEncoding,
)


def test_triplane_is_three_lookups_by_hand() -> None:
    """One level of 4 cells: 5 x 5 vertices a plane, stored row by row."""
    torch.manual_seed(0)
    encoding = TriplaneEncoding(n_levels=1, n_features=2, base_resolution=4, finest_resolution=4)
    tables = [plane.table for plane in encoding.planes]
    for table in tables:
        table.data.uniform_(-1, 1)
    x = torch.rand(20, 3)
    encoded = encoding(x)
    assert encoded.shape == (20, encoding.width) == (20, 6)
    for point, row in zip(x.tolist(), encoded, strict=True):
        expected = []
        for table, (a, b) in zip(tables, [(0, 1), (1, 2), (0, 2)], strict=True):
            place = [point[a] * 3 + 0.5, point[b] * 3 + 0.5]
            (i, j), (u, v) = map(math.floor, place), (p - math.floor(p) for p in place)
            corner = table.data[:25].view(5, 5, 2)  # second axis first
            low = (1 - u) * corner[j, i] + u * corner[j, i + 1]
            high = (1 - u) * corner[j + 1, i] + u * corner[j + 1, i + 1]
            expected.append((1 - v) * low + v * high)
        torch.testing.assert_close(row, torch.cat(expected), atol=1e-5, rtol=1e-4)


def test_each_plane_ignores_one_axis() -> None:
    encoding = TriplaneEncoding(n_levels=3)
    for plane in encoding.planes:
        plane.table.data.uniform_(-1, 1)
    x = torch.rand(30, 3)
    for axis, blind in ((2, 0), (0, 1), (1, 2)):
        other = x.clone()
        other[:, axis] = torch.rand(30)
        same = (encoding(x) == encoding(other)).view(30, 3, -1).all(-1)
        assert same[:, blind].all()
        assert not same[:, [plane for plane in range(3) if plane != blind]].any()


def test_frequencies_are_waves_over_the_box() -> None:
    encoding = FrequencyEncoding(2, octaves=3)
    x = torch.rand(9, 2)
    phase = 2 * x - 1
    waves = [phase]
    for k in range(3):
        waves += [torch.sin(2**k * phase), torch.cos(2**k * phase)]
    assert encoding.width == 14 and not list(encoding.parameters())
    torch.testing.assert_close(encoding(x), torch.cat(waves, 1), atol=1e-5, rtol=1e-5)
    deep = FrequencyEncoding(2, octaves=3, widths=(8, 5))
    first, second = deep.trunk.weights
    hidden = (torch.cat(waves, 1) @ first.T).relu() @ second.T
    assert deep.width == 5
    torch.testing.assert_close(deep(x), hidden.relu(), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("dim", [0, 4])
def test_a_grid_of_another_dimension_is_one_sentence(dim: int) -> None:
    with pytest.raises(UserError, match=f"1, 2 or 3 dimensions, not {dim}"):
        GridEncoding(dim)


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in())


def test_tinycudann_is_given_our_grid_and_gives_floats() -> None:
    torch.manual_seed(1)
    encoding = TinyCudaEncoding(2, n_levels=4, base_resolution=8, finest_resolution=64)
    assert isinstance(encoding, Encoding) and (encoding.dim, encoding.width) == (2, 8)
    config = encoding.grid.config
    assert config["base_resolution"] * config["per_level_scale"] ** 3 == pytest.approx(64)
    x = torch.tensor([[0.25, 1.0 + 1e-6], [-1e-6, 0.5]], requires_grad=True)
    encoded = encoding(x)
    assert encoded.dtype == torch.float32 and encoded.shape == (2, 8)
    encoded.sum().backward()
    assert encoding.grid.params.grad.abs().sum() > 0 and x.grad.abs().sum() > 0
    torch.manual_seed(1)
    again = TinyCudaEncoding(2, n_levels=4, base_resolution=8, finest_resolution=64)
    assert torch.equal(again.grid.params, encoding.grid.params), "its seed follows the run's"


def test_a_fully_fused_network_learns_at_the_networks_rate() -> None:
    from radnerf.heads.base import rate_groups

    encoding = TinyCudaEncoding(3, n_levels=2, network=(5, 64, 1))
    assert encoding.width == 5 and encoding(torch.rand(4, 3)).shape == (4, 5)
    groups = rate_groups(encoding)
    assert [id(p) for p in groups["grid"]] == [id(encoding.grid.params)]
    assert [id(p) for p in groups["net"]] == [id(encoding.network.params)]


@pytest.mark.parametrize("network", [None, (5, 64, 1)])
def test_tinycudann_learns_from_slopes_too_small_for_float16(
    network: tuple[int, int, int] | None,
) -> None:
    encoding = TinyCudaEncoding(2, n_levels=2, network=network)
    x = torch.rand(6, 2, requires_grad=True)
    slopes = []
    for size in (1.0, 2e-8):
        encoding.zero_grad()
        x.grad = None
        (size * encoding(x)).sum().backward()
        slopes.append([p.grad / size for p in (x, *encoding.parameters())])
    for large, small in zip(*slopes, strict=True):
        assert large.abs().min() > 1e-3
        torch.testing.assert_close(small, large, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("network", [None, (5, 64, 1)])
def test_tinycudann_of_no_points(network: tuple[int, int, int] | None) -> None:
    encoding = TinyCudaEncoding(3, n_levels=2, network=network)
    assert encoding(torch.zeros(0, 3)).shape == (0, encoding.width)


def test_without_tinycudann_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(UserError, match=r"pip install 'git\+https://github.com/NVlabs/tiny-cuda"):
        TinyCudaEncoding(3)
