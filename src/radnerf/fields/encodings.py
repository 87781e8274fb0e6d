"""Encoders: points of a box to features, most of them with parameters."""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.errors import UserError
from radnerf.fields.mlp import MLP
from radnerf.kernels.encodings import frequency_encode
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.tensors import GridTensors
from radnerf.registry import component

# Axes of the planes of a tri-plane.
PLANES = ((0, 1), (1, 2), (0, 2))
# tiny-cuda-nn's networks have gradients in float16, which a mean over many rays would leave at 0.
NETWORK_SCALE = 1024.0


class Encoding(nn.Module):
    """What all encoders are: forward takes points in [0, 1]^dim to `width` features.

    Parameters that are looked up, rather than multiplied, end in `table` or `grid.params`: they
    learn at the grids' rate (see LearningRates).
    """

    dim: int
    width: int

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        raise NotImplementedError


@component("encoder")
class GridEncoding(Encoding):
    """Multi-resolution grid of features over [0, 1]^dim, tiled (RAD-NeRF) or hashed (Instant-NGP).

    Args:
        dim: 1, 2 or 3.
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
        if dim not in (1, 2, 3):
            raise UserError(f"A grid has 1, 2 or 3 dimensions, not {dim}: set the encoder's dim.")
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
        self.dim = dim
        self.width = n_levels * n_features
        self.table = nn.Parameter(
            torch.empty(self.levels.n_entries, n_features).uniform_(-1e-4, 1e-4)
        )

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Features of points in [0, 1]^dim."""
        return grid_encode(x, self.table, self.levels)

    def tensors(self) -> GridTensors:
        """Its table, for operators on whole fields."""
        return GridTensors(self.table, self.levels)


@component("encoder")
class TriplaneEncoding(Encoding):
    """Three hashed 2D grids, over XY, YZ and XZ, one after another (ER-NeRF).

    Planes collide less than a hashed grid of three dimensions with as many entries.
    """

    def __init__(
        self,
        n_levels: int = 12,
        n_features: int = 1,
        base_resolution: int = 64,
        finest_resolution: int = 512,
        log2_table_size: int = 14,
    ) -> None:
        super().__init__()
        self.dim = 3
        self.planes = nn.ModuleList(
            GridEncoding(
                2, "hash", n_levels, n_features, base_resolution, finest_resolution, log2_table_size
            )
            for _ in PLANES
        )
        self.width = len(PLANES) * n_levels * n_features

    def forward(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n w"]:
        """Features of points in [0, 1]^3, plane by plane."""
        parts = zip(self.planes, PLANES, strict=True)
        return torch.cat([plane(x[:, list(axes)]) for plane, axes in parts], -1)


@component("encoder")
class FrequencyEncoding(Encoding):
    """Sines and cosines of a point, and a network in place of a grid: NeRF before grids.

    Args:
        octaves: the finest has 2^(octaves - 1) radians in half the box's length.
        widths: of the network's layers, each followed by a ReLU; none is the frequencies alone.
    """

    def __init__(self, dim: int, octaves: int = 10, widths: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.dim = dim
        self.octaves = octaves
        n_frequencies = dim * (1 + 2 * octaves)
        self.trunk = MLP(n_frequencies, list(widths)) if widths else None
        self.width = widths[-1] if widths else n_frequencies

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Features of points in [0, 1]^dim."""
        encoded = frequency_encode(2 * x - 1, self.octaves)
        return encoded if self.trunk is None else self.trunk(encoded).relu()


@component("encoder")
class TinyCudaEncoding(Encoding):
    """tiny-cuda-nn's hash grid and, behind it, one of its fully fused networks (NVIDIA GPUs only).

    Grid and network are two of its modules, so that each learns at its own rate.

    Args:
        dim: 2 or 3.
        network: output width, neurons of a hidden layer and hidden layers; None is the grid alone.

    Raises:
        UserError: the package is not installed, or finds no GPU.
    """

    def __init__(
        self,
        dim: int,
        n_levels: int = 16,
        n_features: int = 2,
        base_resolution: int = 16,
        finest_resolution: int = 2048,
        log2_table_size: int = 16,
        network: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        library = _tinycudann()
        growth = math.log(finest_resolution / base_resolution) / max(n_levels - 1, 1)
        settings: dict[str, Any] = {
            "otype": "HashGrid",
            "n_levels": n_levels,
            "n_features_per_level": n_features,
            "log2_hashmap_size": log2_table_size,
            "base_resolution": base_resolution,
            "per_level_scale": math.exp(growth),
            "interpolation": "Linear",
        }
        self.dim = dim
        # Its own default seed is the same in every module and every run.
        self.grid = library.Encoding(dim, settings, seed=_seed(), dtype=torch.float32)
        self.network = None
        if network is not None:
            width, neurons, n_hidden = network
            settings = {
                "otype": "FullyFusedMLP",
                "activation": "ReLU",
                "output_activation": "None",
                "n_neurons": neurons,
                "n_hidden_layers": n_hidden,
            }
            self.network = library.Network(self.grid.n_output_dims, width, settings, seed=_seed())
            self.network.params.register_hook(lambda gradient: gradient / NETWORK_SCALE)
        self.width = (self.network or self.grid).n_output_dims

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Features of points in [0, 1]^dim; float32, though a network computes in float16."""
        if not len(x):  # which its networks refuse
            return x.new_zeros(0, self.width)
        features = self.grid(x.clamp(0, 1))
        if self.network is None:
            return features
        features = _ScaledGradient.apply(features, 1 / NETWORK_SCALE)
        return _ScaledGradient.apply(self.network(features).float(), NETWORK_SCALE)


class _ScaledGradient(torch.autograd.Function):
    """Leaves numbers as they are, and multiplies their gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * upstream, None


def _seed() -> int:
    return int(torch.randint(1 << 31, ()))


def _tinycudann() -> ModuleType:
    install = (
        "pip install 'git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch'"
    )
    try:
        return importlib.import_module("tinycudann")
    except ImportError as error:
        raise UserError(
            f"encoder=tinycudann needs the package tinycudann ({error}): {install}, on a machine "
            "with an NVIDIA GPU and the CUDA toolkit, or choose encoder=hashgrid."
        ) from error
    except OSError as error:  # how it says that there is no GPU
        raise UserError(
            f"encoder=tinycudann needs an NVIDIA GPU ({error}): choose encoder=hashgrid."
        ) from error
