"""Compositing: samples of a ray to the color along it."""

from jaxtyping import Float
from torch import Tensor

from radnerf.kernels.dispatch import pick
from radnerf.types import Samples

__all__ = ["composite"]


def composite(
    density: Float[Tensor, " m"],
    values: Float[Tensor, "m k"],
    samples: Samples,
    stop: float = 1e-4,
    backend: str | None = None,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " m"]]:
    """Accumulated values, alpha and depth of each ray, front to back, and the samples' weights.

    A sample weighs T * (1 - exp(-density * dt)), T being what the samples before it let through;
    samples with T below `stop` weigh nothing. Values and depth are premultiplied by alpha.
    Gradients flow to density and values. NeRF equation 3.
    """
    module = pick("composite", backend, density, values, samples.t, samples.dt)
    return module.composite(density, values, samples, stop)
