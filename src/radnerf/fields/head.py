"""The head: a radiance field of space, audio and eyes.

RAD-NeRF section 3.2, decomposed audio-spatial encoding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.fields.conditioning import AudioConditioning, AudioCoordinate
from radnerf.fields.encodings import Encoding, GridEncoding
from radnerf.fields.mlp import MLP, columns
from radnerf.kernels.dispatch import Unsupported
from radnerf.kernels.encodings import sh_encode
from radnerf.kernels.tensors import HeadState, HeadTensors
from radnerf.registry import component
from radnerf.types import FieldOutput


@component("field")
class HeadField(nn.Module):
    """Density, color and what the audio moves of points in the head's box.

    Args:
        spatial: encoder of places in the box.
        conditioning: how audio and eyes enter the density network.
        box: (min, max) corners in world units.
        n_frames: number of training frames, each with an appearance code.
        appearance_dim: width of the appearance codes; 0 for none.
        test_code: training frame whose code is used at test; None for the zero code.
        eye_input: what the net sees of shut and of open eyes; small numbers are learned slowly, and
            until blinks are told apart eyes are a mean of shut and open.
        eye_control: without it the eyes are always open to the net.
    """

    box: Tensor

    def __init__(
        self,
        spatial: Encoding,
        conditioning: AudioConditioning,
        box: Sequence[Sequence[float]],
        n_frames: int,
        code_dim: int = 64,
        hidden: int = 64,
        geometry_dim: int = 64,
        appearance_dim: int = 4,
        sh_degree: int = 4,
        test_code: int | None = None,
        eye_input: Sequence[float] = (0.0, 1.0),
        eye_control: bool = True,
    ) -> None:
        super().__init__()
        self.test_code = test_code
        self.spatial = spatial
        self.conditioning = conditioning
        self.sh_degree = sh_degree
        conditioning.connect(spatial.width, code_dim, hidden)
        self.eye_input = tuple(eye_input)
        self.eye_control = eye_control
        self.sigma_net = MLP(
            conditioning.point_dim, [hidden, hidden, 1 + geometry_dim], conditioning.frame_dim
        )
        self.color_net = MLP(sh_degree**2 + geometry_dim, [hidden, 3], frame_dim=appearance_dim)
        self.appearance = nn.Parameter(0.1 * torch.randn(n_frames, appearance_dim))
        self.register_buffer("box", torch.tensor(box, dtype=torch.float32))

    def state(
        self, code: Float[Tensor, "f c"], eye: Float[Tensor, " f"], index: Int[Tensor, " f"]
    ) -> HeadState:
        """Encode what drives the head; index -1 takes the appearance code of test.

        Args:
            eye: opening of the eyes, 0 shut and 1 open.
        """
        if self.test_code is not None:
            index = torch.where(index < 0, self.test_code, index)
        appearance = self.appearance[index.clamp_min(0)] * (index >= 0)[:, None]
        opening = eye if self.eye_control else torch.ones_like(eye)
        shut, opened = self.eye_input
        return HeadState(code, (shut + (opened - shut) * opening)[:, None], appearance)

    def density(
        self, x: Float[Tensor, "m 3"], frame: Int[Tensor, " m"], state: HeadState
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, "m g"], Float[Tensor, "m a"]]:
        """Density (per world unit), geometry features and what the audio moves at world points."""
        position = (x - self.box[0]) / (self.box[1] - self.box[0])
        features, shared, ambient = self.conditioning(
            self.spatial(position), state.code, state.eye, frame
        )
        out = self.sigma_net(features, shared, frame)
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

    def tensors(self) -> HeadTensors | Unsupported:
        """All of it, for operators that compute it at once; they know no other conditioning."""
        audio = self.conditioning
        if not isinstance(audio, AudioCoordinate):
            kind = type(audio).__name__
            return Unsupported(f"the audio enters by {kind}, not by a coordinate")
        spatial, ambient = self.spatial, audio.ambient
        if not isinstance(spatial, GridEncoding):
            return Unsupported("the spatial encoder is no grid")
        if not isinstance(ambient, GridEncoding):
            return Unsupported("the ambient encoder is no grid")
        ambient_first, ambient_hidden, coordinate = audio.ambient_net.weights
        sigma_first, sigma_hidden, sigma_last = self.sigma_net.weights
        color_first, color_last = self.color_net.weights
        ambient_of_spatial, ambient_of_code = columns(ambient_first, spatial.width)
        of_spatial, of_ambient, of_product, of_eye = columns(sigma_first, *audio.part_widths)
        density, geometry = sigma_last.split([1, len(sigma_last) - 1])
        of_view, of_geometry, of_appearance = columns(color_first, self.sh_degree**2, len(geometry))
        return HeadTensors(
            box=self.box,
            spatial=spatial.tensors(),
            ambient=ambient.tensors(),
            ambient_of_spatial=ambient_of_spatial,
            ambient_of_code=ambient_of_code,
            ambient_hidden=ambient_hidden,
            coordinate=coordinate,
            sigma_of_spatial=of_spatial,
            sigma_of_ambient=of_ambient,
            sigma_of_product=of_product,
            sigma_of_eye=of_eye,
            sigma_hidden=sigma_hidden,
            density=density,
            geometry=geometry,
            color_of_view=of_view,
            color_of_geometry=of_geometry,
            color_of_appearance=of_appearance,
            color=color_last,
            eye_product=audio.eye_product,
            sh_degree=self.sh_degree,
        )


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
