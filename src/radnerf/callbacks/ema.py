"""Exponential moving average of the trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from radnerf.modules.stage import StageModule


class ExponentialMovingAverage(pl.Callback):
    """Averages what a stage trains and leaves the average in the portrait when the stage ends.

    Args:
        decay: a step (the paper has 0.95). Early on it is lowered so that the start is forgotten.
        every: steps between updates; the decay is adapted to it.
    """

    def __init__(self, decay: float = 0.95, every: int = 1) -> None:
        self.decay = decay
        self.every = every
        self.shadow: list[Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageModule)
        parameters = list(module.trained_parameters())
        if len(self.shadow) != len(parameters):
            self.shadow = [p.detach().clone() for p in parameters]
        self.shadow = [s.to(p.device) for s, p in zip(self.shadow, parameters, strict=True)]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_args: Any
    ) -> None:
        step = trainer.global_step
        if step % self.every:
            return
        assert isinstance(module, StageModule)
        decay = min(self.decay**self.every, (1 + step) / (10 + step))
        parameters = [p.detach() for p in module.trained_parameters()]
        torch._foreach_lerp_(self.shadow, parameters, 1 - decay)

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageModule)
        for parameter, average in zip(module.trained_parameters(), self.shadow, strict=True):
            parameter.copy_(average)

    @contextmanager
    def averaged(self, module: StageModule) -> Iterator[None]:
        """The module with averaged weights, for as long as the context lasts."""
        parameters = [p.detach() for p in module.trained_parameters()]
        if not self.shadow:
            yield
            return
        kept = [p.clone() for p in parameters]
        with torch.no_grad():
            torch._foreach_copy_(parameters, self.shadow)
            try:
                yield
            finally:
                torch._foreach_copy_(parameters, kept)

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.shadow = list(state_dict["shadow"])
