from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from callbacks.stage import train

from radnerf.callbacks import StageCheckpoint, checkpoint_of


class Noted(StageCheckpoint):
    """Notes the steps after which it saves."""

    def __init__(self, every_s: float) -> None:
        super().__init__(every_s)
        self.steps: list[int] = []

    def save(self, trainer: pl.Trainer, path: Path) -> None:
        super().save(trainer, path)
        self.steps.append(trainer.global_step)


class Signal(pl.Callback):
    """Asks the training to stop, in the middle of a step."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_args: Any) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


class Clock(pl.Callback):
    """Every step takes seven seconds."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_args: Any) -> None:
        module.budget.agreed_s = 7.0 * trainer.global_step


def test_it_saves_by_the_clock(tmp_path: Path) -> None:
    saved = Noted(every_s=20)
    train(tmp_path, 10, Clock(), saved)
    assert saved.steps == [3, 6, 9]
    path = checkpoint_of(tmp_path, "one")
    content = torch.load(path, weights_only=True)
    assert content["global_step"] == 9 and content["budget_used_s"] == 63
    assert list(path.parent.iterdir()) == [path], "no half file is left"


def test_a_signal_saves_the_step_that_was_under_way_and_ends(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    saved = Noted(every_s=1000)
    try:
        module = train(tmp_path, 100, Signal(), saved)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert saved.steps == [5] and module.global_step == 5


@pytest.mark.parametrize("steps", [6, 11])
def test_a_stage_goes_on_where_it_was(steps: int, tmp_path: Path) -> None:
    train(tmp_path, 5, Clock(), Noted(0.0))
    saved = Noted(every_s=0.0)
    module = train(tmp_path, steps, Clock(), saved, ckpt=checkpoint_of(tmp_path, "one"))
    assert saved.steps == list(range(6, steps + 1)) and module.global_step == steps
