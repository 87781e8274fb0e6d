"""The torso stage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from radnerf.losses import Rendering
from radnerf.modules.stage import StageModule
from radnerf.types import Batch


class TorsoModule(StageModule):
    """Learns the torso against the true torso over the background; the head has no part.

    Args:
        update_every: steps between two calls of Torso.before_step.
    """

    name = "torso"

    def __init__(self, *args: Any, update_every: int = 16, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.update_every = update_every

    @property
    def trained_parts(self) -> list[nn.Module]:
        return [self.portrait.torso]

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        # The first updates would ask an untrained field; until then every cell is occupied.
        if self.global_step and self.global_step % self.update_every == 0:
            with torch.no_grad():
                state = self.portrait.torso_state(batch.conditioning)
                self.portrait.torso.before_step(state, self.generator(0))

    def render(self, batch: Batch) -> Rendering:
        state = self.portrait.torso_state(batch.conditioning)
        rgb, alpha = self.portrait.torso.render(batch.xy, batch.rays.frame, state)
        return Rendering(
            batch=batch,
            pixels=rgb * alpha[:, None] + batch.background * (1 - alpha[:, None]),
            target=batch.behind,
            alpha=alpha,
            coverage=batch.torso_alpha,
            progress=self.phase,
        )

    def predict(self, batch: Batch) -> Tensor:
        return self.render(batch).pixels
