from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from radnerf.audio import LoudnessFollower, load_audio, speech_gain
from radnerf.audio.loudness import LEVEL_BLOCK, gain_of_pieces
from radnerf.data.demo.speech import synthesize

RATE = 16_000
SHARED = Path(__file__).parents[3] / "shared/data"
VIDEO = Path(os.environ.get("RADNERF_TEST_VIDEOS", SHARED)) / "obama.mp4"


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables with pauses between sentences, at -26 dB."""
    random = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * RATE:
        for _ in range(random.integers(6, 14)):
            n = int(random.integers(120, 320)) * RATE // 1000
            loud = random.uniform(0.2, 1.0)
            parts.append(loud * np.hanning(n) * random.standard_normal(n))
        parts.append(np.zeros(int(random.uniform(0.3, 0.9) * RATE)))
    sound = np.concatenate(parts)[: round(seconds * RATE)].astype(np.float32)
    return sound * np.float32(speech_gain(sound))


def db(factor: float) -> float:
    return 20 * float(np.log10(factor))


@pytest.mark.parametrize(
    ("n_samples", "length"),
    [(1, 1), (799, 1), (800, 640), (1601, 1), (16_000, 1000), (123_457, 640), (123_457, 200_000)],
)
def test_the_gain_of_pieces_is_that_of_numpys_equal_blocks(n_samples: int, length: int) -> None:
    sound = voice(8.0)[-n_samples:] + np.float32(0.001)
    pieces = [sound[i : i + length] for i in range(0, n_samples, length)]
    blocks = np.array_split(sound, max(1, n_samples // LEVEL_BLOCK))
    power = np.array([np.mean(np.square(block)) for block in blocks], np.float64)
    speech = power[power >= np.quantile(power, 0.95) * 10**-2]
    expected = 10 ** (min(30.0, -26 - 10 * np.log10(speech.mean())) / 20)
    assert gain_of_pieces(pieces, n_samples) == expected


@pytest.mark.parametrize("level_db", [-20.0, -6.0, 0.0, 6.0, 15.0])
def test_a_follower_comes_to_the_gain_of_the_whole(level_db: float) -> None:
    sound = voice(12.0) * np.float32(10 ** (level_db / 20))
    follower = LoudnessFollower()
    reached = []
    for second in range(12):
        follower(sound[second * RATE : (second + 1) * RATE])
        reached.append(db(follower.gain))
    assert abs(reached[1] + level_db) < 3.5, "after two seconds"
    assert abs(reached[3] + level_db) < 2.0, "after four"
    assert max(abs(gain + level_db) for gain in reached[7:]) < 1.0


def test_a_change_of_speaker_is_followed_without_a_jump() -> None:
    sound = np.concatenate([voice(10.0), 0.2 * voice(40.0, seed=1)]).astype(np.float32)
    follower = LoudnessFollower()
    assert follower(sound[:0]).shape == (0,)
    gains = []
    for start in range(0, len(sound), LEVEL_BLOCK):
        follower(sound[start : start + LEVEL_BLOCK])
        gains.append(db(follower.gain))
    assert np.abs(np.diff(gains)).max() <= 1.0 + 1e-9
    assert gains[-1] == pytest.approx(db(5), abs=1.5)


@pytest.mark.parametrize("level_db", [-90.0, -50.0, -35.0])
def test_steady_noise_and_silence_are_left_as_they_are(level_db: float) -> None:
    noise = 10 ** (level_db / 20) * np.random.default_rng(0).standard_normal(20 * RATE)
    follower = LoudnessFollower()
    assert np.array_equal(follower(noise.astype(np.float32)), noise.astype(np.float32))
    follower(voice(10.0) * np.float32(0.5))
    known = follower.gain
    assert db(known) == pytest.approx(6, abs=2), "noise before does not hide the speech"
    follower(np.zeros(30 * RATE, np.float32))
    assert follower.gain == known


def test_speech_over_noise_is_nearly_as_loud_as_without() -> None:
    noise = 10 ** (-50 / 20) * np.random.default_rng(0).standard_normal(20 * RATE)
    noisy = (0.3 * voice(20.0) + noise).astype(np.float32)
    follower = LoudnessFollower()
    follower(noisy)
    assert db(follower.gain) == pytest.approx(db(speech_gain(noisy)), abs=1)
    assert db(follower.gain) == pytest.approx(-db(0.3), abs=2)


def test_a_click_is_no_speech() -> None:
    sound = voice(10.0)
    sound[5 * RATE] = 1.0
    follower, undisturbed = LoudnessFollower(), LoudnessFollower()
    follower(sound)
    undisturbed(voice(10.0))
    assert follower.gain == pytest.approx(undisturbed.gain, rel=0.06)


def test_pieces_change_nothing_and_a_sample_waits_for_none() -> None:
    sound = 0.2 * voice(4.0)
    whole = LoudnessFollower()(sound)
    for length in (1, 112, 1600, 12_800):
        follower = LoudnessFollower()
        stop = 4000 if length == 1 else len(sound)
        parts = [follower(sound[i : i + length]) for i in range(0, stop, length)]
        assert [len(part) for part in parts[:3]] == [length] * 3
        assert np.array_equal(np.concatenate(parts), whole[:stop])
    with_gain = LoudnessFollower(4.0)(sound)
    assert np.array_equal(with_gain[:LEVEL_BLOCK], 4 * sound[:LEVEL_BLOCK])


def test_the_demos_speech_is_followed() -> None:
    speech = synthesize(12.0, seed=3).wave
    follower = LoudnessFollower()
    follower(speech)
    assert db(follower.gain) == pytest.approx(db(speech_gain(speech)), abs=1.5)


@pytest.mark.skipif(not VIDEO.is_file(), reason="no real video (RADNERF_TEST_VIDEOS)")
@pytest.mark.parametrize("level_db", [-12.0, 0.0])
def test_real_speech_is_followed(level_db: float) -> None:
    speech = load_audio(VIDEO) * np.float32(10 ** (level_db / 20))
    follower, goal = LoudnessFollower(), db(speech_gain(speech))
    follower(speech[: 4 * RATE])
    assert db(follower.gain) == pytest.approx(goal, abs=2.5)
    follower(speech[4 * RATE :])
    assert db(follower.gain) == pytest.approx(goal, abs=1.0)
