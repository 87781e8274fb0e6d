from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from radnerf.audio import MelExtractor, audio_windows, clip_features, read_features
from radnerf.errors import UserError

MEL = MelExtractor(dim=12)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_sound(tmp_path, seed=0)
    return tmp_path


def write_sound(root: Path, seed: int) -> None:
    noise = 1000 * np.random.default_rng(seed).standard_normal(32_000)
    wavfile.write(root / "aud.wav", 16_000, noise.astype(np.int16))


def test_features_are_made_once_then_read(clip: Path) -> None:
    made = clip_features(clip, MEL, 50)
    assert made.shape == (50, 16, 12)
    assert sorted(p.name for p in clip.iterdir()) == ["aud.wav", "aud_mel.json", "aud_mel.npy"]
    marked = made + 1  # only a reader of the file can see this
    np.save(clip / "aud_mel.npy", marked)
    assert np.array_equal(clip_features(clip, MEL, 50), marked)


@pytest.mark.parametrize("change", ["extractor", "sound", "frames", "note"])
def test_stale_features_are_made_again(clip: Path, change: str) -> None:
    clip_features(clip, MEL, 50)
    np.save(clip / "aud_mel.npy", np.full((50, 16, 12), 99, np.float32))
    extractor, n_frames = MEL, 50
    if change == "extractor":
        extractor = MelExtractor(dim=12, floor_db=-50.0)
    elif change == "sound":
        write_sound(clip, seed=1)
    elif change == "frames":
        n_frames = 49
    else:
        (clip / "aud_mel.json").unlink()
    features = clip_features(clip, extractor, n_frames)
    assert features.shape == (n_frames, 16, 12)
    assert features.max() < 99


def test_a_louder_recording_of_the_same_sound_has_the_same_features() -> None:
    wave = 0.05 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    np.testing.assert_allclose(audio_windows(wave, MEL), audio_windows(4 * wave, MEL), atol=1e-4)
    assert audio_windows(wave, MEL).shape == (25, 16, 12)


def test_public_features_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "aud_eo.npy", np.ones((5, 16, 44)))
    assert read_features(tmp_path / "aud_eo.npy").shape == (5, 16, 44)


def test_bad_features_are_refused(tmp_path: Path) -> None:
    (tmp_path / "aud.npy").write_bytes(b"not an array")
    np.save(tmp_path / "aud_hu.npy", np.ones((5, 1024)))
    for name in ("aud.npy", "aud_hu.npy", "missing.npy"):
        with pytest.raises(UserError, match=name):
            read_features(tmp_path / name)


def test_a_clip_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"aud\.wav"):
        clip_features(tmp_path, MEL, 50)
