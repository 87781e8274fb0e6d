"""Sums along rays: for every sample, of the samples before it, and what is made of them."""

from jaxtyping import Float
from torch import Tensor

from radnerf.kernels.dispatch import pick
from radnerf.types import Samples

__all__ = ["distortion", "sums_before"]


def sums_before(
    values: Float[Tensor, " m"], samples: Samples, backend: str | None = None
) -> Float[Tensor, " m"]:
    """For every sample the sum of the values of the samples before it on its ray.

    Zero for samples of no ray, which fill what is left of a capacity.
    """
    module = pick("ray_sums", backend, values)
    return module.sums_before(values, samples)


def distortion(
    weights: Float[Tensor, " m"], samples: Samples, backend: str | None = None
) -> Float[Tensor, " n"]:
    """How far the weight of each ray is scattered along it, in world units.

    The sum over pairs of samples of both weights times their distance, plus the samples' own
    extent (mip-NeRF 360, equation 15).
    """
    module = pick("ray_sums", backend, weights, samples.t, samples.dt)
    return module.distortion(weights, samples)
