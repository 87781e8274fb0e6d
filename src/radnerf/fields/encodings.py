"""Encoders with parameters: multi-resolution grids over a box."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.kernels.grid_encode import GridLevels, grid_encode


class GridEncoding(nn.Module):
    """Multi-resolution grid of features over [0, 1]^dim, tiled (RAD-NeRF) or hashed (Instant-NGP).

    Args:
        dim: 2 or 3.
        kind: "tiled" or "hash", what happens to a level with more cells than table entries.
        finest_resolution: cells along an axis at the last level.
        drop_folded_axes, last_axis_first: how others lay out their tables, see GridLevels.
    """

    def __init__(
        self,
        dim: int,
        kind: Literal["tiled", "hash"] = "tiled",
        n_levels: int = 16,
        n_features: int = 2,
        base_resolution: int = 16,
        finest_resolution: int = 2048,
        log2_table_size: int = 16,
        drop_folded_axes: bool = False,
        last_axis_first: bool = False,
    ) -> None:
        super().__init__()
        self.levels = GridLevels(
            n_levels=n_levels,
            n_features=n_features,
            base_resolution=base_resolution,
            finest_resolution=finest_resolution,
            log2_table_size=log2_table_size,
            kind=kind,
            dim=dim,
            drop_folded_axes=drop_folded_axes,
            last_axis_first=last_axis_first,
        )
        self.width = n_levels * n_features
        self.table = nn.Parameter(
            torch.empty(self.levels.n_entries, n_features).uniform_(-1e-4, 1e-4)
        )

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Features of points in [0, 1]^dim."""
        return grid_encode(x, self.table, self.levels)
