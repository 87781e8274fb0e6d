"""Checkpoints by the clock and on signals: a kill loses at most a few seconds of work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from radnerf.callbacks.step import StepControl, callback_of
from radnerf.files import passing
from radnerf.modules.stage import StageModule
from radnerf.runtime.memory import release_memory


class StageCheckpoint(pl.Callback):
    """Saves a stage's checkpoint every so many seconds, never leaving half a file.

    A signal to stop saves one too, and ends the training after the step that was under way.
    Each time also returns the memory that training has freed (see radnerf.runtime.memory).

    Args:
        every_s: seconds between two checkpoints.
    """

    def __init__(self, every_s: float = 20.0) -> None:
        self.every_s = every_s
        self._last = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageModule)
        self._last = module.budget.elapsed_s

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_args: Any
    ) -> None:
        assert isinstance(module, StageModule)
        control = callback_of(trainer, StepControl)
        stop = control is not None and control.stop
        # The same seconds on all devices, which have to save together.
        if stop or module.budget.elapsed_s - self._last >= self.every_s:
            self.save(trainer, checkpoint_of(Path(trainer.default_root_dir), module.name))
            self._last = module.budget.elapsed_s
        if stop:
            trainer.should_stop = True

    def save(self, trainer: pl.Trainer, path: Path) -> None:
        """Write the checkpoint now."""
        with _temporary(trainer, path) as temporary:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(path)
        release_memory()


def _temporary(trainer: pl.Trainer, path: Path) -> AbstractContextManager[Path]:
    """Where the first process writes a checkpoint; the others have nothing to take away."""
    temporary = path.with_suffix(".tmp")
    return passing(temporary) if trainer.is_global_zero else nullcontext(temporary)


def checkpoint_of(folder: Path, stage: str) -> Path:
    """The checkpoint of a stage in a run's folder."""
    return folder / "checkpoints" / f"{stage}.ckpt"
