"""Speech-like sound from a seed, and the mouth that makes it.

A small formant synthesiser (after Klatt, 1980): a glottal pulse train and noise through four
resonators in cascade, fricatives and bursts through one of their own. The phonemes that steer it
also steer the lips; neighbours blend by dominance (Cohen and Massaro, 1993), so that the mouth is
a function of about 0.3 s of sound around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from radnerf.conventions import SAMPLE_RATE
from radnerf.data.demo.compiled import compiled

RATE = 100  # control frames a second


class Phoneme(NamedTuple):
    """How a phoneme sounds and looks."""

    seconds: float
    voice: float  # amplitude of the glottal source
    formants: tuple[float, float, float]  # Hz
    hiss: float  # amplitude of frication
    hiss_hz: float
    burst: bool  # shut first, then a short explosion
    opening: float  # of the mouth, 0..1
    width: float  # -1 rounded .. 1 spread
    dominance: float  # over its neighbours' lips


PHONEMES = {
    #                 s    voice  formants            hiss   Hz    burst  open  width dominance
    "_": Phoneme(0.30, 0.00, (500, 1500, 2500), 0.00, 3000, False, 0.00, 0.00, 1.2),
    "a": Phoneme(0.17, 1.00, (750, 1200, 2500), 0.00, 3000, False, 1.00, 0.10, 1.0),
    "E": Phoneme(0.14, 0.95, (560, 1800, 2500), 0.00, 3000, False, 0.68, 0.55, 1.0),
    "i": Phoneme(0.14, 0.80, (300, 2300, 3000), 0.00, 3000, False, 0.34, 1.00, 1.0),
    "o": Phoneme(0.16, 0.95, (520, 880, 2450), 0.00, 3000, False, 0.62, -0.70, 1.1),
    "u": Phoneme(0.14, 0.75, (320, 800, 2300), 0.00, 3000, False, 0.26, -1.00, 1.2),
    "@": Phoneme(0.09, 0.75, (500, 1500, 2500), 0.00, 3000, False, 0.42, 0.00, 0.6),
    "m": Phoneme(0.09, 0.35, (250, 1050, 2200), 0.00, 3000, False, 0.00, 0.00, 9.0),
    "b": Phoneme(0.09, 0.18, (220, 900, 2200), 0.25, 900, True, 0.00, 0.00, 9.0),
    "p": Phoneme(0.10, 0.00, (220, 900, 2200), 0.40, 900, True, 0.00, 0.00, 9.0),
    "n": Phoneme(0.07, 0.40, (260, 1500, 2600), 0.00, 3000, False, 0.22, 0.10, 0.8),
    "d": Phoneme(0.07, 0.18, (250, 1700, 2600), 0.35, 3800, True, 0.22, 0.10, 0.9),
    "t": Phoneme(0.08, 0.00, (250, 1700, 2600), 0.55, 4200, True, 0.20, 0.15, 0.9),
    "k": Phoneme(0.08, 0.00, (280, 1900, 2400), 0.50, 2000, True, 0.32, 0.00, 0.7),
    "g": Phoneme(0.07, 0.20, (280, 1900, 2400), 0.30, 1900, True, 0.34, 0.00, 0.7),
    "s": Phoneme(0.11, 0.00, (300, 1700, 2600), 0.55, 6000, False, 0.15, 0.45, 1.6),
    "S": Phoneme(0.11, 0.00, (300, 1700, 2600), 0.60, 3000, False, 0.22, -0.65, 1.6),
    "f": Phoneme(0.10, 0.00, (300, 1300, 2400), 0.30, 7000, False, 0.08, 0.15, 3.0),
    "l": Phoneme(0.07, 0.60, (360, 1250, 2700), 0.00, 3000, False, 0.36, 0.05, 0.7),
    "r": Phoneme(0.07, 0.60, (350, 1250, 1700), 0.00, 3000, False, 0.28, -0.45, 0.8),
    "w": Phoneme(0.07, 0.60, (300, 680, 2200), 0.00, 3000, False, 0.14, -1.00, 1.5),
}
NAMES = list(PHONEMES)
VOWELS, ONSETS, CODAS = list("aEiou"), list("mbpndtkgsSflrw"), list("nmslt")


@dataclass
class Speech:
    """Sound and, RATE times a second, what the speaker does."""

    wave: Float[np.ndarray, " samples"]  # float32 at SAMPLE_RATE
    phoneme: Int[np.ndarray, " n"]  # row of NAMES
    opening: Float[np.ndarray, " n"]  # of the mouth, 0..1
    width: Float[np.ndarray, " n"]  # of the mouth, -1..1
    stress: Float[np.ndarray, " n"]  # about 1

    def at(self, track: Float[np.ndarray, " n"], seconds: Float[np.ndarray, " t"]) -> np.ndarray:
        """A track, interpolated at given times."""
        return np.interp(seconds, (np.arange(len(track)) + 0.5) / RATE, track)


def _script(seconds: float, rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """Phonemes as (name, seconds, stress): pauses, and phrases of made-up words."""
    script: list[tuple[str, float, float]] = [("_", 0.24, 1.0)]
    elapsed = 0.24
    while elapsed < seconds:
        phrase: list[tuple[str, float, float]] = []
        for _ in range(rng.integers(2, 5)):
            n_syllables = int(rng.integers(1, 4))
            stressed = int(rng.integers(n_syllables))
            for i in range(n_syllables):
                stress = rng.uniform(1.0, 1.2) if i == stressed else rng.uniform(0.65, 0.9)
                vowel = "@" if stress < 0.72 else str(rng.choice(VOWELS))
                syllable = [str(rng.choice(ONSETS)), vowel]
                if rng.random() < 0.25:
                    syllable.append(str(rng.choice(CODAS)))
                pace = rng.uniform(0.9, 1.2)
                phrase += [(p, PHONEMES[p].seconds * pace, stress) for p in syllable]
        name, length, stress = phrase[-1]
        phrase[-1] = (name, length * 1.4, stress)  # phrases slow down at their end
        phrase.append(("_", rng.uniform(0.28, 0.50), 1.0))
        script += phrase
        elapsed += sum(length for _, length, _ in phrase)
    return script


@compiled
def _resonators(
    voice: np.ndarray,
    hiss: np.ndarray,
    pitch: np.ndarray,
    formants: np.ndarray,
    hiss_hz: np.ndarray,
    white: np.ndarray,
    rate: float,
) -> np.ndarray:
    """Source and filters, sample by sample; all controls are per sample."""
    out = np.zeros(len(voice))
    state = np.zeros((formants.shape[1] + 1, 2))
    widths = (80.0, 100.0, 140.0, 220.0)
    phase = flow_before = 0.0
    for n in range(len(voice)):
        phase += pitch[n] / rate
        phase -= np.floor(phase)
        # Rosenberg's glottal flow: opens in 40 % of the period, shuts in 16 %
        if phase < 0.4:
            flow = 0.5 - 0.5 * np.cos(np.pi * phase / 0.4)
        elif phase < 0.56:
            flow = np.cos(0.5 * np.pi * (phase - 0.4) / 0.16)
        else:
            flow = 0.0
        x = voice[n] * ((flow - flow_before) * 6.0 + 0.02 * white[n])
        flow_before = flow
        for k in range(formants.shape[1]):
            c = -np.exp(-2.0 * np.pi * widths[k] / rate)
            b = 2.0 * np.exp(-np.pi * widths[k] / rate)
            b *= np.cos(2.0 * np.pi * formants[n, k] / rate)
            y = (1.0 - b - c) * x + b * state[k, 0] + c * state[k, 1]
            state[k, 1], state[k, 0] = state[k, 0], y
            x = y
        width = 0.35 * hiss_hz[n]
        c = -np.exp(-2.0 * np.pi * width / rate)
        b = 2.0 * np.exp(-np.pi * width / rate) * np.cos(2.0 * np.pi * hiss_hz[n] / rate)
        y = hiss[n] * white[n] * (1.0 + c) * 0.5 + b * state[-1, 0] + c * state[-1, 1]
        state[-1, 1], state[-1, 0] = state[-1, 0], y
        out[n] = x + 0.30 * y
    return out


def synthesize(seconds: float, seed: int = 0) -> Speech:
    """Speech-like sound of the given length, the same for the same seed."""
    rng = np.random.default_rng([seed, 1])
    script = _script(seconds, rng)
    n = round(seconds * RATE)
    ends = np.cumsum([length for _, length, _ in script])
    times = (np.arange(n) + 0.5) / RATE
    index = np.searchsorted(ends, times, side="right").clip(max=len(script) - 1)
    begins = np.concatenate([[0.0], ends[:-1]])
    progress = (times - begins[index]) / np.array([length for _, length, _ in script])[index]
    phonemes = [PHONEMES[name] for name, _, _ in script]

    def control(name: str) -> np.ndarray:
        return np.array([getattr(p, name) for p in phonemes], np.float64)[index]

    stress = np.array([s for _, _, s in script])[index]
    burst = control("burst") > 0
    # Lips: each phoneme pulls by its dominance, strongest in its middle.
    vowel_scale = np.where(control("opening") > 0.3, stress, 1.0)
    target = np.minimum(control("opening") * vowel_scale, 1.0)
    weight = control("dominance") * (0.35 + np.sin(np.pi * progress.clip(0, 1)))
    smooth = gaussian_filter1d
    total = smooth(weight, 2.6, mode="nearest")
    opening = smooth(target * weight, 2.6, mode="nearest") / total
    # Lips press shut: what is nearly closed is closed.
    opening = np.clip((opening - 0.055) / 0.90, 0.0, 1.0)
    width = smooth(control("width") * weight, 3.5, mode="nearest")
    width /= smooth(weight, 3.5, mode="nearest")

    released = progress > 0.62  # a stop's hold, then its burst
    voice = smooth(control("voice") * stress**2 * np.where(burst & released, 0.5, 1.0), 1.0)
    hiss = smooth(control("hiss") * np.where(burst, released * 1.3, 1.0), 0.6)
    formants = np.array([p.formants for p in phonemes])[index]
    formants = smooth(formants, 2.2, axis=0, mode="nearest")
    formants = np.concatenate([formants, np.full((n, 1), 3500.0)], 1)
    pause = np.array([name == "_" for name, _, _ in script])[index]
    # Pitch falls over a phrase, rises with stress and wanders a little.
    since = np.zeros(n)
    for i in range(1, n):
        since[i] = 0.0 if pause[i] else since[i - 1] + 1 / RATE
    wander = smooth(rng.standard_normal(n), 12.0) * 25.0
    pitch = 128.0 - 9.0 * since + 34.0 * (smooth(stress, 6.0) - 0.85) + wander

    m = round(seconds * SAMPLE_RATE)
    at = np.arange(m) / SAMPLE_RATE

    def at_samples(track: np.ndarray) -> np.ndarray:
        return np.interp(at, times, track)

    wave = _resonators(
        at_samples(voice),
        at_samples(hiss),
        at_samples(pitch.clip(75, 220)),
        np.stack([at_samples(f) for f in formants.T], -1),
        at_samples(smooth(control("hiss_hz"), 0.8)),
        rng.standard_normal(m),
        float(SAMPLE_RATE),
    )
    wave += 2e-4 * np.abs(wave).max() * rng.standard_normal(m)  # a quiet room
    wave *= 0.7 / max(np.abs(wave).max(), 1e-9)
    ids = np.array([NAMES.index(name) for name, _, _ in script])[index]
    return Speech(wave.astype(np.float32), ids, opening, width, stress)
