"""The torso: a 2D field deformed by the head pose (RAD-NeRF section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.mlp import MLP
from radnerf.kernels.encodings import frequency_encode


@dataclass
class TorsoState:
    """What drives the torso, encoded, one row a frame."""

    features: Float[Tensor, "f p"]


class TorsoField(nn.Module):
    """Colour and coverage of image points, one sample a pixel.

    Args:
        grid: 2D grid over the deformed image plane.
        n_frames: number of training frames, each with an individual code.
        shrink: image coordinates are shrunk so that the deformation can reach past the border.
        pose_octaves: of the head pose's frequency encoding.
        pose_mean, pose_scale: the pose vector is centred and scaled before it is encoded; the
            paper takes it raw (0 and 1).
    """

    pose_mean: Tensor
    pose_scale: Tensor

    def __init__(
        self,
        grid: GridEncoding,
        n_frames: int,
        shrink: float = 0.8,
        point_octaves: int = 10,
        pose_octaves: int = 4,
        code_dim: int = 8,
        deform_hidden: int = 64,
        hidden: int = 32,
        pose_mean: Sequence[float] = (0.0,) * 6,
        pose_scale: Sequence[float] = (1.0,) * 6,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.shrink = shrink
        self.point_octaves = point_octaves
        self.pose_octaves = pose_octaves
        point_dim = 2 * (1 + 2 * point_octaves)
        frame_dim = 6 * (1 + 2 * pose_octaves) + code_dim
        self.deform_net = MLP(point_dim, [deform_hidden, deform_hidden, 2], frame_dim=frame_dim)
        self.torso_net = MLP(grid.width + point_dim, [hidden, hidden, 4], frame_dim=frame_dim)
        self.codes = nn.Parameter(0.1 * torch.randn(n_frames, code_dim))
        self.register_buffer("pose_mean", torch.tensor(pose_mean, dtype=torch.float32))
        self.register_buffer("pose_scale", torch.tensor(pose_scale, dtype=torch.float32))

    def state(self, pose: Float[Tensor, "f 6"], index: Int[Tensor, " f"]) -> TorsoState:
        """Encode head poses; index -1 takes the zero code (as at test)."""
        pose = (pose - self.pose_mean) / self.pose_scale
        code = self.codes[index.clamp_min(0)] * (index >= 0)[:, None]
        return TorsoState(torch.cat([frequency_encode(pose, self.pose_octaves), code], -1))

    def forward(
        self, xy: Float[Tensor, "n 2"], frame: Int[Tensor, " n"], state: TorsoState
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        """RGB (straight) and alpha of image points in [-1, 1]^2; frame is each point's row."""
        xy = xy * self.shrink
        encoded = frequency_encode(xy, self.point_octaves)
        offset = self.deform_net(encoded, state.features, frame)
        warped = (xy + offset).clamp(-1, 1)
        features = torch.cat([self.grid((warped + 1) / 2), encoded], -1)
        out = torch.sigmoid(self.torso_net(features, state.features, frame))
        return out[:, 1:], out[:, 0]
