from __future__ import annotations

import numpy as np
import pytest

from radnerf.audio import SPEECH_LEAD, driving_lead, mouth_lead, speech_activity

RATE = 16_000


def syllables(seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Loudness at 1 kHz of random syllables, and a voice of that loudness."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(120, 320, round(seconds * 10))
    shape = np.concatenate([np.hanning(n) * rng.uniform(0.2, 1.0) for n in lengths])
    shape = shape[: round(seconds * 1000)]
    voice = np.repeat(shape, RATE // 1000) * rng.standard_normal(len(shape) * RATE // 1000)
    return shape, (0.1 * voice).astype(np.float32)


@pytest.mark.parametrize("lead", [-0.1, 0.0, 0.1, 0.22])
@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_the_lead_put_in_is_found(lead: float, fps: float) -> None:
    loudness, wave = syllables(12.0, seed=1)
    middle = (np.arange(round(12 * fps)) + 0.5) / fps
    opening = np.interp(middle + lead, np.arange(len(loudness)) / 1000, loudness)
    opening += 0.05 * np.random.default_rng(2).standard_normal(len(opening))
    assert mouth_lead(opening, wave, fps) == pytest.approx(lead, abs=0.021)


def test_without_evidence_the_lead_is_the_natural_one() -> None:
    _, wave = syllables(20.0, seed=1)
    other, _ = syllables(20.0, seed=5)
    unrelated = other[20::40]
    assert mouth_lead(unrelated, wave) == SPEECH_LEAD
    assert mouth_lead(unrelated[:50], wave) == SPEECH_LEAD  # two seconds are too few
    assert mouth_lead(np.ones(500), wave) == SPEECH_LEAD
    assert mouth_lead(unrelated, np.zeros_like(wave)) == SPEECH_LEAD


@pytest.mark.parametrize("level", [0.01, 1.0])
def test_pauses_are_found_at_any_loudness_and_stops_inside_words_are_not(level: float) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * RATE)
    noise[RATE : 2 * RATE] *= 1e-3  # a pause from 1 to 2 s
    noise[3 * RATE : 3 * RATE + RATE // 10] *= 1e-3  # a stop of 0.1 s
    active = speech_activity((level * noise).astype(np.float32), 100)
    assert np.all(active[:23] > 0.99)
    assert np.all(active[28:47] < 0.01)
    assert np.all(active[53:97] > 0.99)
    later = speech_activity((level * noise).astype(np.float32), 100, lead=0.2)
    np.testing.assert_allclose(later[:95], active[5:], atol=1e-6)


def test_frames_after_the_sound_are_a_pause() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert np.all(speech_activity(noise, 60)[30:] == 0)


def test_a_lead_that_no_mouth_has_is_put_right() -> None:
    assert [driving_lead(lead) for lead in (0.0, 0.14, 0.2)] == [0.0, 0.14, 0.2]
    assert driving_lead(-0.1) == driving_lead(0.3) == SPEECH_LEAD
