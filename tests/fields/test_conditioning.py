"""How audio enters the head, against what is worked out point by point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radnerf import kernels
from radnerf.fields.conditioning import (
    AudioConditioning,
    AudioCoordinate,
    Concatenation,
    RegionAttention,
)
from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField, truncated_exp

BOX = [[-0.5, -0.4, -0.3], [0.5, 0.4, 0.3]]
SIZES = {"n_levels": 3, "base_resolution": 4, "finest_resolution": 16, "log2_table_size": 9}
FRAME = torch.tensor([0, 1, 1, 2, 0, 2, 1])


@pytest.fixture(autouse=True)
def _plain_operators():
    kernels.set_backend("reference")
    yield
    kernels.set_backend("auto")


def field(conditioning: AudioConditioning) -> HeadField:
    head = HeadField(GridEncoding(3, **SIZES), conditioning, BOX, n_frames=3, code_dim=5, hidden=16)
    with torch.no_grad():
        for name, value in head.named_parameters():
            if name.endswith("table"):
                value.uniform_(-1, 1)
    return head


def driven(head: HeadField) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Points, codes and eyes, and what the field says of them."""
    x = (torch.rand(len(FRAME), 3) - 0.5) * 0.6
    codes, eye = torch.randn(3, 5), torch.tensor([0.05, 0.2, 0.3])
    state = head.state(codes, eye, torch.full((3,), -1))
    return x, codes[FRAME], eye[FRAME, None], head.density(x, FRAME, state)


def layers(net: torch.nn.Module, x: Tensor) -> Tensor:
    """A network as matrix products and ReLUs."""
    first, *rest = net.weights  # type: ignore[misc]
    x = x @ first.T
    for weight in rest:
        x = x.relu() @ weight.T
    return x


def spatial_features(head: HeadField, x: Tensor) -> Tensor:
    low, high = torch.tensor(BOX)
    return head.spatial((x - low) / (high - low))


def test_the_coordinate_is_looked_up_in_a_grid_of_its_own() -> None:
    torch.manual_seed(0)
    audio = AudioCoordinate(GridEncoding(2, **SIZES))
    head = field(audio)
    x, code, eye, (density, geometry, moved) = driven(head)
    spatial = spatial_features(head, x)
    coordinate = layers(audio.ambient_net, torch.cat([spatial, code], 1)).tanh()
    features = [spatial, audio.ambient((coordinate + 1) / 2), eye]
    out = layers(head.sigma_net, torch.cat(features, 1))
    torch.testing.assert_close(moved, coordinate)
    torch.testing.assert_close(density, truncated_exp(out[:, 0]))
    torch.testing.assert_close(geometry, out[:, 1:])


def test_shut_and_open_eyes_have_first_layers_of_their_own() -> None:
    torch.manual_seed(0)
    audio = AudioCoordinate(GridEncoding(2, **SIZES), eye_product=0.5)
    head = field(audio)
    x, _, eye, (density, _, moved) = driven(head)
    spatial = spatial_features(head, x)
    features = [spatial, audio.ambient((moved + 1) / 2), 0.5 * eye * spatial, eye]
    out = layers(head.sigma_net, torch.cat(features, 1))
    torch.testing.assert_close(density, truncated_exp(out[:, 0]))


def test_the_default_is_to_the_bit_what_it_was() -> None:
    """The parts are drawn, and added up, in the order they always were."""
    torch.manual_seed(3)
    head = HeadField(
        GridEncoding(3, **SIZES), AudioCoordinate(GridEncoding(2, **SIZES)), BOX, n_frames=3
    )
    torch.manual_seed(3)
    grids = [GridEncoding(dim, **SIZES) for dim in (3, 2)]
    shapes = [(64, 6 + 64), (64, 64), (2, 64)], [(64, 13), (64, 64), (65, 64)], [(64, 84), (3, 64)]
    ambient, sigma, color = (
        [torch.nn.init.kaiming_uniform_(torch.empty(shape), a=5**0.5) for shape in net]
        for net in shapes
    )
    appearance = 0.1 * torch.randn(3, 4)
    assert torch.equal(head.appearance, appearance)
    for mine, theirs in zip(
        (*head.conditioning.ambient_net.weights, *head.sigma_net.weights, *head.color_net.weights),
        (*ambient, *sigma, *color),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
    x = (torch.rand(len(FRAME), 3) - 0.5) * 0.6
    codes, eye = torch.randn(3, 64), torch.tensor([0.05, 0.2, 0.3])
    density, geometry, moved = head.density(x, FRAME, head.state(codes, eye, torch.arange(3)))

    def net(weights: list[Tensor], features: Tensor, shared: Tensor) -> Tensor:
        width = features.shape[1]
        bias = shared @ weights[0][:, width:].T
        hidden = torch.nn.functional.linear(features, weights[0][:, :width]) + bias[FRAME]
        for weight in weights[1:]:
            hidden = torch.nn.functional.linear(hidden.relu(), weight)
        return hidden

    low, high = torch.tensor(BOX)
    spatial = grids[0]((x - low) / (high - low))
    coordinate = torch.tanh(net(ambient, spatial, codes))
    features = torch.cat([spatial, grids[1]((coordinate + 1) / 2)], -1)
    out = net(sigma, features, eye[:, None])
    assert torch.equal(moved, coordinate)
    assert torch.equal(density, out[:, 0].clamp_max(15).exp())
    assert torch.equal(geometry, out[:, 1:])


def test_concatenation_gives_the_density_network_the_code_itself() -> None:
    torch.manual_seed(0)
    head = field(Concatenation())
    x, code, eye, (density, geometry, moved) = driven(head)
    out = layers(head.sigma_net, torch.cat([spatial_features(head, x), code, eye], 1))
    torch.testing.assert_close(density, truncated_exp(out[:, 0]))
    torch.testing.assert_close(geometry, out[:, 1:])
    assert moved.shape == (len(FRAME), 0)


def test_attention_gives_each_place_its_part_of_the_audio() -> None:
    torch.manual_seed(0)
    audio = RegionAttention(eye_hidden=4)
    head = field(audio)
    x, code, eye, (density, geometry, moved) = driven(head)
    spatial = spatial_features(head, x)
    attention = layers(audio.audio_attention, spatial)
    looks = torch.sigmoid(layers(audio.eye_attention, spatial))
    out = layers(head.sigma_net, torch.cat([spatial, attention * code, looks * eye], 1))
    torch.testing.assert_close(density, truncated_exp(out[:, 0]))
    torch.testing.assert_close(geometry, out[:, 1:])
    torch.testing.assert_close(moved[:, 0], attention.pow(2).sum(1).sqrt(), atol=1e-5, rtol=1e-4)


def test_where_there_is_no_attention_there_is_no_audio_and_the_gradient_is_finite() -> None:
    audio = RegionAttention()
    head = field(audio)
    for weight in audio.audio_attention.weights:
        weight.data.zero_()
    x, _, _, (density, _, moved) = driven(head)
    other = head.state(torch.randn(3, 5), torch.tensor([0.05, 0.2, 0.3]), torch.full((3,), -1))
    assert torch.equal(head.density(x, FRAME, other)[0], density)
    assert moved.max() < 1e-5
    moved.sum().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in audio.audio_attention.weights)


@pytest.mark.parametrize("kind", [Concatenation, RegionAttention])
def test_kinds_without_a_coordinate_are_left_as_they_are(kind: type[AudioConditioning]) -> None:
    head = field(kind())
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.conditioning.warm_start(torch.randn(9, 5), torch.randn(9, 6))
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
