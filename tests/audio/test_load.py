from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from radnerf.audio import load_audio, normalise_loudness
from radnerf.audio.loudness import SPEECH_LEVEL_DB
from radnerf.errors import UserError

RATE = 44_100


def write(path: Path, codec: str, seconds: float = 1.0, layout: str = "stereo") -> None:
    """A 440 Hz tone of amplitude 0.5 in any container that PyAV writes."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * t).astype(np.float32)
    channels = {"mono": 1, "stereo": 2}[layout]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        for start in range(0, len(tone), 1024):
            samples = np.tile(tone[start : start + 1024], (channels, 1))
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("wav", "pcm_s16le"), ("mp4", "aac"), ("flac", "flac")]
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_any_container_becomes_the_same_mono_wave(
    tmp_path: Path, suffix: str, codec: str, layout: str
) -> None:
    path = tmp_path / f"tone.{suffix}"
    write(path, codec, layout=layout)
    wave = load_audio(path)
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx(16_000, abs=1200)  # AAC pads to whole blocks
    middle = wave[4000:12_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    peak = np.abs(np.fft.rfft(middle)).argmax() * 16_000 / len(middle)
    assert peak == pytest.approx(440, abs=3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.wav"):
        load_audio(tmp_path / "nowhere.wav")


def test_a_file_that_is_no_sound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("not a sound")
    with pytest.raises(UserError, match=r"text\.wav"):
        load_audio(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_audio(tmp_path)


def test_empty_audio_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    write(path, "pcm_s16le", seconds=0.0)
    with pytest.raises(UserError, match="empty"):
        load_audio(path)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="no audio track"):
        load_audio(path)


def bursts(level: float, pause: float) -> np.ndarray:
    """Alternating half seconds of noise at two levels."""
    noise = np.random.default_rng(0).standard_normal(16_000 * 8).astype(np.float32)
    speaking = (np.arange(len(noise)) // 8000) % 2 == 0
    return noise * np.where(speaking, level, pause).astype(np.float32)


@pytest.mark.parametrize("level", [0.003, 0.02, 0.3])
def test_speech_comes_to_one_level_whatever_it_was(level: float) -> None:
    wave = normalise_loudness(bursts(level, level / 1000))
    speaking = (np.arange(len(wave)) // 8000) % 2 == 0
    level_db = 10 * np.log10(np.mean(wave[speaking] ** 2))
    assert level_db == pytest.approx(SPEECH_LEVEL_DB, abs=0.2)


def test_noise_alone_stays_quiet_and_silence_is_kept() -> None:
    noise = 1e-5 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.abs(normalise_loudness(noise)).max() < 2e-3
    silence = np.zeros(16_000, np.float32)
    assert np.array_equal(normalise_loudness(silence), silence)
