"""A run that has finished: it is not trained again unasked, and goes on for more minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from experiment.tiny import config
from safetensors.torch import load_file

from radnerf.experiment import run
from radnerf.modules.head import HeadModule

STAGES = "stages=[head,lips,torso,joint,test]"


def state(path: Path) -> dict[str, Any]:
    return json.loads((path / "run.json").read_text())


def runs(folder: Path) -> list[Path]:
    return [path for path in (folder / "tiny").iterdir() if not path.is_symlink()]


def test_finished_more_and_anew(
    lasting_tiny_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(*more: str) -> Any:
        return run(
            config(lasting_tiny_clip, tmp_path, "minutes=0.02", "kernels=reference", STAGES, *more)
        )

    first = command()
    (path,) = runs(tmp_path)
    assert "0.02 minutes by the clock; quality=good would take about" in capsys.readouterr().out
    assert first["steps.head.recipe"] == 14_800 and "head had" in first["steps.too_few"]
    assert json.loads((path / "metrics.json").read_text())["steps.too_few"]

    assert command()["steps.head"] == first["steps.head"]
    assert f"finished already ({path})" in "".join(capsys.readouterr().out.splitlines())
    assert runs(tmp_path) == [path]

    before, had = load_file(path / "portrait.safetensors"), state(path)["steps"]
    # What the audio net has learnt is kept: there is no second warm start.
    module: Any = sys.modules[HeadModule.__module__]
    monkeypatch.setattr(module, "teach_mouth", lambda *_: pytest.fail("again"))
    longer = command("more=0.02")
    assert runs(tmp_path) == [path] and state(path)["more"] == [0.02]
    assert all(state(path)["steps"][name] > had[name] for name in had)
    assert longer["steps.head"] == state(path)["steps"]["head"]
    after = load_file(path / "portrait.safetensors")
    assert any(not after[name].equal(before[name]) for name in before)
    assert list((path / "more_1" / "previews").glob("head_*.png"))

    monkeypatch.undo()
    command("force=true")
    assert len(runs(tmp_path)) == 2
