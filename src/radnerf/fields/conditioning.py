"""How audio and eyes enter the head's density network.

Letters: m points, f frames, s spatial features, c audio code, p and q what the density network
sees of a point and of a whole frame, a what moves with the audio.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.fields.encodings import Encoding
from radnerf.fields.mlp import MLP
from radnerf.registry import component

# Where the first mouth coefficient's standard deviation starts on the audio coordinate.
VARIATION = 0.3


class AudioConditioning(nn.Module):
    """What all kinds are: what the density network gets to see, of spatial features and a frame.

    A kind learns how wide its inputs are when HeadField connects it.
    """

    # Widths of what the density network sees of a point, and of its frame; known once connected.
    point_dim: int
    frame_dim: int

    def connect(self, spatial_dim: int, code_dim: int, hidden: int) -> None:
        """Make the networks, for these widths."""
        raise NotImplementedError

    def forward(
        self,
        spatial: Float[Tensor, "m s"],
        code: Float[Tensor, "f c"],
        eye: Float[Tensor, "f 1"],
        frame: Int[Tensor, " m"],
    ) -> tuple[Float[Tensor, "m p"], Float[Tensor, "f q"] | None, Float[Tensor, "m a"]]:
        """What the density network sees of the points, and of the frames, and what the audio moves.

        The last must be 0 where the audio has no part: region regularization holds it there
        outside the face.
        """
        raise NotImplementedError

    def warm_start(self, codes: Float[Tensor, "t c"], mouth: Float[Tensor, "t k"]) -> None:
        """Start from the mouth's shape in every frame, where a kind has a way to."""


@component("conditioning")
class AudioCoordinate(AudioConditioning):
    """A coordinate of position and audio, looked up in a grid of its own (RAD-NeRF section 3.2).

    Args:
        ambient: encoder of the audio coordinate; its dim is the coordinate's.
        eye_product: the density network also sees the spatial features times this times the eye
            control. Shut and open eyes then have first layers of their own, and are told
            apart much sooner than by a bias alone, the paper's, which 0 gives. All
            points of a frame have one eye control, so that whole frames are drawn without any
            product: it is added to the first layer's matrix.
    """

    # Of spatial features, ambient ones and products: what the density network sees of a point.
    part_widths: tuple[int, int, int]

    def __init__(self, ambient: Encoding, eye_product: float = 0.0) -> None:
        super().__init__()
        self.ambient = ambient
        self.eye_product = eye_product

    def connect(self, spatial_dim: int, code_dim: int, hidden: int) -> None:
        widths = [hidden, hidden, self.ambient.dim]
        self.ambient_net = MLP(spatial_dim, widths, frame_dim=code_dim)
        products = spatial_dim if self.eye_product else 0
        self.part_widths = spatial_dim, self.ambient.width, products
        self.point_dim, self.frame_dim = sum(self.part_widths), 1

    def forward(
        self,
        spatial: Float[Tensor, "m s"],
        code: Float[Tensor, "f c"],
        eye: Float[Tensor, "f 1"],
        frame: Int[Tensor, " m"],
    ) -> tuple[Float[Tensor, "m p"], Float[Tensor, "f q"] | None, Float[Tensor, "m a"]]:
        coordinate = torch.tanh(self.ambient_net(spatial, code, frame))
        parts = [spatial, self.ambient((coordinate + 1) / 2)]
        if self.eye_product:
            parts.append(spatial * (self.eye_product * eye)[frame])
        return torch.cat(parts, -1), eye, coordinate

    def warm_start(
        self, codes: Float[Tensor, "t c"], mouth: Float[Tensor, "t k"], n_steps: int = 300
    ) -> None:
        """Start the coordinate as the mouth's shape: its dimensions are the first of k.

        From a fresh network the coordinate hardly moves with the audio and mostly stays that way:
        all frames share a few cells of its grid. From here every mouth shape has cells of its own.
        """
        goal = torch.tanh(VARIATION * mouth[:, : self.ambient.dim])
        no_place = codes.new_zeros(len(codes), self.ambient_net.point_dim)
        frame = torch.arange(len(codes), device=codes.device)
        optimizer = torch.optim.Adam(self.ambient_net.parameters(), lr=3e-3)
        for _ in range(n_steps):
            coordinate = torch.tanh(self.ambient_net(no_place, codes, frame))
            loss = (coordinate - goal).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@component("conditioning")
class Concatenation(AudioConditioning):
    """The audio code as an input of the density network: what the paper compares itself with.

    Nothing says where the audio has a part, so region regularization does nothing.
    """

    def connect(self, spatial_dim: int, code_dim: int, hidden: int) -> None:
        self.point_dim, self.frame_dim = spatial_dim, code_dim + 1

    def forward(
        self,
        spatial: Float[Tensor, "m s"],
        code: Float[Tensor, "f c"],
        eye: Float[Tensor, "f 1"],
        frame: Int[Tensor, " m"],
    ) -> tuple[Float[Tensor, "m p"], Float[Tensor, "f q"] | None, Float[Tensor, "m a"]]:
        return spatial, torch.cat([code, eye], -1), spatial[:, :0]


@component("conditioning")
class RegionAttention(AudioConditioning):
    """Each place takes its part of every channel of the audio code, and of the eye control.

    What the audio moves is the norm of a place's attention. ER-NeRF's region attention module.

    Args:
        eye_hidden: hidden units of the eyes' attention.
    """

    def __init__(self, eye_hidden: int = 16) -> None:
        super().__init__()
        self.eye_hidden = eye_hidden

    def connect(self, spatial_dim: int, code_dim: int, hidden: int) -> None:
        self.audio_attention = MLP(spatial_dim, [hidden, code_dim])
        self.eye_attention = MLP(spatial_dim, [self.eye_hidden, 1])
        self.point_dim, self.frame_dim = spatial_dim + code_dim + 1, 0

    def forward(
        self,
        spatial: Float[Tensor, "m s"],
        code: Float[Tensor, "f c"],
        eye: Float[Tensor, "f 1"],
        frame: Int[Tensor, " m"],
    ) -> tuple[Float[Tensor, "m p"], Float[Tensor, "f q"] | None, Float[Tensor, "m a"]]:
        attention = self.audio_attention(spatial)
        looks = torch.sigmoid(self.eye_attention(spatial))
        features = torch.cat([spatial, attention * code[frame], looks * eye[frame]], -1)
        # The tiny number keeps the norm's gradient finite at exactly no attention.
        norm = (attention.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        return features, None, norm
