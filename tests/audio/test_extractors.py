from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from radnerf.audio import Extractor, MelExtractor
from radnerf.conventions import HOP


def tone(hz: float, amplitude: float = 0.1, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(16_000 * seconds)) / 16_000
    return (amplitude * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def test_width_and_rate_are_as_declared() -> None:
    for samples in (1, HOP, HOP + 1, 16_000):
        extractor = MelExtractor(dim=20)
        features = extractor(np.ones(samples, np.float32))
        assert features.shape == (-(-samples // HOP), extractor.dim)
        assert features.dtype == np.float32


@pytest.mark.parametrize("hz", [200.0, 700.0, 1500.0, 4000.0])
def test_a_tone_lights_the_band_at_its_own_pitch(hz: float) -> None:
    extractor = MelExtractor(dim=20, low_hz=60.0, high_hz=7600.0)
    band = extractor(tone(hz))[10:-10].mean(0).argmax()
    mel = 2595 * np.log10(1 + np.array([60.0, 7600.0, hz]) / 700)
    expected = (mel[2] - mel[0]) / (mel[1] - mel[0]) * 21 - 1
    assert abs(band - expected) <= 1


def test_ten_times_the_amplitude_is_twenty_decibels() -> None:
    extractor = MelExtractor(unit_db=10.0)
    quiet, loud = (extractor(tone(1000.0, a))[25].max() for a in (0.03, 0.3))
    assert loud - quiet == pytest.approx(2.0, abs=1e-3)


def test_below_the_floor_is_exactly_zero() -> None:
    noise = 1e-6 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.all(MelExtractor()(noise) == 0)


def test_a_click_reaches_no_further_than_the_declared_context() -> None:
    extractor = MelExtractor()
    wave = np.zeros(40 * HOP, np.float32)
    wave[20 * HOP + 7] = 1.0
    steps = np.flatnonzero(extractor(wave).any(1))
    assert 20 in steps
    for step in steps:
        assert step * HOP - extractor.context <= 20 * HOP + 7
        assert (step + 1) * HOP + extractor.context > 20 * HOP + 7


def test_every_setting_changes_the_fingerprint() -> None:
    assert MelExtractor().fingerprint == MelExtractor().fingerprint
    assert MelExtractor().fingerprint != MelExtractor(floor_db=-61.0).fingerprint


@dataclass(frozen=True)
class Energy(Extractor):
    """An extractor as a plugin has it: a call and how far a step reaches."""

    name: ClassVar[str] = "energy"
    dim: ClassVar[int] = 1
    context: ClassVar[int] = 500

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        n_steps = -(-len(wave) // HOP)
        padded = np.pad(wave.astype(np.float64), (500, 500 + n_steps * HOP - len(wave)))
        parts = (padded[i * HOP : (i + 1) * HOP + 1000] for i in range(n_steps))
        return np.array([[np.square(part).sum()] for part in parts], np.float32).reshape(-1, 1)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("length", [100, 5000, 300_000])
def test_an_extractor_that_only_has_a_call_can_be_streamed(length: int, recorded: bool) -> None:
    wave = np.random.default_rng(0).standard_normal(12 * 16_000 + 7).astype(np.float32)
    if length == 100:
        wave = wave[:16_007]
    stream = Energy().stream((lambda: [wave]) if recorded else None)
    pieces = [wave[i : i + length] for i in range(0, len(wave), length)]
    streamed = np.concatenate([*(stream.push(piece) for piece in pieces), stream.end()])
    np.testing.assert_array_equal(streamed, Energy()(wave))
    if not recorded:
        assert stream.needed(0) == 3 * HOP, "its own step and two of the context"
