"""What the renderers of whole frames have in common: the fields taken apart, ahead of all frames.

Matrices are [outputs, inputs]. The colour network's first layer follows the density network's last
one without anything between them: they are one matrix here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadField
from radnerf.fields.mlp import MLP
from radnerf.fields.torso import TorsoField
from radnerf.heads import RadianceHead
from radnerf.rendering.head_parts import (
    coordinate,
    grid_differs,
    head_differs,
    head_grids,
    head_networks,
    networks_differ,
)
from radnerf.rendering.portrait import Portrait
from radnerf.torsos import PlanarTorso

# Transmittance below which nothing behind is seen: half an 8-bit step.
STOP = 1 / 512

Image = UInt8[np.ndarray, "h w 3"]


def differs(portrait: Portrait) -> str | None:
    """How a portrait's fields differ in kind from the paper's, if they do."""
    if not isinstance(portrait.head, RadianceHead):
        return f"the head is a {type(portrait.head).__name__}"
    if not isinstance(portrait.torso, PlanarTorso):
        return f"the torso is a {type(portrait.torso).__name__}"
    return (
        head_differs(portrait.head.field)
        or grid_differs("torso", portrait.torso.field.grid, 2)
        or networks_differ(networks(portrait))
    )


def networks(portrait: Portrait) -> list[tuple[MLP, int]]:
    """The fields' networks, and how many layers the paper gives them."""
    assert isinstance(portrait.head, RadianceHead) and isinstance(portrait.torso, PlanarTorso)
    torso = portrait.torso.field
    return [*head_networks(portrait.head.field), (torso.deform_net, 3), (torso.torso_net, 3)]


def grids(portrait: Portrait) -> tuple[GridEncoding, GridEncoding, GridEncoding]:
    """Spatial, ambient and torso grid of a portrait that differs() in nothing."""
    assert isinstance(portrait.head, RadianceHead) and isinstance(portrait.torso, PlanarTorso)
    torso = portrait.torso.field.grid
    assert isinstance(torso, GridEncoding)
    return *head_grids(portrait.head.field), torso


@dataclass
class HeadMatrices:
    """Letters: h hidden units, s spatial and a ambient features, v harmonics of the view."""

    ambient_of_spatial: Float[Tensor, "h s"]
    ambient_of_code: Float[Tensor, "h c"]
    ambient_hidden: Float[Tensor, "h h"]
    coordinate: Float[Tensor, "2 h"]
    sigma_of_spatial: Float[Tensor, "h s"]
    sigma_of_ambient: Float[Tensor, "h a"]
    sigma_of_product: Float[Tensor, "h s"]  # of the eye control and the spatial features
    sigma_of_eye: Float[Tensor, "h 1"]
    sigma_hidden: Float[Tensor, "h h"]
    density: Float[Tensor, "1 h"]
    colour_of_sigma: Float[Tensor, "h h"]
    colour_of_view: Float[Tensor, "h v"]
    colour_of_appearance: Float[Tensor, "h e"]
    colour: Float[Tensor, "3 h"]

    @classmethod
    def of(cls, field: HeadField) -> HeadMatrices:
        audio = coordinate(field)
        spatial, ambient, view = field.spatial.width, audio.ambient.width, field.sh_degree**2
        a, s, c = (_weights(net) for net in (audio.ambient_net, field.sigma_net, field.color_net))
        end, point = view + len(s[2]) - 1, audio.point_dim
        of_product = torch.zeros_like(s[0][:, :spatial])
        if audio.eye_product:
            of_product = audio.eye_product * s[0][:, spatial + ambient : point]
        return cls(
            ambient_of_spatial=a[0][:, :spatial],
            ambient_of_code=a[0][:, spatial:],
            ambient_hidden=a[1],
            coordinate=a[2],
            sigma_of_spatial=s[0][:, :spatial],
            sigma_of_ambient=s[0][:, spatial : spatial + ambient],
            sigma_of_product=of_product,
            sigma_of_eye=s[0][:, point:],
            sigma_hidden=s[1],
            density=s[2][:1],
            colour_of_sigma=c[0][:, view:end] @ s[2][1:],
            colour_of_view=c[0][:, :view],
            colour_of_appearance=c[0][:, end:],
            colour=c[1],
        )


@dataclass
class TorsoMatrices:
    """Letters: d and t hidden units, p of an encoded point, g grid features, f of a frame."""

    deform_of_point: Float[Tensor, "d p"]
    deform_of_frame: Float[Tensor, "d f"]
    deform_hidden: Float[Tensor, "d d"]
    offset: Float[Tensor, "2 d"]
    torso_of_grid: Float[Tensor, "t g"]
    torso_of_point: Float[Tensor, "t p"]
    torso_of_frame: Float[Tensor, "t f"]
    torso_hidden: Float[Tensor, "t t"]
    colour: Float[Tensor, "4 t"]  # alpha first

    @classmethod
    def of(cls, field: TorsoField) -> TorsoMatrices:
        grid, point = field.grid.width, field.deform_net.point_dim
        d, t = _weights(field.deform_net), _weights(field.torso_net)
        return cls(
            deform_of_point=d[0][:, :point],
            deform_of_frame=d[0][:, point:],
            deform_hidden=d[1],
            offset=d[2] * field.deforms,
            torso_of_grid=t[0][:, :grid],
            torso_of_point=t[0][:, grid : grid + point],
            torso_of_frame=t[0][:, grid + point :],
            torso_hidden=t[1],
            colour=t[2],
        )


def _weights(net: MLP) -> list[Tensor]:
    return [weight.detach().float() for weight in net.weights]


def steps_to_occupied(
    occupied: Bool[np.ndarray, "rx ry rz"],
) -> UInt8[np.ndarray, "rx ry rz"]:
    """Cells to go, in any direction, to the next occupied one: 0 in an occupied cell."""
    if not occupied.any():  # as far as it counts
        return np.full(occupied.shape, 255, np.uint8)
    distance = distance_transform_cdt(~occupied, "chessboard")
    return np.clip(distance, 0, 255).astype(np.uint8)


def occupied_blocks(occupied: Bool[np.ndarray, "rx ry rz"], side: int) -> Float[np.ndarray, "n 3"]:
    """Places, in blocks of side^3 cells, of the blocks that hold an occupied cell."""
    whole = np.pad(occupied, [(0, -length % side) for length in occupied.shape])
    x, y, z = (length // side for length in whole.shape)
    blocks = whole.reshape(x, side, y, side, z, side).any((1, 3, 5))
    return np.argwhere(blocks).astype(np.float32)
