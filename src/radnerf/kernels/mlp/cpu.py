"""Multi-layer perceptron on CPU cores: bfloat16 matrix products where the processor has them.

Every product runs at the rate of torch's own matrix product, so what is left to win is around
them: one conversion of the input, activations kept in 16 bits, the frame's bias inside the first
product, no gradient that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from radnerf.team import team

# Up to so many frames, a frame's bias is a column of the first matrix (and its gradient a column
# of that matrix's gradient); beyond, looking it up is cheaper.
MAX_FRAME_COLUMNS = 16
# Two outputs are a coordinate, which 8 bits of mantissa would make jump between grid cells.
MAX_EXACT_OUTPUTS = 2


@cache
def matrix_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it natively, else float32."""
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # torch has no public name for this in all supported versions.
    found = any(getattr(torch.cpu, name, bool)() for name in native)
    return torch.bfloat16 if found else torch.float32


def mlp(
    x: Tensor, weights: Sequence[Tensor], frame_bias: Tensor | None, frame: Tensor | None
) -> Tensor:
    return _Mlp.apply(x, frame_bias, frame, *weights)


class _Mlp(torch.autograd.Function):
    @staticmethod
    @team.on_elements()
    def forward(
        ctx: Any, x: Tensor, frame_bias: Tensor | None, frame: Tensor | None, *weights: Tensor
    ) -> Tensor:
        dtype = matrix_dtype()
        matrices = [weight.to(dtype) for weight in weights]
        hidden = x.to(dtype)
        ctx.inputs, ctx.looked_up = x.shape[1], None
        if frame_bias is not None and frame is not None:
            if len(frame_bias) <= MAX_FRAME_COLUMNS:
                is_frame = frame[:, None] == torch.arange(len(frame_bias), dtype=frame.dtype)
                hidden = torch.cat([hidden, is_frame.to(dtype)], 1)
                matrices[0] = torch.cat([matrices[0], frame_bias.T.to(dtype)], 1)
            else:
                ctx.looked_up = frame
        activations = [hidden]
        for depth, matrix in enumerate(matrices[:-1]):
            hidden = linear(hidden, matrix)
            if depth == 0 and ctx.looked_up is not None and frame_bias is not None:
                hidden += frame_bias.to(dtype)[frame]
            activations.append(hidden.relu_())
        exact = len(weights[-1]) <= MAX_EXACT_OUTPUTS
        last = (hidden.float(), weights[-1]) if exact else (hidden, matrices[-1])
        out = linear(*last).float()
        if len(weights) == 1 and ctx.looked_up is not None and frame_bias is not None:
            out += frame_bias[frame]
        ctx.frames = 0 if frame_bias is None else len(frame_bias)
        ctx.layers = len(weights)
        ctx.save_for_backward(*activations, *matrices)
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        activations = ctx.saved_tensors[: ctx.layers]
        matrices = ctx.saved_tensors[ctx.layers :]
        wants_x, wants_bias, _, *wants_weights = ctx.needs_input_grad
        of_weights: list[Tensor | None] = [None] * ctx.layers
        of_x = of_bias = None
        with team.on_elements():
            gradient = upstream.to(matrices[0].dtype)
            gradients = [gradient]  # from the last layer's to the first one's
            for depth in reversed(range(1, ctx.layers)):
                gradient = gradient @ matrices[depth]
                gradient = torch.ops.aten.threshold_backward(gradient, activations[depth], 0)
                gradients.append(gradient)
            if wants_x:
                of_x = (gradient @ matrices[0][:, : ctx.inputs]).float()
        for depth, of_layer in enumerate(reversed(gradients)):
            if wants_weights[depth] or (depth == 0 and wants_bias):
                of_weights[depth] = (of_layer.T @ activations[depth]).float()
        if wants_bias:
            if ctx.looked_up is None:
                of_bias = of_weights[0][:, ctx.inputs :].T  # type: ignore[index]
            else:
                of_bias = torch.zeros(ctx.frames, gradient.shape[1])
                of_bias.index_add_(0, ctx.looked_up, gradient.float())
        if of_weights[0] is not None:
            of_weights[0] = of_weights[0][:, : ctx.inputs] if wants_weights[0] else None
        return of_x, of_bias, None, *of_weights
