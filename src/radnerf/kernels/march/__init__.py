"""Ray marching: where along each ray the field has to be asked."""

from jaxtyping import Bool, Float
from torch import Tensor

from radnerf.kernels.dispatch import pick
from radnerf.types import Samples

__all__ = ["march"]


def march(
    origins: Float[Tensor, "n 3"],
    directions: Float[Tensor, "n 3"],
    occupancy: Bool[Tensor, "rx ry rz"],
    box: Float[Tensor, "2 3"],
    near: float,
    step: float,
    max_samples: int,
    jitter: Float[Tensor, " n"] | None = None,
    capacity: int | None = None,
    backend: str | None = None,
) -> Samples:
    """The first max_samples samples of each ray, on its lattice, whose cell is occupied.

    A ray's lattice cuts it, from where it enters the box (from `near` when that is farther) to
    where it leaves it, in pieces of length `step`; a sample is a piece's middle or, with jitter in
    [0, 1), the point at that part of the piece. Directions: unit length. Distances: world units.
    Not differentiable. RAD-NeRF section 3.3.

    Args:
        capacity: for so many samples, whatever there are, so that a GPU's host need not wait to be
            told their number: rays whose samples do not fit have none, and what is left over are
            samples of no length behind the last ray's, in cell 0. None counts them.
    """
    if step <= 0:
        raise ValueError(f"march: the step must be positive, not {step}")
    module = pick("march", backend, origins, directions, occupancy, box, jitter)
    if len(origins) == 0:
        capacity = None
    return module.march(
        origins, directions, occupancy, box, near, step, max_samples, jitter, capacity
    )
