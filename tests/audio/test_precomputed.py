from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inference.fakes import FakePortrait, make_bundle, write_wav

from radnerf.audio import FeatureFile, clip_features, precomputed_windows, windows
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.inference.file_driver import FileDriver
from radnerf.inference.stream_driver import StreamDriver


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
        with pytest.raises(UserError, match=r"ends 2\.8 s before"):
            precomputed_windows(tmp_path / name, 120)


def test_half_and_double_rates_come_to_the_usual_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Steps that tell their own time, which interpolation keeps.
    fine = ((np.arange(400, dtype=np.float32) + 0.5) / 100)[:, None]
    usual = windows(((np.arange(200, dtype=np.float32) + 0.5) / 50)[:, None], 100)
    for rate, steps in ((100, fine), (25, fine.reshape(100, 4, 1).mean(1))):
        np.save(tmp_path / "aud.npy", steps)
        found = precomputed_windows(tmp_path / "aud.npy", 100)
        assert f"{rate} steps a second, brought to 50" in caplog.text
        inner = slice(5, 95)  # the ends' windows look beyond the sound
        np.testing.assert_allclose(found[inner], usual[inner], atol=1e-5)
    np.save(tmp_path / "aud.npy", np.repeat(usual, 2, 0))
    np.testing.assert_array_equal(precomputed_windows(tmp_path / "aud.npy", 100), usual)
    # Features of the whole sound for a part of the frames are no other rate.
    np.save(tmp_path / "aud.npy", fine)
    found = precomputed_windows(tmp_path / "aud.npy", 50, seconds=8.0)
    np.testing.assert_array_equal(found, windows(fine, 50))


def test_labels_are_no_features(tmp_path: Path) -> None:
    np.save(tmp_path / "aud.npy", np.zeros((50, 16), np.int64))
    with pytest.raises(UserError, match="labels, not features"):
        precomputed_windows(tmp_path / "aud.npy", 50)


def test_the_only_features_of_a_folder_need_no_name(tiny_clip: Path) -> None:
    with pytest.raises(UserError, match="holds no features"):
        FeatureFile().found(tiny_clip)
    np.save(tiny_clip / "aud_mel.npy", np.ones((22, 16, 40), np.float32))
    (tiny_clip / "aud_mel.json").write_text("{}")
    np.save(tiny_clip / "aud_mel_f0.npy", {"mel": 1}, allow_pickle=True)
    np.save(tiny_clip / "aud_hubert.npy", np.ones((44, 1024), np.float32))
    data = ClipDataModule(tiny_clip, FeatureFile())
    data.setup()
    assert data.audio.shape == (22, 16, 1024)
    assert data.extractor.settings == {"name": "features", "file": "aud_hubert.npy"}
    np.save(tiny_clip / "aud.npy", np.ones((22, 16, 29)))
    with pytest.raises(UserError, match=r"2 kinds: aud\.npy \(29 wide, DeepSpeech.*1024 wide"):
        FeatureFile().found(tiny_clip)


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
    fake.stand_in(monkeypatch)
    settings = FeatureFile("/somewhere/aud_eo.npy").settings
    assert settings == {"name": "features", "file": "aud_eo.npy"}
    bundle = make_bundle(extractor=settings, portrait={"audio_net": {"dim": 44}})
    wav = write_wav(tmp_path / "a.wav", 0.4, 16_000)
    np.save(tmp_path / "a_eo.npy", np.ones((10, 16, 44), np.float32))
    np.save(tmp_path / "a_hu.npy", np.ones((10, 16, 1024), np.float32))

    assert len(list(FileDriver(bundle, wav, features=tmp_path / "a_eo.npy"))) == 10
    with pytest.raises(UserError, match=r"makes none of sound.*features=FILE"):
        FileDriver(bundle, wav)
    with pytest.raises(UserError, match=r"cannot follow live sound: render a file"):
        StreamDriver(bundle)
    with pytest.raises(UserError, match="1024 wide and the portrait learned from 44"):
        FileDriver(bundle, wav, features=tmp_path / "a_hu.npy")
    with pytest.raises(UserError, match="makes them of the audio"):
        FileDriver(make_bundle(), wav, features=tmp_path / "a_eo.npy")
