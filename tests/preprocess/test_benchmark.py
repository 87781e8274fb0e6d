"""python -m radnerf.preprocess"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from preprocess.test_inputs import film, preprocess

from radnerf import preprocess as package
from radnerf.preprocess.__main__ import main
from radnerf.preprocess.report import PAGE


@pytest.fixture(autouse=True)
def _fake_face(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(video: Path, root: Path, clip_id: str, resolution: int | None) -> object:
        return preprocess(video, root, resolution=resolution)

    monkeypatch.setattr(package, "preprocess_video", made)


def test_the_benchmark_tells_each_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, figures = film(tmp_path / "a.mp4"), tmp_path / "figures.json"
    assert main([str(path), "--benchmark", "--json", str(figures), "--resolution", "64"]) == 0
    report = json.loads(figures.read_text())
    first, *_, last = report["seconds"]
    assert (first, last) == ("cuts", "quality")
    assert report["total_s"] == pytest.approx(sum(report["seconds"].values()), abs=0.01)
    assert report["frames_per_s"] == pytest.approx(30 / report["total_s"], rel=0.01)
    assert report["size"] == [48, 64] and report["peak_mb"] > 10
    told = capsys.readouterr().out
    assert "parsing" in told and "frames a second" in told and "rmse_px" in told
    assert {p.name for p in tmp_path.iterdir()} == {"a.mp4", "figures.json"}


def test_a_clip_folder_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = film(tmp_path / "a.mp4")
    assert main([str(path), str(tmp_path / "clip")]) == 0
    shown = capsys.readouterr()
    assert (tmp_path / "clip" / PAGE).is_file() and PAGE in shown.out
    assert "s of speech" in shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: video"),
        (["a.mp4"], "Give the clip folder"),
        (["a.mp4", "clip", "--resolution", "small"], "--resolution"),
        (["a.mp4", "clip", "--resolution", "-5"], "A resolution of -5 is too small"),
        (["a.mp4", "clip", "--truth", "true"], "--truth and --json go with --benchmark"),
        (["a.mp4", "--benchmark", "--json", "/dev/null/a.json"], "cannot be written"),
        (["a.mp4", "--benchmark", "--truth", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    film(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert words in told.err and told.err.startswith("error: ") and told.err.count("\n") == 1
    assert not told.out and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
