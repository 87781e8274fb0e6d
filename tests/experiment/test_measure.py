"""Portraits that are tested again: stages=[test] ckpt=PATH, and with another speaker's audio."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment.training import composed
from inference.fakes import write_wav

from radnerf.data.demo import make_demo_clip
from radnerf.errors import UserError
from radnerf.experiment import launch, run
from radnerf.experiment.measure import find_portrait
from radnerf.kernels import dispatch
from radnerf.metrics import KEYS
from radnerf.rendering.portrait import Portrait

SHORT = ("model.stages.head.warm_start_steps=20", "logger=none", "previews=1")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder of a run of a few steps, and its metrics."""
    folder = tmp_path_factory.mktemp("runs")
    make_demo_clip(folder / "data" / "demo", 2.0, 48)
    return folder, run(config(folder, "steps=8"))


def config(folder: Path, *overrides: str) -> Any:
    where = (f"data.folder={folder}/data", f"outputs={folder}/outputs")
    return composed(*SHORT, *where, "data.demo.seconds=2", "data.demo.size=48", *overrides)


def test_a_portrait_tested_again_has_the_same_figures(first: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = first
    runs = folder / "outputs" / "demo"
    trained = (runs / "latest").resolve()
    again = run(config(folder, "stages=[test]"))
    for name in ("head.psnr", "full.psnr", "full.ssim", "control.mean_frame.psnr", "frames.test"):
        assert again[name] == pytest.approx(metrics[name], abs=1e-3), name
    assert again["portrait"] == str(trained / "portrait.safetensors")
    assert (runs / "latest").resolve() == trained, "latest still has the portrait"
    reports = sorted(runs.glob("20*/metrics.json"))
    assert len(reports) == 2
    written = json.loads(reports[-1].read_text())
    assert set(KEYS) <= written.keys() and written["time.train_s"] is None
    assert (reports[-1].parent / "test.mp4").stat().st_size > 0


class Seen(Exception):
    """Where a portrait was found."""


def test_what_follows_training_is_done_where_it_was(
    first: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning brings a portrait back to main memory when a stage ends."""
    folder, _ = first
    ckpt = folder / "outputs" / "demo" / "latest"

    def look(portrait: Portrait, *_: Any) -> None:
        raise Seen(portrait.rest_code.device.type)

    monkeypatch.setattr(import_module("radnerf.experiment.run"), "remember_rest", look)
    monkeypatch.setattr("radnerf.experiment.measure.evaluate", look)
    monkeypatch.setattr("radnerf.experiment.launch.device", lambda trainer: torch.device("meta"))
    for changes in (["steps=2"], ["stages=[test]", f"ckpt={ckpt}"]):
        with pytest.raises(Seen, match="meta"):
            run(config(folder, *changes, f"outputs={tmp_path}"))


def test_a_process_trains_where_its_trainer_says() -> None:
    for trainer in ("auto", "cpu", "ddp"):
        device = launch.device(composed(f"trainer={trainer}").trainer)
        gpu = torch.cuda.is_available() and trainer != "cpu"
        assert device.type == ("cuda" if gpu else "cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("+trainer.precision=foo", "Precision 'foo' is invalid"),
        ("trainer.accelerator=foo", "accelerator='foo'"),
        ("trainer.devices=-3", "devices"),
        pytest.param(
            "trainer=gpu",
            "gpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
@pytest.mark.parametrize("stages", ["[preprocess,head]", "[test]"])
def test_a_trainer_that_cannot_be_had_is_missed_before_the_work(
    change: str, said: str, stages: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"^trainer: .*{said}.*trainer=auto"):
        run(composed(*SHORT, "steps=2", f"data.folder={tmp_path}", f"stages={stages}", change))
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_is_not_installed_is_missed_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    where = (f"data.folder={tmp_path}", f"outputs={tmp_path}/outputs")
    with pytest.raises(UserError, match=r"encoder=tinycudann needs the package") as caught:
        run(composed(*SHORT, "steps=2", *where, "encoder=tinycudann"))
    assert "pip install" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("encoder.spatial.n_levels=0", r"n_levels must be 1 or more, not 0"),
        ("model.marching_step=0", r"step=0.* must be above 0"),
        ("model.max_samples=0", r"max_samples=0 must be 1 or more"),
        ("more=-5", r"more=-5 is not a budget"),
        ("minutes=soon", r"minutes=soon is not a budget"),
        ("quality.factor=-1", r"quality.factor=-1 is no factor"),
        ("recipe.head=many", r"recipe.head=many is no number of steps"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(
    override: str, sentence: str, tmp_path: Path
) -> None:
    where = (f"data.folder={tmp_path}", f"outputs={tmp_path}/outputs")
    with pytest.raises(UserError, match=sentence):
        run(composed(*SHORT, "steps=2", *where, override))
    assert list(tmp_path.iterdir()) == []


def test_kernels_that_cannot_run_here_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dispatch.BACKENDS, "triton", lambda tensors: "no GPU")
    where = (f"data.folder={tmp_path}", f"outputs={tmp_path}/outputs")
    with pytest.raises(UserError, match="kernels=triton: no GPU"):
        run(composed(*SHORT, "steps=2", *where, "kernels=triton"))
    assert list(tmp_path.iterdir()) == []


def test_every_metric_that_lacks_something_says_what(first: tuple[Path, dict[str, Any]]) -> None:
    _, metrics = first
    assert metrics["full.sync_confidence"] is None
    assert "syncnet_v2.model" in metrics["full.sync_confidence.reason"]
    missing = {k for k, v in metrics.items() if v is None or v != v}
    assert "full.psnr" not in missing and "head.psnr" not in missing


def test_another_voice_on_the_held_out_poses(
    first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = first
    audio = write_wav(tmp_path / "other.wav", 0.5, 16_000)
    ckpt = folder / "outputs" / "demo" / "latest"
    again = run(config(folder, "stages=[test]", f"ckpt={ckpt}", f"test.audio={audio}"))
    assert again["cross.audio"] == "other.wav"
    assert again["cross.frames"] == round(0.5 * 25)
    assert again["cross.sync_confidence"] is None
    videos = sorted((folder / "outputs" / "demo").glob("20*/cross.mp4"))
    assert len(videos) == 1 and videos[0].stat().st_size > 0


def test_a_portrait_is_found_or_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trained portrait.*train one first"):
        find_portrait(None, tmp_path)
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00", "2026-01-03_00-00-00"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"has no portrait\.safetensors"):
        find_portrait(tmp_path / "2026-01-03_00-00-00", tmp_path)
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        (tmp_path / name / "portrait.safetensors").touch()
    (tmp_path / "latest").symlink_to("2026-01-01_00-00-00")
    newest = tmp_path / "2026-01-02_00-00-00" / "portrait.safetensors"
    assert find_portrait(None, tmp_path) == newest
    assert find_portrait(newest.parent, tmp_path) == newest
    assert find_portrait(str(newest), tmp_path) == newest


def test_training_from_a_portrait_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"together with stages=\[test\]"):
        run(config(tmp_path, "ckpt=some.safetensors"))
