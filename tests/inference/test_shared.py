"""A video that several processes draw is the one that a single process draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inference.fakes import make_bundle, make_portrait_config, write_wav

from radnerf.errors import UserError
from radnerf.inference.file_driver import FileDriver
from radnerf.inference.shared import shared_frames
from radnerf.rendering.portrait import Portrait


@pytest.fixture
def driver(tmp_path: Path) -> FileDriver:
    config = make_portrait_config()
    weights = Portrait.from_config(config).state_dict()
    bundle = make_bundle(portrait=config, weights=weights, size=(39, 30))
    write_wav(tmp_path / "a.wav", 0.6, 16000, 1)
    return FileDriver(bundle, tmp_path / "a.wav", pose="orbit", eyes="blink", device="cpu")


def test_the_same_frames_in_the_same_order(driver: FileDriver) -> None:
    alone = list(driver)
    shared = list(shared_frames(driver, 2))
    assert len(alone) == len(shared) == 15
    assert all(np.array_equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert len({frame.tobytes() for frame in alone}) > 10


def test_no_more_processes_than_gpus(driver: FileDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    driver.device = torch.device("cuda")
    with pytest.raises(UserError, match="devices=2: this machine has 1"):
        next(shared_frames(driver, 2))
