"""The head: a radiance field whose grid has an audio coordinate beside the three of space.

RAD-NeRF section 3.2, decomposed audio-spatial encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.mlp import MLP
from radnerf.geometry.eyes import OPEN_EYE
from radnerf.kernels.encodings import sh_encode
from radnerf.types import FieldOutput

# Where the first mouth coefficient's standard deviation starts on the audio coordinate.
SPREAD = 0.3


@dataclass
class HeadState:
    """What drives the head, encoded, one row a frame."""

    code: Float[Tensor, "f c"]  # audio code
    eye: Float[Tensor, "f 1"]  # 0 is shut, 1 open
    appearance: Float[Tensor, "f e"]


class HeadField(nn.Module):
    """Density, colour and audio coordinate of points in the head's box.

    Args:
        spatial: grid over the box.
        ambient: grid over the audio coordinate; its dim is the coordinate's.
        box: (min, max) corners in world units.
        n_frames: number of training frames, each with an appearance code.
        eye_range: eye controls (percent of the image area) at which the clip's eyes are shut and
            open, so that the net sees blinks as large in every clip; the paper has 0 and 1.
        eye_control: without it the eyes are always open to the net.
    """

    box: Tensor

    def __init__(
        self,
        spatial: GridEncoding,
        ambient: GridEncoding,
        box: Sequence[Sequence[float]],
        n_frames: int,
        code_dim: int = 64,
        hidden: int = 64,
        geometry_dim: int = 64,
        appearance_dim: int = 4,
        sh_degree: int = 4,
        eye_range: Sequence[float] = (0.0, OPEN_EYE),
        eye_control: bool = True,
    ) -> None:
        super().__init__()
        self.spatial = spatial
        self.ambient = ambient
        self.sh_degree = sh_degree
        self.shut, self.opened = eye_range
        if not self.opened > self.shut:
            raise ValueError(f"eye_range {tuple(eye_range)} does not go from shut to open")
        self.eye_control = eye_control
        ambient_dim = ambient.levels.dim
        self.ambient_net = MLP(spatial.width, [hidden, hidden, ambient_dim], frame_dim=code_dim)
        self.sigma_net = MLP(
            spatial.width + ambient.width, [hidden, hidden, 1 + geometry_dim], frame_dim=1
        )
        self.color_net = MLP(sh_degree**2 + geometry_dim, [hidden, 3], frame_dim=appearance_dim)
        self.appearance = nn.Parameter(0.1 * torch.randn(n_frames, appearance_dim))
        self.register_buffer("box", torch.tensor(box, dtype=torch.float32))

    def state(
        self, code: Float[Tensor, "f c"], eye: Float[Tensor, " f"], index: Int[Tensor, " f"]
    ) -> HeadState:
        """Encode what drives the head; index -1 takes the zero appearance code (as at test)."""
        appearance = self.appearance[index.clamp_min(0)] * (index >= 0)[:, None]
        opening = self.opening(eye) if self.eye_control else torch.ones_like(eye)
        return HeadState(code, opening[:, None], appearance)

    def opening(self, eye: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Eye control from percent of the image area to 0, shut, and 1, open."""
        return (eye - self.shut) / (self.opened - self.shut)

    def density(
        self, x: Float[Tensor, "m 3"], frame: Int[Tensor, " m"], state: HeadState
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m g"], Float[Tensor, "m a"]]:
        """Density (per world unit), geometry features and audio coordinate of world points."""
        position = (x - self.box[0]) / (self.box[1] - self.box[0])
        spatial = self.spatial(position)
        ambient = torch.tanh(self.ambient_net(spatial, state.code, frame))
        features = torch.cat([spatial, self.ambient((ambient + 1) / 2)], -1)
        out = self.sigma_net(features, state.eye, frame)
        return truncated_exp(out[:, 0]), out[:, 1:], ambient

    def forward(
        self,
        x: Float[Tensor, "m 3"],
        directions: Float[Tensor, "m 3"],
        frame: Int[Tensor, " m"],
        state: HeadState,
    ) -> FieldOutput:
        """Field at world points seen along unit directions; frame is each point's state row."""
        density, geometry, ambient = self.density(x, frame, state)
        view = sh_encode(directions, self.sh_degree)
        rgb = torch.sigmoid(
            self.color_net(torch.cat([view, geometry], -1), state.appearance, frame)
        )
        return FieldOutput(density, rgb, ambient)


def pretrain_coordinate(
    field: HeadField, codes: Float[Tensor, "t d"], mouth: Float[Tensor, "t k"], n_steps: int = 300
) -> None:
    """Start the audio coordinate as the mouth's shape: its a dimensions are the first a of k.

    From a fresh network the coordinate hardly moves with the audio and mostly stays that way: all
    frames share a few cells of the audio grid. From here every mouth shape has cells of its own.
    """
    goal = torch.tanh(SPREAD * mouth[:, : field.ambient.levels.dim])
    nowhere = codes.new_zeros(len(codes), field.spatial.width)
    frame = torch.arange(len(codes), device=codes.device)
    optimizer = torch.optim.Adam(field.ambient_net.parameters(), lr=3e-3)
    for _ in range(n_steps):
        coordinate = torch.tanh(field.ambient_net(nowhere, codes, frame))
        loss = (coordinate - goal).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        # Also clamped forward, so that one wild value cannot turn a whole step into NaN.
        return torch.exp(x.clamp_max(15))

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return grad * torch.exp(x.clamp(-15, 15))


def truncated_exp(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """exp(x) whose gradient clamps the exponent to [-15, 15] (Instant-NGP)."""
    return _TruncatedExp.apply(x)
