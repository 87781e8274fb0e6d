from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

from radnerf.audio import (
    SPEECH_OFFSET,
    ActivityStream,
    driving_offset,
    measure_audio_offset,
    normalise_loudness,
    speech_activity,
)

RATE = 16_000


def syllables(seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Loudness at 1 kHz of random syllables, and a voice of that loudness."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(120, 320, round(seconds * 10))
    shape = np.concatenate([np.hanning(n) * rng.uniform(0.2, 1.0) for n in lengths])
    shape = shape[: round(seconds * 1000)]
    voice = np.repeat(shape, RATE // 1000) * rng.standard_normal(len(shape) * RATE // 1000)
    return shape, (0.1 * voice).astype(np.float32)


@pytest.mark.parametrize("offset", [-0.1, 0.0, 0.1, 0.22])
@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_the_offset_put_in_is_found(offset: float, fps: float) -> None:
    loudness, wave = syllables(12.0, seed=1)
    middle = (np.arange(round(12 * fps)) + 0.5) / fps
    opening = np.interp(middle + offset, np.arange(len(loudness)) / 1000, loudness)
    opening += 0.05 * np.random.default_rng(2).standard_normal(len(opening))
    assert measure_audio_offset(opening, wave, fps) == pytest.approx(offset, abs=0.021)


def test_without_evidence_the_offset_is_the_natural_one() -> None:
    _, wave = syllables(20.0, seed=1)
    other, _ = syllables(20.0, seed=5)
    unrelated = other[20::40]
    assert measure_audio_offset(unrelated, wave) == SPEECH_OFFSET
    assert measure_audio_offset(unrelated[:50], wave) == SPEECH_OFFSET  # two seconds are too few
    assert measure_audio_offset(np.ones(500), wave) == SPEECH_OFFSET
    assert measure_audio_offset(unrelated, np.zeros_like(wave)) == SPEECH_OFFSET


@pytest.mark.parametrize("level", [0.01, 1.0])
def test_pauses_are_found_at_any_loudness_and_stops_inside_words_are_not(level: float) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE)
    noise[RATE : 2 * RATE] *= 1e-3  # a pause from 1 to 2 s
    noise[3 * RATE : 3 * RATE + RATE // 10] *= 1e-3  # a stop of 0.1 s
    active = speech_activity((level * noise).astype(np.float32), 100)
    assert np.all(active[:23] > 0.99)
    assert np.all(active[28:47] < 0.01)
    assert np.all(active[53:97] > 0.99)
    later = speech_activity((level * noise).astype(np.float32), 100, audio_offset=0.2)
    np.testing.assert_allclose(later[:95], active[5:], atol=1e-6)


def test_frames_after_the_sound_are_a_pause() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert np.all(speech_activity(noise, 60)[30:] == 0)


def test_an_offset_that_no_mouth_has_is_put_right() -> None:
    assert [driving_offset(offset) for offset in (0.0, 0.14, 0.2)] == [0.0, 0.14, 0.2]
    assert driving_offset(-0.1) == driving_offset(0.3) == SPEECH_OFFSET


def whole_activity(wave: np.ndarray, n_frames: int, fps: float, offset: float) -> np.ndarray:
    """What a stream's activity must be, of the whole recording at once."""
    loud = wave.astype(np.float64)
    n_steps = -(-len(loud) // 320)
    power = np.square(np.pad(loud, (0, n_steps * 320 - len(loud)))).reshape(n_steps, 320).mean(1)
    active = (power > 10 ** ((-26 - 25) / 10)).astype(np.float64)
    soft = uniform_filter1d(minimum_filter1d(maximum_filter1d(active, 12), 12), 5)
    place = ((np.arange(n_frames) + 0.5) / fps + offset) * 50
    return np.interp(place, np.arange(n_steps) + 0.5, soft, right=0.0).astype(np.float32)


@pytest.mark.parametrize("length", [1, 112, 640, 5000, 100_000])
@pytest.mark.parametrize(("fps", "offset"), [(25.0, 0.1), (30.0, 0.0), (24.0, 0.2)])
@pytest.mark.parametrize("samples", [1, 3000, 63_333])
def test_streamed_activity_is_that_of_the_whole(
    samples: int, length: int, fps: float, offset: float
) -> None:
    _, wave = syllables(4.0, seed=7)
    wave[RATE : 3 * RATE // 2] = 0
    wave[2 * RATE : 2 * RATE + 2000] = 0
    wave = normalise_loudness(wave[:samples])
    if length == 1:
        wave = wave[:3000]
    n_frames = max(1, round(len(wave) / RATE * fps))
    stream = ActivityStream(fps, offset)
    parts = []
    for start in range(0, len(wave), length):
        parts.append(stream.push(wave[start : start + length]))
        known, given = min(len(wave), start + length), sum(map(len, parts))
        assert stream.needed(given - 1) <= known or given == 0
        assert known < stream.needed(given)
    streamed = np.concatenate([*parts, stream.end(n_frames)])
    np.testing.assert_array_equal(streamed, whole_activity(wave, n_frames, fps, offset))
