"""What a portrait, its training and its frames ask of a head.

Letters: N rays, M samples, F frames, D audio code width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from radnerf.types import Rays, RenderOutput, Samples


class Head(nn.Module):
    """A head that audio and eyes drive, drawn along rays.

    state() and render() make a head; everything else has a default that does nothing.

    Attributes:
        eye_control: whether the eyes follow their control.
    """

    eye_control: bool = True

    def state(
        self, code: Float[Tensor, "f d"], eye: Float[Tensor, " f"], index: Int[Tensor, " f"]
    ) -> Any:
        """What drives the head, encoded: a dataclass of tensors with one row a frame.

        One of its fields is called `eye`: training exchanges its rows for those of other frames.

        Args:
            code: audio codes.
            eye: opening of the eyes, 0 shut and 1 open.
            index: training frame; -1 for none.
        """
        raise NotImplementedError

    def render(
        self,
        rays: Rays,
        state: Any,
        jitter: Float[Tensor, " n"] | None = None,
        capacity: int | None = None,
    ) -> tuple[RenderOutput, Samples | None]:
        """Colors premultiplied by alpha, and the samples that they are made of, if they are.

        Args:
            state: rows that rays.frame refers to.
            jitter: in [0, 1), by how much of a step samples are moved (training only).
            capacity: for so many samples, where nobody can be told how many there are; None counts.
        """
        raise NotImplementedError

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the learning rate that they follow: see LearningRates."""
        return rate_groups(self)

    def warm_start(self, codes: Float[Tensor, "t d"], mouth: Float[Tensor, "t k"]) -> None:
        """Start from the mouth's shape in every frame, before anything is rendered.

        Args:
            codes: audio codes that stand for the shapes.
            mouth: coefficients of the shapes.
        """

    def carve(self, inside: Callable[[Float[Tensor, "n 3"]], Bool[Tensor, " n"]]) -> None:
        """Leave out what is not inside, before training: no camera sees anything there.

        Args:
            inside: whether world points may be of the head; on the host.
        """

    def before_step(self, state: Any, generator: torch.Generator) -> None:
        """Before a step of a stage that may change what is drawn where; every few steps.

        Processes that train together come here with equally seeded generators.
        """

    def after_render(self, out: RenderOutput, samples: Any, settled: Bool[Tensor, " n"]) -> None:
        """After a training step's rays were rendered.

        Args:
            settled: rays that are opaque, or rightly empty.
        """

    def finalize(self, codes: Float[Tensor, "k d"], eye: Float[Tensor, " k"]) -> dict[str, Any]:
        """Once training is over: what makes frames faster without changing them.

        Args:
            codes, eye: what drives the head, as different as it gets.

        Returns:
            Settings of its config that have changed, nested as the config is.
        """
        return {}


def rate_groups(part: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameters by the learning rate that they follow: tables that are looked up, and the rest."""
    groups: dict[str, list[nn.Parameter]] = {"grid": [], "net": []}
    for name, parameter in part.named_parameters():
        groups["grid" if name.endswith(("table", "grid.params")) else "net"].append(parameter)
    return groups
