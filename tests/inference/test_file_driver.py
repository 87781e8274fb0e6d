import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from inference.fakes import FakePortrait, make_bundle, write_wav

from radnerf.audio import MelExtractor, audio_windows, load_audio, make_extractor
from radnerf.errors import UserError
from radnerf.inference.file_driver import FileDriver
from radnerf.runtime.devices import choose_device

SHARED = Path(__file__).parents[3] / "shared/data"
VIDEOS = Path(os.environ.get("RADNERF_TEST_VIDEOS", SHARED))


@pytest.fixture(autouse=True)
def portrait(monkeypatch):
    fake = FakePortrait()
    fake.stand_in(monkeypatch)
    return fake


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_as_many_frames_as_the_audio_is_long(tmp_path, rate, channels):
    wav = write_wav(tmp_path / "a.wav", 1.23, rate, channels)
    driver = FileDriver(make_bundle(), wav)
    frames = list(driver)
    assert len(driver) == len(frames) == 31
    assert all(f.shape == (40, 30, 3) and f.dtype == np.uint8 for f in frames)


@pytest.mark.parametrize(("seconds", "n_frames"), [(0.005, 1), (0.05, 1), (0.07, 2), (10.0, 250)])
def test_short_and_long_audio(tmp_path, seconds, n_frames):
    assert len(FileDriver(make_bundle(), write_wav(tmp_path / "a.wav", seconds, 16000))) == n_frames


def test_frames_carry_pose_eye_sound_and_background(tmp_path, portrait):
    tone = write_wav(tmp_path / "a.wav", 1.0, 16000)
    bundle = make_bundle(n_frames=3)
    frame = next(iter(FileDriver(bundle, tone, eyes=1, background="#0080ff")))
    assert (frame[:10, :7] == 255).all(), "open"
    assert (frame[0, 29] == (0, 128, 255)).all()
    list(FileDriver(bundle, tone))
    poses = torch.stack([call[0] for call in portrait.calls[1:]])
    assert torch.equal(poses[:6], bundle.poses[[0, 1, 2, 1, 0, 1]])


def test_lips_are_smoothed_as_the_paper_does(tmp_path, portrait):
    driver = FileDriver(make_bundle(), write_wav(tmp_path / "a.wav", 4.0, 16000))
    frame_windows = audio_windows(load_audio(driver.recording.path), MelExtractor())
    raw = frame_windows[:90, 8].mean(1)
    expected = [raw[0]]
    for value in raw[1:]:
        expected.append(0.35 * expected[-1] + 0.65 * value)
    list(driver)
    codes = [call[4] for call in portrait.calls]
    assert codes[:90] == pytest.approx(expected, abs=1e-5)


def test_mouth_rests_in_pauses(tmp_path, portrait):
    list(FileDriver(make_bundle(), write_wav(tmp_path / "a.wav", 2.0, 16000, silence=2.0)))
    codes = np.array([call[4] for call in portrait.calls])
    assert (codes[5:40] > 0.2).all()
    assert codes[60:] == pytest.approx(-1, abs=0.01), "the portrait's code of a closed mouth"


def test_every_pass_is_the_same(tmp_path):
    driver = FileDriver(make_bundle(), write_wav(tmp_path / "a.wav", 3.0, 16000), eyes="blink")
    first, second = list(driver), list(driver)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("resolution", "size"), [(80, (80, 60)), (21, (21, 16)), (None, (40, 30))])
def test_resolution_scales_the_camera(tmp_path, portrait, resolution, size):
    wav = write_wav(tmp_path / "a.wav", 0.04, 16000)
    frame = next(iter(FileDriver(make_bundle(), wav, resolution=resolution)))
    assert frame.shape == (*size, 3)
    _, focal, centre, *_ = portrait.calls[0]
    scale = (resolution or 40) / 40
    assert focal == pytest.approx(72 * scale)
    assert centre == pytest.approx((15 * scale, 20 * scale))


@pytest.mark.parametrize("resolution", [0, -5, 1_000_000, 100.5, "big"])
def test_resolutions_that_are_none(tmp_path, resolution):
    with pytest.raises(UserError, match="resolution"):
        FileDriver(make_bundle(), tmp_path / "a.wav", resolution=resolution)


def test_extractor_is_the_one_of_the_portrait():
    assert make_extractor({"name": "mel", "dim": 12}).dim == 12
    for config in (
        {"name": "deepspeech"},
        {},
        {"name": "mel", "x": 1},
        {"name": "mel", "dim": "a"},
    ):
        with pytest.raises(UserError, match="extractor"):
            make_extractor(config)


def test_device_that_is_not_there():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="device=tpu9"):
        choose_device("tpu9")


@pytest.mark.skipif(
    not (VIDEOS / "may.mp4").is_file(), reason="no real video (RADNERF_TEST_VIDEOS)"
)
def test_real_speech_moves_the_mouth_and_pauses_do_not(portrait):
    driver = FileDriver(make_bundle(), VIDEOS / "may.mp4")
    list(driver)
    loudness = np.array([call[4] for call in portrait.calls])
    assert len(loudness) == len(driver) > 50
    assert loudness.max() > 3 * max(loudness.min(), 0.1)


def test_long_recordings_need_no_more_memory_than_short_ones(tmp_path):
    def peak(seconds):
        path = write_wav(tmp_path / f"{seconds}.wav", seconds, 16_000)
        driver = FileDriver(make_bundle(), path, eyes="blink", pose="orbit")
        tracemalloc.start()
        try:
            assert sum(1 for _ in driver.controls()) == 25 * seconds
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short, long = peak(30), peak(90)
    assert short < 24e6
    assert long - short < 1e6, "a minute of sound is 3.8 MB, its windows 3.8 MB"
