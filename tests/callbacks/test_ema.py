from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from callbacks.stage import PowerCut, train

from radnerf.callbacks import ExponentialMovingAverage, StageCheckpoint, checkpoint_of


class Watch(pl.Callback):
    """Notes the number after every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_args: Any) -> None:
        self.seen.append(float(module.number.detach()))


def averaged(seen: list[float], decay: float, every: int = 1) -> float:
    average = 0.0
    for step, value in enumerate(seen, 1):
        if step % every == 0:
            d = min(decay**every, (1 + step) / (10 + step))
            average = d * average + (1 - d) * value
    return average


@pytest.mark.parametrize("every", [1, 3])
def test_the_average_stays_when_the_stage_ends(tmp_path: Path, every: int) -> None:
    watch = Watch()
    module = train(tmp_path, 30, watch, ExponentialMovingAverage(0.9, every))
    assert float(module.number) == pytest.approx(averaged(watch.seen, 0.9, every), abs=1e-6)
    assert float(module.number) != pytest.approx(watch.seen[-1], abs=1e-3)


def test_the_average_is_there_for_as_long_as_it_is_asked_for(tmp_path: Path) -> None:
    ema = ExponentialMovingAverage()
    module = train(tmp_path, 2)
    with ema.averaged(module):  # nothing yet
        assert float(module.number) == pytest.approx(0.2, abs=1e-3)
    ema.shadow = [torch.full((1, 1), 5.0)]
    before = float(module.number)
    with pytest.raises(RuntimeError), ema.averaged(module):
        assert float(module.number) == 5
        raise RuntimeError
    assert float(module.number) == before


def test_the_average_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """Cut in two or not, the stage ends with the same average."""
    whole = train(tmp_path, 20, ExponentialMovingAverage(), StageCheckpoint(0.0))
    first = tmp_path / "first"
    first.mkdir()
    with pytest.raises(RuntimeError, match="power cut"):
        train(first, 20, ExponentialMovingAverage(), StageCheckpoint(0.0), PowerCut(8))
    path = checkpoint_of(first, "one")
    rest = train(first, 20, ExponentialMovingAverage(), StageCheckpoint(0.0), ckpt=path)
    assert torch.equal(rest.number, whole.number)
