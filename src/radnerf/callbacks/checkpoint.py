"""Checkpoints by the clock and on signals: a kill loses at most a few seconds of work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from radnerf.callbacks.step import StepControl
from radnerf.modules.stage import StageModule
from radnerf.runtime.memory import release_memory


class StageCheckpoint(pl.Callback):
    """Saves a stage's checkpoint every so many seconds, never leaving half a file.

    A signal to stop saves one too, and ends the training after the step that was under way.
    Each time also returns the memory that training has freed (see radnerf.runtime.memory).

    Args:
        path: of the checkpoint.
        control: knows of signals.
        every_s: seconds between two checkpoints.
    """

    def __init__(self, path: Path, control: StepControl, every_s: float = 20.0) -> None:
        self.path = path
        self.control = control
        self.every_s = every_s
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageModule)
        self._last = module.budget.elapsed_s

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_args: Any
    ) -> None:
        assert isinstance(module, StageModule)
        # The same seconds on all devices, which have to save together.
        if self.control.stop or module.budget.elapsed_s - self._last >= self.every_s:
            self.save(trainer)
            self._last = module.budget.elapsed_s
        if self.control.stop:
            trainer.should_stop = True

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint now."""
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)
        release_memory()
