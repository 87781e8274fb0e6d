"""What a portrait, its training and its frames ask of a torso.

Letters: N image points, F frames.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.heads.base import rate_groups


class Torso(nn.Module):
    """A torso that the head pose drives, drawn at points of the image.

    state() and render() make a torso; everything else has a default that does nothing.
    """

    def state(
        self,
        pose: Float[Tensor, "f 6"],
        index: Int[Tensor, " f"],
        motion: Float[Tensor, "f 3"] | None = None,
    ) -> Any:
        """What drives the torso, encoded: a dataclass of tensors with one row a frame.

        Args:
            pose: head pose vectors (geometry/rotations.py).
            index: training frame; -1 for none.
            motion: shift and rotation of the torso (geometry/motion.py); predicted from the pose
                when not given.
        """
        raise NotImplementedError

    def render(
        self, xy: Float[Tensor, "n 2"], frame: Int[Tensor, " n"], state: Any
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        """RGB (straight) and alpha at image points in [-1, 1]^2; frame is each point's row."""
        raise NotImplementedError

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the learning rate that they follow: see LearningRates."""
        return rate_groups(self)

    def fit(self, pose: Float[Tensor, "t 6"], motion: Float[Tensor, "t 3"]) -> None:
        """Take in, before training, how head and torso move in the training frames."""

    def before_step(self, state: Any, generator: torch.Generator) -> None:
        """Before a step of the torso's stage; every few steps.

        Processes that train together come here with equally seeded generators.
        """
