"""One short experiment on the demo clip: the trained mouth follows the audio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from notebook_runner import run_notebook
from omegaconf import OmegaConf

from radnerf.data.clip import Clip
from radnerf.data.demo.oracle import mouth_opening_from_frames
from radnerf.errors import UserError
from radnerf.experiment import run
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.file_driver import FileDriver
from radnerf.inference.performer import Control

CONF = Path(__file__).parents[2] / "conf"


def config(folder: Path, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(
            "train",
            [
                f"data.folder={folder}/data",
                f"outputs={folder}/outputs",
                "data.demo.seconds=8",
                "data.demo.size=96",
                "logger=csv",
                "previews=1",
                *overrides,
            ],
        )
    OmegaConf.set_readonly(composed, True)
    return composed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder of a short run on the demo, and its metrics."""
    folder = tmp_path_factory.mktemp("run")
    return folder, run(config(folder, "steps=1200"))


def test_everything_is_written(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = trained
    latest = folder / "outputs" / "demo" / "latest"
    for name in ("portrait.safetensors", "metrics.json", "test.mp4", "test.png", "config.yaml"):
        assert (latest / name).stat().st_size > 0
    previews = {path.stem for path in (latest / "previews").glob("*.png")}
    assert previews == {"head_100", "lips_100", "torso_100", "joint_100"}
    written = json.loads((latest / "metrics.json").read_text())
    assert written["full.psnr"] == pytest.approx(metrics["full.psnr"], abs=1e-3)
    assert written["frames.train"] == 181 and written["frames.test"] == 19
    assert written["time.train_s"] > 1


def test_the_picture_is_learned(trained: tuple[Path, dict[str, Any]]) -> None:
    _, metrics = trained
    # It reaches 27.4 dB over 23.7, and 34.4 dB for the head.
    assert metrics["full.psnr"] > metrics["control.mean_frame.psnr"] + 3
    assert metrics["head.psnr"] > 33


def test_the_mouth_follows_the_audio(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = trained
    clip = Clip.open(folder / "data" / "demo")
    bundle = PortraitBundle.load(folder / "outputs" / "demo" / "latest" / "portrait.safetensors")
    driver = FileDriver(bundle, clip.root / "aud.wav", eyes="1")
    truth = np.load(clip.root / "truth.npz")["mouth_opening"][clip.n_train :]
    codes = list(driver.codes())[clip.n_train : len(clip)]
    shuffled = [codes[i] for i in np.random.default_rng(0).permutation(len(codes))]

    def correlation(driving: list[torch.Tensor]) -> float:
        poses = clip.poses[clip.n_train :]
        frames = [
            driver.performer.draw(Control(torch.from_numpy(pose), code, eyes=1.0))
            for pose, code in zip(poses, driving, strict=True)
        ]
        pixels = np.stack(frames)
        return float(np.corrcoef(mouth_opening_from_frames(pixels, poses), truth)[0, 1])

    follows = correlation(codes)
    assert follows > 0.6
    assert follows > correlation(shuffled) + 0.3


def test_the_notebook_on_the_method_runs(trained: tuple[Path, dict[str, Any]]) -> None:
    outputs = run_notebook("method.ipynb", trained[0])
    pictures = [output for output in outputs if "image/png" in str(output.get("data"))]
    text = "".join(str(output.get("text", "")) for output in outputs)
    assert len(pictures) == 7
    assert "cells are kept" in text and "samples a ray" in text


def test_a_run_that_was_cut_off_goes_on(
    trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from radnerf.modules.head import HeadModule

    folder, _ = trained
    settings = config(folder, "steps=40", "stages=[head]", "seed=1", "checkpoint_every_s=0")
    steps: list[int] = []
    loss = HeadModule.loss

    def cut_off(self: HeadModule, batch: Any) -> Any:
        steps.append(self.global_step)
        if len(steps) == 25:
            raise RuntimeError("power cut")
        return loss(self, batch)

    monkeypatch.setattr(HeadModule, "loss", cut_off)
    with pytest.raises(RuntimeError, match="power cut"):
        run(settings)
    run(settings)
    # Step 24 was cut off, so it is made again; nothing before it is.
    assert steps == [*range(25), *range(24, 40)]


def test_unknown_stage_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stages"):
        run(config(tmp_path, "stages=[heads]"))
