"""What those who compute the head all at once have in common: its parts, and orders of columns."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.fields.conditioning import AudioCoordinate
from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField
from radnerf.fields.mlp import MLP


def head_differs(field: HeadField) -> str | None:
    """How a head differs in kind from the paper's, if it does."""
    audio = field.conditioning
    if not isinstance(audio, AudioCoordinate):
        return f"the audio enters by {type(audio).__name__}, not by a coordinate"
    return (
        grid_differs("spatial", field.spatial, 3)
        or grid_differs("ambient", audio.ambient, 2)
        or networks_differ(head_networks(field))
    )


def grid_differs(name: str, grid: nn.Module, dim: int) -> str | None:
    """How an encoder differs from a grid of that many dimensions and 2 features."""
    if not isinstance(grid, GridEncoding):
        return f"the {name} encoder is no grid"
    if grid.levels.n_features != 2 or grid.levels.dim != dim:
        return f"the {name} grid is not of {dim} dimensions and 2 features"
    return None


def networks_differ(networks: list[tuple[MLP, int]]) -> str | None:
    """Whether networks have other depths than they should."""
    if any(len(net.weights) != depth for net, depth in networks):
        return "a network has other layers than the paper's"
    return None


def is_odd(networks: list[tuple[MLP, int]]) -> str | None:
    """Whether hidden units cannot go in pairs."""
    if any(len(weight) % 2 for net, _ in networks for weight in list(net.weights)[:-1]):
        return "a hidden layer is of odd width"
    return None


def head_networks(field: HeadField) -> list[tuple[MLP, int]]:
    """The head's networks, and how many layers the paper gives them."""
    return [(coordinate(field).ambient_net, 3), (field.sigma_net, 3), (field.color_net, 2)]


def coordinate(field: HeadField) -> AudioCoordinate:
    """How audio enters a head that differs in nothing."""
    assert isinstance(field.conditioning, AudioCoordinate)
    return field.conditioning


def head_grids(field: HeadField) -> tuple[GridEncoding, GridEncoding]:
    """Spatial and ambient grid of a head that differs in nothing."""
    spatial, ambient = field.spatial, coordinate(field).ambient
    assert isinstance(spatial, GridEncoding) and isinstance(ambient, GridEncoding)
    return spatial, ambient


def by_halves(matrix: Float[Tensor, "o i"]) -> Float[np.ndarray, "o 2 half"]:
    """Even columns before odd ones."""
    return matrix.view(len(matrix), -1, 2).transpose(1, 2).contiguous().numpy()
