"""The head in training at once: encoders, networks and compositing of rays' samples."""

from radnerf.kernels.dispatch import Unsupported, pick_if_any
from radnerf.kernels.tensors import HeadState, HeadTensors
from radnerf.types import Rays, RenderOutput, Samples

__all__ = ["shade"]


def shade(
    head: HeadTensors | Unsupported, samples: Samples, rays: Rays, state: HeadState, stop: float
) -> RenderOutput | None:
    """Render rays with these samples; colors are premultiplied by alpha.

    None where the head must be rendered operator by operator. Gradients flow to all that the head
    and the state hold, but the head's box. RAD-NeRF section 3.2, NeRF equation 3.

    Args:
        state: rows that rays.frame refers to.
        stop: transmittance below which a ray is opaque.
    """
    module = pick_if_any("shade", head, rays)
    return None if module is None else module.shade(head, samples, rays, state, stop)
