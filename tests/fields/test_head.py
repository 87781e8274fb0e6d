from __future__ import annotations

import pytest
import torch

from radnerf.fields.audio_net import mouth_codes
from radnerf.fields.conditioning import AudioCoordinate
from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_coordinate_starts_as_the_shape_of_the_mouth(dim: int) -> None:
    torch.manual_seed(0)
    grids = [
        GridEncoding(d, n_levels=4, base_resolution=4, finest_resolution=16, log2_table_size=10)
        for d in (3, dim)
    ]
    field = HeadField(
        grids[0], AudioCoordinate(grids[1]), box=[[-1, -1, -1], [1, 1, 1]], n_frames=1
    )
    mouth = torch.randn(200, 6)
    codes = mouth_codes(mouth, 64)
    somewhere = torch.rand(200, 3) * 2 - 1

    def coordinate() -> torch.Tensor:
        state = field.state(codes, torch.full((200,), 0.25), torch.full((200,), -1))
        return field.density(somewhere, torch.arange(200), state)[2].detach()

    assert coordinate().std(0).max() < 0.1
    field.conditioning.warm_start(codes, mouth)
    moved = coordinate()
    for axis in range(dim):
        correlation = torch.corrcoef(torch.stack([moved[:, axis], mouth[:, axis]]))[0, 1]
        assert correlation > 0.9
    assert moved.std(0).min() > 0.15


def test_the_net_sees_the_opening_of_the_eyes_as_large_as_it_is_told() -> None:
    grids = [GridEncoding(dim, n_levels=2) for dim in (3, 2)]
    config = {"spatial": grids[0], "conditioning": AudioCoordinate(grids[1])}
    config |= {"box": [[-1, -1, -1], [1, 1, 1]], "n_frames": 1}
    codes, eye, index = torch.zeros(3, 64), torch.tensor([0.0, 0.5, 1.2]), torch.zeros(3).long()
    plain = HeadField(**config).state(codes, eye, index)
    assert plain.eye[:, 0].tolist() == pytest.approx([0, 0.5, 1.2])
    larger = HeadField(**config, eye_input=(-2, 2)).state(codes, eye, index)
    assert larger.eye[:, 0].tolist() == pytest.approx([-2, 0, 2.8])
    without = HeadField(**config, eye_control=False).state(codes, eye, index)
    assert without.eye[:, 0].tolist() == [1, 1, 1]
