"""Frames of more than 1024 pixels a side break nothing."""

from __future__ import annotations

from pathlib import Path

from experiment.training import fresh, trained

from radnerf.audio import MelExtractor
from radnerf.data.datamodule import ClipDataModule


def test_all_stages_end_in_finite_numbers(large_clip: Path) -> None:
    data = ClipDataModule(large_clip, MelExtractor())
    data.setup()
    assert min(data.clip.size) > 1024
    portrait = fresh(data)
    before = {name: value.clone() for name, value in portrait.state_dict().items()}
    for stage in ("head", "lips", "torso", "joint"):
        portrait = trained(data, portrait, stage, 6)
    after = portrait.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    learned = {name.split(".")[0] for name, value in after.items() if (value != before[name]).any()}
    assert {"head", "audio_net", "torso"} <= learned
