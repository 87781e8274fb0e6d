"""Small multi-layer perceptrons without biases, ReLU between their layers."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from radnerf.kernels.dispatch import pick

__all__ = ["mlp"]


def mlp(
    x: Float[Tensor, "n i"],
    weights: Sequence[Float[Tensor, "_o _i"]],
    backend: str | None = None,
    frame_bias: Float[Tensor, "f h"] | None = None,
    frame: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, "n o"]:
    """weights[-1] relu(... relu(weights[0] x + frame_bias[frame])).

    frame_bias enters what is the same for all points of a frame (an audio code a: W a) before the
    first ReLU; frame says which row each point takes. Gradients flow to x, weights, frame_bias.
    The cpu back end multiplies in bfloat16 where the processor does, and adds up in float32.
    """
    if (frame_bias is None) != (frame is None):
        raise ValueError("mlp: frame_bias and frame go together")
    module = pick("mlp", backend, x, frame_bias, *weights)
    return module.mlp(x, weights, frame_bias, frame)
