"""Stands in for tinycudann, which needs a GPU and a compiler: its modules as callers see them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


def stand_in() -> ModuleType:
    """The module, for sys.modules."""
    module = ModuleType("tinycudann")
    module.Encoding, module.Network = _Encoding, _Network  # type: ignore[attr-defined]
    return module


class _Module(nn.Module):
    """A flat float32 vector of parameters, drawn from a seed."""

    def __init__(self, n_params: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.params = nn.Parameter(torch.rand(n_params, generator=generator) - 0.5)

    def check(self, x: Tensor) -> Tensor:
        assert x.dim() == 2 and x.min() >= 0 and x.max() <= 1
        return x


class _Encoding(_Module):
    def __init__(
        self,
        n_input_dims: int,
        encoding_config: dict[str, Any],
        seed: int = 1337,
        dtype: torch.dtype = torch.float16,
    ):
        assert encoding_config["otype"] == "HashGrid"
        self.config = dict(encoding_config)
        width = encoding_config["n_levels"] * encoding_config["n_features_per_level"]
        super().__init__(n_input_dims * width, seed)
        self.n_input_dims, self.n_output_dims, self.dtype = n_input_dims, width, dtype

    def forward(self, x: Tensor) -> Tensor:
        return (self.check(x) @ self.params.view(self.n_input_dims, -1)).to(self.dtype)


class _Network(_Module):
    """Results, and so their gradients, are in float16, and no points are too few."""

    def __init__(
        self,
        n_input_dims: int,
        n_output_dims: int,
        network_config: dict[str, Any],
        seed: int = 1337,
    ):
        assert network_config["otype"] == "FullyFusedMLP"
        super().__init__(n_input_dims * n_output_dims, seed)
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims

    def forward(self, x: Tensor) -> Tensor:
        assert len(x)
        return (x.float() @ self.params.view(self.n_input_dims, -1)).half()
