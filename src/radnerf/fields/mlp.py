"""Small ReLU networks without biases, the only kind the method uses."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.kernels.mlp import mlp


class MLP(nn.Module):
    """Per-point inputs plus inputs that all points of a frame share.

    The first layer's matrix holds the columns of the per-point inputs, then those of the shared
    ones; the latter are multiplied once a frame and enter as a bias.

    Args:
        point_dim: width of the per-point input.
        frame_dim: width of the per-frame input, 0 for none.
        widths: of the hidden layers and the output.
    """

    def __init__(self, point_dim: int, widths: list[int], frame_dim: int = 0) -> None:
        super().__init__()
        self.point_dim = point_dim
        dims = [point_dim + frame_dim, *widths]
        self.weights = nn.ParameterList(
            nn.init.kaiming_uniform_(torch.empty(dims[i + 1], dims[i]), a=math.sqrt(5))
            for i in range(len(widths))
        )

    def forward(
        self,
        x: Float[Tensor, "n i"],
        shared: Float[Tensor, "f s"] | None = None,
        frame: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n o"]:
        """Output for n points; shared[frame] is each point's per-frame input."""
        first, *rest = self.weights
        if shared is None:
            return mlp(x, [first, *rest])
        bias = shared @ first[:, self.point_dim :].T
        return mlp(x, [first[:, : self.point_dim], *rest], frame_bias=bias, frame=frame)


def columns(matrix: Float[Tensor, "o i"], *widths: int) -> tuple[Float[Tensor, "o _"], ...]:
    """A matrix in parts: so many columns each, then the rest."""
    return matrix.split([*widths, matrix.shape[1] - sum(widths)], 1)
