"""Sums along rays: for every sample, of the samples before it."""

from jaxtyping import Float
from torch import Tensor

from radnerf.kernels.dispatch import pick
from radnerf.types import Samples

__all__ = ["sums_before"]


def sums_before(
    values: Float[Tensor, " m"], samples: Samples, backend: str | None = None
) -> Float[Tensor, " m"]:
    """For every sample the sum of the values of the samples before it on its ray.

    Zero for samples of no ray, which fill room that is left over.
    """
    module = pick("ray_sums", backend, values)
    return module.sums_before(values, samples)
