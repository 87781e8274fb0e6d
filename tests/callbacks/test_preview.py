from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from callbacks.stage import train

from radnerf.callbacks import ExponentialMovingAverage, Preview
from radnerf.data.clip import read_image


def test_pictures_at_fixed_progress(tmp_path: Path) -> None:
    train(tmp_path, 40, Preview(n_pictures=4))
    names = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert names == ["one_025.png", "one_050.png", "one_075.png", "one_100.png"]


def test_none_are_none(tmp_path: Path) -> None:
    train(tmp_path, 4, Preview(n_pictures=0))
    assert not (tmp_path / "previews").exists()


@pytest.mark.parametrize("averaged", [False, True])
def test_truth_above_rendering_of_held_out_frames(tmp_path: Path, averaged: bool) -> None:
    ema = ExponentialMovingAverage(decay=0.5)
    module = train(tmp_path, 10, *([ema] if averaged else []), Preview(n_pictures=1, n_frames=2))
    picture = read_image(tmp_path / "previews" / "one_100.png")
    assert picture.shape == (4, 6, 3)
    assert (picture[:2, :3] == round(255 * 10 / 12)).all(), "the first held-out frame"
    assert (picture[:2, 3:] == round(255 * 11 / 12)).all(), "the last"
    shown = ema.shadow[0] if averaged else module.number
    expected = float((255 * torch.as_tensor(shown).clamp(0, 1)).round())
    assert (np.abs(picture[2:].astype(float) - expected) <= 1).all()
