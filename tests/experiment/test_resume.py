"""A run that was stopped ends as if it had not been: the same bits."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment.tiny import config
from safetensors.torch import load_file

from radnerf.experiment import run
from radnerf.modules.stage import StageModule
from radnerf.team import Team
from radnerf.types import Batch

STAGES = ["head", "lips", "torso", "joint"]


@pytest.fixture(scope="module")
def whole(lasting_tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Weights of a run that nothing disturbed."""
    return trained(lasting_tiny_clip, tmp_path_factory.mktemp("whole"))


def trained(clip: Path, folder: Path, *more: str) -> dict[str, torch.Tensor]:
    run(settings(clip, folder, *more))
    (path,) = (path for path in (folder / "tiny").iterdir() if not path.is_symlink())
    return load_file(path / "portrait.safetensors")


def settings(clip: Path, folder: Path, *more: str) -> Any:
    return config(clip, folder, "steps=48", f"stages=[{','.join(STAGES)}]", *more)


def disturb(monkeypatch: pytest.MonkeyPatch, at: set[tuple[str, int]], deed: Any) -> None:
    """Do something in the middle of steps of stages, once each."""
    step = StageModule.training_step

    def disturbed(self: StageModule, batch: Batch, batch_index: int) -> Any:
        here = (self.name, self.global_step)
        loss = step(self, batch, batch_index)
        if here in at:
            at.remove(here)
            deed()
        return loss

    monkeypatch.setattr(StageModule, "training_step", disturbed)


def test_signals_save_first(
    lasting_tiny_clip: Path,
    whole: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {("head", 9), ("lips", 2), ("torso", 3), ("joint", 0), ("joint", 11)}
    numbers = [signal.SIGTERM, signal.SIGUSR1] * 2 + [signal.SIGTERM]
    disturb(monkeypatch, places, lambda: os.kill(os.getpid(), numbers[-1]))
    while places:
        left = len(places)
        with pytest.raises(SystemExit) as ended:
            run(settings(lasting_tiny_clip, tmp_path))
        assert ended.value.code == 128 + numbers.pop() and len(places) == left - 1
        assert "the same command goes on from here" in capsys.readouterr().out
    assert_same(trained(lasting_tiny_clip, tmp_path), whole)


@pytest.mark.usefixtures("several_threads")
def test_a_busy_machine_trains_the_same_but_for_last_bits(
    lasting_tiny_clip: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = itertools.cycle((1, 2, 3))
    monkeypatch.setattr(Team, "look", lambda team: next(sizes))
    found = trained(lasting_tiny_clip, tmp_path)
    assert found.keys() == whole.keys()
    for name, value in found.items():
        error = (value.float() - whole[name].float()).abs().max()
        assert error <= 1e-2 * whole[name].float().abs().max() + 1e-3, name


def test_a_crash_loses_nothing_before_the_checkpoint(
    lasting_tiny_clip: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = sys.modules[run.__module__]
    save, crashes = module._save_weights, []

    def crash() -> None:
        crashes.append(0)
        raise RuntimeError("power cut")

    def crash_first(*arguments: Any) -> None:
        # Between the last checkpoint of a stage and the stage's weights.
        if len(crashes) in (0, 1):
            crash()
        save(*arguments)

    monkeypatch.setattr(module, "_save_weights", crash_first)
    disturb(monkeypatch, {("head", 17), ("torso", 1)}, crash)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="power cut"):
            run(settings(lasting_tiny_clip, tmp_path, "checkpoint_every_s=0"))
    assert_same(trained(lasting_tiny_clip, tmp_path, "checkpoint_every_s=0"), whole)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in found if not torch.equal(found[name], expected[name])]
    assert not different
