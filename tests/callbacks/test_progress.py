from __future__ import annotations

import re
from pathlib import Path

import pytest
from callbacks.stage import PowerCut, train

from radnerf.callbacks import StageProgress
from radnerf.callbacks.progress import clock


def test_a_plain_line_every_tenth_of_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, 100, StageProgress())
    found = re.findall(r"^one: +(\d+)%, (\S+) left, step (\d+)  (\S+) dB", said(capsys), re.M)
    assert [(int(percent), int(step)) for percent, _, step, _ in found] == [
        (n, n) for n in range(10, 101, 10)
    ]
    left = [time for _, time, _, _ in found]
    assert left[-1] == "0:00" and all(re.fullmatch(r"\d+:\d\d", time) for time in left)
    quality = [float(db) for *_, db in found]
    assert quality[-1] > quality[0] + 20, "the number comes nearer to 1"


def test_it_goes_when_the_training_breaks_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = StageProgress()
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path, 100, progress, PowerCut(25))
    assert len(re.findall(r"^one: +\d+%", said(capsys), re.M)) == 2
    assert progress._bar is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (75.0, "1:15"), (3671, "61:11"), (float("nan"), "?")]
)
def test_time_left(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out
