"""What makes a step the same on every process and after every interruption."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import pytorch_lightning as pl
import torch

from radnerf.modules.stage import StageModule
from radnerf.runtime import ranks
from radnerf.runtime.signals import StopRequest

DROPOUT = 100  # a purpose of StageModule.seed_of, beside those of the modules


C = TypeVar("C", bound=pl.Callback)


def callback_of(trainer: pl.Trainer, kind: type[C]) -> C | None:
    """The trainer's callback of a kind, if it has one."""
    found = [callback for callback in cast(Any, trainer).callbacks if isinstance(callback, kind)]
    return found[0] if found else None


class StepControl(pl.Callback):
    """Random numbers by the step's number; the first process's clock and any one's signal for all.

    Goes before the other callbacks.

    Attributes:
        stop: number of the signal that asked to stop, known to all processes, or 0.
    """

    def __init__(self) -> None:
        self.stop = 0
        self._request = StopRequest()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # After Lightning's own handlers, which it takes away again at the end.
        self._request.listen()

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, StageModule)
        # For dropout, which takes no generator. torch.manual_seed() would also seed devices that
        # are not there, which takes it a millisecond.
        seed = module.seed_of(DROPOUT, own=True)
        torch.default_generator.manual_seed(seed)
        if module.device.type != "cpu":
            torch.get_device_module(module.device).manual_seed(seed)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_args: Any
    ) -> None:
        assert isinstance(module, StageModule)
        budget, first = module.budget, ranks.rank() == 0
        seen = torch.tensor([budget.measured_s if first else 0.0, self._request.number]).double()
        agreed_s, stop = ranks.largest(seen).tolist()
        self.stop = int(stop)
        if ranks.count() > 1:
            budget.agreed_s = agreed_s
