from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inference.fakes import FakePortrait, make_bundle, write_wav

from radnerf.audio import FeatureFile, clip_features, precomputed_windows, windows
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.inference import driver as driver_module
from radnerf.inference.driver import Driver


def test_windows_and_steps_are_read(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    made = windows(steps, 50)
    np.save(tmp_path / "aud_eo.npy", made.astype(np.float64))
    np.save(tmp_path / "aud_hu.npy", steps.reshape(50, 2, 3))
    np.save(tmp_path / "steps.npy", steps)
    for name in ("aud_eo.npy", "aud_hu.npy", "steps.npy"):
        np.testing.assert_array_equal(precomputed_windows(tmp_path / name, 50), made)
        assert precomputed_windows(tmp_path / name, 20).shape == (20, 16, 3)
        assert np.all(precomputed_windows(tmp_path / name, 70)[60:] == 0), "silence"
        with pytest.raises(UserError, match=r"ends 2\.0 s before"):
            precomputed_windows(tmp_path / name, 100)


def test_a_clip_is_trained_on_the_features_of_another_tool(tiny_clip: Path) -> None:
    np.save(tiny_clip / "aud_eo.npy", np.ones((22, 16, 44), np.float32))
    data = ClipDataModule(tiny_clip, FeatureFile("aud_eo.npy"))
    data.setup()
    assert data.audio.shape == (22, 16, 44) and bool((data.audio == 1).all())
    assert not list(tiny_clip.glob("aud_features*"))
    with pytest.raises(UserError, match=r"missing\.npy"):
        clip_features(tiny_clip, FeatureFile("missing.npy"), 22)


def test_its_portrait_wants_features_of_the_same_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePortrait()
    monkeypatch.setattr(driver_module, "load_portrait", lambda bundle: fake)
    monkeypatch.setattr(driver_module, "frame_renderer", fake.renderer)
    settings = FeatureFile("/somewhere/aud_eo.npy").settings
    assert settings == {"name": "features", "file": "aud_eo.npy"}
    bundle = make_bundle(extractor=settings, portrait={"audio_net": {"dim": 44}})
    wav = write_wav(tmp_path / "a.wav", 0.4, 16_000)
    np.save(tmp_path / "a_eo.npy", np.ones((10, 16, 44), np.float32))
    np.save(tmp_path / "a_hu.npy", np.ones((10, 16, 1024), np.float32))

    assert len(list(Driver(bundle, wav, features=tmp_path / "a_eo.npy"))) == 10
    with pytest.raises(UserError, match=r"cannot hear.*features=FILE"):
        Driver(bundle, wav)
    with pytest.raises(UserError, match="1024 wide and the portrait learned from 44"):
        Driver(bundle, wav, features=tmp_path / "a_hu.npy")
    with pytest.raises(UserError, match="hears by itself"):
        Driver(make_bundle(), wav, features=tmp_path / "a_eo.npy")
