"""A progress bar that knows budgets: share done, time left and how good it looks."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from torch import Tensor

from radnerf.callbacks.busyness import Busyness
from radnerf.load import Meter
from radnerf.modules.stage import StageModule


class StageProgress(pl.Callback):
    """One line a stage; without a terminal a plain line every tenth of the budget.

    Both say when other programs take the machine's time; a plain line of its own does when that
    begins, at most once a minute.
    """

    def __init__(self) -> None:
        self._busyness: Busyness | None = None
        self._said_busy = -math.inf
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._printed = -1

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageModule)
        if not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description:6}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left  {task.fields[note]}"),
        )
        if self._bar.console.is_terminal:
            self._bar.start()
        self._task = self._bar.add_task(module.name, total=1.0, left="?", note="")
        self._printed = -1
        # Of several processes each knows its own time alone, and the others are no strangers.
        self._busyness = Busyness(Meter()) if trainer.world_size == 1 else None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(module, StageModule)
        if self._bar is None or self._task is None or trainer.global_step % 10:
            return
        was_busy, busy = False, ""
        if self._busyness is not None:
            was_busy, busy = bool(self._busyness.note), self._busyness.look()
        done = module.progress
        psnr = trainer.callback_metrics.get(f"{module.name}/psnr")
        shown = f"{float(psnr):.1f} dB" if isinstance(psnr, Tensor) else ""
        note = "  ".join(filter(None, (f"step {trainer.global_step}", shown, busy)))
        left = clock(module.budget.remaining_s(trainer.global_step))
        self._bar.update(self._task, completed=done, left=left, note=note)
        tenth = int(done * 10)
        if not self._bar.console.is_terminal and tenth > self._printed:
            self._printed = tenth
            print(f"{module.name}: {done:4.0%}, {left} left, {note}", flush=True)
        elif not self._bar.console.is_terminal and busy and not was_busy:
            self._say_busy(module.name, busy)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _say_busy(self, stage: str, busy: str) -> None:
        now = time.monotonic()
        if now - self._said_busy > 60:
            self._said_busy = now
            print(f"{stage}: {busy}", flush=True)

    def _stop(self) -> None:
        if self._bar is not None:
            if self._bar.console.is_terminal:
                self._bar.stop()
            self._bar = None


def clock(seconds: float) -> str:
    """Seconds as m:ss, or a question mark while they are unknown."""
    if seconds != seconds:
        return "?"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
