"""The terms of a stage's loss: each a weight, and an error of what the stage has rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from radnerf.errors import UserError
from radnerf.losses.pixel import (
    alpha_entropy,
    color_error,
    distortion,
    eye_error,
    outside_motion,
)
from radnerf.types import Batch, RenderOutput, Samples


@dataclass
class Rendering:
    """A batch as a stage has rendered it."""

    batch: Batch
    pixels: Float[Tensor, "n 3"]  # finished
    target: Float[Tensor, "n 3"]  # what they should be
    alpha: Float[Tensor, " n"]  # coverage by what the stage learns, head or torso
    coverage: Float[Tensor, " n"]  # what it should be
    progress: float  # fraction of the stage's budget that is used
    head: RenderOutput | None = None  # in the stages that learn the head
    samples: Samples | None = None  # of a head that is made of any


class LossTerm:
    """A term of a loss.

    Args:
        weight: in the sum; 0 turns it off.
        rise: fraction of the stage over which the weight rises from 0.
    """

    def __init__(self, weight: float = 1.0, rise: float = 0.0) -> None:
        self.weight = weight
        self.rise = rise

    def __call__(self, rendering: Rendering) -> Tensor | None:
        """The unweighted error; None where it has nothing to say about such a batch."""
        raise NotImplementedError

    def weight_at(self, progress: float) -> float:
        """The weight at a fraction of the stage's budget."""
        return self.weight * min(1.0, progress / self.rise) if self.rise else self.weight


def weighted(terms: Mapping[str, LossTerm], rendering: Rendering) -> dict[str, Tensor]:
    """The weighted errors by name, without those that are turned off or say nothing."""
    found = {}
    for name, term in terms.items():
        if term.weight and (error := term(rendering)) is not None:
            found[name] = term.weight_at(rendering.progress) * error
    return found


class ColorError(LossTerm):
    """Squared error of the finished pixels."""

    def __call__(self, rendering: Rendering) -> Tensor:
        return color_error(rendering.pixels, rendering.target)


class HeadError(LossTerm):
    """Squared error of the head alone over the true torso.

    Keeps the head a head in the joint stage: it must not take over what the torso fails to show.
    """

    def __call__(self, rendering: Rendering) -> Tensor:
        batch = rendering.batch
        return color_error(_head(self, rendering).over(batch.behind), batch.target)


class AlphaEntropy(LossTerm):
    """Entropy of the coverage: pixels are covered or not."""

    def __call__(self, rendering: Rendering) -> Tensor:
        return alpha_entropy(rendering.alpha)


class AlphaError(LossTerm):
    """Squared error of the coverage against the parsing; the paper has none for the head."""

    def __call__(self, rendering: Rendering) -> Tensor:
        return torch.mean((rendering.alpha - rendering.coverage) ** 2)


class OutsideMotion(LossTerm):
    """Accumulated |audio coordinate| outside the face: see outside_motion."""

    def __call__(self, rendering: Rendering) -> Tensor:
        return outside_motion(_head(self, rendering).ambient, rendering.batch.face)


class EyeError(LossTerm):
    """Squared error in the eyes' rectangle, in proportion to how shut they are: see eye_error."""

    def __call__(self, rendering: Rendering) -> Tensor:
        batch = rendering.batch
        closed = (1 - batch.conditioning.eye).clamp(0, 1)[batch.rays.frame]
        return eye_error(rendering.pixels, rendering.target, batch.eyes, closed)


class Distortion(LossTerm):
    """How far the weights lie apart along a ray (mip-NeRF 360); the paper has none."""

    def __call__(self, rendering: Rendering) -> Tensor:
        weights, samples = _head(self, rendering).weights, rendering.samples
        if weights is None or samples is None:
            raise UserError(
                "This head has no samples along rays, which the distortion loss needs: add "
                "loss.distortion.weight=0."
            )
        return distortion(weights, samples)


def _head(term: LossTerm, rendering: Rendering) -> RenderOutput:
    if rendering.head is None:
        raise UserError(f"The loss {type(term).__name__} is for stages that learn the head.")
    return rendering.head
