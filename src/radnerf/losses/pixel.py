"""Losses of single rays (RAD-NeRF section 3.5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from radnerf.kernels.ray_sums import distortion as ray_distortion
from radnerf.types import Samples


def color_error(
    prediction: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]
) -> Float[Tensor, ""]:
    """Mean squared error over RGB."""
    return torch.mean((prediction - target) ** 2)


def alpha_entropy(alpha: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean entropy in bits of the rays' accumulated alpha: drives pixels to be head or not."""
    a = alpha.clamp(1e-5, 1 - 1e-5)
    return torch.mean(-a * torch.log2(a) - (1 - a) * torch.log2(1 - a))


def outside_motion(ambient: Float[Tensor, " n"], face: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean accumulated |audio coordinate| of the rays outside the face rectangle.

    Face-region (dynamic) regularization: what is not face must not move with the audio.
    """
    return torch.mean(ambient * ~face)


def eye_error(
    prediction: Float[Tensor, "n 3"],
    target: Float[Tensor, "n 3"],
    eyes: Bool[Tensor, " n"],
    closed: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Mean squared error over all rays, of those at the eyes in proportion to how shut these are.

    Shut eyes are a few pixels of a few frames: in the color error alone they hardly count.
    """
    error = ((prediction - target) ** 2).mean(-1)
    return torch.mean(error * (eyes * closed))


def distortion(weights: Float[Tensor, " m"], samples: Samples) -> Float[Tensor, ""]:
    """Mean over rays of how far a ray's weights lie apart: surfaces instead of fog."""
    return ray_distortion(weights, samples).sum() / max(1, len(samples.offsets) - 1)
