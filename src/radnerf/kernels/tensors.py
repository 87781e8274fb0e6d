"""What fields hand over to the operators that compute all of them at once: plain structures.

A structure names every matrix by what its columns are multiplied with, so that only the field
knows where they lie in its own parameters. Matrices are [outputs, inputs].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from radnerf.kernels.grid_encode.levels import GridLevels


@dataclass
class GridTensors:
    """A multi-resolution grid."""

    table: Float[Tensor, "entries features"]
    levels: GridLevels


@dataclass
class HeadState:
    """What drives the head, encoded, one row a frame."""

    code: Float[Tensor, "f c"]  # audio code
    eye: Float[Tensor, "f 1"]  # the opening of the eyes, as the field is shown it
    appearance: Float[Tensor, "f e"]


@dataclass
class HeadTensors:
    """A head whose audio enters by a coordinate: three networks between two grids.

    Letters: h hidden units, s spatial and a ambient features, g geometry features, v harmonics of
    the view.

    Attributes:
        box: (min, max) corners, in world units, of the spatial grid.
        eye_product: of the eye control, in the product that it enters by; 0 for none.
        sh_degree: of the harmonics.
    """

    box: Float[Tensor, "2 3"]
    spatial: GridTensors
    ambient: GridTensors
    ambient_of_spatial: Float[Tensor, "h s"]
    ambient_of_code: Float[Tensor, "h c"]
    ambient_hidden: Float[Tensor, "h h"]
    coordinate: Float[Tensor, "d h"]
    sigma_of_spatial: Float[Tensor, "h s"]
    sigma_of_ambient: Float[Tensor, "h a"]
    sigma_of_product: Float[Tensor, "h p"]  # p is s, or 0 without the product
    sigma_of_eye: Float[Tensor, "h 1"]
    sigma_hidden: Float[Tensor, "h h"]
    density: Float[Tensor, "1 h"]
    geometry: Float[Tensor, "g h"]
    color_of_view: Float[Tensor, "h v"]
    color_of_geometry: Float[Tensor, "h g"]
    color_of_appearance: Float[Tensor, "h e"]
    color: Float[Tensor, "3 h"]
    eye_product: float
    sh_degree: int

    def color_of_sigma(self) -> Float[Tensor, "h h"]:
        """The density network's last layer and the color network's first one as one matrix.

        There is nothing between them.
        """
        return self.color_of_geometry @ self.geometry

    def scaled_product(self) -> Float[Tensor, "h s"]:
        """What times a frame's eye control is added to sigma_of_spatial."""
        if not self.eye_product:
            return torch.zeros_like(self.sigma_of_spatial)
        return self.eye_product * self.sigma_of_product

    def grids(self) -> dict[str, tuple[GridTensors, int]]:
        """Its grids, and the dimensions that its operators know them in."""
        return {"spatial": (self.spatial, 3), "ambient": (self.ambient, 2)}

    def hidden_widths(self) -> list[int]:
        """Of every hidden layer."""
        return [len(self.ambient_hidden), len(self.sigma_hidden), len(self.color_of_view)]


@dataclass
class TorsoState:
    """What drives the torso, encoded, one row a frame."""

    features: Float[Tensor, "f p"]
    motion: Float[Tensor, "f 3"]  # shift (in half image sizes) and rotation (radians)


@dataclass
class TorsoTensors:
    """A torso of one grid, which a network bends and another one reads.

    Letters: d and t hidden units, p of an encoded point, g grid features, f of a frame.

    Attributes:
        shrink: what image coordinates are multiplied with first.
        point_octaves: of the points' frequency encoding.
        tracked: it is moved as one piece before it is bent; else it stays whatever it is told.
    """

    grid: GridTensors
    deform_of_point: Float[Tensor, "d p"]
    deform_of_frame: Float[Tensor, "d f"]
    deform_hidden: Float[Tensor, "d d"]
    offset: Float[Tensor, "2 d"]
    torso_of_grid: Float[Tensor, "t g"]
    torso_of_point: Float[Tensor, "t p"]
    torso_of_frame: Float[Tensor, "t f"]
    torso_hidden: Float[Tensor, "t t"]
    color: Float[Tensor, "4 t"]  # alpha first
    shrink: float
    point_octaves: int
    tracked: bool

    def grids(self) -> dict[str, tuple[GridTensors, int]]:
        """As HeadTensors.grids()."""
        return {"torso": (self.grid, 2)}

    def hidden_widths(self) -> list[int]:
        """Of every hidden layer."""
        return [len(self.deform_hidden), len(self.torso_hidden)]


def unsupported_grid(parts: Sequence[HeadTensors | TorsoTensors]) -> str | None:
    """How a grid differs from those that all operators on whole fields are written for."""
    for name, (grid, dim) in (item for part in parts for item in part.grids().items()):
        if grid.levels.n_features != 2 or grid.levels.dim != dim:
            return f"the {name} grid is not of {dim} dimensions and 2 features"
    return None


def odd_width(parts: Sequence[HeadTensors | TorsoTensors]) -> str | None:
    """Whether hidden units cannot go in pairs."""
    if any(width % 2 for part in parts for width in part.hidden_widths()):
        return "a hidden layer is of odd width"
    return None
