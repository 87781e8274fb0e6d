"""Multi-layer perceptron in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import linear


def mlp(
    x: Tensor, weights: Sequence[Tensor], frame_bias: Tensor | None, frame: Tensor | None
) -> Tensor:
    hidden = linear(x, weights[0])
    if frame_bias is not None and frame is not None:
        hidden = hidden + frame_bias[frame]
    for weight in weights[1:]:
        hidden = linear(hidden.relu(), weight)
    return hidden
