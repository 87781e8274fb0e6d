"""Checkpoints by the clock, so that a crash or a kill loses at most a few seconds of work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from radnerf.memory import give_back


class StageCheckpoint(pl.Callback):
    """Saves a stage's checkpoint every so many seconds, never leaving half a file.

    Each time also returns the memory that training has freed (see radnerf.memory).

    Args:
        path: of the checkpoint.
        every_s: seconds between two checkpoints.
    """

    def __init__(self, path: Path, every_s: float = 20.0) -> None:
        self.path = path
        self.every_s = every_s
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_args: Any
    ) -> None:
        if time.monotonic() - self._last >= self.every_s:
            self.save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        # An interrupt is a wish to go on later; any other exception may have spoilt the state.
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step:
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint now."""
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        temporary.replace(self.path)
        give_back()
        self._last = time.monotonic()
