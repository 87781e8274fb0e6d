"""Encodings without parameters: frequencies of a coordinate, spherical harmonics of a direction."""

from jaxtyping import Float
from torch import Tensor

from radnerf.kernels.dispatch import pick

__all__ = ["frequency_encode", "sh_encode"]


def frequency_encode(
    x: Float[Tensor, "n d"], octaves: int, backend: str | None = None
) -> Float[Tensor, "n outputs"]:
    """x, then for each octave k the sines and the cosines of 2^k x: d * (1 + 2 * octaves) wide.

    No factor pi, as the public implementations have it. NeRF equation 4.
    """
    return pick("encodings", backend, x).frequency_encode(x, octaves)


def sh_encode(
    directions: Float[Tensor, "n 3"], degree: int = 4, backend: str | None = None
) -> Float[Tensor, "n outputs"]:
    """Real spherical harmonics of unit directions below `degree` (1 to 4): degree^2 wide.

    Orthonormal over the sphere, ordered l * (l + 1) + m, with the sign (-1)^m that public grid
    implementations (instant-ngp, torch-ngp) give them.
    """
    if not 1 <= degree <= 4:
        raise ValueError(f"sh_encode: degree must be 1 to 4, not {degree}")
    return pick("encodings", backend, directions).sh_encode(directions, degree)
